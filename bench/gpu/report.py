"""The report that a person reads, and the goals that it is held to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Rows = list[dict[str, Any]]

GRAPHS = ("torch-compile", "torch-compile-graph")
"""Engines of torch.compile with graphs: PyTorch's own, and a hand-made one of the whole step. The faster one counts."""

SMALL = (16, 32, 64, 128, 256, 512)
PLACES = {"ratio": 2, "us": 1}


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
    measured = ", ".join(f"{batch}: {ratio:.2f}" for batch, ratio in ratios.items()) or "no ratio"
    missing = [str(batch) for batch in batches if batch not in ratios]
    if missing and ratios:
        measured += f" (not {', '.join(missing)})"
    failed = any(ratio < least for ratio in ratios.values())
    met = False if failed else None if missing else True
    return Goal(what, f">= {least:g}x", measured, met)


def _products(rows: Rows, precision: str) -> Goal:
    shares = {}
    for batch in (16384, 65536):
        step, products = (_select(rows, engine, batch, precision) for engine in ("xpnet", "gemm"))
        if step and products:
            shares[batch] = products["us"] / step["us"]
    met = all(share >= 0.8 for share in shares.values()) if shares else None
    measured = ", ".join(f"{batch}: {share:.0%}" for batch, share in shares.items()) or "no times"
    return Goal(f"speed of the products alone, batch 16384 and up, {precision}", ">= 80 %", measured, met)


def _mnist(found: dict[str, Any], parts: dict[str, Any]) -> list[Goal]:
    what, goal = "MNIST to 98 %, training time, mean of 10 seeds", "<= 0.1 s"
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
    enough = None if count < 10 else seconds <= 0.1 and accuracy >= 0.98
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
    lines += [f"{facts.get('gpu', 'No GPU')}. {report.get('verdict', '')}", ""]
    lines += [", ".join([*told, *packages, f"Python {facts.get('python', '?')}"]), ""] if facts else []
    lines += ["## Goals (784-300-100-10, fp32 unless said)", ""]
    lines += _table(
        ("", "goal", "measured", ""),
        [(goal["what"], goal["goal"], goal["measured"], goal["verdict"]) for goal in report["goals"]],
    )
    lines += ["", "## Parts", ""]
    lines += _table(
        ("part", "outcome", "seconds", ""),
        [(name, part["status"], f"{part.get('seconds', 0):.0f}", part.get("why", "")) for name, part in parts.items()],
    )
    for name, part in parts.items():
        section = SECTIONS.get(name)
        body = _safe(section, part["found"]) if section and part.get("found") else []
        wrong = [f"- {_cell(text)}" for text in part.get("wrong", [])[:40]]
        if body or wrong:
            lines += ["", f"## {name.capitalize()}", "", *body, *(["", "Wrong:", "", *wrong] if wrong else [])]
    return "\n".join(lines) + "\n"


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
    lines = [f"Data: {found['data']}. Recipe: {found['recipe']}.", ""]
    if "seconds" in found:
        rows = [(name, *(f"{found[name][key]:.4f}" for key in ("mean", "sd", "min", "max"))) for name in NAMES_OF_TIMES]
        lines += _table(("", "mean", "sd", "least", "most"), rows)
        first, *others = found["runs"]
        lines += ["", f"Preparing took {first['prepare']:.2f} s for the first seed."]
        if others:
            lines += [f"For the others {sum(one['prepare'] for one in others) / len(others):.2f} s on average."]
    for key in ("waits", "profiler"):
        if key in found:
            lines += ["", f"Synchronisations, an epoch ({key}): {found[key]}"]
    return lines


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
