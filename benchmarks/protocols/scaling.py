"""How time and memory grow with the batch and with the number of passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter, StrMethodFormatter

from benchmarks.harness.environment import dated
from benchmarks.harness.options import Counts, PositiveInt, some_of
from benchmarks.harness.pages import number, table
from benchmarks.harness.protocol import Record
from benchmarks.protocols.parts.method_costs import MethodCosts, run_name
from benchmarks.subjects.attributions import METHODS
from benchmarks.subjects.models import load_benchmark_model

__all__ = ["Scaling"]

_COLOURS = {
    "saliency": "#808080",
    "plq": "#c9822b",
    "plq-balanced": "#1a7f37",
    "plq-closed-form": "#5b8db8",
}
_Read = Callable[[Record], float | None]


def _batch(record: Record) -> int:
    found: int = record["input_shape"][0]
    return found


def _passes(record: Record) -> int:
    found: int = record["conditions"]["passes"]
    return found


@dataclass(frozen=True, kw_only=True)
class Scaling(MethodCosts):
    """Measure how the costs grow, once with the batch and once with m.

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
        by_batch, by_passes = [], []
        for size in self.batches:
            self.progress(model, f"batch {size}")
            by_batch.append(self.cost(network, size, 100))
        for m in self.m:
            self.progress(model, f"m = {m}, batch {self.batch}")
            by_passes.append(self.cost(network, self.batch, m))
        found = {"by_batch": by_batch, "by_passes": by_passes}
        void = any(point["void"] for point in [*by_batch, *by_passes])
        yield run_name(by_batch[0], protocol=self.name), {**found, "void": void}

    @classmethod
    def page(cls, records: Sequence[Record]) -> str:
        """Return two tables for each run: over the batch, and over m."""
        lines = [
            "# Scaling",
            "",
            "Ratios are to Saliency at the same batch, within the same round, medians. Memory is "
            "the peak above what was there before the call. *void*: Saliency was not within 3 % "
            "of itself.",
        ]
        for record in records:
            first = record["by_batch"][0]
            given = first["conditions"]
            lines += [
                "",
                f"## {first['model']}, {given['device']}",
                "",
                f"{first['rounds']} interleaved rounds each; {dated(given)}.",
                "",
                *_series("batch", record["by_batch"], _batch),
                "",
                f"Batch {_batch(record['by_passes'][0])}:",
                "",
                *_series("m", record["by_passes"], _passes),
            ]
        return "\n".join(lines) + "\n"

    @classmethod
    def figures(cls, records: Sequence[Record]) -> dict[str, Figure]:
        """Return time and memory over the batch (left) and over m (right), a figure each."""
        return {run_name(r["by_batch"][0], protocol=cls.name): _figure(r) for r in records}


def _median(key: str) -> _Read:
    """Read the median of ``"time"`` or ``"ratio"``."""
    return lambda m: m[key]["median"] if m[key] else None


def _mebibytes(m: Record) -> float | None:
    return m["peak_bytes"] / 2**20 if m["peak_bytes"] else None


def _shown(record: Record) -> list[Record]:
    return [m for m in record["methods"] if m["name"] in _COLOURS and m["reason"] is None]


def _series(name: str, records: Sequence[Record], place: Callable[[Record], int]) -> list[str]:
    head = [name, "method", "ms", "time ÷", "FLOPs ÷", "MiB", "memory ÷", ""]
    rows = [
        [
            str(place(record)),
            m["name"],
            number(m["time"] and m["time"]["median"] * 1e3, ".4g"),
            number(_median("ratio")(m), ".3f"),
            number(m["flops_ratio"], ".3f"),
            number(_mebibytes(m), ".1f"),
            number(m["memory_ratio"], ".3f"),
            "void" if record["void"] else "",
        ]
        for record in records
        for m in _shown(record)
    ]
    return table(head, rows)


def _figure(record: Record) -> Figure:
    """Void points are hollow; dotted: proportional to the batch, through Saliency at the last."""
    figure = Figure(figsize=(9, 6.4), layout="constrained")
    (time_b, time_m), (memory_b, memory_m) = figure.subplots(2, 2, sharex="col")
    batch, passes = record["by_batch"], record["by_passes"]
    for axes, points, place, read, label in (
        (time_b, batch, _batch, _median("time"), "seconds"),
        (memory_b, batch, _batch, _mebibytes, "peak memory, MiB"),
        (time_m, passes, _passes, _median("ratio"), "time ÷ Saliency (dashed: FLOPs)"),
        (memory_m, passes, _passes, lambda m: m["memory_ratio"], "peak memory ÷ Saliency"),
    ):
        _draw(axes, points, place, read)
        axes.set_ylabel(label, fontsize=8)
    _draw(time_m, passes, _passes, lambda m: m["flops_ratio"], dashed=True)
    memory_b.set_xlabel(f"batch, m = {_passes(batch[0])}", fontsize=8)
    memory_m.set_xlabel(f"passes m, batch {_batch(passes[0])}", fontsize=8)
    for axes in (time_b, memory_b, time_m):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    last = _median("time")(next(m for m in _shown(batch[-1]) if m["name"] == "saliency"))
    if last is not None:
        sizes = [_batch(point) for point in batch]
        times = [last * size / sizes[-1] for size in sizes]
        time_b.plot(sizes, times, color="black", linestyle=":", linewidth=1, label="proportional")
    handles, labels = time_b.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5, fontsize=8)
    given = batch[0]["conditions"]
    figure.supxlabel(
        f"{batch[0]['model']}, {given['device_name']}, {given['threads']} threads, "
        f"{given['dtype']}, torch {given['versions']['torch']}, commit {given['commit']}, "
        f"{given['date'][:10]}",
        fontsize=7,
    )
    return figure


def _draw(
    axes: Axes,
    records: Sequence[Record],
    place: Callable[[Record], int],
    read: _Read,
    dashed: bool = False,
) -> None:
    for name, colour in _COLOURS.items():
        points = [
            (place(record), found, record["void"])
            for record in records
            for m in _shown(record)
            if m["name"] == name and (found := read(m)) is not None
        ]
        if not points:
            continue
        x, y, void = zip(*points, strict=True)
        if dashed:
            axes.plot(x, y, color=colour, linestyle="--", linewidth=1, alpha=0.6)
            continue
        axes.plot(x, y, color=colour, linewidth=1.5, label=name)
        fill = ["white" if hollow else colour for hollow in void]
        axes.scatter(x, y, facecolors=fill, edgecolors=colour, s=22, zorder=3)
    axes.set_xscale("log")
    axes.set_xticks([place(record) for record in records])
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
