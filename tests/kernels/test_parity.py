"""Every kernel on a device against the plain references on the CPU in float64: the effects on all that it writes.

A case calls one kernel, or kernels that belong together, through a `Bench`, which makes the arguments and keeps what
becomes of them. Run on two benches of one seed, it must leave the same numbers. Buffers that only the device can read
(`aux`) are not kept.
"""

import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet import kernels
from xpnet.devices import Device
from xpnet.kernels import ACTIVATIONS
from xpnet.kernels.table import REFERENCE

SHAPES = ((1, 1, 1), (1, 33, 7), (37, 5, 1), (64, 32, 96), (33, 65, 10))
"""Rows, columns, units."""

TOLERANCES = {"float32": 1e-5, "float64": 1e-12}
"""Largest difference over the largest magnitude, array by array."""

WRONG = 77
"""What buffers of whole numbers hold before they are written; others hold NaN."""


class Bench:
    """A device with arguments for kernels: the same numbers for the same seed, exact in float32."""

    def __init__(self, device: Device, k: Any, dtype: str, shape: tuple[int, int, int]) -> None:
        self.device, self.k, self.dtype = device, k, np.dtype(dtype)
        self.rows, self.columns, self.units = shape
        self.rng = np.random.default_rng(list(shape))
        self._given: list[tuple[Any, np.ndarray]] = []
        self._written: list[Any] = []

    def given(self, values: Any) -> Any:
        """An argument that is read."""
        array, copy = self._place(values), self._place(values)
        self._given.append((array, self.device.to_host(copy)))
        return array

    def changed(self, values: Any) -> Any:
        """An argument that is read and written."""
        return self.kept(self._place(values))

    def kept(self, array: Any) -> Any:
        """An argument that is there already, and is written."""
        self._written.append(array)
        return array

    def out(self, *shape: int, dtype: Any = None) -> Any:
        """An argument that is written, without being read."""
        dtype = self.dtype if dtype is None else np.dtype(dtype)
        return self.changed(np.full(shape, np.nan if dtype.kind == "f" else WRONG, dtype))

    def normal(self, *shape: int, size: float = 1.0) -> np.ndarray:
        """Random numbers."""
        return self.rng.normal(0, size, shape).astype(np.float32)

    def positive(self, *shape: int) -> np.ndarray:
        """Random numbers from 0.1 to 2."""
        return self.rng.uniform(0.1, 2, shape).astype(np.float32)

    def eighths(self, *shape: int) -> np.ndarray:
        """Random multiples of 1/8: products and sums are exact in any order."""
        return (self.rng.integers(-8, 9, shape) / 8).astype(np.float32)

    def whole(self, bound: int, *shape: int, dtype: Any = np.int64) -> np.ndarray:
        """Random numbers of things."""
        return self.rng.integers(0, bound, shape).astype(dtype)

    def number(self, value: float) -> Any:
        """A number that changes from step to step."""
        return self.given(np.array(value, np.float32))

    def effects(self) -> list[np.ndarray]:
        """All that was written, on the host; what was only given must be as it was."""
        for array, before in self._given:
            np.testing.assert_array_equal(self.device.to_host(array), before, err_msg="an argument has changed")
        return [self.device.to_host(array) for array in self._written]

    def _place(self, values: Any) -> Any:
        dtype = self.dtype if values.dtype.kind == "f" else values.dtype
        return self.device.asarray(values.astype(dtype))  # astype copies


@dataclass(frozen=True)
class Case:
    """A call of the kernels of these names."""

    label: str
    names: tuple[str, ...]
    call: Callable[[Bench], None]


def effects(device: Device, k: Any, case: Case, dtype: str, shape: tuple[int, int, int]) -> list[np.ndarray]:
    bench = Bench(device, k, dtype, shape)
    case.call(bench)
    return bench.effects()


def assert_same_effects(
    device_under_test: Device, case: Case, dtype: str, shape: tuple[int, int, int], k: Any = None
) -> None:
    """What the kernels write on a device is what the references write on the CPU in float64."""
    plain = xpnet.device("numpy")
    expected = effects(plain, kernels.on(plain), case, "float64", shape)
    actual = effects(device_under_test, kernels.on(device_under_test) if k is None else k, case, dtype, shape)
    assert expected, "the case keeps nothing"
    for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
        what = f"array {i}, {dtype}, {shape}"
        assert a.shape == e.shape, what
        assert np.isfinite(e).all(), f"{what}: the reference leaves a part unwritten"
        assert np.isfinite(a).all(), f"{what}: a part is unwritten"
        if e.dtype.kind != "f":
            np.testing.assert_array_equal(a, e, err_msg=what)
            continue
        error, scale = np.abs(a - e).max(), np.abs(e).max()
        assert error <= TOLERANCES[dtype] * scale, f"{what}: off by {error:.1e} of {scale:.1e}"


# Calls


def affine_forward(b: Bench) -> None:
    x, w, biases = (b.given(b.normal(*shape)) for shape in ((b.rows, b.columns), (b.columns, b.units), (b.units,)))
    b.k.affine_forward(x, w, biases, out=b.out(b.rows, b.units))


def affine_product(b: Bench) -> None:
    x, w = b.given(b.normal(b.rows, b.columns)), b.given(b.normal(b.columns, b.units))
    b.k.affine_product(x, w, out=b.out(b.rows, b.units))


def affine_inputs(b: Bench, **alpha: float) -> None:
    dz, w = b.given(b.normal(b.rows, b.units)), b.given(b.normal(b.columns, b.units))
    b.k.affine_inputs(dz, w, out=b.out(b.rows, b.columns), **alpha)


def affine_inputs_behind(b: Bench) -> None:
    """Of the last half of the inputs."""
    dz, w, first = b.given(b.normal(b.rows, b.units)), b.given(b.normal(b.columns, b.units)), b.columns // 2
    b.k.affine_inputs(dz, w, first=first, out=b.out(b.rows, b.columns - first))


def affine_weights(b: Bench) -> None:
    x, dz = b.given(b.normal(b.rows, b.columns)), b.given(b.normal(b.rows, b.units))
    b.k.affine_weights(x, dz, out=b.out(b.columns, b.units))


def affine_weights_step(b: Bench, *, alpha: float, beta: float, constant: bool) -> None:
    x, dz, w = b.normal(b.rows, b.columns), b.normal(b.rows, b.units), b.normal(b.columns, b.units)
    rates = (alpha, beta) if constant else (b.number(alpha), b.number(beta))
    b.k.affine_weights(b.given(x), b.given(dz), out=b.changed(w), alpha=rates[0], beta=rates[1])


def affine_biases(b: Bench) -> None:
    b.k.affine_biases(b.given(b.normal(b.rows, b.units)), out=b.out(b.units))


def activation(b: Bench, *, name: str, slope: bool, in_place: bool = False, dtype: Any = None) -> None:
    z = b.normal(b.rows, b.units, size=2)
    z, out = (b.changed(z),) * 2 if in_place else (b.given(z), b.out(b.rows, b.units))
    getattr(b.k, name)(z, out=out, slope=b.out(b.rows, b.units, dtype=dtype) if slope else None)


def exp(b: Bench, *, in_place: bool) -> None:
    z = b.normal(b.rows, b.units, size=2)
    z, out = (b.changed(z),) * 2 if in_place else (b.given(z), b.out(b.rows, b.units))
    b.k.exp(z, out=out)


def softmax(b: Bench, *, in_place: bool) -> None:
    z = b.normal(b.rows, b.units, size=3)
    z, out = (b.changed(z),) * 2 if in_place else (b.given(z), b.out(b.rows, b.units))
    b.k.softmax(z, out=out)


def activation_backward(b: Bench, *, in_place: bool, dtype: Any) -> None:
    dy, slope = b.normal(b.rows, b.units), b.normal(b.rows, b.units)
    slope = b.given(slope > 0 if dtype is bool else slope)
    dy, out = (b.changed(dy),) * 2 if in_place else (b.given(dy), b.out(b.rows, b.units))
    b.k.activation_backward(dy, slope, out=out)


def hidden(b: Bench, *, activation: str, spare: int, rate: float = 0.0) -> None:
    """Forward, then backward through the layer above; pre-activations are exact and at least 1/128 from 0."""
    x, w = b.given(b.eighths(b.rows, b.columns)), b.given(b.eighths(b.columns, b.units))
    biases = b.given(b.eighths(b.units) + np.float32(1 / 128))
    buffer = b.device.asarray(np.full((b.rows + spare, b.units), np.nan, b.dtype))
    options: dict[str, Any] = {"activation": activation, "rate": rate}
    aux = b.k.hidden_aux(buffer, below=b.columns, above=13, **options)[: b.rows]
    key = b.given(np.array(54321, np.uint32))
    b.k.hidden_forward(x, w, biases, key=key, out=b.kept(buffer[: b.rows]), aux=aux, **options)
    dz, above = b.given(b.normal(b.rows, 13)), b.given(b.normal(b.units, 13))
    out, db = b.out(b.rows, b.units), b.out(b.units)
    b.k.hidden_backward(dz, above, aux=aux, out=out, db=db, **options)


def hidden_activation(b: Bench, *, activation: str, in_place: bool, rate: float = 0.0) -> None:
    """The end of a normalized layer, then backward; z keeps away from 0."""
    z = b.normal(b.rows, b.units)
    z = np.where(abs(z) < 1 / 128, np.float32(1 / 128), z)
    z, y = (b.changed(z),) * 2 if in_place else (b.given(z), b.out(b.rows, b.units))
    options: dict[str, Any] = {"activation": activation, "rate": rate}
    aux = b.k.hidden_aux(y, normalized=True, below=b.columns, above=13, **options)
    b.k.hidden_activation(z, key=b.given(np.array(54321, np.uint32)), out=y, aux=aux, **options)
    dz, above = b.given(b.normal(b.rows, 13)), b.given(b.normal(b.units, 13))
    b.k.hidden_backward(dz, above, aux=aux, out=b.out(b.rows, b.units), db=b.out(b.units), **options)


def hidden_forward(b: Bench, *, activation: str) -> None:
    """Without aux, where nothing is dropped."""
    x, w = b.given(b.eighths(b.rows, b.columns)), b.given(b.eighths(b.columns, b.units))
    biases = b.given(b.eighths(b.units))
    b.k.hidden_forward(x, w, biases, activation=activation, rate=0.5, out=b.out(b.rows, b.units))


def normalized(b: Bench, *, into: str) -> dict[str, Any]:
    """z: (B, O) with gain and shift, and where hat and y go, of which one may be z."""
    z = b.normal(b.rows, b.units, size=3) + np.float32(1.5)
    z = b.given(z) if into == "others" else b.changed(z)
    gain, shift = b.given(b.positive(b.units)), b.given(b.normal(b.units))
    hat, out = (z if into == where else b.out(b.rows, b.units) for where in ("hat", "out"))
    return {"z": z, "gain": gain, "shift": shift, "hat": hat, "out": out}


def batch_norm(b: Bench, *, into: str) -> None:
    statistics = {"mean": b.changed(b.normal(b.units)), "variance": b.changed(b.positive(b.units))}
    b.k.batch_norm(**normalized(b, into=into), **statistics, inverse=b.out(1, b.units))


def batch_norm_inference(b: Bench, *, in_place: bool) -> None:
    z, gain, shift = b.normal(b.rows, b.units, size=3), b.given(b.positive(b.units)), b.given(b.normal(b.units))
    statistics = {"mean": b.given(b.normal(b.units)), "variance": b.given(b.positive(b.units))}
    z, out = (b.changed(z),) * 2 if in_place else (b.given(z), b.out(b.rows, b.units))
    b.k.batch_norm_inference(z, gain, shift, **statistics, out=out)


def layer_norm(b: Bench, *, into: str) -> None:
    b.k.layer_norm(**normalized(b, into=into), inverse=b.out(b.rows, 1))


def norm_backward(b: Bench, *, name: str, in_place: bool) -> None:
    dy, gain, hat = b.normal(b.rows, b.units), b.given(b.positive(b.units)), b.given(b.normal(b.rows, b.units))
    over_the_batch = name == "batch_norm_backward"
    inverse = b.given(b.positive(*((1, b.units) if over_the_batch else (b.rows, 1))))
    options = {"dshift": b.given(b.normal(b.units))} if over_the_batch else {}
    dy, out = (b.changed(dy),) * 2 if in_place else (b.given(dy), b.out(b.rows, b.units))
    getattr(b.k, name)(dy, gain, hat=hat, inverse=inverse, dgain=b.out(b.units), out=out, **options)


def weights_of(b: Bench, weighted: bool) -> Any:
    if not weighted:
        return None
    weights = b.positive(b.rows)
    weights[1::3] = 0
    return b.given(weights)


def loss(b: Bench, *, name: str, targets: str, weighted: bool = False, in_place: bool = False, **options: Any) -> None:
    shape = b.rows, b.units
    z = b.normal(*shape, size=2)
    form = {
        "classes": lambda: b.whole(b.units, b.rows, dtype=np.int32),
        "probabilities": lambda: b.rng.dirichlet(np.ones(b.units), b.rows).astype(np.float32),
        "labels": lambda: b.whole(2, *shape).astype(np.float32),
        "numbers": lambda: b.normal(*shape, size=3),
        "counts": lambda: b.whole(4, *shape).astype(np.float32),
    }
    t, weights = b.given(form[targets]()), weights_of(b, weighted)
    z, dz = (b.changed(z),) * 2 if in_place else (b.given(z), b.out(*shape))
    getattr(b.k, name)(z, t, weights=weights, out=dz, db=b.out(b.units), loss=b.out(), **options)


def groups_of(b: Bench) -> tuple[int, ...]:
    """The columns of one, two or three groups, one of them a single column."""
    return {1: (1,), 7: (4, 1, 2)}.get(b.units, (1, b.units - 1))


def classes_of(b: Bench, groups: tuple[int, ...]) -> Any:
    return b.given(np.stack([b.whole(size, b.rows, dtype=np.int32) for size in groups], axis=1))


def grouped_softmax_cross_entropy(b: Bench, *, weighted: bool, in_place: bool, **options: Any) -> None:
    z, groups = b.normal(b.rows, b.units, size=2), groups_of(b)
    t, weights = classes_of(b, groups), weights_of(b, weighted)
    z, dz = (b.changed(z),) * 2 if in_place else (b.given(z), b.out(b.rows, b.units))
    results = {"out": dz, "db": b.out(b.units), "loss": b.out()}
    b.k.grouped_softmax_cross_entropy(z, t, groups=groups, weights=weights, **results, **options)


def grouped_hits(b: Bench, *, weighted: bool) -> None:
    z, groups = b.given(b.normal(b.rows, b.units)), groups_of(b)
    b.k.grouped_hits(z, classes_of(b, groups), groups=groups, weights=weights_of(b, weighted), out=b.out())


def scored(b: Bench, *, weighted: bool, in_place: bool, **options: Any) -> None:
    """The loss and the hits, away from ties."""
    z, t = b.normal(b.rows, b.units, size=2), b.given(b.whole(b.units, b.rows, dtype=np.int32))
    z, dz = (b.changed(z),) * 2 if in_place else (b.given(z), b.out(b.rows, b.units))
    sums = {"loss": b.out(), "hits": b.out()}
    weights, db = weights_of(b, weighted), b.out(b.units)
    b.k.scored_softmax_cross_entropy(z, t, weights=weights, out=dz, db=db, **sums, **options)


def random_bits(b: Bench) -> None:
    b.k.random_bits(key=b.given(np.array(0xFFFFFFF0, np.uint32)), out=b.out(b.rows, b.units, dtype=np.uint32))


def dropout(b: Bench, *, rate: float, slope: Any, in_place: bool) -> None:
    y, key = b.normal(b.rows, b.units), b.given(np.array(12345, np.uint32))
    slopes = b.normal(b.rows, b.units)
    slope_by = b.changed(slopes > 0 if slope is bool else slopes) if slope else None
    y, out = (b.changed(y),) * 2 if in_place else (b.given(y), b.out(b.rows, b.units))
    b.k.dropout(y, key=key, rate=rate, out=out, slope=slope_by)


def hits(b: Bench, *, output: str, weighted: bool, labels: bool = False) -> None:
    t = b.whole(2, b.rows, b.units).astype(np.float32) if labels else b.whole(b.units, b.rows, dtype=np.int32)
    # Mostly negative: there the order of an output need not be that of z.
    z, weights = b.given(b.normal(b.rows, b.units) - np.float32(not labels)), weights_of(b, weighted)
    b.k.hits(z, b.given(t), output=output, weights=weights, out=b.out())


def squared_errors(b: Bench, *, output: str, weighted: bool) -> None:
    z, t = b.given(b.normal(b.rows, b.units)), b.given(b.normal(b.rows, b.units))
    b.k.squared_errors(z, t, output=output, weights=weights_of(b, weighted), out=b.out())


def sgd_update(b: Bench) -> None:
    size = b.columns * b.units
    b.k.sgd_update(b.changed(b.normal(size)), b.given(b.normal(size)), lr=b.number(0.25))


def update(b: Bench, *, name: str, slots: int, numbers: dict[str, float], clipped: bool, **options: Any) -> None:
    size = b.columns * b.units
    w, g = b.changed(b.normal(size)), b.given(b.normal(size))
    moments = [b.changed(b.positive(size)) for _ in range(slots)]
    rates = {key: None if value is None else b.number(value) for key, value in numbers.items()}
    clip = b.number(0.375) if clipped else None
    getattr(b.k, name)(w, g, *moments, clip=clip, **rates, **options)


def max_norm(b: Bench) -> None:
    w = b.normal(b.columns, b.units)
    w[:, ::3] *= 4
    b.k.max_norm(b.changed(w), limit=1.5 * b.columns**0.5)


def squared_norm(b: Bench) -> None:
    b.k.squared_norm(b.given(b.normal(b.columns * b.units)), out=b.out())


def clip_scale(b: Bench, *, limit: float) -> None:
    b.k.clip_scale(b.given(b.normal(b.columns * b.units) + np.float32(0.1)), limit=limit, out=b.out())


def gather(b: Bench, *, raw: str, scale: str, shift: bool) -> None:
    drawn = b.normal(50, b.columns) if raw == "float" else b.whole(256, 50, b.columns, dtype=raw)
    scale_by = {"none": None, "number": 1 / 256, "columns": b.positive(b.columns)}[scale]
    scale_by = b.given(scale_by) if scale == "columns" else scale_by
    shift_by = b.given(b.normal(b.columns)) if shift else None
    index = b.given(b.whole(50, b.rows))
    b.k.gather(b.given(drawn), index, scale=scale_by, shift=shift_by, out=b.out(b.rows, b.columns))


def gather_numbers(b: Bench, *, dtype: Any) -> None:
    source = b.normal(50) if dtype is float else b.whole(9, 50, dtype=dtype)
    out = b.out(b.rows, dtype=None if dtype is float else dtype)
    b.k.gather(b.given(source), b.given(b.whole(50, b.rows)), out=out)


def gather_sparse(b: Bench, *, scale: str, shift: bool, dtype: Any) -> None:
    entries = max(1, b.columns // 3)
    places = np.stack([b.rng.permutation(b.columns)[:entries] for _ in range(20)]).astype(dtype)
    values = b.normal(20, entries)
    places[::2, -1], values[::2, -1] = places[::2, 0], values[::2, 0]  # a shorter row repeats an entry
    scale_by = {"none": None, "number": 0.5, "columns": b.positive(b.columns)}[scale]
    scale_by = b.given(scale_by) if scale == "columns" else scale_by
    shift_by = b.given(b.normal(b.columns)) if shift else None
    index = b.given(b.whole(20, b.rows))
    out = b.out(b.rows, b.columns)
    b.k.gather_sparse(b.given(places), b.given(values), index, scale=scale_by, shift=shift_by, out=out)


def coded(b: Bench) -> Any:
    """A column of codes for as many rows as there are columns, two of them beyond at either end."""
    samples = b.normal(b.rows, 3)
    samples[:, 1] = b.whole(b.columns + 4, b.rows) - 2
    return b.given(samples)[:, 1]


def copy_columns(b: Bench) -> None:
    b.k.copy_columns(b.given(b.normal(b.rows, b.columns + 2)), out=b.changed(b.normal(b.rows, b.columns + 5))[:, 1:-4])


def embedding_forward(b: Bench) -> None:
    """Between other columns."""
    out = b.changed(b.normal(b.rows, b.units + 5))[:, 2:-3]
    b.k.embedding_forward(coded(b), b.given(b.normal(b.columns, b.units)), out=out)


def embedding_backward(b: Bench) -> None:
    dy = b.given(b.normal(b.rows, b.units + 5))[:, 2:-3]
    b.k.embedding_backward(coded(b), dy, out=b.out(b.columns, b.units))


# The table


def case(*names: str, call: Callable[..., None] | None = None, **options: Any) -> Case:
    """The call, by default the function above of the kernel's name, with these options, which make the label."""
    shown = {key: getattr(value, "__name__", value) for key, value in options.items() if key != "name"}
    words = [key if value is True else f"{key} {value}" for key, value in shown.items() if value is not False]
    return Case(", ".join([names[0], *words]), names, partial(call or globals()[names[0]], **options))


def each(**choices: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Every combination of the choices, as options."""
    return (dict(zip(choices, chosen, strict=True)) for chosen in itertools.product(*choices.values()))


NO_YES = (False, True)
RATES = {"lr": 0.125}
ADAM = {"size": 0.125, "eps": 0.01}
BETAS = {"beta1": 0.75, "beta2": 0.875}

UPDATES: dict[str, dict[str, Any]] = {
    **{
        name: {"slots": 1, "numbers": RATES, "momentum": 0.75}
        for name in ("momentum_update", "nesterov_update", "velocity_update", "nesterov_velocity_update")
    },
    "adam_update": {"slots": 2, "numbers": ADAM, **BETAS},
    "rmsprop_update": {"slots": 1, "numbers": RATES, "alpha": 0.875, "eps": 0.01},
    "adagrad_update": {"slots": 1, "numbers": RATES, "eps": 0.01},
}

CASES = [
    case("affine_forward"),
    case("affine_product"),
    *(case("affine_inputs", **o) for o in ({}, {"alpha": 1.25})),
    case("affine_inputs", call=affine_inputs_behind),
    case("affine_weights"),
    *(
        case("affine_weights", call=affine_weights_step, alpha=-0.25, beta=beta, constant=constant)
        for beta, constant in ((0.875, False), (0.875, True), (0.0, True))
    ),
    case("affine_biases"),
    *(case(name, call=activation, name=name, **o) for name in ACTIVATIONS for o in each(slope=NO_YES, in_place=NO_YES)),
    *(case(name, call=activation, name=name, slope=True, dtype=bool) for name in ("relu", "linear")),
    *(case(name, **o) for name in ("softmax", "exp") for o in each(in_place=NO_YES)),
    *(case("activation_backward", **o) for o in each(in_place=NO_YES, dtype=(bool, float))),
    *(
        case("hidden_forward", "hidden_backward", "hidden_aux", call=hidden, **o)
        for o in each(activation=ACTIVATIONS, spare=(0, 3), rate=(0.0, 0.375))
    ),
    *(case("hidden_forward", **o) for o in each(activation=ACTIVATIONS)),
    *(
        case("hidden_activation", "hidden_backward", **o)
        for o in each(activation=ACTIVATIONS, in_place=NO_YES, rate=(0.0, 0.375))
    ),
    *(case(name, into=into) for name in ("batch_norm", "layer_norm") for into in ("others", "hat", "out")),
    *(case("batch_norm_inference", in_place=in_place) for in_place in NO_YES),
    *(
        case(name, call=norm_backward, name=name, in_place=in_place)
        for name in ("batch_norm_backward", "layer_norm_backward")
        for in_place in NO_YES
    ),
    *(
        case(name, call=loss, name=name, targets=targets, **o)
        for name, targets in (
            ("softmax_cross_entropy", "classes"),
            ("softmax_cross_entropy", "probabilities"),
            ("sigmoid_cross_entropy", "labels"),
        )
        for o in each(weighted=NO_YES, in_place=NO_YES, smoothing=(0.0, 0.2))
    ),
    *(
        case("softmax_cross_entropy", call=loss, name="softmax_cross_entropy", log_smallest=-1.0, **o)
        for o in each(targets=("classes", "probabilities"), smoothing=(0.0, 0.2))
    ),
    *(
        case("sigmoid_cross_entropy", call=loss, name="sigmoid_cross_entropy", targets="labels", weighted=both, **o)
        for o in ({"largest": 0.75}, {"scale": 1.5, "smoothing": 0.1, "largest": 2.0})
        for both in NO_YES
    ),
    *(
        case("poisson", call=loss, name="poisson", targets="counts", output="exp", **o)
        for o in each(weighted=NO_YES, in_place=NO_YES, scale=(None, 0.5))
    ),
    *(case("grouped_softmax_cross_entropy", **o) for o in each(weighted=NO_YES, in_place=NO_YES, smoothing=(0.0, 0.2))),
    *(
        case(name, call=loss, name=name, targets="numbers", output=output, weighted=both, in_place=both)
        for name in ("squared_error", "absolute_error", "huber")
        for output in ACTIVATIONS
        for both in NO_YES
    ),
    *(
        case(name, call=loss, name=name, targets="numbers", output=output, scale=0.5, weighted=weighted)
        for name in ("squared_error", "absolute_error", "huber")
        for output in ("linear", "tanh")
        for weighted in NO_YES
    ),
    case("huber", call=loss, name="huber", targets="numbers", output="tanh", delta=0.3),
    *(case("scored_softmax_cross_entropy", call=scored, **o) for o in each(weighted=NO_YES, in_place=NO_YES)),
    case("scored_softmax_cross_entropy", call=scored, weighted=True, in_place=True, smoothing=0.2, log_smallest=-1.0),
    *(case("hits", **o) for o in each(output=("softmax", "linear", "relu", "gelu"), weighted=NO_YES)),
    *(case("hits", output="sigmoid", labels=True, **o) for o in each(weighted=NO_YES)),
    *(case("grouped_hits", **o) for o in each(weighted=NO_YES)),
    *(case("squared_errors", **o) for o in each(output=("softmax", *ACTIVATIONS), weighted=NO_YES)),
    case("random_bits"),
    *(case("dropout", **o) for o in each(rate=(0.0, 0.25, 0.9), slope=(*NO_YES, bool), in_place=NO_YES)),
    case("sgd_update"),
    *(
        case(name, call=update, name=name, **{**options, "numbers": options["numbers"] | l2}, clipped=clipped)
        for name, options in UPDATES.items()
        for l2 in each(l2=(None, 0.25))
        for clipped in NO_YES
    ),
    *(
        case("adamw_update", call=update, name="adamw_update", slots=2, numbers=ADAM | o, clipped=clipped, **BETAS)
        for o in each(keep=(None, 0.875))
        for clipped in NO_YES
    ),
    case("max_norm"),
    case("squared_norm"),
    *(case("clip_scale", limit=limit) for limit in (1e3, 0.01)),
    *(
        case("gather", **o)
        for o in each(raw=("uint8", "int16", "float"), scale=("none", "number", "columns"), shift=NO_YES)
    ),
    *(case("gather", call=gather_numbers, dtype=dtype) for dtype in (np.int32, np.uint8, np.int64, float)),
    *(
        case("gather_sparse", scale=scale, shift=shift, dtype=dtype)
        for scale, shift in (("none", False), ("number", False), ("columns", True))
        for dtype in (np.int32, np.int64)
    ),
    case("copy_columns"),
    case("embedding_forward"),
    case("embedding_backward"),
]


def test_every_kernel_has_a_case():
    assert {name for case in CASES for name in case.names} == set(REFERENCE)


each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


@each_shape
@each_case
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_the_cpu_stays_close_to_the_references_in_float64(device, case, shape):
    for dtype in TOLERANCES:
        assert_same_effects(xpnet.device(device), case, dtype, shape)


def cut_into(parts: int) -> Device:
    """The CPU, which cuts all work into so many parts, some of them empty."""
    device = xpnet.device("cpu")
    vars(device)["parts"] = lambda **_: parts
    return device


@each_shape
@each_case
def test_kernels_cut_into_parts_stay_close_to_the_references(case, shape):
    for dtype in TOLERANCES:
        assert_same_effects(cut_into(3), case, dtype, shape)


def test_twins_have_the_signatures_and_defaults_of_their_references():
    twins = xpnet.device("cpu").twins
    assert twins, "Numba is a dependency, so there are twins"
    for name, twin in twins.items():
        expected = inspect.signature(REFERENCE[name]).parameters.values()
        actual = inspect.signature(twin).parameters.values()
        assert [(p.name, p.kind, p.default) for p in actual] == [(p.name, p.kind, p.default) for p in expected], name


@pytest.mark.gpu
@each_case
def test_a_gpu_does_what_the_references_do_on_the_cpu(case):
    cuda = xpnet.device("cuda")
    table = kernels.on(cuda)
    for k, dtype, shape in itertools.product((table, table.reference), TOLERANCES, SHAPES):
        assert_same_effects(cuda, case, dtype, shape, k)


# The harness itself must tell wrong from right


class Twinned(xpnet.devices.Plain):
    """The CPU with twins."""

    def __init__(self, **twins: Callable[..., Any]) -> None:
        super().__init__()
        self.twins = twins


def too_large(k: Any, z: Any, *, out: Any, slope: Any = None) -> None:
    REFERENCE["relu"](k, z, out=out, slope=slope)
    out *= 1 + 1e-4


def forgets_the_slope(k: Any, z: Any, *, out: Any, slope: Any = None) -> None:
    REFERENCE["relu"](k, z, out=out)


def spoils_its_input(k: Any, z: Any, *, out: Any, slope: Any = None) -> None:
    REFERENCE["relu"](k, z, out=out, slope=slope)
    z -= 1


@pytest.mark.parametrize("twin", [too_large, forgets_the_slope, spoils_its_input], ids=lambda twin: twin.__name__)
def test_a_twin_with_other_effects_is_found(twin):
    relu = next(case for case in CASES if case.label == "relu, slope")
    assert_same_effects(Twinned(relu=REFERENCE["relu"]), relu, "float32", (33, 5, 7))
    with pytest.raises(AssertionError):
        assert_same_effects(Twinned(relu=twin), relu, "float32", (33, 5, 7))
