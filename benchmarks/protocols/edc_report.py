"""Error versus discard: page and figure, made anew from all results in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.harness.environment import Environment
from benchmarks.harness.tables import number, read_json, table
from benchmarks.protocols.discard_areas import FLOOR, LIMITS
from benchmarks.protocols.edc import MEASURES

__all__ = ["edc_figure", "edc_markdown", "write_edc_report"]

_CONTROLS = ("random", FLOOR)


def write_edc_report(directory: Path) -> list[Path]:
    """Writes ``edc.md`` and ``edc.png`` over all ``edc-*.json``.

    Raises:
        FileNotFoundError: if there are none.
    """
    records = read_json(directory, "edc-*.json")
    text, picture = directory / "edc.md", directory / "edc.png"
    text.write_text(edc_markdown(records), encoding="utf-8")
    edc_figure(records).savefig(picture, dpi=120)
    return [text, picture]


def edc_markdown(records: Sequence[dict[str, Any]]) -> str:
    """For each network and set of pairs the areas of every quality, and the conditions."""
    lines = [
        "# Error versus discard",
        "",
        "False non-match rate of mated pairs while those of lowest quality are left out: the "
        "quality of a pair is the lower of its two, equal ones go together, the threshold stays. "
        f"Area from 0 to {' and '.join(f'{100 * x:g} %' for x in LIMITS)} discarded, over that of "
        "a quality that knows nothing: 1 is chance, lower is better. In brackets 95 % bootstrap "
        "intervals over people; differences to `serfiq` are paired, p after Holm.",
        "",
        *(f"- `{name}`: {meaning}" for name, meaning in MEASURES.items()),
        f"- `{FLOOR}`: of the pair itself, which no quality may look at; none can do better",
        "",
    ]
    for record in records:
        lines += [f"## {record['model']}", ""]
        for name, found in record["sets"].items():
            lines += _of_set(name, found)
        lines += [f"- `{name}` failed here: {why}" for name, why in record["failed"].items()]
        lines += ["", _about(record), ""]
    return "\n".join(lines)


def _of_set(name: str, found: dict[str, Any]) -> list[str]:
    title = f"### Images {name}" if name == "as they are" else f"### {name.capitalize()}"
    errors = round(found["starting_error"] * found["pairs"])
    lines = [
        title,
        "",
        f"{found['pairs']} pairs of {found['people']} people, {errors} of them false non-matches.",
        "",
    ]
    if found["areas"] is None:
        return [*lines, "Nothing to discard for.", ""]
    head = ["quality", *(f"{text}, {100 * x:g} %" for x in LIMITS
                         for text in ("area", "less serfiq's", "p"))]  # fmt: skip
    rows = []
    for quality, of in found["areas"].items():
        cells = [f"*{quality}*" if quality in _CONTROLS else quality]
        for limit in LIMITS:
            cell = of[f"{limit:g}"]
            cells += [
                _interval(cell["area"], ""),
                _interval(cell.get("difference"), "+"),
                number(cell.get("p_holm"), ".2g"),
            ]
        rows.append(cells)
    return [*lines, *table(head, rows), ""]


def _interval(values: Sequence[float] | None, sign: str) -> str:
    if values is None:
        return ""
    value, low, high = (format(x, f"{sign}.3f") for x in values)
    return f"{value} [{low}, {high}]"


def _about(record: dict[str, Any]) -> str:
    conditions = Environment(**record["conditions"])
    return (
        f"{record['source']} (network {record['network']}). {record['faces']} images of "
        f"{record['images']}, {record['pairs']}, {len(record['left_out'])} left out; a match from "
        f"cosine {record['threshold']:.3f} on, a false match rate of {record['fmr']:g} over "
        f"{record['non_mated_pairs']} pairs of different people. "
        f"{conditions.line()}; {conditions.date}."
    )


def edc_figure(records: Sequence[dict[str, Any]]) -> Figure:
    """Error against discarded share: a row per network, a panel per set of pairs.

    Args:

        records (sequence of dict): Results, at least one.

    Returns:
        *Figure*: not known to pyplot.
    """
    columns = max(len(record["sets"]) for record in records)
    figure = Figure(figsize=(5.2 * columns + 1.6, 3.4 * len(records)), layout="constrained")
    panels = figure.subplots(len(records), columns, squeeze=False)
    for row, record in zip(panels, records, strict=True):
        for axes, (name, found) in zip(row, record["sets"].items(), strict=False):
            for i, (quality, (discarded, errors)) in enumerate(found["curves"].items()):
                control = quality in _CONTROLS
                axes.step(
                    [100 * x for x in discarded],
                    errors,
                    where="post",
                    color="0.55" if control else f"C{i}",
                    linestyle=":" if quality == FLOOR else "-",
                    linewidth=1.2,
                    label=quality,
                )
            axes.set_xlim(0, 100 * max(LIMITS))
            axes.set_ylim(bottom=0)
            axes.set_title(f"{record['model']}, {name}, {found['pairs']} mated pairs", fontsize=9)
            axes.set_xlabel("pairs discarded, %", fontsize=8)
            axes.set_ylabel(f"FNMR, threshold at FMR = {record['fmr']:g}", fontsize=8)
            axes.tick_params(labelsize=7)
        row[-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
