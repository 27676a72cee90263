"""Training: which samples when, what is written down, and which weights are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnet import optimizers
from xpnet.callbacks import Callback, History
from xpnet.data import Targets, check_samples, check_weights, encode_targets
from xpnet.data.samples import Samples
from xpnet.devices import Array
from xpnet.dropout import dropout_rates
from xpnet.errors import DataError, XpnetError, number, one_of, whole
from xpnet.evaluation import Evaluation
from xpnet.feed import Feed
from xpnet.losses import Loss, Metric
from xpnet.memory import foresee
from xpnet.network import MLP
from xpnet.optimizers import Optimizer
from xpnet.schedules import Constant, Schedule
from xpnet.signals import calling, postponed
from xpnet.training import Interval, Training
from xpnet.workspace import Workspace

INTERRUPTED = "interrupted"
"""Why a training ended that was stopped by Ctrl-C."""


class Trainer:
    """Trains a network on samples.

    Training losses and metrics are what the steps saw: with units dropped, smoothed labels, and the batch's mean and
    variance in batch normalization. Every evaluation is of the network as it predicts: nothing is dropped, running
    means and variances are used, and the loss is the plain one, without smoothing and penalty.

    Args:
        network: What is trained, where it lives.
        loss: "cross_entropy", "mse", "huber", "mae" or "poisson" (with the output "exp"); None for the one that is
            usual for the network's output.
        huber_delta: Where the loss "huber" becomes linear.
        label_smoothing: The part of each target of "cross_entropy" that is moved to all classes alike.
        optimizer: `SGD`, `Adam`, `AdamW`, `RMSProp` or `AdaGrad` with their settings, or such a name in small letters.
        schedule: The factor on the learning rate at each step; see `xpnet.schedules`.
        batch_size: Samples a step, or "all".
        epochs: Passes over the samples.
        steps: Steps instead of epochs.
        replacement: Draw batches with replacement rather than shuffle; an epoch is then N // batch_size steps.
        l2: Adds 0.5 l2 sum(w^2) over the weights, not the biases, to the mean loss; AdamW takes lr l2 w off the weights
            instead, and its loss has no penalty.
        clip_norm: A bound on the norm of the gradient; None for none.
        max_norm: A bound on the norm of the weights into each hidden unit, kept after every step; None for none.
        dropout: The part of the hidden units that each step leaves out: one for all hidden layers, or one for each.
        eval_every: How often the validation set is evaluated: epochs (5) or steps ("200steps").
        early_stopping: Evaluations without improvement after which training ends; None for never.
        monitor: What has to improve: "val_accuracy", "val_loss", "train_loss", "val_mse", ...; None for the
            validation metric, or the training loss without a validation set.
        final_weights: Which the network has in the end: "best" by `monitor`, or "last"; None for the best where there
            is a validation set.
        callbacks: Watch the training.
        seed: Of the order of the samples, of a validation split and of the units that are dropped.

    Attributes:
        loss: What is minimised, but for the penalty.
        dropout: One rate for each hidden layer.
        history: Of the last training.
        step, total_steps: Steps done and planned.
        stopped: Why the training is to end, or "".

    Raises:
        XpnetError: An argument is not one of these; the message names it.
    """

    def __init__(
        self,
        network: MLP,
        *,
        loss: str | None = None,
        huber_delta: float = 1.0,
        label_smoothing: float = 0.0,
        optimizer: str | Optimizer = "adam",
        schedule: Schedule = Constant(),  # noqa: B008 - frozen
        batch_size: int | str = 32,
        epochs: int = 30,
        steps: int | None = None,
        replacement: bool = False,
        l2: float = 0.0,
        clip_norm: float | None = None,
        max_norm: float | None = None,
        dropout: float | Sequence[float] = 0.0,
        eval_every: int | str = 1,
        early_stopping: int | None = None,
        monitor: str | None = None,
        final_weights: str | None = None,
        callbacks: Sequence[Callback] = (),
        seed: int | np.random.SeedSequence = 0,
    ) -> None:
        whole("epochs", epochs, least=1)
        if steps is not None:
            whole("steps", steps, least=1)
        if batch_size != "all":
            whole("batch_size", batch_size, least=1, otherwise=' or "all"')
        if early_stopping is not None:
            whole("early_stopping", early_stopping, least=1)
        if clip_norm is not None:
            number("clip_norm", clip_norm, above=0)
        if max_norm is not None:
            number("max_norm", max_norm, above=0)
        if not isinstance(seed, np.random.SeedSequence):
            whole("seed", seed, least=0)
        if final_weights is not None:
            one_of("final_weights", final_weights, ("best", "last"))
        self.network, self.loss = network, _checked_loss(network.output, loss, huber_delta, label_smoothing)
        self.optimizer = optimizers.make(optimizer) if isinstance(optimizer, str) else optimizer
        self.schedule = schedule
        self.batch_size, self.epochs, self.steps, self.replacement = batch_size, epochs, steps, replacement
        self.l2, self.clip_norm, self.eval_every = number("l2", l2), clip_norm, Interval.of(eval_every)
        self.max_norm, self.dropout = max_norm, dropout_rates(dropout, len(network.activations))
        self.early_stopping, self.monitor, self.final_weights = early_stopping, monitor, final_weights
        self.callbacks, self.seed = list(callbacks), seed
        self.step = self.total_steps = 0
        self.stopped = ""

    def fit(
        self,
        x: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        validation: float | tuple[Any, ...] | None = None,
    ) -> History:
        """Train on arrays.

        Args:
            x: (N, ...) numbers, dense or sparse; the network's `transform` is applied to them.
            y: (N,) class labels, (N, K) 0/1 labels, or (N,) or (N, O) floats.
            sample_weight: (N,), or None.
            validation: A pair (X, y) or triple (X, y, weights); or a fraction or number of samples to split off.

        Returns:
            The history. The network has the weights that `final_weights` says.

        Raises:
            DataError: The arrays do not fit each other or the network.
            DivergenceError: The loss became NaN or infinite; the network has its last good weights.
        """
        samples = self._samples(x, y, sample_weight)
        if validation is None:
            return self.train(samples)
        if isinstance(validation, tuple | list):
            return self.train(samples, self._samples(*validation))
        number("validation", validation, above=0)
        rng = np.random.default_rng(self.seeds()[1])
        return self.train(*samples.split(validation, rng=rng))

    def train(self, samples: Samples, validation: Samples | None = None) -> History:
        """Train on encoded samples; as `fit`."""
        return self.run(self.prepare(samples, validation))

    def prepare(self, samples: Samples, validation: Samples | None = None) -> Training:
        """Check all that can be checked and take all memory, so that `run` has only to train."""
        for what, part in (("training", samples), ("validation", validation)):
            if part is not None and part.total_weight == 0:
                raise DataError(f"sample_weight: got only zeros in the {what} set; give some of its samples a weight.")
        self.step, self.stopped = 0, ""
        with self.network.device:
            training = Training(self, samples, validation)
        self.history, self.total_steps = training.history, training.span.total
        return training

    def run(self, training: Training) -> History:
        """Train; Ctrl-C ends it after the present chunk of steps. The network then has its final weights."""
        broken = True
        try:
            self.tell("on_start")
            with calling(lambda: self.stop(INTERRUPTED), "SIGINT"), self.network.device:
                training.run()
            broken = False
        finally:
            with postponed(), self.network.device:
                training.keeper.restore(broken=broken)
                self.tell("on_end")
        return self.history

    def evaluate(self, x: Any, y: Any, *, sample_weight: Any = None) -> dict[str, float]:
        """The mean plain loss and the metric on arrays: {"loss": ..., "accuracy": ...} or {"loss": ..., "mse": ...}."""
        return self.measure(self._samples(x, y, sample_weight))

    def measure(self, samples: Samples) -> dict[str, float]:
        """The mean plain loss and the metric on encoded samples."""
        network, loss, metric = self.network, self.loss.plain, self.metric
        with network.device:
            plan = foresee(network, [samples], batch=1, chunk=len(samples), blocks=0)
            feed = Feed(samples, network, loss, metric, window=plan.window)
            workspace = Workspace(network, feed, plan.rows)
            mean, value = Evaluation(network, loss, metric, samples, feed, workspace).once()
        return {"loss": mean, metric.name: value}

    def stop(self, why: str) -> None:
        """End the training after the present chunk of steps."""
        self.stopped = why

    def penalty(self) -> float:
        """0.5 l2 sum(w^2) of the present weights, where that is part of what is minimised."""
        return self.penalty_of(self._squared_norm(self.network.parameters.weights) if self.l2 else 0.0)

    def penalty_of(self, squared_norm: float) -> float:
        """The same, of weights with that sum of squares."""
        return 0.0 if self.optimizer.decouples_decay else 0.5 * self.l2 * squared_norm

    def _squared_norm(self, block: Array) -> float:
        network = self.network
        with network.device:
            total = network.device.zeros((), network.dtype)
            with np.errstate(over="ignore"):  # a diverged network is told of by its own error
                network.k.squared_norm(block, out=total)
            return float(network.device.to_host(total))

    def _samples(self, x: Any, y: Any, weights: Any = None) -> Samples:
        """Check arrays against each other and the network; the first ones tell the network its task."""
        network = self.network
        x = check_samples(x)
        known = network.classes if network.task == "classification" else None
        targets = encode_targets(y, rows=x.shape[0], classes=known)
        self.check_fit(x, targets)
        if network.task is None:
            network.task, network.classes = targets.task, targets.classes
        return Samples.of(x, targets.y, None if weights is None else check_weights(weights, rows=x.shape[0]))

    def check_fit(self, x: Any, targets: Targets) -> None:
        """Raise DataError where samples, targets and the output of the network do not go together."""
        inputs, units, output = self.network.inputs, self.network.sizes[-1], self.network.output
        if x.shape[1] != inputs:
            raise DataError(
                f"X: got samples of {x.shape[1]} values for a network with {inputs} inputs; "
                "make its first size that of the samples."
            )
        self.network.codes.check(x)
        if self.loss.name == "poisson":
            _check_counts(targets)
        if targets.task == "classification":
            count = len(targets.classes or ())
            if units != count and not (units == 1 and count == 2 and output == "sigmoid"):
                raise DataError(
                    f"y: got {count} classes for a network with {units} outputs; make its last size {count}"
                    + (", or 1 with a sigmoid output." if count == 2 else ".")
                )
            return
        if targets.task == "multilabel" and output != "sigmoid":
            raise DataError(f'y: got 0/1 labels for the output "{output}"; build the network with "sigmoid".')
        if targets.y.shape[1] != units:
            raise DataError(
                f"y: got {targets.y.shape[1]} columns for a network with {units} outputs; make its last size that."
            )
        if output == "softmax" and not (np.allclose(targets.y.sum(axis=1), 1) and targets.y.min() >= 0):
            raise DataError(
                'y: got floats that are no probabilities for the output "softmax"; give rows that sum to 1, or class '
                'labels, or build the network with "linear".'
            )

    @property
    def metric(self) -> Metric:
        """What is reported beside the loss."""
        network = self.network
        scale = network.target_transform.scale
        return Metric.for_task(network.task or "classification", network.output, target_scale=scale)

    def seeds(self) -> list[np.random.SeedSequence]:
        """Independent seeds: of the order, of the split, of dropout."""
        seed = self.seed if isinstance(self.seed, np.random.SeedSequence) else np.random.SeedSequence(self.seed)
        return [np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, i)) for i in range(3)]

    def tell(self, event: str, *args: Any) -> None:
        """Call that method of every callback."""
        for callback in self.callbacks:
            getattr(callback, event)(self, *args)


def _checked_loss(output: str, name: str | None, delta: float, smoothing: float) -> Loss:
    """The loss with its settings, which no other loss may be given."""
    loss = Loss.for_output(output, name, delta=number("huber_delta", delta, above=0), smoothing=smoothing)
    for what, got, unset, owner in (
        ("huber_delta", delta, 1.0, "huber"),
        ("label_smoothing", smoothing, 0.0, "cross_entropy"),
    ):
        if got != unset and loss.name != owner:
            raise XpnetError(
                f'{what}: got {got:g} with the loss "{loss.name}", expected "{owner}"; leave it out or change the loss.'
            )
    return loss


def _check_counts(targets: Targets) -> None:
    """Raise DataError where these are no targets of the loss "poisson"."""
    if targets.task != "regression":
        raise DataError('y: got classes or labels for the loss "poisson"; give counts as floats, or take another loss.')
    if targets.y.min() < 0:
        raise DataError(
            f'y: got {targets.y.min():g} for the loss "poisson", expected counts, none negative; take another loss.'
        )
