"""The CUDA kernels, compiled for the CPU, against their references."""

import contextlib
import inspect
import itertools
import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
from gpu.host_kernels import Asked, HostKernel, HostModule, compiled, why_not
from kernels import test_parity as parity
from kernels.test_parity import CASES, SHAPES, Bench, Case, assert_same_effects, case, effects

from xpnet import kernels
from xpnet.devices import Plain
from xpnet.devices.cuda import sources
from xpnet.devices.cuda.twins import TWINS as ALL_TWINS
from xpnet.devices.cuda.twins import hidden
from xpnet.devices.cuda.twins.columns import convert, slope_and_sum
from xpnet.devices.cuda.twins.dropout import rectified
from xpnet.kernels.table import REFERENCE

pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")

TWINS = {name: twin for name, twin in ALL_TWINS.items() if twin not in hidden.TWINS}
"""Those that are kernels of ours; hidden layers are products."""

GUARD = 512
"""Bytes before and behind each array that no kernel may write."""

DTYPES = ("float32", "float64")
BF16 = np.dtype(np.uint16)


class OnCpu(Plain):
    """NumPy with CUDA's twins, whose kernels run thread by thread; blocks in the order that `seed` draws.

    Around every array are bytes of NaN, which must be there after every launch.
    """

    def __init__(self, seed: int = 1) -> None:
        super().__init__("CUDA on a CPU", TWINS)
        self.seed = seed
        self.launched: list[str] = []
        self._guarded: list[np.ndarray] = []

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        memory = np.full(size + 2 * GUARD, 0xFF, np.uint8)
        self._guarded.append(memory)
        return memory[GUARD : GUARD + size].view(dtype).reshape(shape)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Any:
        array = self.empty(shape, dtype)
        array[...] = 0
        return array

    def asarray(self, array: Any, dtype: Any = None) -> Any:
        array = np.asarray(array, dtype)
        copy = self.empty(array.shape, array.dtype)
        copy[...] = array
        return copy

    def kernel(self, file: str, expression: str) -> Callable[..., None]:
        kernel = host_kernel(file, expression)

        def launch(grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...], shared_mem: int = 0) -> None:
            kernel.seed = self.seed
            kernel(grid, block, args, shared_mem)
            self.launched.append(expression)
            for memory in self._guarded:
                assert (memory[:GUARD] == 0xFF).all(), f"{expression} writes before an array"
                assert (memory[-GUARD:] == 0xFF).all(), f"{expression} writes behind an array"

        return launch


# Cases


def gather_all(b: Bench, *, raw: type, scaled: bool) -> None:
    source = b.whole(2 if raw is bool else 100, 50, b.columns, dtype=raw)
    scale, shift = (b.given(b.positive(b.columns)), b.given(b.normal(b.columns))) if scaled else (1 / 256, None)
    index = b.given(b.whole(50, b.rows))
    b.k.gather(b.given(source), index, scale=scale, shift=shift, out=b.out(b.rows, b.columns))


def covered(names: set[str]) -> list[Case]:
    return [case for case in CASES if set(case.names) & names]


TWINNED = covered(set(TWINS))

RAWS = [
    case("gather", call=gather_all, raw=raw, scaled=scaled)
    for raw in (bool, *(np.dtype(char).type for char in "bBhHiIlL"))
    for scaled in (False, True)
]

NORMALIZED = covered({"batch_norm", "batch_norm_inference", "batch_norm_backward", "layer_norm", "layer_norm_backward"})
NORMALIZED_SHAPES = ((1730, 1, 300), (1500, 1, 40), (1100, 1, 7), (40, 1, 4500), (300, 1, 33), (3, 1, 1500))
"""Rows shared by blocks, one fewer than could be, in packs or not; all rows in a block of 32 columns and of 8; a row a
block."""

WITH_SLOPE = [case("dropout", rate=0.25, slope=slope, in_place=True) for slope in (True, bool)]

LARGE = [
    *(
        case("scored_softmax_cross_entropy", call=parity.scored, weighted=both, in_place=both, smoothing=smoothing)
        for both, smoothing in ((False, 0.0), (True, 0.1))
    ),
    *(
        case(name, call=parity.loss, name=name, targets=targets, weighted=weighted, **options)
        for name, targets, weighted, options in (
            ("softmax_cross_entropy", "classes", False, {"in_place": True}),
            ("softmax_cross_entropy", "probabilities", True, {}),
            ("softmax_cross_entropy", "probabilities", False, {"smoothing": 0.25}),
            ("sigmoid_cross_entropy", "labels", True, {}),
            ("sigmoid_cross_entropy", "labels", True, {"smoothing": 0.1, "largest": 1.0, "scale": 2.0}),
            ("huber", "numbers", False, {"output": "tanh", "in_place": True}),
            ("huber", "numbers", True, {"output": "linear", "delta": 0.5, "scale": 0.5}),
        )
    ),
    case("hits", output="softmax", weighted=True),
    case("hits", output="sigmoid", labels=True, weighted=False),
    case("squared_errors", output="linear", weighted=True),
]

LARGE_SHAPES = ((1, 1, 1500), (9, 1, 1000), (600, 1, 300), (3000, 1, 10), (5000, 1, 1), (200, 1, 130), (40, 1, 256))
"""One block and many, a row a block and many, one level of sums over blocks and two."""

NORMS = covered({"squared_norm", "clip_scale"})
NORM_SHAPES = ((1, 300, 1000), (1, 91, 91))

GATHERS = covered({"gather", "gather_sparse"})
GATHER_SHAPES = ((2000, 784, 1), (3, 1000, 1))

EMBEDDINGS = covered({"embedding_forward", "embedding_backward"})
EMBEDDING_SHAPES = ((500, 3, 8), (20, 300, 40), (130, 70, 1))
"""Many samples a row of the table, many rows without any, more columns than a warp has lanes, and one."""

RUNS = [
    (case, dtype, shape)
    for cases, dtypes, shapes in (
        (TWINNED, DTYPES[:1], SHAPES),
        (TWINNED, DTYPES[1:], SHAPES[3:]),
        (WITH_SLOPE, DTYPES, ((1100, 1, 240),)),
        (NORMALIZED, DTYPES[:1], NORMALIZED_SHAPES),
        (NORMALIZED, DTYPES[1:], NORMALIZED_SHAPES[2:]),
        (covered({"max_norm"}), DTYPES, ((1, 784, 50), (1, 20, 4500))),
        (RAWS, DTYPES[:1], SHAPES[2:4]),
        (LARGE, DTYPES[:1], LARGE_SHAPES),
        (NORMS, DTYPES, NORM_SHAPES),
        (GATHERS, DTYPES[:1], GATHER_SHAPES),
        (EMBEDDINGS, DTYPES, EMBEDDING_SHAPES),
    )
    for case in cases
    for dtype in dtypes
    for shape in shapes
]


@cache
def planned() -> dict[str, HostKernel]:
    """The kernels of most tests."""
    asked = Asked(TWINS)
    with np.errstate(all="ignore"):
        for a_case, dtype, shape in RUNS:
            a_case.call(Bench(asked, kernels.on(asked), dtype, shape))
        for name, write in WRITERS.items():
            for shape, dtype in itertools.product(shapes_written(name), (np.float32, BF16)):
                with contextlib.suppress(AssertionError):  # nothing is computed
                    write(asked, kernels.on(asked), asked.empty(shape, dtype), np.random.default_rng(3))
    return compiled({file: sources.text(file) for file in asked.expressions}, asked.expressions)


@cache
def host_kernel(file: str, expression: str) -> HostKernel:
    if expression in planned():
        return planned()[expression]
    return HostModule(sources.text(file), (expression,)).get_function(expression)


def by_case() -> list[Any]:
    runs: dict[str, list[Any]] = {}
    for run in RUNS:
        runs.setdefault(run[0].label, []).append(run)
    return [pytest.param(of_case, id=label) for label, of_case in runs.items()]


@pytest.mark.parametrize("runs", by_case())
def test_twins_do_what_the_references_do(runs):
    for a_case, dtype, shape in runs:
        device = OnCpu()
        assert_same_effects(device, a_case, dtype, shape)
        assert device.launched, f"{a_case.label} has no kernel"


def test_twins_have_the_signatures_and_defaults_of_their_references():
    for name, twin in ALL_TWINS.items():
        expected = inspect.signature(REFERENCE[name]).parameters.values()
        actual = inspect.signature(twin).parameters.values()
        assert [(p.name, p.kind, p.default) for p in actual] == [(p.name, p.kind, p.default) for p in expected], name


@pytest.mark.parametrize("shape", [(60, 10), (1500, 40)], ids=str)
def test_a_variance_survives_a_large_mean(shape):
    """Squares are those of differences from the mean, in every block and over blocks."""
    device, rng = OnCpu(), np.random.default_rng(0)
    k, units = kernels.on(device), shape[1:]
    drawn = (1000 + rng.normal(size=shape)).astype(np.float32)
    for name, axis in (("batch_norm", 0), ("layer_norm", 1)):
        gain, shift, mean, variance = (device.zeros(units, np.float32) for _ in range(4))
        running = {"mean": mean, "variance": variance} if axis == 0 else {}
        inverse = device.empty((1, *units) if axis == 0 else (len(drawn), 1), np.float32)
        z, out = device.asarray(drawn), device.empty(shape, np.float32)
        getattr(k, name)(z, gain, shift, **running, hat=z, inverse=inverse, out=out)
        exact = drawn.astype(np.float64)
        deviation = exact.std(axis=axis, keepdims=True)
        np.testing.assert_allclose(1 / inverse, deviation, rtol=1e-4)
        np.testing.assert_allclose(z, (exact - exact.mean(axis=axis, keepdims=True)) / deviation, atol=1e-3)


ORDERED = [
    *((case, LARGE_SHAPES[1:5]) for case in LARGE),
    *((case, NORM_SHAPES[:1]) for case in NORMS),
    *((case, NORMALIZED_SHAPES[1:3]) for case in NORMALIZED),
    *((case, EMBEDDING_SHAPES) for case in EMBEDDINGS),
]


@pytest.mark.parametrize(("a_case", "shapes"), [pytest.param(case, shapes, id=case.label) for case, shapes in ORDERED])
def test_results_are_the_same_bit_for_bit_in_whatever_order_blocks_run(a_case, shapes):
    for shape in shapes:
        results = [effects(device, kernels.on(device), a_case, "float32", shape) for device in (OnCpu(1), OnCpu(2))]
        for a, b in zip(*results, strict=True):
            np.testing.assert_array_equal(a, b)


def test_no_code_of_a_larger_batch_before_counts():
    device, rng = OnCpu(), np.random.default_rng(0)
    k, table = kernels.on(device), device.empty((4, 3), np.float32)
    codes, dy = device.asarray(rng.integers(0, 4, 64).astype(np.float32)), device.asarray(np.ones((64, 3), np.float32))
    for count in (64, 40, 1):
        k.embedding_backward(codes[:count], dy[:count], out=table)
        np.testing.assert_array_equal(table[:, 0], np.bincount(codes[:count].astype(int), minlength=4))


def test_counters_are_ready_for_the_next_launch():
    device = OnCpu()
    k = kernels.on(device)
    x, sums = device.asarray(np.random.default_rng(0).normal(size=100_000)), []
    for seed in range(3):
        device.seed = seed
        out = device.empty((), x.dtype)
        k.squared_norm(x, out=out)
        sums.append(float(out))
    assert len(set(sums)) == 1
    assert math.isclose(sums[0], float(x @ x), rel_tol=1e-12)


# bfloat16 and rows with room


def bfloat16_of(x: Any) -> np.ndarray:
    """The bits of the nearest, ties to even; NaN stays NaN."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = ((bits.astype(np.uint64) + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(x), ((bits >> 16) | 0x40).astype(np.uint16), rounded)


def float_of(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def floats_of(out: np.ndarray) -> np.ndarray:
    return float_of(out) if out.dtype == BF16 else out


Roomy = tuple[np.ndarray, np.ndarray]


def roomy(device: OnCpu, rows: int, columns: int, dtype: Any, spare: int) -> Roomy:
    """(rows, columns) out of rows with room for `spare` columns more, all of it of bits 1; and the whole."""
    whole = device.empty((rows, columns + spare), dtype)
    return whole[:, :columns], whole


def gathered(device: OnCpu, k: Any, out: Any, rng: Any) -> None:
    source, index = rng.integers(0, 256, (60, out.shape[1])).astype(np.uint8), rng.integers(0, 60, len(out))
    shift = device.asarray(rng.normal(size=out.shape[1]).astype(np.float32))
    k.gather(device.asarray(source), device.asarray(index), scale=1 / 255, shift=shift, out=out)


def gathered_by_reference(device: OnCpu, k: Any, out: Any, rng: Any) -> None:
    source, index = rng.normal(size=(60, out.shape[1])).astype(np.float16), rng.integers(0, 60, len(out))
    k.gather(device.asarray(source), device.asarray(index), scale=1 / 255, out=out)


def gathered_sparse(device: OnCpu, k: Any, out: Any, rng: Any) -> None:
    places, values = rng.integers(0, out.shape[1], (60, 1)).astype(np.int32), rng.normal(size=(60, 1))
    given = (device.asarray(places), device.asarray(values.astype(np.float32)))
    k.gather_sparse(*given, device.asarray(rng.integers(0, 60, len(out))), scale=0.3, out=out)


def embedded(device: OnCpu, k: Any, out: Any, rng: Any, *, codes: Any = np.float32) -> None:
    samples, table = rng.integers(-2, 43, (len(out), 3)).astype(codes), rng.normal(size=(40, out.shape[1]))
    k.embedding_forward(device.asarray(samples)[:, 1], device.asarray(table.astype(np.float32)), out=out)


def copied(device: OnCpu, k: Any, out: Any, rng: Any) -> None:
    k.copy_columns(device.asarray(rng.normal(size=(len(out), out.shape[1] + 3)).astype(np.float32)), out=out)


def lost(device: OnCpu, k: Any, out: Any, rng: Any, *, name: str, targets: Any = np.float32, **options: Any) -> None:
    shape = out.shape
    z = device.asarray(rng.normal(size=shape).astype(np.float32))
    t = (
        rng.integers(0, shape[1], len(out))
        if np.dtype(targets).kind == "i"
        else rng.dirichlet(np.ones(shape[1]), len(out))
    )
    db, loss = device.empty(shape[1:], np.float32), device.empty((), np.float32)
    getattr(k, name)(z, device.asarray(t.astype(targets)), out=out, db=db, loss=loss, **options)
    assert np.isfinite(db).all()
    assert np.isfinite(loss)


def grouped(device: OnCpu, k: Any, out: Any, rng: Any) -> None:
    rows, columns = out.shape
    groups = (columns // 3, columns - columns // 3) if columns > 3 else (columns,)
    z, t = rng.normal(size=out.shape).astype(np.float32), np.stack([rng.integers(0, size, rows) for size in groups], 1)
    db, loss = device.empty((columns,), np.float32), device.empty((), np.float32)
    given = device.asarray(z), device.asarray(t.astype(np.int32))
    k.grouped_softmax_cross_entropy(*given, groups=groups, smoothing=0.1, out=out, db=db, loss=loss)
    assert np.isfinite(db).all()


def sloped(device: OnCpu, k: Any, out: Any, rng: Any, *, slope: Any, by_output: bool = False) -> None:
    dy, _ = roomy(device, *out.shape, np.float32, 8)
    dy[...] = rng.normal(size=out.shape)
    drawn = rng.normal(size=out.shape).astype(np.float32)
    slopes, _ = roomy(device, *out.shape, slope, 4)
    slopes[...] = bfloat16_of(drawn) if slope == BF16 else drawn > 0 if slope is bool else drawn
    db = device.empty(out.shape[1:], np.float32)
    slope_and_sum(k, dy, slopes, out=out, db=db, by_output=by_output)
    factor = float_of(slopes) if slope == BF16 else slopes
    product = dy.astype(np.float64) * ((factor > 0) if by_output else factor)
    np.testing.assert_allclose(db, product.sum(axis=0), rtol=0, atol=1e-5 * np.abs(product).sum(axis=0).max())
    if out.dtype != BF16:
        np.testing.assert_allclose(out, product, rtol=1e-6)


def representable(out: Any, rng: Any) -> None:
    """out <- numbers that bfloat16 has."""
    bits = bfloat16_of(rng.normal(size=out.shape))
    out[...] = bits if out.dtype == BF16 else float_of(bits)


def dropped_from_float(device: OnCpu, k: Any, out: Any, rng: Any) -> None:
    y, slope = (device.asarray(rng.normal(size=out.shape).astype(np.float32)) for _ in range(2))
    expected = slope.copy()
    k.dropout(y, key=device.asarray(np.array(7, np.uint32)), rate=0.25, out=out, slope=slope)
    np.testing.assert_array_equal(slope, np.where(floats_of(out) == 0, 0, expected))


def dropped_in_place(device: OnCpu, k: Any, out: Any, rng: Any) -> None:
    representable(out, rng)
    k.dropout(out, key=device.asarray(np.array(7, np.uint32)), rate=0.25, out=out)


def rectified_from_float(device: OnCpu, k: Any, out: Any, rng: Any, *, drops: bool) -> None:
    z, key = device.asarray(rng.normal(size=out.shape).astype(np.float32)), device.asarray(np.array(7, np.uint32))
    rectified(k, z, key=key if drops else None, rate=0.25, out=out)
    expected = np.maximum(z, 0)
    if drops:
        k.reference.dropout(expected, key=key, rate=0.25, out=expected)
    if out.dtype != BF16:
        np.testing.assert_array_equal(out, expected)


def normalized_back(device: OnCpu, k: Any, out: Any, rng: Any, *, name: str) -> None:
    representable(out, rng)
    rows, units = out.shape
    layer = name == "layer_norm_backward"
    inverse = device.asarray(rng.uniform(0.1, 2, (rows, 1) if layer else (1, units)).astype(np.float32))
    hat = device.asarray(rng.normal(size=out.shape).astype(np.float32))
    gain, dshift = (device.asarray(rng.normal(size=units).astype(np.float32)) for _ in range(2))
    expected, dgain = (floats_of(out) * hat).sum(axis=0), device.empty((units,), np.float32)
    options = {} if layer else {"dshift": dshift}
    getattr(k, name)(out, gain, hat=hat, inverse=inverse, dgain=dgain, out=out, **options)
    np.testing.assert_allclose(dgain, expected, rtol=1e-4, atol=1e-4)


def converted(device: OnCpu, k: Any, out: Any, rng: Any) -> None:
    source, _ = roomy(device, *out.shape, np.float32, 4)
    source[...] = rng.normal(size=out.shape)
    convert(k, source, out=out)


WRITERS = {
    "gather": gathered,
    "gather, float16": gathered_by_reference,
    "gather_sparse": gathered_sparse,
    "embedding": embedded,
    "embedding by the reference": partial(embedded, codes=np.float16),
    "copy_columns": copied,
    "softmax, classes": partial(lost, name="softmax_cross_entropy", targets=np.int32),
    "softmax, long classes": partial(lost, name="softmax_cross_entropy", targets=np.int64),
    "softmax, classes by the reference": partial(lost, name="softmax_cross_entropy", targets=np.int16),
    "softmax, probabilities": partial(lost, name="softmax_cross_entropy"),
    "sigmoid": partial(lost, name="sigmoid_cross_entropy"),
    "squared": partial(lost, name="squared_error", output="linear"),
    "absolute": partial(lost, name="absolute_error", output="sigmoid"),
    "huber": partial(lost, name="huber", output="tanh", delta=0.2),
    "slope, bool": partial(sloped, slope=bool),
    "slope, float32": partial(sloped, slope=np.float32),
    "slope, bfloat16": partial(sloped, slope=BF16),
    "slope by output, float32": partial(sloped, slope=np.float32, by_output=True),
    "slope by output, bfloat16": partial(sloped, slope=BF16, by_output=True),
    "softmax, smoothed": partial(lost, name="softmax_cross_entropy", targets=np.int32, smoothing=0.1),
    "poisson": partial(lost, name="poisson", output="exp"),
    "groups": grouped,
    "convert": converted,
    "dropout": dropped_from_float,
    "dropout, in place": dropped_in_place,
    "relu": partial(rectified_from_float, drops=False),
    "relu and dropout": partial(rectified_from_float, drops=True),
    "batch_norm_backward": partial(normalized_back, name="batch_norm_backward"),
    "layer_norm_backward": partial(normalized_back, name="layer_norm_backward"),
}
WRITTEN_SHAPES = ((3, 8), (300, 10), (33, 7), (1, 1))
LONGER = {
    "dropout": ((1100, 240),),
    "dropout, in place": ((1100, 240),),
    "relu and dropout": ((1100, 240),),
    "batch_norm_backward": ((1100, 12), (1100, 7)),
    "layer_norm_backward": ((1100, 12), (3, 1100)),
}


def shapes_written(name: str) -> tuple[tuple[int, int], ...]:
    return WRITTEN_SHAPES + LONGER.get(name, ())


@pytest.mark.parametrize("name", WRITERS)
def test_bfloat16_is_the_rounded_float32_and_nothing_else_is_written(name):
    write = WRITERS[name]
    for shape in shapes_written(name):
        contents = {}
        for dtype, spare in ((np.float32, 0), (np.float32, 6), (BF16, 0), (BF16, 6)):
            device = OnCpu()
            out, whole = roomy(device, *shape, dtype, spare)
            write(device, kernels.on(device), out, np.random.default_rng(3))
            assert (whole[:, shape[1] :].view(np.uint8) == 0xFF).all(), "the room at the end of a row is written"
            contents[dtype, spare] = out
        wanted = contents[np.float32, 0]
        assert np.isfinite(wanted).all()
        np.testing.assert_array_equal(contents[np.float32, 6], wanted)
        for spare in (0, 6):
            np.testing.assert_array_equal(contents[BF16, spare], bfloat16_of(wanted))


@pytest.mark.parametrize("shape", [(300, 1024), (1024, 260), (2000, 3)], ids=str)
def test_many_columns_and_rows_are_sloped_and_summed(shape):
    for options in ({"slope": bool}, {"slope": BF16, "by_output": True}):
        for dtype in (np.float32, BF16):
            sums = []
            for seed in (1, 2):
                device = OnCpu(seed)
                out, whole = roomy(device, *shape, dtype, 4)
                sloped(device, kernels.on(device), out, np.random.default_rng(3), **options)
                sums.append(out.copy())
                assert (whole[:, shape[1] :].view(np.uint8) == 0xFF).all()
            np.testing.assert_array_equal(*sums)


def test_a_gradient_is_sloped_where_it_lies():
    device, rng = OnCpu(), np.random.default_rng(0)
    for dtype in DTYPES:
        dy, slope = (device.asarray(rng.normal(size=(40, 33)).astype(dtype)) for _ in range(2))
        expected, db = dy * slope, device.empty((33,), dtype)
        slope_and_sum(kernels.on(device), dy, slope, out=dy, db=db)
        np.testing.assert_array_equal(dy, expected)
        np.testing.assert_allclose(db, expected.sum(axis=0), atol=1e-4)


def test_bfloat16_rounds_to_nearest_even_and_keeps_nan():
    every = np.arange(1 << 16, dtype=np.uint32) << 16
    offsets = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    x = (every[:, None] + offsets).reshape(-1).view(np.float32)
    device = OnCpu()
    k, out = kernels.on(device), device.empty(x.shape, BF16)
    convert(k, device.asarray(x), out=out)
    np.testing.assert_array_equal(out, bfloat16_of(x))
    assert np.isnan(float_of(out)[np.isnan(x)]).all()
    back = device.empty(x.shape, np.float32)
    convert(k, out, out=back)
    np.testing.assert_array_equal(back, float_of(out))


# Numbers that are not numbers, ties, and what has no kernel


def scores(values: Any) -> np.ndarray:
    return np.array(values, np.float32)


STRANGE = scores(
    [
        [1, 3, 3, 0, -1, 3],
        [9, np.nan, 5, 1, np.nan, 7],
        [0, 0, 0, 0, 0, 0],
        [-np.inf, 1, 2, -np.inf, 0, 2],
        [1, np.inf, 0, 0, np.inf, 0],
        [-1e30, -1e30, -1e30, 1e30, 1e30, 0],
    ]
)


@pytest.mark.parametrize("repeats", [1, 51])
@pytest.mark.parametrize("first", range(6))
def test_strange_scores_give_what_the_reference_gives(first, repeats):
    z = np.tile(STRANGE, (1, repeats))
    t = np.array([1, first, first, 2, 1, first], np.int32)
    results = []
    for device in (OnCpu(), Plain()):
        with np.errstate(all="ignore"):
            for rows in (*(slice(i, i + 1) for i in range(6)), slice(0, 6)):
                out, db = (device.empty(shape, np.float32) for shape in (z[rows].shape, z.shape[1:]))
                sums = [device.empty((), np.float32) for _ in range(3)]
                given = device.asarray(z[rows]), device.asarray(t[rows])
                kernels.on(device).hits(*given, output="linear", out=sums[2])
                kernels.on(device).scored_softmax_cross_entropy(*given, out=out, db=db, loss=sums[0], hits=sums[1])
                assert sums[1] == sums[2]
                results.append([out, db, *sums])
    for actual, expected in zip(results[:7], results[7:], strict=True):
        for a, e in zip(actual, expected, strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-6)


def test_a_batch_without_weight_changes_nothing():
    device, rng = OnCpu(), np.random.default_rng(0)
    z, t = device.asarray(rng.normal(size=(40, 10)).astype(np.float32)), device.asarray(np.zeros(40, np.int32))
    out, db, loss = (device.empty(shape, np.float32) for shape in ((40, 10), (10,), ()))
    weights = device.zeros((40,), np.float32)
    kernels.on(device).softmax_cross_entropy(z, t, weights=weights, out=out, db=db, loss=loss)
    assert not out.any()
    assert not db.any()
    assert loss == 0


def test_what_has_no_kernel_goes_to_the_reference():
    device, rng = OnCpu(), np.random.default_rng(0)
    k = kernels.on(device)
    source, index = device.asarray(rng.integers(0, 9, (20, 4)).astype(np.uint8)), device.asarray(np.arange(5))
    out = device.empty((5, 4), np.int32)
    k.gather(source, index, out=out)
    np.testing.assert_array_equal(out, source[:5])
    x, norm = device.asarray(rng.normal(size=(30, 4))), device.empty((), np.float64)
    k.squared_norm(x[::2].reshape(-1)[::2], out=norm)
    assert math.isclose(norm, (x[::2].reshape(-1)[::2] ** 2).sum(), rel_tol=1e-12)
    assert not device.launched


# The means themselves must tell wrong from right


def ran(code: str, *args: Any, grid: int = 1, block: int = 64, seed: int = 1) -> None:
    kernel = HostModule(f"template <typename T> __global__ void kernel{code}", ("kernel<float>",)).get_function(
        "kernel<float>"
    )
    kernel.seed = seed
    kernel((grid,), (block,), args)


def test_a_barrier_that_some_threads_miss_is_an_error():
    for barrier in ("__syncthreads()", "__syncwarp()", "*x = __shfl_xor_sync(~0u, 1.0f, 1)"):
        with pytest.raises(RuntimeError, match="not all threads reach"):
            ran(f"(T* x) {{ if (threadIdx.x != 40) {barrier}; }}", np.zeros(64, np.float32))
    with pytest.raises(RuntimeError, match="not all threads reach"):
        ran("(T* x) {\n if (threadIdx.x < 32)\n __syncthreads();\n else\n __syncthreads(); }", np.zeros(1, np.float32))


def test_a_missing_barrier_shows():
    code = "(T* x) {{ __shared__ T s[64]; s[threadIdx.x] = threadIdx.x; {} x[threadIdx.x] = s[63 - threadIdx.x]; }}"
    good, bad = np.zeros(64, np.float32), np.zeros(64, np.float32)
    ran(code.format("__syncthreads();"), good)
    np.testing.assert_array_equal(good, np.arange(64)[::-1])
    ran(code.format(""), bad)
    assert np.isnan(bad).any()


def test_a_barrier_missing_between_reading_and_writing_shows():
    """A warp reads what another has already replaced."""
    sums = """(T* x) {{
        __shared__ T s[2];
        T sum = 0;
        for (int i = 0; i < 3; i++) {{
            if (threadIdx.x % 32 == 0) s[threadIdx.x / 32] = i;
            __syncthreads();
            sum += s[0] + s[1];
            {}
        }}
        x[threadIdx.x] = sum;
    }}"""
    good, bad = np.zeros(64, np.float32), np.zeros(64, np.float32)
    ran(sums.format("__syncthreads();"), good)
    assert (good == 6).all()
    ran(sums.format(""), bad)
    assert (bad != 6).any()


def test_blocks_run_in_an_order_that_depends_on_the_seed():
    orders = set()
    for seed in range(4):
        last = np.zeros(8, np.float32)
        ran("(T* x) { if (threadIdx.x == 0) x[int(x[7]++)] = blockIdx.x; }", last, grid=7, seed=seed)
        assert sorted(last[:7]) == list(range(7))
        orders.add(tuple(last[:7]))
    assert len(orders) > 1


def test_wrong_arguments_are_refused():
    code, x = "(T* x, int n, T y) { x[n] = y; }", np.zeros(4, np.float32)
    ran(code, x, np.int32(2), np.float32(5))
    assert x[2] == 5
    for wrong in (
        (x, np.int32(2)),
        (x, np.int32(2), np.float64(5)),
        (x, np.float32(2), np.float32(5)),
        (x, np.int64(2), np.float32(5)),
        (x, 2, np.float32(5)),
        (x.astype(np.float64), np.int32(2), np.float32(5)),
        (np.float32(1), np.int32(2), np.float32(5)),
    ):
        with pytest.raises(TypeError, match="kernel<float>"):
            ran(code, *wrong)
