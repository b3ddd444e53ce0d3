"""How time and memory grow with the batch and with the number of passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness.environment import dated
from benchmarks.harness.figures import label, log_ticks, ticks_at
from benchmarks.harness.options import Counts, PositiveInt, some_of
from benchmarks.harness.pages import Field, listing
from benchmarks.harness.protocol import Record
from benchmarks.protocols.costs.method_costs import MethodCosts, run_name
from benchmarks.subjects.attributions import METHODS
from benchmarks.subjects.models import load_benchmark_model

_COLOURS = {
    "saliency": "#808080",
    "plq": "#c9822b",
    "plq-balanced": "#1a7f37",
    "plq-closed-form": "#5b8db8",
}
_FIELDS: tuple[Field, ...] = (
    ("method", "method", ""),
    ("ms", lambda point: point["seconds"] and 1e3 * point["seconds"], ".4g"),
    ("time ÷", "ratio", ".3f"),
    ("FLOPs ÷", "flops_ratio", ".3f"),
    ("MiB", "MiB", ".1f"),
    ("memory ÷", "memory_ratio", ".3f"),
    ("", lambda point: "void" * point["void"], ""),
)


@dataclass(frozen=True, kw_only=True)
class Scaling(MethodCosts):
    """Scaling.

    Ratios are to Saliency at the same batch, within the same round, medians. Memory is the peak
    above what was there before the call. *void*: Saliency was not within 3 % of itself.

    Args:

        batches (tuple[int, ...]): Batch sizes of the first series, with m = 100.
        m (tuple[int, ...]): Passes of the second series.
        batch (int): Its batch size.
    """

    name: ClassVar[str] = "scaling"
    quick: ClassVar[dict[str, str]] = {
        "model": "tiny",
        "batches": "1,2,4",
        "m": "20,50",
        "rounds": "3",
    }

    methods: Annotated[tuple[str, ...], some_of(("all", "fast", *METHODS))] = (
        "plq",
        "plq-balanced",
        "plq-closed-form",
    )
    rounds: PositiveInt = 5
    batches: Counts = (1, 2, 4, 8, 16, 32)
    m: Counts = (12, 32, 100, 320, 1000, 3200)
    batch: PositiveInt = 8

    def measure(self, model: str) -> Iterator[tuple[str, Record]]:
        """Yield both series; each point is a record of the speed protocol."""
        network = load_benchmark_model(model, self.seed)
        found: dict[str, list[Record]] = {"by_batch": [], "by_passes": []}
        for size in self.batches:
            self.progress(model, f"batch {size}")
            found["by_batch"].append(self.cost(network, size, 100))
        for m in self.m:
            self.progress(model, f"m = {m}, batch {self.batch}")
            found["by_passes"].append(self.cost(network, self.batch, m))
        void = any(point["void"] for series in found.values() for point in series)
        yield run_name(found["by_batch"][0], protocol=self.name), {**found, "void": void}

    @classmethod
    def section(cls, record: Record) -> list[str]:
        """Return two tables: over the batch, and over m."""
        first = record["by_batch"][0]
        return [
            f"## {first['model']}, {first['conditions']['device']}",
            "",
            f"{first['rounds']} interleaved rounds each; {dated(first['conditions'])}.",
            "",
            *listing([("batch", "batch", ""), *_FIELDS], _points(record["by_batch"])),
            "",
            f"Batch {record['by_passes'][0]['input_shape'][0]}:",
            "",
            *listing([("m", "m", ""), *_FIELDS], _points(record["by_passes"])),
            "",
        ]

    @classmethod
    def figures(cls, records: Sequence[Record]) -> dict[str, Figure]:
        """Return time and memory over the batch (left) and over m (right), a figure each."""
        return {run_name(r["by_batch"][0], protocol=cls.name): _figure(r) for r in records}


def _points(records: Sequence[Record]) -> list[Record]:
    """What is shown of each method at each batch and m."""
    return [
        {
            "batch": record["input_shape"][0],
            "m": record["conditions"]["passes"],
            "method": m["name"],
            "seconds": m["time"] and m["time"]["median"],
            "ratio": m["ratio"] and m["ratio"]["median"],
            "flops_ratio": m["flops_ratio"],
            "MiB": m["peak_bytes"] / 2**20 if m["peak_bytes"] else None,
            "memory_ratio": m["memory_ratio"],
            "void": record["void"],
        }
        for record in records
        for m in record["methods"]
        if m["name"] in _COLOURS and m["reason"] is None
    ]


def _figure(record: Record) -> Figure:
    """Void points are hollow; dotted: proportional to the batch, through Saliency at the last."""
    figure = Figure(figsize=(9, 6.4), layout="constrained")
    (time_b, time_m), (memory_b, memory_m) = figure.subplots(2, 2, sharex="col")
    batch, passes = _points(record["by_batch"]), _points(record["by_passes"])
    _draw(time_b, batch, "batch", "seconds", "seconds")
    _draw(memory_b, batch, "batch", "MiB", "peak memory, MiB")
    _draw(time_m, passes, "m", "ratio", "time ÷ Saliency (dashed: FLOPs)")
    for name, colour in _COLOURS.items():
        own = [point for point in passes if point["method"] == name]
        at, flops = ([point[key] for point in own] for key in ("m", "flops_ratio"))
        time_m.plot(at, flops, color=colour, linestyle="--", linewidth=1, alpha=0.6)
    _draw(memory_m, passes, "m", "memory_ratio", "peak memory ÷ Saliency")
    memory_b.set_xlabel(f"batch, m = {batch[0]['m']}", fontsize=8)
    memory_m.set_xlabel(f"passes m, batch {passes[0]['batch']}", fontsize=8)
    for axes in (time_b, memory_b, time_m):
        axes.set_yscale("log")
        log_ticks(axes.yaxis)
    sizes = list(dict.fromkeys(point["batch"] for point in batch))
    last = next(x for x in batch if x["method"] == "saliency" and x["batch"] == sizes[-1])
    if last["seconds"] is not None:
        times = [last["seconds"] * size / sizes[-1] for size in sizes]
        time_b.plot(sizes, times, color="black", linestyle=":", linewidth=1, label="proportional")
    handles, labels = time_b.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5, fontsize=8)
    first = record["by_batch"][0]
    given = first["conditions"]
    figure.supxlabel(
        f"{first['model']}, {given['device_name']}, {given['threads']} threads, {given['dtype']}, "
        f"torch {given['versions']['torch']}, commit {given['commit']}, {given['date'][:10]}",
        fontsize=7,
    )
    return figure


def _draw(axes: Axes, points: Sequence[Record], x: str, y: str, words: str) -> None:
    for name, colour in _COLOURS.items():
        if shown := [p for p in points if p["method"] == name and p[y] is not None]:
            at, values = ([point[key] for point in shown] for key in (x, y))
            axes.plot(at, values, color=colour, linewidth=1.5, label=name)
            fill = ["white" if point["void"] else colour for point in shown]
            axes.scatter(at, values, facecolors=fill, edgecolors=colour, s=22, zorder=3)
    axes.set_xscale("log")
    ticks_at(axes.xaxis, sorted({point[x] for point in points}))
    label(axes, y=words)
    axes.grid(alpha=0.3)
