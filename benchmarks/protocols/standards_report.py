"""The violations' table, made anew from all summaries in a folder, and the figure of one face."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness.old_context import StudyContext
from benchmarks.harness.old_study_report import about
from benchmarks.harness.old_summary import ALL
from benchmarks.harness.tables import number, read_json, table
from benchmarks.protocols.standards import METRICS, SEVERITIES, Standards, violate
from benchmarks.subjects.faces import sample_image

__all__ = ["standards_example", "standards_markdown", "write_standards_report"]

_PREFERRED = ("plq", "plq-relative")


def write_standards_report(directory: Path) -> Path:
    """Writes ``standards.md`` over all ``standards-*.json`` and returns its path.

    Raises:
        FileNotFoundError: if there are none.
    """
    path = directory / "standards.md"
    path.write_text(standards_markdown(read_json(directory, "standards-*.json")), "utf-8")
    return path


def standards_markdown(records: Sequence[dict[str, Any]]) -> str:
    """For each network: ΔQ by kind and severity, and what the maps make of it."""
    lines = [
        "# Violations of the photo standards",
        "",
        "Each face, and the same face made to violate one requirement for travel documents, in "
        "three degrees. Means over faces; the share is of faces whose Q fell.",
        "",
        *(f"- `{name}`: {meaning}" for name, meaning in METRICS.items()),
        "",
    ]
    for record in records:
        lines += _of_network(record)
    return "\n".join(lines)


def _of_network(record: dict[str, Any]) -> list[str]:
    estimates, kinds = record["estimates"], record["settings"]["kinds"]
    lines = [f"## {record['model']}", ""]
    if record["faces"]["warning"]:
        lines += [f"**{record['faces']['warning']}**", ""]
    names = list(estimates["quality_change"])
    own = [name for name in names if "random weights" not in name]
    if own:
        of = estimates["quality_change"][own[0]]
        head = ["violation", *(f"{word}: ΔQ, fell" for word in ("mild", "middling", "severe"))]
        cells = []
        for kind in kinds:
            parameter, *degrees = record["settings"]["degrees"][kind]
            found = [of.get(f"cell={kind} {severity}") for severity in SEVERITIES]
            shown = [f"{x['mean']:+.3f}, {x['positive']:.0%}" if x else "" for x in found]
            cells.append([f"{kind} ({parameter}: {', '.join(map(str, degrees))})", *shown])
        lines += ["### Q", "", *table(head, cells), ""]
    cells = [
        [name, *(number(estimates["pixel_change"][name].get(f"kind={kind}", {}).get("mean"), "+.3f")
                 for kind in kinds)]
        for name in names
    ]  # fmt: skip
    lines += ["### pixel_change", "", *table(["method", *kinds], cells), ""]
    drawn = [
        kind for kind in kinds if any(f"kind={kind}" in x for x in estimates["auroc"].values())
    ]
    cells = []
    for name, cell in estimates["auroc"].items():
        clean = estimates["auroc_clean"][name]
        shown = [
            f"{cell[f'kind={k}']['mean']:.2f} ({clean[f'kind={k}']['mean']:.2f})" for k in drawn
        ]
        cells.append([name, *shown, f"{cell[ALL]['mean']:.2f} ({clean[ALL]['mean']:.2f})"])
    if cells:
        lines += ["### auroc (of the clean image's map)", ""]
        lines += [*table(["method", *drawn, "all"], cells), ""]
    lines += [f"- `{name}` failed here: {reason}" for name, reason in record["failed"].items()]
    return [*lines, about(record), ""]


def standards_example(context: StudyContext, protocol: Standards) -> Figure:
    """As the paper's Fig. 7: the sample face, every violation of it, and their maps.

    Args:

        context (StudyContext): Of the network. Shown are plq and plq-relative if they are among
            its methods, otherwise the first two.
        protocol (Standards): The kinds.

    Returns:
        *Figure*: qualities from 0 (red) to 1 (green), Q below the images; not known to pyplot.
    """
    image = sample_image(context.model.spec, next(context.model.parameters()))[None]
    rows = [("as it is", image)]
    for kind in protocol.kinds:
        made = [violate(image, context.model.spec, kind, severity)[0] for severity in SEVERITIES]
        rows.append((kind, torch.cat(made)))
    maps = [context.maps(images) for _, images in rows]
    names = [name for name in _PREFERRED if name in maps[0]] or list(maps[0])[:2]
    width = len(SEVERITIES)
    columns = width * (1 + len(names))
    figure = Figure(figsize=(1.15 * columns, 1.35 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), columns, squeeze=False)
    for row, (label, images), found in zip(panels, rows, maps, strict=True):
        quality = context.subject.quality(images).tolist()
        for i in range(width):
            if i >= len(images):
                for axes in row[i::width]:
                    axes.axis("off")
                continue
            row[i].imshow(images[i].permute(1, 2, 0).byte().cpu().numpy())
            row[i].set_xlabel(f"Q = {quality[i]:.2f}", fontsize=7)
            for turn, name in enumerate(names, start=1):
                _show(row[turn * width + i], context.pixel_qualities(name, found[name])[i])
        row[0].set_ylabel(label, fontsize=8)
    for axes, title in zip(panels[0][::width], ("image", *names), strict=True):
        axes.set_title(title, fontsize=9)
    for axes in panels.flat:
        axes.set_xticks([])
        axes.set_yticks([])
    return figure


def _show(axes: Axes, qualities: torch.Tensor) -> None:
    axes.imshow(qualities.float().cpu().numpy(), cmap="RdYlGn", vmin=0, vmax=1)
