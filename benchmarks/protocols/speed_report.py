"""From results to files: one JSON each, and a CSV, a table and a figure over all of them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness.tables import number, read_json, table, write_json
from benchmarks.harness.timing import Spread
from benchmarks.protocols.speed_figure import speed_figure
from benchmarks.protocols.speed_results import MethodResult, SpeedResult

__all__ = ["markdown", "read_results", "write_report", "write_result"]


def write_result(result: SpeedResult, directory: Path) -> Path:
    """Writes one result, with every round of every method, and returns the path."""
    return write_json(result.to_json(), directory / f"{result.stem}.json")


def read_results(directory: Path) -> list[SpeedResult]:
    """All results in a directory, by device, model, type and batch.

    Raises:
        FileNotFoundError: if there are none.
    """
    results = [SpeedResult.from_json(record) for record in read_json(directory, "speed-*.json")]
    return sorted(results, key=_place)


def _place(result: SpeedResult) -> tuple[str, str, str, bool, bool, int]:
    given = result.conditions
    return (given.device, result.model, given.dtype, given.tf32, given.channels_last, result.batch)


def write_report(directory: Path) -> list[Path]:
    """Summarises all results in a directory, those of earlier runs included.

    Args:

        directory (Path): Where ``speed-*.json`` are.

    Returns:
        *list[Path]*: ``speed.csv``, ``speed.md`` and ``speed.png``.

    Raises:
        FileNotFoundError: if there are none.
    """
    results = read_results(directory)
    table, text, picture = (directory / f"speed.{ending}" for ending in ("csv", "md", "png"))
    _write_csv(results, table)
    text.write_text(markdown(results), encoding="utf-8")
    speed_figure(results).savefig(picture, dpi=120)
    return [table, text, picture]


def markdown(results: Sequence[SpeedResult]) -> str:
    """One table per result, with its conditions above it and its failures below."""
    lines = [
        "# Speed",
        "",
        "Ratios are to Captum's Saliency on the same quality node, within the same round: median "
        "(25 to 75 %). Forwards and backwards are passes of the batch through the network's first "
        "layer. Memory is the peak above what was there before the call.",
    ]
    for result in results:
        lines += ["", *_section(result)]
    return "\n".join(lines) + "\n"


def _section(result: SpeedResult) -> list[str]:
    shape = " × ".join(map(str, result.input_shape))
    lines = [
        f"## {result.title}",
        "",
        f"Images {shape}; {result.parameters / 1e6:.1f} M parameters, weights {result.weights}; "
        f"{result.rounds} interleaved rounds, slow methods {result.slow_rounds}.",
        "",
        f"{result.conditions.line()}; {result.conditions.date}.",
        "",
    ]
    if result.void:
        lines += ["**Void: Saliency was not within 3 % of itself. The times say nothing.**", ""]
    if result.rates:
        lines += [
            f"Measured {result.rates.matmul / 1e12:.1f} Tflop/s (matrix product) and "
            f"{result.rates.copy / 1e9:.0f} GB/s (copy, read plus written). Floor: the longer of "
            "operations and unfused traffic at these rates.",
            "",
        ]
    on_gpu = result.rates is not None
    head = ["method", "time ÷ Saliency", "rounds", "ms", "memory ÷", "FLOPs ÷", "fwd", "bwd"]
    head += ["images/s", "of floor"] if on_gpu else []
    lines += table(head, [_cells(m, on_gpu) for m in result.methods if m.reason is None])
    failed = [m for m in result.methods if m.reason is not None]
    if failed:
        lines += ["", "Without a result:", ""]
        lines += [f"- {m.name}: {' '.join(str(m.reason).split())}" for m in failed]
    described = "; ".join(f"{m.name}: {m.description}" for m in result.methods if m.description)
    return [*lines, "", f"Methods: {described}."]


def _cells(m: MethodResult, on_gpu: bool) -> list[str]:
    cells = [
        m.name,
        _spread(m.ratio),
        str(m.ratio.count) if m.ratio else "",
        number(m.time.median * 1e3 if m.time else None, ".4g"),
        number(m.memory_ratio, ".3f"),
        number(m.flops_ratio, ".3f"),
        number(m.forwards, ".3g"),
        number(m.backwards, ".3g"),
    ]
    if on_gpu:
        cells += [number(m.images_per_second, ".4g"), number(m.share_of_floor, ".0%")]
    return cells


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return ""
    return f"{spread.median:.3f} ({spread.low:.3f} to {spread.high:.3f})"


def _write_csv(results: Sequence[SpeedResult], path: Path) -> None:
    rows = [_record(result, m) for result in results for m in result.methods]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _record(result: SpeedResult, m: MethodResult) -> dict[str, object]:
    """One line of the CSV: what was measured, and all conditions."""
    given = result.conditions
    return {
        "model": result.model,
        "batch": result.batch,
        "method": m.name,
        "kind": m.kind,
        "time_ratio": m.ratio and m.ratio.median,
        "time_ratio_25": m.ratio and m.ratio.low,
        "time_ratio_75": m.ratio and m.ratio.high,
        "rounds": m.ratio and m.ratio.count,
        "seconds": m.time and m.time.median,
        "images_per_second": m.images_per_second,
        "peak_bytes": m.peak_bytes,
        "memory_ratio": m.memory_ratio,
        "flops": m.flops,
        "flops_ratio": m.flops_ratio,
        "traffic_bytes": m.traffic_bytes,
        "forwards": m.forwards,
        "backwards": m.backwards,
        "share_of_floor": m.share_of_floor,
        "void": result.void,
        "reason": m.reason,
        "device": given.device,
        "device_name": given.device_name,
        "dtype": given.dtype,
        "tf32": given.tf32,
        "threads": given.threads,
        "passes": given.passes,
        "dropout": given.dropout,
        "seed": given.seed,
        "rows_at_once": given.rows,
        "versions": "; ".join(f"{k} {v}" for k, v in given.versions.items()),
        "commit": given.commit,
        "date": given.date,
    }
