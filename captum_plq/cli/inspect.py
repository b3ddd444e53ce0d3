"""The command ``captum-plq inspect``: what a run over a gallery has found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from captum_plq.cli.options import Whole
from captum_plq.cli.terminal import table, tell

if TYPE_CHECKING:
    from captum_plq.gallery import GalleryResult
    from captum_plq.gallery.inspect import Inspection
    from captum_plq.gallery.inspect.pictures import MapsOf

__all__ = ["command"]

command = App(
    "inspect",
    help_epilogue="""Examples:
  captum-plq inspect result
  captum-plq inspect result --html result.html --csv result.csv""",
)


@command.default
def inspect(
    result: Annotated[Path, Parameter(name="RESULT", help="Folder of 'captum-plq score'.")],
    /,
    *,
    html: Annotated[
        Path | None, Parameter(help="Write a page with the faces of lowest and highest quality.")
    ] = None,
    csv: Annotated[Path | None, Parameter(help="Write all rows as CSV.")] = None,
    faces: Annotated[Whole, Parameter(help="Faces of lowest, and of highest quality.")] = 24,
    model: Annotated[
        str | None,
        Parameter(
            help="Network that computes maps which the run has not kept. Default: the run's, if it "
            "is known by name."
        ),
    ] = None,
    checkpoint: Annotated[Path | None, Parameter(help="Weight file of a named network.")] = None,
    calibration: Annotated[
        str | None, Parameter(help="A file of 'captum-plq calibrate'. Default: the network's own.")
    ] = None,
    device: Annotated[str, Parameter(help="Where to compute, e.g. cpu or cuda.")] = "cpu",
) -> None:
    """Tell what a run over a gallery has found: qualities, refusals, and where quality is lost."""
    from captum_plq._base.whole_file import require_writable, whole_file
    from captum_plq.gallery import read_result
    from captum_plq.gallery.inspect import inspect_result, pictures_of, render_page, write_csv

    opened = read_result(result)
    if html is not None:
        require_writable(html, b"<!DOCTYPE html>")
    inspection = inspect_result(opened, each=faces)
    for line in _in_words(inspection):
        tell(line)
    if html is not None:
        maps_of, note = None, ""
        if opened.regions and inspection.faces:
            network: dict[str, Any] = {
                "model": model or opened.metadata["model"]["name"],
                "checkpoint": None if checkpoint is None else str(checkpoint),
                "calibration": calibration,
                "device": device,
            }
            maps_of, note = _mapper(opened, network)
        pictures = [
            pictures_of(rows, opened, maps_of) for rows in (inspection.lowest, inspection.highest)
        ]
        without = opened.metadata.get("without_local")
        notes = [n for n in (note, f"There is no local quality: {without}" if without else "") if n]
        page = render_page(inspection, *pictures, title=result.resolve().name, notes=notes)
        with whole_file(html) as file:
            file.write(page.encode("utf-8"))
        for note in notes:
            tell(note, error=True)
        tell(str(html))
    if csv is not None:
        tell(f"{csv}: {write_csv(opened, csv):,} rows")


def _mapper(opened: GalleryResult, network: dict[str, Any]) -> tuple[MapsOf | None, str]:
    """Return what computes maps as the run did, or ``None`` and why they cannot be computed."""
    import torch

    from captum_plq.gallery import ScoreSettings
    from captum_plq.gallery.compute import FaceScorer

    metadata = opened.metadata
    try:
        scorer = FaceScorer(ScoreSettings(**{**metadata["parameters"], **network}))
    except (ValueError, OSError, ImportError, TypeError) as error:
        return None, f"Only maps that the run has kept are shown: {error}"
    if scorer.identity()["model"]["digest"] != metadata["model"]["digest"]:
        return None, "Only maps that the run has kept are shown: the network has other weights."

    def maps_of(chips: Any) -> Any:
        images = torch.from_numpy(chips).permute(0, 3, 1, 2).float().to(scorer.device)
        return scorer(images).maps

    return maps_of, ""


def _in_words(found: Inspection) -> list[str]:
    from captum_plq.faces import REGION_WORDS

    lines = [
        f"{found.rows:,} rows of {found.images:,} images; {found.faces:,} faces with a quality, "
        f"{found.weak:,} of them weak detections, {found.cut_off:,} cut off by the photo's edge"
    ]
    if found.quantiles:
        names = {0.0: "lowest", 0.5: "median", 1.0: "highest"}
        header = [names.get(level, f"{level:.0%}") for level in found.quantiles]
        values = [f"{q:.3f}" for q in found.quantiles.values()]
        every = range(len(header) + 1)
        lines += table(["Q", *header], [["", *values]], right=list(every)[1:])
    if found.losses:
        rows = [
            [REGION_WORDS.get(x.region, x.region), f"{x.mean:+.3f}", f"{x.low:+.3f}",
             f"{x.worst_share:.0%}"]
            for x in sorted(found.losses, key=lambda x: -x.low)
        ]  # fmt: skip
        header = ["quality lost", "all faces", "lowest tenth", "takes most in"]
        lines += ["", *table(header, rows, right=[1, 2, 3])]
    if found.verdicts:
        told = [[f"{count:,}", word] for word, count in found.verdicts.items()]
        causes = [[f"{count:,}", f"  {word}"] for word, count in found.causes.items()]
        lines += ["", *table(["faces", "feedback"], [*told, *causes], right=[0])]
    if found.refusals:
        refused = [[f"{r.rows:,}", r.reason.replace("_", " "), r.path] for r in found.refusals]
        lines += ["", *table(["rows", "reason", "the first of them"], refused, right=[0])]
    return lines
