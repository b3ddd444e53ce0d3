"""The scaling table and figures, made anew from all results in a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter, StrMethodFormatter

from benchmarks.harness.tables import number, read_json, table
from benchmarks.protocols.scaling import ScalingResult
from benchmarks.protocols.speed_results import MethodResult, SpeedResult

__all__ = ["scaling_figure", "scaling_markdown", "write_scaling_report"]

_COLOURS = {
    "saliency": "#808080",
    "plq": "#c9822b",
    "plq-balanced": "#1a7f37",
    "plq-closed-form": "#5b8db8",
}


def write_scaling_report(directory: Path) -> list[Path]:
    """Writes ``scaling.md`` over all ``scaling-*.json``, and a figure for each of them.

    Raises:
        FileNotFoundError: if there are none.
    """
    results = [ScalingResult.from_json(x) for x in read_json(directory, "scaling-*.json")]
    text = directory / "scaling.md"
    text.write_text(scaling_markdown(results), encoding="utf-8")
    pictures = []
    for result in results:
        pictures.append(directory / f"{result.stem}.png")
        scaling_figure(result).savefig(pictures[-1], dpi=120)
    return [text, *pictures]


def scaling_markdown(results: Sequence[ScalingResult]) -> str:
    """Two tables per result: over the batch, and over m."""
    lines = [
        "# Scaling",
        "",
        "Ratios are to Saliency at the same batch, within the same round, medians. Memory is the "
        "peak above what was there before the call. *void*: Saliency was not within 3 % of itself.",
    ]
    for result in results:
        first = result.by_batch[0]
        lines += [
            "",
            f"## {first.model}, {first.conditions.device}",
            "",
            f"{first.rounds} interleaved rounds each; {first.conditions.line()}; "
            f"{first.conditions.date}.",
            "",
            *_series("batch", result.by_batch, lambda x: x.batch),
            "",
            f"Batch {result.by_passes[0].batch}:",
            "",
            *_series("m", result.by_passes, lambda x: x.conditions.passes),
        ]
    return "\n".join(lines) + "\n"


def _series(
    name: str, results: Sequence[SpeedResult], place: Callable[[SpeedResult], int]
) -> list[str]:
    head = [name, "method", "ms", "time ÷", "FLOPs ÷", "MiB", "memory ÷", ""]
    rows = [
        [
            str(place(result)),
            m.name,
            number(m.time.median * 1e3 if m.time else None, ".4g"),
            number(m.ratio.median if m.ratio else None, ".3f"),
            number(m.flops_ratio, ".3f"),
            number(m.peak_bytes / 2**20 if m.peak_bytes else None, ".1f"),
            number(m.memory_ratio, ".3f"),
            "void" if result.void else "",
        ]
        for result in results
        for m in _shown(result)
    ]
    return table(head, rows)


def _shown(result: SpeedResult) -> list[MethodResult]:
    return [m for m in result.methods if m.name in _COLOURS and m.reason is None]


def scaling_figure(result: ScalingResult) -> Figure:
    """Time and memory over the batch (left) and over m (right).

    Args:

        result (ScalingResult): Both series.

    Returns:
        *Figure*: not known to pyplot. Void points are hollow.
    """
    figure = Figure(figsize=(9, 6.4), layout="constrained")
    (time_b, time_m), (memory_b, memory_m) = figure.subplots(2, 2, sharex="col")
    batch, passes = result.by_batch, result.by_passes
    _draw(time_b, batch, lambda x: x.batch, lambda m: m.time.median if m.time else None)
    _draw(
        memory_b, batch, lambda x: x.batch, lambda m: m.peak_bytes / 2**20 if m.peak_bytes else None
    )
    _draw(
        time_m, passes, lambda x: x.conditions.passes, lambda m: m.ratio.median if m.ratio else None
    )
    _draw(time_m, passes, lambda x: x.conditions.passes, lambda m: m.flops_ratio, dashed=True)
    _draw(memory_m, passes, lambda x: x.conditions.passes, lambda m: m.memory_ratio)
    time_b.set_ylabel("seconds", fontsize=8)
    memory_b.set_ylabel("peak memory, MiB", fontsize=8)
    time_m.set_ylabel("time ÷ Saliency (dashed: FLOPs)", fontsize=8)
    memory_m.set_ylabel("peak memory ÷ Saliency", fontsize=8)
    memory_b.set_xlabel(f"batch, m = {batch[0].conditions.passes}", fontsize=8)
    memory_m.set_xlabel(f"passes m, batch {passes[0].batch}", fontsize=8)
    for axes in (time_b, memory_b, time_m):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    _proportional(time_b, batch)
    handles, labels = time_b.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5, fontsize=8)
    first = batch[0].conditions
    figure.supxlabel(
        f"{batch[0].model}, {first.device_name}, {first.threads} threads, {first.dtype}, torch "
        f"{first.versions['torch']}, commit {first.commit}, {first.date[:10]}",
        fontsize=7,
    )
    return figure


def _draw(
    axes: Axes,
    results: Sequence[SpeedResult],
    place: Callable[[SpeedResult], int],
    value: Callable[[MethodResult], float | None],
    dashed: bool = False,
) -> None:
    for name, colour in _COLOURS.items():
        points = [
            (place(result), found, result.void)
            for result in results
            for m in _shown(result)
            if m.name == name and (found := value(m)) is not None
        ]
        if not points:
            continue
        x, y, void = ([point[i] for point in points] for i in range(3))
        if dashed:
            axes.plot(x, y, color=colour, linestyle="--", linewidth=1, alpha=0.6)
            continue
        axes.plot(x, y, color=colour, linewidth=1.5, label=name)
        fill = ["white" if hollow else colour for hollow in void]
        axes.scatter(x, y, facecolors=fill, edgecolors=colour, s=22, zorder=3)
    axes.set_xscale("log")
    axes.set_xticks([place(result) for result in results])
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)


def _proportional(axes: Axes, results: Sequence[SpeedResult]) -> None:
    """A line of slope one through Saliency at the largest batch."""
    last = results[-1]
    time = next(m.time for m in last.methods if m.name == "saliency")
    if time is not None:
        x = [result.batch for result in results]
        y = [time.median * size / last.batch for size in x]
        axes.plot(x, y, color="black", linestyle=":", linewidth=1, label="proportional")
