"""The command ``captum-plq explain``: from one's own photos to explanations on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from captum_plq.cli.options import Aligned, Column, Explaining, Timeout, Whole, WorkerCount
from captum_plq.cli.terminal import held, tell

if TYPE_CHECKING:
    from captum_plq.explanation import Explainer

__all__ = ["command", "load_explainer"]

command = App(
    "explain",
    help_epilogue="""Examples:
  captum-plq explain photos/ -o results
  captum-plq explain group.jpg --all-faces -o results
  captum-plq explain photos/*.jpg --write none -o results
  captum-plq explain me.jpg --feedback -o results
  captum-plq explain crops/ --aligned --model iresnet50 --checkpoint r50.pth -o out
  captum-plq explain a.jpg --model mine.py --calibration mine.npz -o out""",
)


def _kinds(_: Any, tokens: Any) -> tuple[str, ...]:
    """Convert a list of what is to be written."""
    words = tokens[0].value.split(",")
    if words == ["none"]:
        return ()
    if unknown := [word for word in words if word not in ("figure", "arrays")]:
        raise ValueError(f"{unknown[0]!r} is not figure, arrays, figure,arrays or none")
    return tuple(words)


@command.default
def explain(
    images: Annotated[
        list[Path],
        Parameter(
            name="SOURCE",
            help="Photos of faces, folders, patterns, lists (.txt), tables (.csv, .tsv, .parquet) "
            "or archives (.tar).",
        ),
    ],
    /,
    *,
    options: Explaining,
    aligned: Aligned = False,
    all_faces: Annotated[
        bool, Parameter(help="Explain every face found, and number them.", show_default=False)
    ] = False,
    calibration: Annotated[
        str | None,
        Parameter(
            help="A file of 'captum-plq calibrate'; arcface or facenet, the paper's; or none. "
            "Default: the network's own, if it comes with this package.",
        ),
    ] = None,
    write: Annotated[
        tuple[str, ...],
        Parameter(
            converter=_kinds,
            n_tokens=1,
            show_default=lambda _: "figure,arrays",
            help="What is written beside each face's record: figure, arrays, both or none.",
        ),
    ] = ("figure", "arrays"),
    feedback: Annotated[
        bool,
        Parameter(
            help="Say whether to take a photo again, why, and what to do.", show_default=False
        ),
    ] = False,
    batch_size: Annotated[Whole, Parameter(help="Faces computed at once.")] = 16,
    workers: WorkerCount = None,
    timeout: Timeout = 60.0,
    column: Column = None,
) -> int:
    """Explain photos: write a figure, arrays and a record of each.

    A file that cannot be used is reported, and the rest goes on. A run that was stopped goes on
    where it was: give the same command again.
    """
    from captum_plq.cli.explain_told import Teller, summarise
    from captum_plq.explanation import PhotoSettings, explain_photos

    settings = PhotoSettings(
        aligned=aligned,
        all_faces=all_faces,
        feedback=feedback,
        write=write,
        batch_size=batch_size,
        workers=workers,
        timeout=timeout,
    )
    explainer = load_explainer(options, calibration)
    found = explain_photos(
        images,
        options.output,
        explainer,
        settings,
        column=column,
        extra=options.extra(),
        watcher=Teller(settings),
        undisturbed=held,
    )
    summarise(found, explainer.calibration)
    return 1 if found.failures else 0


def load_explainer(options: Explaining, calibration: str | None = None) -> Explainer:
    """Return the explainer that options ask for, and tell what a reader must know of it."""
    from captum_plq.calibration.known import load_calibration
    from captum_plq.explanation import Explainer, matching_calibration

    settings = options.settings()
    found = None if calibration in (None, "none") else load_calibration(calibration)
    model = options.load()
    if calibration is None:
        found = matching_calibration(model, settings)
    explainer = Explainer(model, settings, found)
    if model.unused_weights:
        tell(f"Left out, for training only: {', '.join(model.unused_weights)}")
    for note in (model.spec.note, "" if found is None else found.note):
        if note:
            tell(note)
    return explainer
