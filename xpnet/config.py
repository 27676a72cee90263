"""Every setting of a run, once: the command line, the recipes and config.toml are made from `Config`."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from cyclopts import CoercionError, Group, Parameter, Token

from xpnet import optimizers
from xpnet.errors import XpnetError, one_of
from xpnet.optimizers import Optimizer
from xpnet.schedules import (
    SCHEDULES,
    Constant,
    Cosine,
    Exponential,
    InverseScaling,
    OneCycle,
    Schedule,
    StepDecay,
    WarmUp,
)

_DATA = Parameter(group=Group("Data", sort_key=1))
_TABLE = Parameter(group=Group("Tables", sort_key=2))
_NETWORK = Parameter(group=Group("Network", sort_key=3))
_TRAINING = Parameter(group=Group("Training", sort_key=4))
_KEEPING = Parameter(group=Group("Validation and stopping", sort_key=5))
_CHECKPOINTS = Parameter(group=Group("Checkpoints", sort_key=6))
_RUN = Parameter(group=Group("Run and output", sort_key=7))
_LIST = Parameter(consume_multiple=True, negative="", show_default=lambda values: " ".join(map(str, values)))
_FLAG = Parameter(negative="", show_default=False)


def _read_whole(type_: Any, tokens: Sequence[Token]) -> int:
    """A whole number; unlike Cyclopts, never a rounded one."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise CoercionError(token=tokens[0], target_type=int) from None


_Whole = Annotated[int, Parameter(converter=_read_whole)]

UNWRITTEN = frozenset({"out", "overwrite", "quiet", "json", "gradcheck"})
"""Where and how a run is written: no part of what repeats it elsewhere."""

UNBOUND = UNWRITTEN | {
    *("name", "plot", "report", "tensorboard", "data", "data_dir", "epochs", "steps"),
    *("checkpoint_every", "keep", "device", "eager", "autotune", "deterministic"),
}
"""Settings that may be others when a run is gone on with: they change no bit, or are looked at apart."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of a run."""

    data: Annotated[tuple[str, ...], _DATA, _LIST] = ("digits",)
    """A name (digits, mnist, fashion-mnist, cifar10, xor, sine), an .npz file with X and y (and X_test, y_test), files
    of samples and labels, then perhaps of test samples and labels (.npy, IDX, sparse .npz), or a table with --target
    (.csv, .tsv, .parquet), then perhaps one to test on."""

    data_dir: Annotated[str | None, _DATA] = None
    """Where data files are, or go when they are downloaded; else $XPNET_DATA, else a cache folder."""

    train_size: Annotated[_Whole | None, _DATA] = None
    """Use only the first so many training samples."""

    scale: Annotated[float | None, _DATA] = None
    """Factor on raw values; by custom 1/255 for bytes."""

    center: Annotated[bool, _DATA, _FLAG] = False
    """Subtract the mean of each column (the mean image)."""

    standardize: Annotated[bool, _DATA, _FLAG] = False
    """Bring each column to mean 0 and standard deviation 1."""

    target: Annotated[str | None, _TABLE] = None
    """The column of a table that is predicted."""

    task: Annotated[Literal["classification", "regression"] | None, _TABLE] = None
    """What the target's values are; by custom told from them: text and few whole numbers are classes."""

    ignore: Annotated[tuple[str, ...], _TABLE, _LIST, Parameter(show_default=False)] = ()
    """Columns to leave out."""

    categorical: Annotated[tuple[str, ...], _TABLE, _LIST, Parameter(show_default=False)] = ()
    """Columns of numbers that are categories, such as codes."""

    numbers: Annotated[Literal["standard", "quantile", "bins"], _TABLE] = "standard"
    """Bring numbers to mean 0 and deviation 1, held within 10 deviations, or by rank onto the normal distribution, or
    into bins: by median and quartiles, and how far through each of up to 128 bins."""

    one_hot: Annotated[_Whole, _TABLE] = 64
    """Categories of up to so many values get a column for each value; those of more are embedded."""

    embedding: Annotated[_Whole, _TABLE] = 8
    """Numbers in which a value is embedded."""

    time_column: Annotated[str | None, _TABLE] = None
    """A column by which rows are ordered: the first ones train, later ones validate, the last ones test."""

    group_column: Annotated[str | None, _TABLE] = None
    """A column whose equal values stay together in training, validation or test."""

    hidden: Annotated[tuple[_Whole, ...], _NETWORK, _LIST, Parameter(negative="--no-hidden")] = (100,)
    """Units of each hidden layer, such as 300 100."""

    activation: Annotated[tuple[str, ...], _NETWORK, _LIST] = ("relu",)
    """relu, sigmoid, tanh, linear, leaky_relu, elu, softplus, gelu or silu: one for all hidden layers, or one each."""

    output: Annotated[str | None, _NETWORK] = None
    """softmax, sigmoid, linear, exp, or an activation; by custom what targets and loss ask for."""

    normalization: Annotated[Literal["batch", "layer"] | None, _NETWORK] = None
    """Bring what enters the activations to mean 0 and deviation 1, over the batch or the layer; by custom not."""

    init: Annotated[str, _NETWORK] = "glorot_uniform"
    """Draws weights: glorot_, he_ or lecun_ with uniform or normal, normal(0.01), uniform(0.1), zeros."""

    bias_init: Annotated[str, _NETWORK] = "zeros"
    """The same for biases."""

    dtype: Annotated[Literal["float32", "float64"], _NETWORK] = "float32"
    """Precision of all computation."""

    loss: Annotated[Literal["cross_entropy", "mse", "huber", "mae", "poisson"] | None, _TRAINING] = None
    """By custom cross_entropy for classes and labels, mse for numbers; poisson is for counts."""

    huber_delta: Annotated[float, _TRAINING] = 1.0
    """Where the loss huber becomes linear."""

    standardize_target: Annotated[bool | None, _TRAINING] = None
    """Train on numbers of mean 0 and deviation 1, and predict in the target's own unit; by custom with tables."""

    label_smoothing: Annotated[float, _TRAINING] = 0.0
    """Part of each target of cross_entropy that is moved to all classes alike."""

    optimizer: Annotated[Literal["sgd", "adam", "adamw", "rmsprop", "adagrad"], _TRAINING] = "adam"
    """How gradients become steps."""

    lr: Annotated[float | None, _TRAINING] = None
    """Learning rate; by custom 0.1 for sgd, 0.01 for adagrad, else 0.001."""

    momentum: Annotated[float, _TRAINING] = 0.0
    """Of sgd."""

    nesterov: Annotated[bool, _TRAINING, _FLAG] = False
    """Nesterov's momentum."""

    beta1: Annotated[float | None, _TRAINING] = None
    """Of adam and adamw, how long the mean of gradients remembers; by custom 0.9."""

    beta2: Annotated[float | None, _TRAINING] = None
    """Of adam and adamw, how long the mean of their squares remembers; by custom 0.999."""

    schedule: Annotated[Literal["constant", "step", "exponential", "inverse", "cosine", "one-cycle"], _TRAINING] = (
        "constant"
    )
    """How the learning rate changes."""

    decay: Annotated[float | None, _TRAINING] = None
    """Factor of the schedules step (each stair, 0.1) and exponential (each epoch, 0.95); power of inverse (0.5)."""

    decay_every: Annotated[_Whole, _TRAINING] = 10
    """Epochs between the stairs of the schedule step."""

    warmup: Annotated[float, _TRAINING] = 0.0
    """Epochs over which the learning rate rises linearly from nothing."""

    l2: Annotated[float, _TRAINING] = 0.0
    """Adds 0.5 l2 times the sum of squared weights to the mean loss; adamw takes lr l2 of the weights off instead."""

    clip_norm: Annotated[float | None, _TRAINING] = None
    """Largest norm of the gradient."""

    max_norm: Annotated[float | None, _TRAINING] = None
    """Largest norm of the weights into a hidden unit."""

    dropout: Annotated[tuple[float, ...], _TRAINING, _LIST] = (0.0,)
    """Part of the hidden units that each step leaves out: one for all hidden layers, or one each."""

    batch_size: Annotated[_Whole | Literal["all"], _TRAINING] = 32
    """Samples a step, or all."""

    epochs: Annotated[_Whole, _TRAINING] = 30
    """Passes over the training samples."""

    steps: Annotated[_Whole | None, _TRAINING] = None
    """Steps, in place of epochs."""

    replacement: Annotated[bool, _TRAINING, _FLAG] = False
    """Draw batches with replacement rather than shuffle."""

    seed: Annotated[_Whole, _TRAINING] = 0
    """Of weights, order, split and dropout: same seed, device and threads, same bits."""

    split: Annotated[str | None, _KEEPING] = None
    """Parts for training, validation and test, such as 0.8/0.1/0.1, or 0.9/0.1 where there is a test set; in place of
    --val-size."""

    val_size: Annotated[float, _KEEPING] = 0.1
    """Part (below 1) or number of training samples to validate on; 0 for none."""

    val_on_test: Annotated[bool, _KEEPING, _FLAG] = False
    """Take the test set as validation set, for the curves; nothing should then be chosen by it."""

    eval_every: Annotated[str, _KEEPING] = "1"
    """Evaluate every so many epochs (5) or steps (200steps)."""

    early_stopping: Annotated[_Whole | None, _KEEPING] = None
    """Stop after so many evaluations without improvement."""

    monitor: Annotated[str | None, _KEEPING] = None
    """What has to improve: val_accuracy, val_mse, val_loss, train_loss, ...; by custom accuracy or mse."""

    final_weights: Annotated[Literal["best", "last"] | None, _KEEPING] = None
    """Which weights to save; by custom the best on the validation set, where there is one."""

    checkpoint_every: Annotated[str | None, _CHECKPOINTS] = None
    """Epochs (5) or time (30s, 10m, 2h) between checkpoints; by custom each epoch, at most one in ten seconds."""

    keep: Annotated[_Whole, _CHECKPOINTS] = 2
    """So many checkpoints, the newest; the best model so far lies beside them."""

    device: Annotated[str, _RUN] = "auto"
    """auto, cpu, numpy (the CPU by the plain reference kernels), cuda or cuda:1."""

    precision: Annotated[Literal["fp32", "tf32", "bf16"], _RUN] = "fp32"
    """What matrix products read on a GPU: 24, 11 or 8 bits of each number; sums and weights keep 24."""

    eager: Annotated[bool, _RUN, _FLAG] = False
    """On a GPU, launch kernel by kernel instead of recording graphs: slower, with the same results."""

    autotune: Annotated[str | None, _RUN] = None
    """On a GPU, a file of algorithms of matrix products: those that it lacks are timed and added."""

    deterministic: Annotated[bool, _RUN, _FLAG] = False
    """Only what computes the same bits in every run, and say what that costs: nothing on a CPU, autotune on a GPU."""

    out: Annotated[str | None, _RUN] = None
    """The run's folder; by custom a new one, runs/NAME or runs/NAME-2 and so on."""

    name: Annotated[str | None, _RUN] = None
    """What to call the run: its folder is then runs/NAME."""

    overwrite: Annotated[bool, _RUN, _FLAG] = False
    """Write into --out even if it holds a run already."""

    plot: Annotated[bool, _RUN] = True
    """Draw curves.png."""

    report: Annotated[bool, _RUN] = True
    """Write report.html, to look at what was learnt and how."""

    tensorboard: Annotated[bool, _RUN, _FLAG] = False
    """Write what TensorBoard shows into the folder tensorboard of the run: curves, and histograms of the weights."""

    quiet: Annotated[bool, _RUN, _FLAG] = False
    """Print nothing (but the line of --json)."""

    json: Annotated[bool, _RUN, _FLAG] = False
    """End with one line of JSON."""

    gradcheck: Annotated[bool, _RUN, _FLAG] = False
    """Do not train: compare this network's gradients with finite differences, in float64."""

    def make_optimizer(self) -> Optimizer:
        """The optimizer with its settings."""
        options: dict[str, Any] = {} if self.lr is None else {"lr": self.lr}
        if self.optimizer == "sgd":
            options |= {"momentum": self.momentum, "nesterov": self.nesterov}
        elif self.momentum or self.nesterov:
            raise XpnetError(
                f"momentum: got it with {self.optimizer}, expected sgd; leave it out or change --optimizer."
            )
        betas = {name: value for name, value in (("beta1", self.beta1), ("beta2", self.beta2)) if value is not None}
        if betas and self.optimizer not in ("adam", "adamw"):
            raise XpnetError(
                f"{min(betas)}: got it with {self.optimizer}, expected adam or adamw; leave it out or change that."
            )
        options |= betas
        return optimizers.make(self.optimizer, **options)

    def make_schedule(self) -> Schedule:
        """The schedule with its settings, behind the warm-up where there is one."""
        decay = self.decay
        schedules: dict[str, Any] = {
            "constant": Constant,
            "step": lambda: StepDecay(0.1 if decay is None else decay, self.decay_every),
            "exponential": lambda: Exponential(0.95 if decay is None else decay),
            "inverse": lambda: InverseScaling(0.5 if decay is None else decay),
            "cosine": Cosine,
            "one-cycle": OneCycle,
        }
        schedule: Schedule = schedules[one_of("schedule", self.schedule, SCHEDULES)]()
        return schedule if self.warmup == 0 else WarmUp(self.warmup, schedule)

    def make_output(self, task: str) -> str:
        """The output that was asked for, or the one that is usual for the task and the loss."""
        if self.output is not None:
            return self.output
        if self.loss == "poisson":
            return "exp"
        if task == "multilabel":
            return "sigmoid"
        return "softmax" if task == "classification" and self.loss in (None, "cross_entropy") else "linear"


UNUSED_IN_SEARCH = frozenset({"checkpoint_every", "keep", "plot", "report", "tensorboard", "gradcheck"})
"""What a run leaves behind, and its gradient check."""

_UNUSED = Parameter(show=False)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SearchConfig(Config):
    """The settings of the trainings of a search, which leave no folders behind."""

    val_on_test: Annotated[bool, _UNUSED] = False
    checkpoint_every: Annotated[str | None, _UNUSED] = None
    keep: Annotated[int, _UNUSED] = 2

    out: Annotated[str | None, _RUN] = None
    """The file for the best settings, which train takes by --config; by custom that of the study, with .toml."""

    name: Annotated[str | None, _RUN] = None
    """What to call the search: its study is then runs/tune-NAME.db."""

    overwrite: Annotated[bool, _RUN, _FLAG] = False
    """Write --out even if it is there already."""

    plot: Annotated[bool, _UNUSED] = True
    report: Annotated[bool, _UNUSED] = True
    tensorboard: Annotated[bool, _UNUSED] = False
    gradcheck: Annotated[bool, _UNUSED] = False


def differences(then: dict[str, Any], now: dict[str, Any], *, free: Set[str] = UNBOUND) -> list[str]:
    """Which settings of what is gone on with are not what they were, as "lr 0.1 (it was 0.01)"; `free` ones may be."""
    names = [field.name for field in fields(Config) if field.name not in free]
    return [
        f"{name} {now.get(name, 'unset')} (it was {then.get(name, 'unset')})"
        for name in names
        if now.get(name) != then.get(name)
    ]


def settings_of(config: Config) -> dict[str, Any]:
    """What config.toml holds: all that repeats the run elsewhere; not where and how it is written."""
    values = {field.name: getattr(config, field.name) for field in fields(config) if field.name not in UNWRITTEN}
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in values.items() if value is not None
    }
