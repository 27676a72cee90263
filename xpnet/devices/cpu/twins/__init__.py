"""The CPU's twins of kernels: the same names and signatures as the references, by the nodes of a tape.

Each hands what it does not cover to `k.reference`, deciding on options and shapes alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xpnet.devices.cpu.twins import (
    activations,
    dropout,
    embedding,
    gathers,
    layers,
    losses,
    metrics,
    normalization,
    updates,
)

TWINS: dict[str, Callable[..., Any]] = {
    twin.__name__: twin
    for twin in (
        layers.hidden_aux,
        layers.affine_forward,
        layers.affine_product,
        layers.affine_inputs,
        layers.affine_weights,
        layers.hidden_forward,
        layers.hidden_activation,
        layers.hidden_backward,
        activations.linear,
        activations.relu,
        activations.leaky_relu,
        activations.elu,
        activations.sigmoid,
        activations.tanh,
        activations.softplus,
        activations.silu,
        activations.gelu,
        activations.exp,
        activations.softmax,
        dropout.random_bits,
        dropout.dropout,
        normalization.batch_norm,
        normalization.batch_norm_inference,
        normalization.batch_norm_backward,
        normalization.layer_norm,
        normalization.layer_norm_backward,
        losses.softmax_cross_entropy,
        losses.grouped_softmax_cross_entropy,
        losses.scored_softmax_cross_entropy,
        losses.sigmoid_cross_entropy,
        losses.squared_error,
        losses.absolute_error,
        losses.huber,
        losses.poisson,
        metrics.hits,
        metrics.grouped_hits,
        metrics.squared_errors,
        gathers.gather,
        gathers.gather_sparse,
        embedding.copy_columns,
        embedding.embedding_forward,
        embedding.embedding_backward,
        updates.sgd_update,
        updates.momentum_update,
        updates.nesterov_update,
        updates.velocity_update,
        updates.nesterov_velocity_update,
        updates.adam_update,
        updates.adamw_update,
        updates.rmsprop_update,
        updates.adagrad_update,
        updates.max_norm,
        updates.squared_norm,
        updates.clip_scale,
    )
}
