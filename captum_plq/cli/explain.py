"""The command ``captum-plq explain``: from one's own photos to explanations on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from captum_plq.cli.options import Aligned, Explaining, Whole
from captum_plq.cli.terminal import Progress, held, table, tell

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from captum_plq.explanation import Explainer, Explanation
    from captum_plq.explanation.batches import PhotoFace
    from captum_plq.explanation.extremes import Scored
    from captum_plq.explanation.run_record import RunRecord
    from captum_plq.faces import Face
    from captum_plq.feedback import Feedback

__all__ = ["command", "load_explainer"]

_SHOWN = 24
"""Faces of lowest, and of highest quality in the table and on the contact sheet of a run."""

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
        list[Path], Parameter(name="IMAGE", help="Photos of faces, or folders of them.")
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
) -> int:
    """Explain photos: write a figure, arrays and a record of each.

    A file that cannot be used is reported, and the rest goes on.
    """
    if batch_size < 1:
        raise ValueError(f"--batch-size must be 1 or more, but got {batch_size}.")
    from captum_plq.explanation.batches import explained_in_batches
    from captum_plq.explanation.run_record import RunRecord

    paths = _without_folders(images, options.output)
    explainer = load_explainer(options, calibration)
    _ = explainer.gamma  # an error of the network itself comes before the first face
    with RunRecord(options.output, len(paths), held) as record:
        if record.left_by_another is not None:
            tell(f"An earlier run here was cut off; its rows are in {record.left_by_another}")
        progress = Progress(len(paths), settled=batch_size)
        choices = {"all_faces": all_faces, "feedback": feedback}
        run = _Run(options, record, explainer, paths, progress, write=write, **choices)
        for face, found in explained_in_batches(explainer, run.faces(aligned), batch_size):
            try:
                if isinstance(found, Exception):
                    raise found
                run.keep(face, found)
            except Exception as error:  # one bad image must not cost the others
                run.fail(face.path, error, face)
        run.finish()
    tell(f"{record.summary}{', in place of that of an earlier run' if record.replaces else ''}")
    if record.failures:
        tell(f"{record.failures} of {len(paths)} images failed", error=True)
    return 1 if record.failures else 0


class _Run:
    """What is written and told as faces are explained."""

    def __init__(
        self,
        options: Explaining,
        record: RunRecord,
        explainer: Explainer,
        paths: Sequence[Path],
        progress: Progress,
        *,
        write: Sequence[str],
        all_faces: bool,
        feedback: bool,
    ) -> None:
        from captum_plq.explanation.extremes import Extremes
        from captum_plq.explanation.names import result_names

        self.options, self.record, self.spec = options, record, explainer.spec
        self.write, self.all_faces = write, all_faces
        self.paths = paths
        self.names = result_names(paths, options.output, faces=all_faces)
        self.progress = progress
        self.extremes = Extremes(_SHOWN)
        self.calibration, self.feedback = explainer.calibration, feedback

    def faces(self, aligned: bool) -> Iterator[PhotoFace]:
        """Yield the faces of the photos; tell and note what cannot be used."""
        for path, name in zip(self.paths, self.names, strict=True):
            try:
                found = list(self._faces_of(path, name, aligned))
            except Exception as error:  # one bad image must not cost the others
                self.fail(path, error)
                continue
            for face in found:
                for warning in face.face.warnings():
                    tell(f"{path}: {warning}", error=True)
            yield from found

    def _faces_of(self, path: Path, name: str, aligned: bool) -> Iterator[PhotoFace]:
        from captum_plq.explanation.batches import PhotoFace
        from captum_plq.faces import aligned_faces, load_image

        image = load_image(path)
        template, size = self.spec.alignment, self.spec.input_size
        found = aligned_faces(
            image, template=template, size=size, aligned=aligned, all_faces=self.all_faces
        )
        if len(found[0].detected) > 1:
            self._tell_of_several(path, found[0].detected)
            if self.all_faces and "figure" in self.write:
                self._save_overview(image, found[0].detected, f"{name}-faces.png")
        for face in found:
            stem = f"{name}-face{face.number}" if len(found) > 1 else name
            yield PhotoFace(path, stem, face, len(found))

    def _tell_of_several(self, path: Path, faces: Sequence[Face]) -> None:
        which = "all were taken" if self.all_faces else "the first was taken; --all-faces"
        scores = (f"{face.score:.2f}{' (weak)' if face.weak else ''}" for face in faces)
        tell(f"{path}: {len(faces)} faces found, with scores {', '.join(scores)}: {which}")

    def _save_overview(self, image: NDArray[np.uint8], faces: Sequence[Face], name: str) -> None:
        from captum_plq._base.whole_file import whole_file
        from captum_plq.visualization import plot_detections

        boxes, weak = [face.box for face in faces], [face.weak for face in faces]
        figure = plot_detections(image, boxes, [f"score {face.score:.2f}" for face in faces], weak)
        with held(), whole_file(self.options.output / name) as file:
            figure.savefig(file, format="png")
        tell(f"  {self.options.output / name}")

    def keep(self, face: PhotoFace, found: Explanation) -> None:
        """Write the results of a face and tell them."""
        row: dict[str, Any] = {
            "image": str(face.path),
            "quality": found.quality[0],
            "quality_standard_error": found.quality_standard_error[0],
            "scaled_quality": None if found.scaled_quality is None else found.scaled_quality[0],
        }
        if found.local is not None:
            row["largest_loss"] = found.local.worst_regions()[0]
        if warnings := face.face.warnings():
            row["warnings"] = warnings
        feedback = self._feedback(face, found) if self.feedback else None
        told: dict[str, Any] = {}
        if feedback is not None:
            told["feedback"] = feedback.record()
            row["verdict"] = feedback.verdict
            row["causes"] = [reason.cause for reason in feedback.reasons]
        with held():
            written = found.save(
                self.options.output,
                face.stem,
                extra={**self.options.extra(face.path), **face.detection(), **told},
                write=self.write,
            )
            self.record.explained({**row, "record": written[-1].name}, last=face.last)
        self.progress.done += face.last
        self.extremes.add(face.stem, found)
        quality = ", ".join(found.titles()[0].splitlines())
        which = f"face {face.face.number}: " if face.count > 1 else ""
        tell(f"{self.progress.prefix()}{face.path}: {which}{quality}")
        meaning = [line for line in found.in_words() if line]
        for line in [*meaning, *([] if feedback is None else feedback.lines())]:
            tell(f"  {line}")
        if len(self.paths) == 1:
            for file in written:
                tell(f"  {file}")

    def _feedback(self, face: PhotoFace, found: Explanation) -> Feedback:
        from captum_plq.feedback import give_feedback

        detected = face.face.face
        return give_feedback(
            found.images[0],
            self.spec,
            landmarks=None if detected is None else detected.landmarks,
            detector_score=None if detected is None else detected.score,
            cut_off=None if detected is None else face.face.cut_off,
            scaled_quality=None if found.scaled_quality is None else found.scaled_quality[0],
            lost=None if found.local is None else found.local.lost[0],
            calibration=self.calibration,
        )

    def fail(self, path: Path, error: Exception, face: PhotoFace | None = None) -> None:
        """Note and tell why an image, or a face of it, could not be explained."""
        expected = isinstance(error, (ValueError, ImportError))
        reason = str(error) if expected else f"{type(error).__name__}: {error}"
        reason = reason.removeprefix(f"{path} ")
        if face is not None and face.count > 1:
            reason = f"face {face.face.number}: {reason}"
        last = face is None or face.last
        self.record.failed(str(path), reason, last=last)
        self.progress.done += last
        tell(f"{self.progress.prefix()}{path}: failed: {reason}", error=True)

    def finish(self) -> None:
        """Tell and draw the faces of the run in the order of their quality."""
        thresholds = None if self.calibration is None else self.calibration.thresholds
        if self.extremes.count and thresholds is not None and thresholds.failures:
            tell(f"Such images: as in {thresholds.measured_on()}")
        if self.extremes.count < 2:
            return
        from captum_plq._base.whole_file import whole_file

        faces, each = self.extremes.ranked(), self.extremes.each
        rows = [_table_row(face) for face in faces]
        if self.extremes.count > len(faces):
            rows.insert(each, ("", "", "", "", f"({self.extremes.count - len(faces)} more)"))
        for line in table(("Q", "±", "Q̂", "largest loss", "image"), rows, right=(0, 1, 2)):
            tell(line)
        if "figure" in self.write:
            path = self.options.output / "contact-sheet.png"
            with held(), whole_file(path) as file:
                self.extremes.contact_sheet().savefig(file, format="png")
            tell(str(path))


def _table_row(face: Scored) -> tuple[str, ...]:
    from captum_plq.faces import REGION_WORDS

    found = face.explanation
    region = None if found.local is None else found.local.worst_regions()[0]
    return (
        f"{face.quality:.3f}",
        f"{found.quality_standard_error[0]:.3f}",
        "-" if found.scaled_quality is None else f"{found.scaled_quality[0]:.2f}",
        "-" if region is None else REGION_WORDS[region],
        face.name,
    )


def _without_folders(paths: Sequence[Path], output: Path) -> list[Path]:
    """Return files for files, and for folders the photos in them, but for results of runs."""
    from captum_plq.faces import list_images

    found: list[Path] = []
    results = os.path.realpath(output)
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        if os.path.realpath(path) == results:
            raise ValueError(
                f"The results would lie among the photos of {path}, and be taken for photos by "
                "the next run: name another folder with -o."
            )
        inside = f"{results}{os.sep}"
        photos = list_images(path)
        found += [photo for photo in photos if not os.path.realpath(photo).startswith(inside)]
    if not found:
        raise ValueError("There are no photos there but the results of earlier runs.")
    return found


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
