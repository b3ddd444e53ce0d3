"""What each method costs: time, memory and arithmetic as ratios to Saliency on the same network."""

from __future__ import annotations

import csv
import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmarks.harness.environment import dated, described
from benchmarks.harness.figures import log_ticks
from benchmarks.harness.options import Counts, PositiveInt
from benchmarks.harness.pages import Field, listing
from benchmarks.harness.protocol import Record, read_records
from benchmarks.protocols.costs.method_costs import MEASURED, MethodCosts, run_name
from benchmarks.subjects.models import load_benchmark_model

_KINDS = {
    "plq": ("#1a7f37", "this package"),
    "other": ("#5b8db8", "other methods"),
    "reference": ("#c9822b", "PLQ and SER-FIQ, naively"),
    "control": ("#a0a0a0", "Saliency (control)"),
}
"""Colour and name of each kind of method in the figure."""
_PANELS = 3
_FIELDS: tuple[Field, ...] = (
    ("method", "name", ""),
    ("time ÷ Saliency", lambda m: m["ratio"] and "{median:.3f} ({low:.3f} to {high:.3f})"
     .format_map(m["ratio"]), ""),
    ("rounds", lambda m: m["ratio"] and m["ratio"]["count"], "d"),
    ("ms", lambda m: m["time"] and 1e3 * m["time"]["median"], ".4g"),
    ("memory ÷", "memory_ratio", ".3f"),
    ("FLOPs ÷", "flops_ratio", ".3f"),
    ("fwd", "forwards", ".3g"),
    ("bwd", "backwards", ".3g"),
    ("images/s", "images_per_second", ".4g"),
    ("of floor", "share_of_floor", ".0%"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Speed(MethodCosts):
    """Speed.

    Ratios are to Captum's Saliency on the same quality node, within the same round: median (25 to
    75 %). Forwards and backwards are passes of the batch through the network's first layer. Memory
    is the peak above what was there before the call.

    Args:

        batch (tuple[int, ...]): Batch sizes.
        passes (int): m of SER-FIQ.
    """

    name: ClassVar[str] = "speed"
    quick: ClassVar[dict[str, str]] = {"model": "tiny", "rounds": "5"}

    batch: Counts = (1,)
    passes: PositiveInt = 100

    def measure(self, model: str) -> Iterator[tuple[str, Record]]:
        """Yield the costs at each batch size."""
        network = load_benchmark_model(model, self.seed)
        for batch in self.batch:
            found = self.cost(network, batch, self.passes)
            yield run_name(found, f"b{batch}"), found

    @classmethod
    def write(cls, directory: Path) -> list[Path]:
        """Write also ``speed.csv``, with a line for each method and all conditions."""
        records = read_records(directory, "speed-*.json")
        rows = [_csv_row(record, m) for record in sorted(records, key=_place)
                for m in record["methods"]]  # fmt: skip
        path = directory / "speed.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return [path, *super().write(directory)]

    @classmethod
    def body(cls, records: Sequence[Record]) -> list[str]:
        """Return a section for each run, in order."""
        return super().body(sorted(records, key=_place))

    @classmethod
    def section(cls, record: Record) -> list[str]:
        """Return the table of a run, and what it was measured under."""
        lines = [
            f"## {_title(record)}",
            "",
            f"Images {' × '.join(map(str, record['input_shape']))}; "
            f"{record['parameters'] / 1e6:.1f} M parameters, weights {record['weights']}; "
            f"{record['rounds']} interleaved rounds, slow methods {record['slow_rounds']}.",
            "",
            f"{dated(record['conditions'])}.",
            "",
        ]
        if record["void"]:
            lines += ["**Void: Saliency was not within 3 % of itself. The times say nothing.**", ""]
        if rates := record["rates"]:
            lines += [
                f"Measured {rates['matmul'] / 1e12:.1f} Tflop/s (matrix product) and "
                f"{rates['copy'] / 1e9:.0f} GB/s (copy, read plus written). Floor: the longer of "
                "operations and unfused traffic at these rates.",
                "",
            ]
        shown = [m for m in record["methods"] if m["reason"] is None]
        lines += [*listing(_FIELDS if rates else _FIELDS[:-2], shown), ""]
        if failed := [m for m in record["methods"] if m["reason"] is not None]:
            lines += ["Without a result:", ""]
            lines += [*(f"- {m['name']}: {' '.join(m['reason'].split())}" for m in failed), ""]
        about = [f"{m['name']}: {m['description']}" for m in record["methods"] if m["description"]]
        return [*lines, f"Methods: {'; '.join(about)}.", ""]

    @classmethod
    def figures(cls, records: Sequence[Record]) -> dict[str, Figure]:
        """Return ratios of time on a logarithmic axis, a panel for each run."""
        records = sorted(records, key=_place)
        columns = min(_PANELS, len(records))
        rows = math.ceil(len(records) / columns)
        most = max(len(record["methods"]) for record in records)
        dates = sorted(record["conditions"]["date"] for record in records)
        lines = [*dict.fromkeys(described(x["conditions"]) for x in records)]
        lines.append(f"Measured {dates[0]}" + f" to {dates[-1]}" * (len(dates) > 1))
        caption = "\n".join(textwrap.fill(line, 80 * columns) for line in lines)
        height = rows * (0.9 + 0.24 * most) + 0.15 * (caption.count("\n") + 1) + 0.7
        figure = Figure(figsize=(5.6 * columns, height), layout="constrained")
        panels = list(figure.subplots(rows, columns, squeeze=False).flat)
        for panel, record in zip(panels, records, strict=False):
            _draw(panel, record, most)
        for panel in panels[len(records) :]:
            panel.set_axis_off()
        handles = [Patch(color=colour, label=label) for colour, label in _KINDS.values()]
        figure.legend(handles=handles, loc="outside upper center", ncols=2 * columns, fontsize=7)
        figure.supxlabel(caption, fontsize=7, x=0.01, ha="left")
        return {cls.name: figure}


def _place(record: Record) -> tuple[object, ...]:
    given, batch = record["conditions"], record["input_shape"][0]
    channels_last = given.get("channels_last", False)
    return given["device"], record["model"], given["dtype"], given["tf32"], channels_last, batch


def _title(record: Record) -> str:
    given = record["conditions"]
    dtype = "" if given["dtype"] == "float32" else f", {given['dtype']}"
    extras = ", TF32" * given["tf32"] + ", channels last" * given.get("channels_last", False)
    return f"{record['model']}, {given['device']}, batch {record['input_shape'][0]}{dtype}{extras}"


def _draw(axes: Axes, record: Record, most: int) -> None:
    shown = [m for m in reversed(record["methods"]) if m["ratio"] and m["reason"] is None]
    for place, m in enumerate(shown):
        ratio = m["ratio"]
        axes.barh(place, ratio["median"], color=_KINDS[m["kind"]][0], left=0)
        axes.plot([ratio["low"], ratio["high"]], [place, place], color="black", linewidth=1)
        axes.text(ratio["high"] * 1.05, place, f"{ratio['median']:.3g}", va="center", fontsize=7)
    axes.set_ylim(len(shown) - most - 0.5, len(shown) - 0.5)  # bars of one width everywhere
    axes.set_yticks(range(len(shown)), [m["name"] for m in shown], fontsize=8)
    axes.set_xscale("log")
    axes.set_xlim(0.3, 2 * max([1.0, *(m["ratio"]["high"] for m in shown)]))
    log_ticks(axes.xaxis)
    axes.axvline(1, color="black", linewidth=0.8, linestyle=":")
    axes.set_xlabel("time ÷ Saliency, median and quartiles", fontsize=8)
    axes.set_title(f"{_title(record)}{' — VOID' * record['void']}", fontsize=9)


def _csv_row(record: Record, m: Record) -> dict[str, object]:
    given, ratio = record["conditions"], m["ratio"] or {}
    return {
        "model": record["model"],
        "batch": record["input_shape"][0],
        "method": m["name"],
        "kind": m["kind"],
        "time_ratio": ratio.get("median"),
        "time_ratio_25": ratio.get("low"),
        "time_ratio_75": ratio.get("high"),
        "rounds": ratio.get("count"),
        "seconds": m["time"] and m["time"]["median"],
        **{key: m[key] for key in MEASURED},
        "void": record["void"],
        "reason": m["reason"],
        **{key: given[key] for key in ("device", "device_name", "dtype", "tf32", "threads",
                                       "passes", "dropout", "seed")},
        "rows_at_once": given["rows"],
        "versions": "; ".join(f"{k} {v}" for k, v in given["versions"].items()),
        "commit": given["commit"],
        "date": given["date"],
    }  # fmt: skip
