"""What ``captum-plq explain`` tells of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from captum_plq.calibration import Calibration
from captum_plq.cli.terminal import Progress, table, tell
from captum_plq.explanation import Explanation, PhotoSettings, PhotosSummary, Watcher
from captum_plq.explanation.batches import PhotoFace
from captum_plq.explanation.extremes import Scored
from captum_plq.explanation.run_record import RunRecord
from captum_plq.faces import REGION_WORDS, AlignedFace
from captum_plq.feedback import Feedback

__all__ = ["Teller", "summarise"]


class Teller(Watcher):
    """Tells of a run on the terminal.

    Args:

        settings (PhotoSettings): Of the run.
    """

    record: RunRecord
    progress: Progress

    def __init__(self, settings: PhotoSettings) -> None:
        self.settings = settings

    def begun(self, record: RunRecord) -> None:
        """Tell what earlier runs have left."""
        if record.differs:
            tell(f"An unfinished run here was begun with {record.differs}.")
        if record.left_by_another is not None:
            tell(f"An earlier run here was cut off; its rows are in {record.left_by_another}")
        if record.reached:
            tell(f"{record.reached} of {record.images} images are done by an earlier run")
        self.record, settled = record, self.settings.batch_size
        self.progress = Progress(record.images, settled=settled, before=record.reached)

    def noted(self, note: str) -> None:
        """Tell it as an error."""
        tell(note, error=True)

    def wrote(self, path: Path) -> None:
        """Tell where it is."""
        tell(f"  {path}")

    def read(self, image: str, faces: Sequence[AlignedFace]) -> None:
        """Tell of other faces, and of what lowers the quality."""
        detected = faces[0].detected
        if len(detected) > 1:
            all_faces = self.settings.all_faces
            which = "all are taken" if all_faces else "only the first is taken (see --all-faces)"
            scores = (f"{face.score:.2f}{' (weak)' if face.weak else ''}" for face in detected)
            found = f"{len(detected)} faces found, with scores {', '.join(scores)}"
            tell(f"{image}: {found}: {which}")
        for face in faces:
            for warning in face.warnings():
                tell(f"{image}: {warning}", error=True)

    def explained(
        self,
        face: PhotoFace,
        found: Explanation,
        feedback: Feedback | None,
        files: Sequence[Path],
    ) -> None:
        """Tell of its quality and what that means, with how far the run is."""
        quality = ", ".join(found.titles()[0].splitlines())
        which = f"face {face.place.face}: " if face.place.rows > 1 else ""
        self._line(f"{face.image}: {which}{quality}")
        meaning = [line for line in found.in_words() if line]
        for line in [*meaning, *([] if feedback is None else feedback.lines())]:
            tell(f"  {line}")
        if self.record.images == 1:
            for file in files:
                tell(f"  {file}")

    def failed(self, image: str, reason: str) -> None:
        """Tell it with how far the run is."""
        self._line(f"{image}: failed: {reason}", error=True)

    def _line(self, text: str, error: bool = False) -> None:
        self.progress.done = self.record.reached
        tell(f"{self.progress.prefix()}{text}", error=error)


def summarise(found: PhotosSummary, calibration: Calibration | None) -> None:
    """Tell of the faces of a run in the order of their quality, and where its summary is.

    Args:

        found (PhotosSummary): Of the run.
        calibration (Calibration, optional): That it was computed with.
    """
    extremes = found.extremes
    thresholds = None if calibration is None else calibration.thresholds
    if extremes.count and thresholds is not None and thresholds.failures:
        tell(f"Such images: as in {thresholds.measured_on()}")
    if extremes.count > 1:
        faces = extremes.ranked()
        rows = [_table_row(face) for face in faces]
        if extremes.count > len(faces):
            more = f"({extremes.count - len(faces)} more)"
            rows.insert(extremes.each, ("", "", "", "", more))
        for line in table(("Q", "±", "Q̂", "largest loss", "image"), rows, right=(0, 1, 2)):
            tell(line)
    if found.sheet is not None:
        tell(str(found.sheet))
    tell(f"{found.path}{', in place of that of an earlier run' if found.replaces else ''}")
    if found.failures:
        tell(f"{found.failures} of {found.images} images failed", error=True)


def _table_row(face: Scored) -> tuple[str, ...]:
    row = face.row
    scaled, region = row["scaled_quality"], row.get("largest_loss")
    return (
        f"{face.quality:.3f}",
        f"{row['quality_standard_error']:.3f}",
        "-" if scaled is None else f"{scaled:.2f}",
        "-" if region is None else REGION_WORDS[region],
        face.name,
    )
