"""From a configuration to things: the samples, the network, the trainer."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xpnet import data
from xpnet.checkpoint import Every
from xpnet.config import Config
from xpnet.data.images import shades_of
from xpnet.data.samples import Samples
from xpnet.data.transform import fit_target_transform, fit_transform
from xpnet.devices import Device
from xpnet.devices import device as open_named
from xpnet.errors import XpnetError, whole
from xpnet.network import MLP
from xpnet.optimizers import Optimizer
from xpnet.schedules import Schedule
from xpnet.sets import Sets, load_sets
from xpnet.tables.dataset import Table
from xpnet.trainer import Trainer


@dataclass(frozen=True)
class Task:
    """A configuration made into things: what is trained on what.

    Attributes:
        config: With the device that was taken in place of "auto".
        network, trainer: Ready to train.
        train, validation, test: The samples; None where there are none.
        table: The table that they are rows of; None where they are no rows of one.
    """

    config: Config
    network: MLP
    trainer: Trainer
    train: Samples
    validation: Samples | None
    test: Samples | None
    table: Table | None = None

    @property
    def digest(self) -> str:
        """Checksums of the sets of samples, and of what their numbers stand for: classes, and columns of a table."""
        sets = [part.digest() for part in (self.train, self.validation, self.test) if part is not None]
        named = [self.network.classes, None if self.table is None else self.table.encoder.to_dict()]
        return " ".join([*sets, hashlib.sha256(json.dumps(named, default=str).encode()).hexdigest()])

    @property
    def description(self) -> str:
        """The sizes of the sets, the loss and the optimizer, in a line."""
        sets = (("training", self.train), ("validation", self.validation), ("test", self.test))
        counts = ", ".join(f"{len(samples):,} {name}" for name, samples in sets if samples is not None)
        name = ", ".join(Path(path).name for path in self.config.data)
        return f"{name}: {counts} samples; {self.trainer.loss.name} by {self.trainer.optimizer}"


def open_device(config: Config) -> Device:
    """The device that the settings ask for, in the way they ask for it.

    Raises:
        DeviceError: It is not to be had; the message says what is missing.
    """
    return open_named(
        config.device,
        precision=config.precision,
        eager=config.eager,
        autotune=config.autotune,
        deterministic=config.deterministic,
    )


def prepare(
    config: Config, device: Device, *, load: Callable[[Config, np.random.SeedSequence], Sets] = load_sets
) -> Task:
    """Load the data and build network and trainer.

    Args:
        config: The settings.
        device: Where the network is to live.
        load: Gives the data, where they are at hand already.

    Raises:
        XpnetError: Something that was asked for is not to be had; the message says what to do.
    """
    _check(config)
    optimizer, schedule = config.make_optimizer(), config.make_schedule()  # are refused before the data are read
    seeds = np.random.SeedSequence(config.seed).spawn(3)
    sets = load(config, seeds[2])
    network = _make_network(config, sets, device, seeds[0])
    trainer = _make_trainer(config, network, optimizer, schedule, seeds[1])
    dataset = sets.dataset
    for y in (dataset.y, dataset.y_test):
        if y is not None:
            trainer.check_fit(sets.train.x, data.Targets(dataset.task, y, dataset.classes))
    config = dataclasses.replace(
        config, device=device.name, data=_absolute(config.data), data_dir=_full(config.data_dir)
    )
    return Task(config, network, trainer, sets.train, sets.validation, sets.test, sets.table)


def _check(config: Config) -> None:
    """Raise XpnetError for settings that nothing else looks at."""
    if config.seed < 0:
        raise XpnetError(f"seed: got {config.seed}, expected a whole number, at least 0.")
    if config.scale is not None and not math.isfinite(config.scale):
        raise XpnetError(f"scale: got {config.scale}, expected a finite number.")
    if config.name and (Path(config.name).name != config.name or config.name == ".." or "\0" in config.name):
        raise XpnetError(f'name: got "{config.name}", expected the name of one folder; leave out separators.')
    if config.dtype == "float64" and config.precision != "fp32":
        raise XpnetError(f'precision: got "{config.precision}" for float64, expected it with float32; leave one out.')
    whole("keep", config.keep, least=1)
    Every.of(config.checkpoint_every)


def _make_network(config: Config, sets: Sets, device: Device, seed: np.random.SeedSequence) -> MLP:
    """As wide as the samples and their targets ask for, with what brings samples and targets to its scale."""
    dataset, embeddings = sets.dataset, () if sets.table is None else sets.table.encoder.embeddings
    output = config.make_output(dataset.task)
    scale = dataset.scale if config.scale is None else config.scale
    inputs = dataset.x.shape[1] - len(embeddings) + sum(width for _, width in embeddings)
    network = MLP(
        (inputs, *config.hidden, _units(dataset, output)),
        config.activation,
        output,
        init=config.init,
        bias_init=config.bias_init,
        normalization=config.normalization,
        seed=seed,
        device=device,
        dtype=config.dtype,
        embeddings=embeddings,
    )
    network.task, network.classes, network.image_shape = dataset.task, dataset.classes, dataset.image_shape
    if dataset.image_shape is not None:
        network.image_shades = shades_of(sets.train.x, sets.train.rows, dataset.image_shape)
    network.transform = fit_transform(
        sets.train.x, sets.train.rows, scale=scale, center=config.center, standardize=config.standardize
    )
    network.table = None if sets.table is None else sets.table.encoder
    for table in network.parameters.e:
        table[0].fill(0)  # what is unknown: where training has none of it, it stays the mean of all
    if _standardizes_target(config, network, sets):
        network.target_transform = fit_target_transform(sets.train.y[sets.train.rows])
    return network


def _make_trainer(
    config: Config, network: MLP, optimizer: Optimizer, schedule: Schedule, seed: np.random.SeedSequence
) -> Trainer:
    return Trainer(
        network,
        loss=config.loss,
        huber_delta=config.huber_delta,
        label_smoothing=config.label_smoothing,
        optimizer=optimizer,
        schedule=schedule,
        batch_size=config.batch_size,
        epochs=config.epochs,
        steps=config.steps,
        replacement=config.replacement,
        l2=config.l2,
        clip_norm=config.clip_norm,
        max_norm=config.max_norm,
        dropout=config.dropout,
        eval_every=config.eval_every,
        early_stopping=config.early_stopping,
        monitor=config.monitor,
        final_weights=config.final_weights,
        seed=seed,
    )


def _standardizes_target(config: Config, network: MLP, sets: Sets) -> bool:
    """Whether the network learns numbers of mean 0 and deviation 1."""
    possible = network.task == "regression" and network.output == "linear" and network.sizes[-1] == 1
    if config.standardize_target and not possible:
        raise XpnetError(
            f"standardize_target: got it for {network.task} with the output {network.output}, expected one number and "
            "the output linear; leave it out."
        )
    return possible and (sets.table is not None if config.standardize_target is None else config.standardize_target)


def _units(dataset: data.Dataset, output: str) -> int:
    """Outputs of the network: one a class, or one sigmoid for two classes."""
    if dataset.task != "classification":
        return int(dataset.y.shape[1])
    count = len(dataset.classes or ())
    return 1 if output == "sigmoid" and count == 2 else count


def _absolute(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Files by their full paths, so that config.toml works from any folder; names as they are."""
    return tuple(path if path in data.NAMES else str(Path(path).absolute()) for path in paths)


def _full(path: str | None) -> str | None:
    return None if path is None else str(Path(path).absolute())
