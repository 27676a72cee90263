"""Each kernel and each product of a training step, against the floor, and their sum against the whole step.

A step is taken once while the table of kernels notes what the program calls; then each call is repeated by itself in a
graph: on the same arrays, as in a step, where what one kernel wrote the next one finds in the cache; and in turn on
copies that together no cache holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.gpu import SIZES, ceilings
from bench.gpu.notes import Notes
from bench.gpu.timing import each_of, launches, seconds

BATCHES = (128, 1024, 16384)
ROWS = 60_000
TINY = 1e-12
"""A learning rate that changes nothing: the same step is repeated thousands of times."""

GATHERED, STEPS, REPEATED = 8, 64, 100
BEYOND_CACHE = 2**28
"""Bytes that are more than a cache holds."""

MOST_COPIES = 64
ENDING = 8.0

REGULARIZED: dict[str, dict[str, Any]] = {
    "dropout": {"dropout": 0.5},
    "batch normalization": {"normalization": "batch"},
    "layer normalization": {"normalization": "layer"},
}
"""By their names, what training may do besides; each takes launches more."""


def run(notes: Notes) -> None:
    """For each batch size; the hidden layers in their other form; the other precisions; and with regularization."""
    import xpnet

    device = xpnet.device("cuda")
    floors = notes.found["floors"] = {
        "copy_bytes_per_second": ceilings.copy_rate(device),
        "flops": ceilings.product_rate(device),
        "node_us": ceilings.graph_costs(device)[0],
    }
    by_output = xpnet.device("cuda")
    by_output.fused_activations -= {"relu"}  # so that no packed bits are kept: the slope is read off the output
    for batch in BATCHES:
        notes.found.setdefault("fp32", {})[str(batch)] = measure(device, batch, floors)
        notes.save()
        notes.found.setdefault("fp32, ReLU by the output", {})[str(batch)] = measure(
            by_output, batch, floors, cold=False
        )
        notes.save()
    for precision in ("tf32", "bf16"):
        if notes.left() < ENDING:
            notes.found["left out"] = f"{precision}: the time was up"
            return
        device = xpnet.device("cuda", precision=precision)
        rates = floors | {"flops": ceilings.product_rate(device)}
        for batch in BATCHES:
            notes.found.setdefault(precision, {})[str(batch)] = measure(device, batch, rates, cold=False)
            notes.save()
    device = xpnet.device("cuda")
    for name, options in REGULARIZED.items():
        for batch in BATCHES:
            if notes.left() < ENDING:
                notes.found["left out"] = f"{name}, batch {batch}: the time was up"
                return
            form = notes.found.setdefault(f"fp32, {name}", {})
            form[str(batch)] = measure(device, batch, floors, cold=False, **options)
            notes.save()


@dataclass(frozen=True, eq=False)
class Call:
    """What the program asked of the table of kernels."""

    name: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]

    def arrays(self, kind: Any) -> dict[str, Any]:
        """Its arrays, by place or name."""
        named = dict(enumerate(self.arguments)) | self.options
        return {str(key): value for key, value in named.items() if isinstance(value, kind)}

    def shapes(self, kind: Any) -> str:
        """Of its large arrays, in words."""
        return ", ".join("x".join(map(str, a.shape)) for a in self.arrays(kind).values() if a.ndim == 2)

    def on(self, copied: Callable[[Any], Any]) -> Call:
        """The same call on other arrays."""
        options = {key: copied(value) for key, value in self.options.items()}
        return Call(self.name, tuple(copied(value) for value in self.arguments), options)


def measure(
    device: Any, batch: int, floors: dict[str, float], *, cold: bool = True, **regularization: Any
) -> dict[str, Any]:
    """Microseconds of each call of a step, the least that they could take, their sum, and the whole step.

    launches: of a step whose samples have been gathered.
    """
    program, loaded = prepared(device, batch, **regularization)
    gathered = min(program.gathered, GATHERED, loaded)
    calls = recorded(program, gathered)
    gathers = sum(call.name.startswith("gather") for call in calls)
    step = calls[: gathers + (len(calls) - gathers) // gathered]
    rows = [_row(device, call, floors, gathered if i < gathers else 1, cold) for i, call in enumerate(step)]
    times = min(STEPS, loaded) // gathered
    whole = device.capture(lambda i: program._train(i * gathered, gathered, batch), times, state=program.state)
    return {
        "calls": rows,
        "sum_us": sum(row["us"] for row in rows),
        "floor_us": sum(row["floor_us"] for row in rows),
        "launches": launches(device, lambda: program._step(0, program.workspace.batch(0, batch))),
        "step_us": seconds(device, whole) / (times * gathered) * 1e6,
    }


def prepared(device: Any, batch: int, *, normalization: str | None = None, dropout: float = 0.0) -> tuple[Any, int]:
    """The program of a training of 784-300-100-10 on bytes, and how many of its steps are loaded."""
    import xpnet
    from xpnet.data.samples import Samples
    from xpnet.data.transform import InputTransform
    from xpnet.dropout import dropout_keys
    from xpnet.program import Chunk

    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (ROWS, SIZES[0])).astype(np.uint8)
    samples = Samples.of(x, rng.integers(0, SIZES[-1], ROWS).astype(np.int32))
    network = xpnet.MLP(SIZES, normalization=normalization, device=device)
    network.transform = InputTransform(1 / 255)
    network.task, network.classes = "classification", tuple(range(SIZES[-1]))
    trainer = xpnet.Trainer(network, optimizer=xpnet.SGD(TINY), batch_size=batch, dropout=dropout)
    training = trainer.prepare(samples)
    steps = min(training.chunk, ROWS // batch)
    order = rng.permutation(ROWS)[: steps * batch]
    table = training.update.table(np.zeros(steps), np.full(steps, TINY), np.zeros(steps))
    keys = dropout_keys(0, len(SIZES) - 2, np.arange(steps)) if dropout else None
    training.program.run(Chunk(order, table, keys))
    return training.program, steps


def recorded(program: Any, steps: int) -> list[Call]:
    """What the program calls in so many steps, kernels that kernels call left out."""
    from xpnet.kernels.table import REFERENCE

    k, calls, depth = program.network.k, [], 0
    kernels = {name: vars(k)[name] for name in REFERENCE}

    def noting(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal depth
            if depth == 0:
                calls.append(Call(name, arguments, options))
            depth += 1
            try:
                return kernel(*arguments, **options)
            finally:
                depth -= 1

        return call

    vars(k).update({name: noting(name, kernel) for name, kernel in kernels.items()})
    try:
        with program.network.device:
            program._train(0, steps, program.batch)
    finally:
        vars(k).update(kernels)
    return [Call(call.name, call.arguments, call.options | {"_table": k}) for call in calls]


def _row(device: Any, call: Call, floors: dict[str, float], shared: int, cold: bool) -> dict[str, Any]:
    """One call; of a gather for several steps, a step's share."""
    kind = device.xp.ndarray
    flops, size = work(call, kind)
    floor = max(flops / floors["flops"], size / floors["copy_bytes_per_second"])
    row = {
        "kernel": call.name,
        "shapes": call.shapes(kind),
        "flop": flops / shared,
        "bytes": size / shared,
        "floor_us": floor / shared * 1e6,
        "us": _repeated(device, [call]) / shared * 1e6,
    }
    if cold and not call.name.startswith("gather"):  # whose samples are more than a cache holds as they are
        copies = min(MOST_COPIES, math.ceil(BEYOND_CACHE / max(1, size)))
        row["cold_us"] = _repeated(device, [call, *_copies(device, call, copies)]) / shared * 1e6
    return row


def _repeated(device: Any, calls: list[Call]) -> float:
    """Seconds of one of them, in turn."""
    made = [_bound(call) for call in calls]
    return each_of(device, lambda i: made[i % len(made)](), max(REPEATED, len(made)))


def _bound(call: Call) -> Callable[[], Any]:
    options = dict(call.options)
    kernel = getattr(options.pop("_table"), call.name)
    return lambda: kernel(*call.arguments, **options)


def _copies(device: Any, call: Call, count: int) -> list[Call]:
    """The call on copies of its arrays; what was one array is one again."""

    def copy_all() -> Call:
        made: dict[tuple[Any, ...], Any] = {}

        def copied(value: Any) -> Any:
            if not isinstance(value, device.xp.ndarray):
                return value
            key = value.data.ptr, value.shape, value.strides, value.dtype.char
            if key not in made:
                made[key] = _copy(device, value)
            return made[key]

        return call.on(copied)

    with device:
        return [copy_all() for _ in range(count)]


def _copy(device: Any, array: Any) -> Any:
    """Of the same form: with its rows as far apart."""
    if array.ndim == 2 and len(array) > 1 and array.strides[1] == array.dtype.itemsize:
        width = array.strides[0] // array.dtype.itemsize
        made = device.zeros((len(array), width), array.dtype)[:, : array.shape[1]]
    else:
        made = device.zeros(array.shape, array.dtype)
    made[...] = array
    return made


def work(call: Call, kind: Any) -> tuple[float, float]:
    """Floating-point operations of the products, and bytes: each input read once, each output written once."""
    arrays = call.arrays(kind)
    size = float(sum({(array.data.ptr, array.shape): array.nbytes for array in arrays.values()}.values()))
    if call.name.startswith("gather"):
        source, out = arrays["0"], arrays["out"]
        return 0.0, float(arrays["1"].nbytes + out.nbytes + out.size * source.dtype.itemsize)
    if call.name in ("hidden_forward", "affine_forward", "affine_product"):
        return 2.0 * arrays["0"].size * arrays["1"].shape[1], size
    if call.name == "hidden_backward":
        return 2.0 * arrays["0"].size * arrays["1"].shape[0], size
    if call.name == "affine_weights":
        return 2.0 * arrays["0"].size * arrays["1"].shape[1], size + arrays["out"].nbytes
    if call.name.endswith("_update") or call.name == "batch_norm":
        return 0.0, size + arrays["0"].nbytes
    return 0.0, size
