"""The estimators' table and figure, made anew from all studies in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, PercentFormatter, ScalarFormatter

from benchmarks.harness.tables import number, read_json, table
from benchmarks.protocols.estimators import EstimatorScore, EstimatorStudy

__all__ = ["estimators_figure", "estimators_markdown", "write_estimators_report"]

_COLOURS = {"sampling": "#c9822b", "balanced": "#1a7f37", "closed-form": "#5b8db8"}
_LABELS = {
    "sampling": "sampling (paper)",
    "balanced": "balanced",
    "closed-form": "closed form",
}


def write_estimators_report(directory: Path) -> list[Path]:
    """Writes ``estimators.md`` and ``estimators.png`` over all ``estimators-*.json``.

    Raises:
        FileNotFoundError: if there are none.
    """
    studies = [EstimatorStudy.from_json(x) for x in read_json(directory, "estimators-*.json")]
    text, picture = directory / "estimators.md", directory / "estimators.png"
    text.write_text(estimators_markdown(studies), encoding="utf-8")
    by_sampling = [study for study in studies if study.reference_estimator == "sampling"]
    estimators_figure(by_sampling or studies).savefig(picture, dpi=120)
    return [text, picture]


def estimators_markdown(studies: Sequence[EstimatorStudy]) -> str:
    """One table over all studies, with what was measured above it and the conditions below."""
    limits = sorted({_limit(study) for study in studies})
    lines = [
        "# Estimators of SER-FIQ",
        "",
        f"Error of the mean pairwise distance against {', or '.join(limits)}, and "
        "rank correlation of the images with them. *Limit's own*: the mean relative "
        "standard error of that limit, below which no error can be seen. *Stated ÷ actual*: the "
        "standard error of Q that the estimator states, over the scatter of Q from seed to seed.",
        "",
        *table(_HEAD, [_cells(study, score) for study in studies for score in study.scores], 3),
        "",
    ]
    for study in studies:
        lines += [f"- **{study.model}**: {_about(study)}"]
    return "\n".join(lines) + "\n"


_HEAD = [
    "network", "p", "estimator", "m", "error", "bias", "Spearman", "stated ÷ actual", "limit's own",
]  # fmt: skip


def _cells(study: EstimatorStudy, score: EstimatorScore) -> list[str]:
    return [
        study.model,
        f"{study.conditions.dropout:g}",
        _LABELS[score.estimator],
        number(score.passes, "d"),
        number(score.error, ".2%"),
        number(score.bias, "+.2%"),
        number(score.spearman, ".4f"),
        number(score.stated_error, ".2f"),
        f"{study.reference_error:.2%}" + " (balanced)" * (study.reference_estimator != "sampling"),
    ]


def _limit(study: EstimatorStudy) -> str:
    how = "independent" if study.reference_estimator == "sampling" else study.reference_estimator
    return f"{study.reference_passes} {how} passes"


def _about(study: EstimatorStudy) -> str:
    drawn = [score.repeats for score in study.scores if score.passes is not None]
    return (
        f"{study.source}. {study.faces} faces ({study.images}; {study.left_out} unusable), "
        f"{study.features} features, {study.embedding} dimensions, p = "
        f"{study.conditions.dropout:g}; distance {study.distance:.3f}, spread between faces "
        f"{study.spread:.2%}; {max(drawn, default=0)} seeds each; whole network and head differ "
        f"by at most {study.whole_network:.0e} in Q; limit: {_limit(study)}. "
        f"{study.conditions.line()}; {study.conditions.date}."
    )


def estimators_figure(studies: Sequence[EstimatorStudy]) -> Figure:
    """Error and rank correlation over m, a column per study.

    Args:

        studies (sequence of EstimatorStudy): At least one.

    Returns:
        *Figure*: not known to pyplot.
    """
    figure = Figure(figsize=(2.9 * len(studies) + 0.6, 5.6), layout="constrained")
    panels = figure.subplots(2, len(studies), squeeze=False, sharex="col", sharey="row")
    for (upper, lower), study in zip(panels.T, studies, strict=True):
        _draw(upper, study, "error")
        _draw(lower, study, "spearman")
        upper.axhline(study.reference_error, color="black", linewidth=0.8, linestyle=":")
        upper.set(xscale="log", yscale="log")
        upper.set_title(
            f"{study.model}, p = {study.conditions.dropout:g}\n{study.faces} faces", fontsize=9
        )
        lower.set_xlabel("passes m", fontsize=8)
        _plain_ticks(lower, study)
    panels[0, 0].set_ylabel("mean relative error of the distance", fontsize=8)
    panels[1, 0].set_ylabel("Spearman with the limit", fontsize=8)
    panels[0, 0].yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panels[0, 0].yaxis.set_major_formatter(PercentFormatter(1))
    panels[0, 0].yaxis.set_minor_locator(NullLocator())
    handles, labels = panels[0, 0].get_legend_handles_labels()
    dotted = panels[0, 0].lines[-1]
    figure.legend(
        [*handles, dotted],
        [*labels, "error of the limit itself"],
        loc="outside upper center",
        ncols=4,
        fontsize=8,
    )
    first = studies[0].conditions
    figure.supxlabel(
        f"Limit: {studies[0].reference_passes} passes. {first.device_name}, torch "
        f"{first.versions['torch']}, commit {first.commit}, {first.date[:10]}",
        fontsize=7,
    )
    return figure


def _draw(axes: Axes, study: EstimatorStudy, quantity: str) -> None:
    for name, colour in _COLOURS.items():
        scores = [score for score in study.scores if score.estimator == name]
        values = [getattr(score, quantity) for score in scores]
        style: dict[str, Any] = {"color": colour, "label": _LABELS[name], "linewidth": 1.5}
        if name == "closed-form":
            axes.axhline(values[0], linestyle="--", **style)
        elif scores:
            axes.plot([score.passes or 0 for score in scores], values, marker="o", **style)
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=7)


def _plain_ticks(axes: Axes, study: EstimatorStudy) -> None:
    drawn = sorted({score.passes for score in study.scores if score.passes is not None})
    axes.set_xticks(drawn)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
