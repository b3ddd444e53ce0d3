"""All quality scores side by side, ``scores.md``: one table and one figure from what is there.

Error versus discard comes from ``edc-*.json``, the separation of degraded faces from
``suitability-scores-*.json``. What has not been measured leaves its cell empty, and the page says
so.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.environment import dated
from benchmarks.harness.pages import number, table
from benchmarks.harness.protocol import Record, read_record
from benchmarks.protocols.parts.discard_areas import FLOOR, LIMITS
from benchmarks.protocols.parts.face_scores import CONTROLS
from captum_plq.quality import scores
from captum_plq.quality.scores import SCORES

SOURCES = ("edc-*.json", "suitability-scores-*.json")
FMR = 1e-3
DEGRADED = "one degraded"
SETS = ("as they are", DEGRADED)
LIMIT = f"{LIMITS[-1]:g}"
"""The area that is put into words."""
PLANNED = ("mobilefacenet_y1", "mobilefacenet_foamliu", "mobilefacenet-dropout", "edgeface_xs")
"""Networks whose error versus discard is wanted."""
ALL_CONTROLS = (*CONTROLS, FLOOR)
_SURE = 0.05

_TITLE = "All scores, side by side"
_INTRODUCTION = """\
Which training-free score of face quality tells most, on which network, at which cost?

- **Area** ([error versus discard](edc.md)): of the false non-match rate (threshold at FMR
  {fmr:g}) from 0 to 20 % and 30 % of pairs discarded, over that of a quality that knows
  nothing: 1 is chance, lower is better. Here with one image of each pair degraded in three
  pairs of four; images as they are follow in words. In brackets 95 % bootstrap intervals over
  people.
- **AUROC**: mean over five degradations, clean against degraded; ½ is chance, higher is
  better. One by one below.
- **Forwards**: time of a score, in forwards of the network on the same batch, by network, on
  a machine with other work: to be read as orders of magnitude.
- *Italics*: controls. `random` is chance, `comparison score` the floor: an oracle that knows
  the errors.
- An empty cell has not been measured, or the network cannot have that score; each network's
  section says which.

**Not comparable with published figures.** Other networks (small MobileFaceNets, not
ResNet-100), other data (LFW, degraded by us), areas relative to chance. Scores named `-style`
are written from abstracts, and their parameters were not tuned: a low rank here says nothing
of the published method.

**Licence.** Every score is written for this package (BSD-3-Clause), none from released code.
A network's weights have the licence of their source."""

_ABOUT_PLACE = """\
Differences of the area to 30 %: positive, the other is worse than SER-FIQ. Paired over
people, p after Holm within one set of pairs; `random` and the oracle differ as the areas
show."""

_ABOUT_AUROC = """\
Faces of people of LFW's fold 5, unseen in training, each as it is and degraded in five ways.
`over serfiq`: by how much the mean exceeds SER-FIQ's. The highest of several is flattered by
having been chosen."""

_KNOWN = {
    "mobilefacenet-dropout": "No neutral ground: it was trained so that SER-FIQ's Q falls with "
    "such degradations, on people of LFW's folds 1–3, who are in three of the five folds of pairs.",
    "mobilefacenet-places": "No neutral ground: it was trained so that SER-FIQ's Q falls with such "
    "degradations, though on other people than those of the pairs here.",
}
"""What must be said of a network before its numbers are read."""


@dataclass(frozen=True)
class Arena:
    """What is known of all scores.

    Args:

        edc (dict[str, dict]): Network → its record of error versus discard.
        suitability (dict[str, dict]): Network → its record of ``suitability --all-scores``.
    """

    edc: dict[str, Record]
    suitability: dict[str, Record]

    def names(self) -> list[str]:
        """Return all scores, those of the registry first, controls last."""
        found = dict.fromkeys(SCORES)
        for model in self.edc:
            found |= dict.fromkeys(areas_of(self.edc[model], DEGRADED) or {})
        for record in self.suitability.values():
            found |= dict.fromkeys(record["readings"])
        own = [name for name in found if name not in ALL_CONTROLS]
        return own + [name for name in ALL_CONTROLS if name in found]


def arena(directory: Path) -> Arena:
    """Read all records in a folder that say something of scores.

    Raises:
        FileNotFoundError: if there are none.
    """
    read: list[dict[str, Record]] = []
    for pattern in SOURCES:
        records = [read_record(path) for path in sorted(directory.glob(pattern))]
        read.append({record["model"]: record for record in records})
    if not any(read):
        raise FileNotFoundError(f"There are no measurements of scores in {directory}.")
    return Arena(*read)


def at_fmr(record: Record) -> Mapping[str, Any] | None:
    """Return what a record says at the false match rate of the table; ``None``: nothing."""
    return next((at for at in record["at"] if at["fmr"] == FMR), None)


def areas_of(record: Record, name: str) -> dict[str, Any] | None:
    """Return score → limit → area of one set of pairs; ``None`` if it has none."""
    at = at_fmr(record)
    areas: dict[str, Any] | None = None if at is None else at["sets"].get(name, {}).get("areas")
    return areas


def page(own: Arena, figure: str | None) -> str:
    """Return the page in Markdown.

    Args:

        own (Arena): What is known.
        figure (str, optional): File name of the figure.
    """
    lines = [f"# {_TITLE}", "", _INTRODUCTION.format(fmr=FMR), "", *_main_table(own), ""]
    if figure is not None:
        lines += [f"![areas and AUROC of all scores]({figure})", ""]
    lines += ["## SER-FIQ's place", "", _ABOUT_PLACE, ""]
    for model, record in own.edc.items():
        lines += [f"### {model}", "", *_place(model, record), ""]
    if missing := [name for name in PLANNED if name not in own.edc]:
        lines += [f"Error versus discard has not been measured on {', '.join(missing)}.", ""]
    lines += ["## AUROC by degradation", "", *([_ABOUT_AUROC, ""] if own.suitability else [])]
    for model, record in own.suitability.items():
        lines += [f"### {model}", "", *_separations(model, record), ""]
    if missing := [name for name in own.edc if name not in own.suitability]:
        lines += [f"All scores' AUROC has not been measured on {', '.join(missing)}.", ""]
    lines += ["## What was not checked", ""]
    lines += [f"- `{name}`: {text}" for name in SCORES if (text := _not_checked(name))]
    return "\n".join([*lines, ""])


def _main_table(own: Arena) -> list[str]:
    head = ["score", "needs"]
    head += [f"{model}: area, {100 * x:g} %" for model in own.edc for x in LIMITS]
    head += [f"{model}: AUROC" for model in own.suitability]
    rows = []
    for name in own.names():
        cells = [f"*{name}*" if name in ALL_CONTROLS else f"`{name}`", _needs(name)]
        for record in own.edc.values():
            areas = (areas_of(record, DEGRADED) or {}).get(name, {})
            cells += [interval(areas.get(f"{x:g}", {}).get("area")) for x in LIMITS]
        for record in own.suitability.values():
            cells.append(number(record["readings"].get(name, {}).get("auroc"), ".3f"))
        costs = {m: r["forwards"][name] for m, r in own.edc.items() if name in r["forwards"]}
        cells.append(", ".join(f"{x:.3g} ({model})" for model, x in costs.items()))
        rows.append(cells)
    return table([*head, "forwards"], rows, words=2)


def _place(model: str, record: Record) -> list[str]:
    """Where SER-FIQ stands on one network, in words."""
    at = at_fmr(record)
    if at is None:
        return [f"Not measured at FMR {FMR:g}."]
    lines = [_KNOWN[model], ""] if model in _KNOWN else []
    lines += [
        _against(name, at["sets"][name], at["against"]) for name in SETS if name in at["sets"]
    ]
    areas = areas_of(record, DEGRADED) or {}
    absent = [name for name in SCORES if name not in areas and name not in record["failed"]]
    if absent:
        lines.append(
            f"- An older record, without {_listed(absent)}; its differences are to "
            f"`{at['against']}`" + ("." if record["forwards"] else ", and it has no times.")
        )
    if lacking := [name for name in SCORES if name in record["failed"]]:
        lines.append(f"- This network has no {_listed(lacking)} (reasons: [edc](edc.md)).")
    lines.append(f"- {record['source']}; {record['images']}; {dated(record['conditions'])}.")
    return lines


def _against(name: str, found: Mapping[str, Any], against: str) -> str:
    """One set of pairs: who is better than SER-FIQ, who is worse, and who cannot be told apart."""
    errors = round(found["starting_error"] * found["pairs"])
    start = f"- **{name.capitalize()}** ({found['pairs']} pairs, {errors} errors): "
    areas = found["areas"]
    if areas is None:
        return f"{start}no errors, so nothing to compare."
    groups: dict[str, list[str]] = {"better": [], "worse": [], "undecided": []}
    for score, of in areas.items():
        cell = of[LIMIT]
        if score not in ("random", FLOOR, against) and "difference" in cell:
            gap, p = cell["difference"][0], cell["p_holm"]
            group = "undecided" if p >= _SURE else "better" if gap < 0 else "worse"
            groups[group].append(f"`{score}` {gap:+.3f} (p = {p:.2g})")
    mine, chance, floor = (areas[x][LIMIT]["area"][0] for x in (against, "random", FLOOR))
    told = {
        "better": "significantly better than it",
        "undecided": "not to be told apart from it (p ≥ .05 after Holm, no proof of equality)",
        "worse": "significantly worse",
    }
    words = "; ".join(f"{text}: {', '.join(groups[k]) or 'none'}" for k, text in told.items())
    return (
        f"{start}area to {float(LIMIT):.0%} of `{against}` "
        f"{interval(areas[against][LIMIT]['area'])}"
        f", of `random` {chance:.3f}, of the oracle {floor:.3f}: it goes "
        f"{(1 - mine) / (1 - floor):.0%} of the way from chance (1) to the oracle. "
        f"{words[:1].upper()}{words[1:]}."
    )


def _separations(model: str, record: Record) -> list[str]:
    readings = record["readings"]
    ways = list(next(iter(readings.values()))["degradations"]) if readings else []
    rows = []
    for name, x in readings.items():
        each = [x["degradations"][way]["auroc"] for way in ways]
        gain = x["gain"]
        rows.append(
            [f"`{name}`", f"{x['auroc']:.3f}",
             "" if gain is None else interval([gain[k] for k in ("value", "low", "high")], "+.3f"),
             *(interval([cell[k] for k in ("value", "low", "high")], ".2f") for cell in each)]
        )  # fmt: skip
    return [
        *table(["score", "mean", "over `serfiq`", *ways], rows),
        "",
        f"{len(record['images'])} faces (the record lists them); seed "
        f"{record['seed']}; {record['confidence']:.0%} intervals, not corrected for their number. "
        f"captum-plq {record['versions']['captum-plq']}, torch {record['versions']['torch']}. "
        f"`captum-plq suitability FOLDER --model {model} --aligned --all-scores "
        f"--faces {len(record['images'])} --seed {record['seed']}`.",
    ]


def interval(values: Sequence[float] | None, form: str = ".3f") -> str:
    """Return a value and its interval, ``"0.694 [0.647, 0.742]"``; nothing for ``None``."""
    if values is None:
        return ""
    value, low, high = (format(x, form) for x in values)
    return f"{value} [{low}, {high}]"


def _made(name: str) -> object:
    module, _, own = SCORES[name].partition(":")
    return getattr(importlib.import_module(f"{scores.__name__}.{module}"), own)


def _needs(name: str) -> str:
    """What a score needs of a network, as its class says."""
    if name not in SCORES:
        return ""
    made = _made(name)
    kind = made if isinstance(made, type) else _returned(made)
    return str(getattr(kind, "needs", ""))


def _returned(maker: object) -> object:
    """The class that a function's annotation names."""
    from captum_plq.quality.serfiq import SERFIQ
    from captum_plq.quality.spatial import SpatialSERFIQ

    named = str(getattr(maker, "__annotations__", {}).get("return", ""))
    return {kind.__name__: kind for kind in (SERFIQ, SpatialSERFIQ)}.get(named)


def _not_checked(name: str) -> str:
    """The paragraph of a score's docstring that says so; empty if it has none."""
    for paragraph in re.split(r"\n\s*\n", getattr(_made(name), "__doc__", None) or ""):
        if "not checked" in paragraph:
            return " ".join(paragraph.split()).replace("``", "`")
    return ""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
