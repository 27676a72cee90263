"""The report that a person reads, and the goals that it is held to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from bench.gpu import SIZES

Rows = list[dict[str, Any]]

GRAPHS = ("torch-compile", "torch-compile-graph")
"""Engines of torch.compile with graphs: PyTorch's own, and a hand-made one of the whole step. The faster one counts."""

SMALL, LARGE = (16, 32, 64, 128, 256, 512), (16384, 65536)
ACCURATE = 0.98
"""The test accuracy that a training on MNIST reaches."""


@dataclass(frozen=True)
class Goal:
    """A line of the table.

    Attributes:
        met: None where it was not measured.
    """

    what: str
    goal: str
    measured: str
    met: bool | None

    @property
    def verdict(self) -> str:
        """In a word."""
        return {True: "met", False: "missed", None: "not measured"}[self.met]


def goals(parts: dict[str, Any]) -> list[Goal]:
    """All of them."""
    rows = [row for name in ("throughput", "compiled") for row in _found(parts, name).get("rows", [])]
    return [
        _step(rows),
        _faster("against PyTorch eager, batch 16 to 512", rows, ("torch",), SMALL, 10),
        _faster("against PyTorch in a CUDA graph, batch 16 to 512", rows, ("torch-graph",), SMALL, 2),
        _faster("against torch.compile with graphs, batch 1024 to 4096", rows, GRAPHS, (1024, 4096), 1.2),
        _faster("against torch.compile with graphs, above", rows, GRAPHS, (16384,), 1.05),
        *(
            _faster(f"against torch.compile with graphs, {p}", rows, GRAPHS, (1024, 4096, 16384), 1.2, precision=p)
            for p in ("tf32", "bf16")
        ),
        *(_products(rows, precision) for precision in ("fp32", "tf32", "bf16")),
        *_mnist(_found(parts, "mnist"), parts),
    ]


def _found(parts: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = parts.get(name, {}).get("found", {})
    return found


def _select(rows: Rows, engine: str, batch: int, precision: str = "fp32") -> dict[str, Any] | None:
    """The last such row that has a time: that of the part where it stands beside what it is compared with."""
    wanted = (engine, batch, precision)
    chosen = [row for row in rows if (row["engine"], row["batch"], row.get("precision", "fp32")) == wanted]
    return next((row for row in reversed(chosen) if row.get("us")), None)


def _step(rows: Rows) -> Goal:
    row = _select(rows, "xpnet", 128)
    us = None if row is None else row["us"]
    measured = "no time" if us is None else f"{us:.1f} us"
    return Goal("step, batch 128, SGD", "<= 30 us", measured, None if us is None else us <= 30)


def _faster(
    what: str, rows: Rows, engines: Iterable[str], batches: tuple[int, ...], least: float, *, precision: str = "fp32"
) -> Goal:
    """How many times longer the fastest of these engines takes; the goal is held to the worst batch size."""
    ratios = {}
    for batch in batches:
        found = [_select(rows, engine, batch, precision) for engine in engines]
        times = [row["ratio"] for row in found if row is not None and row.get("ratio")]
        if times:
            ratios[batch] = min(times)
    measured = _by_batch({batch: f"{ratio:.2f}" for batch, ratio in ratios.items()}, batches) or "no ratio"
    return Goal(what, f">= {least:g}x", measured, _all_reach(least, ratios, batches))


def _products(rows: Rows, precision: str) -> Goal:
    shares = {}
    for batch in LARGE:
        step, products = (_select(rows, engine, batch, precision) for engine in ("xpnet", "gemm"))
        if step and products:
            shares[batch] = products["us"] / step["us"]
    measured = _by_batch({batch: f"{share:.0%}" for batch, share in shares.items()}, LARGE) or "no times"
    what = f"speed of the products alone, batch 16384 and up, {precision}"
    return Goal(what, ">= 80 %", measured, _all_reach(0.8, shares, LARGE))


def _all_reach(least: float, values: dict[int, float], batches: tuple[int, ...]) -> bool | None:
    """None where some batch size was not measured and the others reach it."""
    if any(value < least for value in values.values()):
        return False
    return True if set(batches) <= set(values) else None


def _by_batch(shown: dict[int, str], batches: tuple[int, ...]) -> str:
    """What was measured, and what was not; nothing where nothing was."""
    missing = ", ".join(str(batch) for batch in batches if batch not in shown)
    measured = ", ".join(f"{batch}: {value}" for batch, value in shown.items())
    return f"{measured} (not {missing})" if measured and missing else measured


def _mnist(found: dict[str, Any], parts: dict[str, Any]) -> list[Goal]:
    what, goal = f"MNIST to {100 * ACCURATE:g} %, training time, mean of 10 seeds", "<= 0.1 s"
    waits = found.get("waits", {}).get("per_epoch")
    waiting = Goal(
        "host-device synchronisations per epoch",
        "1",
        "not counted" if waits is None else f"{waits:.2f}",
        None if waits is None else waits <= 1,
    )
    if "seconds" not in found or "accuracy" not in found:
        return [Goal(what, goal, _why(parts.get("mnist")), None), waiting]
    seconds, accuracy, count = found["seconds"]["mean"], found["accuracy"]["mean"], len(found["runs"])
    measured = f"{seconds:.3f} s, {accuracy:.2%}, {count} seeds"
    if not found.get("real"):
        return [Goal(what, goal, f"{measured}, but on {found['data']}", None), waiting]
    enough = None if count < 10 else seconds <= 0.1 and accuracy >= ACCURATE
    return [Goal(what, goal, measured, enough), waiting]


def _why(part: dict[str, Any] | None) -> str:
    return "not run" if part is None else part.get("why") or part.get("status", "not run")


def markdown(report: dict[str, Any]) -> str:
    """The report."""
    parts = report["parts"]
    facts = _found(parts, "facts")
    lines = [*([report["headline"], ""] if report.get("headline") else []), "# GPU check", ""]
    device = facts.get("device", {})
    told = [f"{key} {value}" for key, value in device.items() if key != "memory"]
    packages = [f"{name} {facts['packages'][name]}" for name in ("torch", "numpy") if name in facts.get("packages", {})]
    verdict = report.get("verdict", "")
    lines += [f"{facts['gpu']}. {verdict}" if "gpu" in facts else verdict, ""]
    lines += [", ".join([*told, *packages, f"Python {facts.get('python', '?')}"]), ""] if facts else []
    lines += [f"## Goals ({'-'.join(map(str, SIZES))}, fp32 unless said)", ""]
    lines += _table(
        ("", "goal", "measured", ""),
        [(goal["what"], goal["goal"], goal["measured"], goal["verdict"]) for goal in report["goals"]],
    )
    lines += ["", "## Parts", ""]
    lines += _table(
        ("part", "outcome", "seconds", ""),
        [
            (name, part["status"], f"{part.get('seconds', 0):.0f}", _unless_said(part.get("why", ""), verdict))
            for name, part in parts.items()
        ],
    )
    for name, part in parts.items():
        section = SECTIONS.get(name)
        body = _safe(section, part["found"]) if section and part.get("found") else []
        wrong = [f"- {_cell(text)}" for text in part.get("wrong", [])[:40] if _unless_said(text, verdict)]
        if body or wrong:
            lines += ["", f"## {name.capitalize()}", "", *body, *(["", "Wrong:", "", *wrong] if wrong else [])]
    return "\n".join(lines) + "\n"


def _unless_said(text: str, verdict: str) -> str:
    return "" if text == verdict else text


def _safe(section: Callable[[dict[str, Any]], list[str]], found: dict[str, Any]) -> list[str]:
    """A part that was cut off may have left half of its findings."""
    try:
        return section(found)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        return [f"Cut off: {type(error).__name__} {error}; report.json has what there is."]


def _facts(found: dict[str, Any]) -> list[str]:
    driver = [found["driver"], ""] if "driver" in found else []
    if "epilogues" not in found:
        return driver
    rows = [
        (name, *(answers.get(name, "") for answers in found["epilogues"].values()))
        for name in dict.fromkeys(name for answers in found["epilogues"].values() for name in answers)
    ]
    return [*driver, "Epilogues that cuBLASLt has:", "", *_table(("epilogue", *found["epilogues"]), rows)]


def _tests(found: dict[str, Any]) -> list[str]:
    lines = [f"{found['passed']} passed, {len(found['failures'])} failed, {len(found['skipped'])} skipped."]
    lines += ["", *(f"- skipped: {_cell(text)}" for text in found["skipped"][:20])] if found["skipped"] else []
    return lines


def _ceilings(found: dict[str, Any]) -> list[str]:
    rows = [("copy, bytes read and written", f"{found['copy_bytes_per_second'] / 1e12:.2f} TB/s")]
    rows += [("a node of a graph that does nothing", f"{found['node_us']:.2f} us")]
    rows += [("launch of a graph, host", f"{found['launch_us']:.2f} us")]
    for precision, rates in found["flops"].items():
        for name, rate in rates.items():
            shown = rate if isinstance(rate, str) else f"{rate / 1e12:.1f} TFLOP/s"
            rows.append((f"8192^3 product, {precision}, {name}", shown))
    return _table(("ceiling", "measured"), rows)


def _race(found: dict[str, Any]) -> list[str]:
    rows = found["rows"]
    engines = list(dict.fromkeys(row["engine"] for row in rows))
    keys = sorted({(row.get("precision", "fp32"), row["batch"]) for row in rows})
    cells = {(row.get("precision", "fp32"), row["batch"], row["engine"]): row for row in rows}
    body = [
        (precision, str(batch), *(_time(cells.get((precision, batch, engine))) for engine in engines))
        for precision, batch in keys
    ]
    left = [f"- left out: {_cell(text)}" for text in [*found.get("left_out", []), *found.get("others_failed", [])]]
    head = (
        "Microseconds a step with its gather, medians; in brackets how many times xpnet's, within rounds. PyTorch has "
        "fused optimizers and multiplies by its precision highest (fp32), high (tf32), or autocast to bfloat16 over "
        "float32 weights, on samples kept as bfloat16 (bf16)."
    )
    return [head, "", *_table(("precision", "batch", *engines), body), *(["", *left] if left else [])]


def _time(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    if not row.get("us"):
        return "wrong"
    ratio = f" ({row['ratio']:.2f})" if row.get("ratio") else ""
    return f"{row['us']:.1f}{ratio}"


def _mnist_section(found: dict[str, Any]) -> list[str]:
    lines = [f"Data: {found['data']}. {_recipe(found['recipe'])}", ""]
    if "seconds" in found:
        rows = [(name, *(f"{found[name][key]:.4f}" for key in ("mean", "sd", "min", "max"))) for name in NAMES_OF_TIMES]
        lines += _table(("", "mean", "sd", "least", "most"), rows)
        first, *others = found["runs"]
        lines += ["", f"Preparing took {first['prepare']:.2f} s for the first seed."]
        if others:
            lines += [f"For the others {sum(one['prepare'] for one in others) / len(others):.2f} s on average."]
    if "waits" in found:
        lines += ["", *_waits(found["waits"])]
    if "profiler" in found:
        lines += ["", *_profiler(found["profiler"])]
    return lines


def _recipe(recipe: dict[str, Any]) -> str:
    """In words."""
    optimizer, rates = recipe["optimizer"]
    settings = [
        "-".join(map(str, recipe["sizes"])),
        recipe["activation"],
        " ".join([optimizer, *(f"{name} {value:g}" for name, value in rates.items())]),
        f"schedule {recipe['schedule']}",
        f"batch {recipe['batch']}",
        f"{recipe['epochs']} epochs",
        f"l2 {recipe['l2']:g}",
        f"mean image {'subtracted' if recipe['center'] else 'kept'}",
        recipe["precision"],
    ]
    return f"Recipe {recipe['name']}: {', '.join(settings)}."


def _waits(found: dict[str, Any]) -> list[str]:
    """Those that CuPy was asked for."""
    unfinished = ", unfinished"
    calls = {name: count for name, count in found["calls"].items() if not name.endswith(unfinished)}
    rows = [(name, str(count), str(found["calls"].get(name + unfinished, 0))) for name, count in calls.items()]
    lines = [f"The host waited {found['per_epoch']:.2f} times an epoch for a GPU that was still at work."]
    lines += ["", *_table(("in one training, waits for", "calls", "while the GPU was at work"), rows)]
    if found["not_watched"]:
        lines += ["", f"Not watched: {', '.join(found['not_watched'])}."]
    return lines


def _profiler(found: dict[str, float] | str) -> list[str]:
    """Those that CUDA was asked for."""
    if isinstance(found, str):
        return [f"PyTorch's profiler did not count: {found}"]
    return _table(("by PyTorch's profiler", "calls an epoch"), [(name, f"{n:.2f}") for name, n in found.items()])


NAMES_OF_TIMES = ("seconds", "wall", "prepare", "accuracy")


def _kernels(found: dict[str, Any]) -> list[str]:
    lines = [
        "Microseconds of each call of a step, by itself; the floor is the larger of FLOP over the rate of a large "
        "product and bytes over the rate of a copy; cold: on arrays that are in no cache.",
    ]
    forms = {form: batches for form, batches in found.items() if form not in ("floors", "left out")}
    sizes = list(dict.fromkeys(batch for batches in forms.values() for batch in batches))
    whole = [
        (form, *(_us(batches.get(batch, {}).get("step_us")) for batch in sizes)) for form, batches in forms.items()
    ]
    lines += ["", *_table(("the whole step, batch", *sizes), whole)]
    launches = [
        (form, *(_count(batches.get(batch, {}).get("launches")) for batch in sizes)) for form, batches in forms.items()
    ]
    lines += ["", *_table(("launches of a step beside its gather, batch", *sizes), launches)]
    for form, batches in forms.items():
        for batch, step in batches.items():
            rows = [
                (row["kernel"], row["shapes"], *(_us(row.get(key)) for key in ("us", "cold_us", "floor_us")))
                for row in step["calls"]
            ]
            rows.append(("sum", "", _us(step["sum_us"]), "", _us(step["floor_us"])))
            rows.append(("the whole step", "", _us(step["step_us"]), "", ""))
            lines += ["", f"{form}, batch {batch}:", "", *_table(("kernel", "shapes", "us", "cold", "floor"), rows)]
    return lines


def _us(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _count(value: int | None) -> str:
    return "" if value is None else str(value)


def _memory(found: dict[str, Any]) -> list[str]:
    rows = [
        (row["training"], *(f"{row[key] / 2**20:,.0f}" for key in ("foreseen", "taken", "gone")))
        for row in found["trainings"]
    ]
    return _table(("training", "foreseen, MiB", "taken from pools", "gone from the GPU"), rows)


SECTIONS: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "facts": _facts,
    "tests": _tests,
    "ceilings": _ceilings,
    "throughput": _race,
    "compiled": _race,
    "mnist": _mnist_section,
    "kernels": _kernels,
    "memory": _memory,
}


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [head, ("---",) * len(head), *rows]
    return ["| " + " | ".join(map(_cell, line)) + " |" for line in lines]


def _cell(text: Any) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")
