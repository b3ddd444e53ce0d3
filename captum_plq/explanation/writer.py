"""Writing what a run over photos finds, and noting it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from captum_plq._base.whole_file import whole_file
from captum_plq.explanation.batches import PhotoFace
from captum_plq.explanation.explainer import Explainer
from captum_plq.explanation.result import Explanation, files_of_record
from captum_plq.explanation.run_record import RunRecord
from captum_plq.explanation.settings import PhotoSettings
from captum_plq.faces import AlignedFace
from captum_plq.feedback import Feedback, give_feedback

__all__ = ["ResultWriter", "UnwritableError"]


class UnwritableError(OSError):
    """The folder of the results cannot be written to."""


class ResultWriter:
    """Writes the files of faces, and notes each face when they are there.

    Args:

        record (RunRecord): Of the run.
        explainer (Explainer): Whose explanations they are.
        settings (PhotoSettings): What is written.
        extra (dict): More for each record.
        undisturbed (Callable): Makes a context in which files are written and noted.
    """

    def __init__(
        self,
        record: RunRecord,
        explainer: Explainer,
        settings: PhotoSettings,
        extra: dict[str, Any],
        undisturbed: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.record, self.explainer, self.settings = record, explainer, settings
        self.extra, self.undisturbed = extra, undisturbed

    def write(
        self, face: PhotoFace, found: Explanation
    ) -> tuple[dict[str, Any], Feedback | None, list[Path]]:
        """Write the results of a face and note them.

        Args:

            face (PhotoFace): The face.
            found (Explanation): Of it alone.

        Returns:
            *tuple*: what the summary says of it, whether to take it again, if that is asked for,
            and its files.

        Raises:
            UnwritableError: if they cannot be written.
        """
        row: dict[str, Any] = {
            "image": face.image,
            "sha256": face.sha256,
            "quality": found.quality[0],
            "quality_standard_error": found.quality_standard_error[0],
            "scaled_quality": None if found.scaled_quality is None else found.scaled_quality[0],
        }
        if found.local is not None:
            row["largest_loss"] = found.local.worst_regions()[0]
        if warnings := face.face.warnings():
            row["warnings"] = warnings
        feedback = self._feedback(face.face, found) if self.settings.feedback else None
        told: dict[str, Any] = {}
        if feedback is not None:
            told["feedback"] = feedback.record()
            row["verdict"] = feedback.verdict
            row["causes"] = [reason.cause for reason in feedback.reasons]
        with self.writing():
            self.record.begins(face.stem)
            written = found.save(
                self.record.directory,
                face.stem,
                extra={"source": face.image, **self.extra, **face.detection(), **told},
                write=self.settings.write,
            )
            self.record.explained(face.place, row := {**row, "record": written[-1].name})
        return row, feedback, written

    def has(self, stem: str, row: dict[str, Any]) -> bool:
        """Tell whether the files that a row speaks of are there.

        Args:

            stem (str): What their name should be, without ending.
            row (dict): From :meth:`write`.
        """
        directory, record = self.record.directory, f"{stem}.json"
        files = files_of_record(directory / record)
        there = files is not None and all((directory / name).is_file() for name in files)
        return there and bool(row["record"] == record)

    def draw(self, name: str, figure: Figure) -> Path:
        """Write a figure.

        Args:

            name (str): Of the file.
            figure (Figure): The figure.

        Raises:
            UnwritableError: if it cannot be written.
        """
        path = self.record.directory / name
        with self.writing(), whole_file(path) as file:
            figure.savefig(file, format="png")
        return path

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold what disturbs back, and say of a failure what to do."""
        try:
            with self.undisturbed():
                yield
        except OSError as error:
            raise UnwritableError(
                f"{self.record.directory} cannot be written to ({error.strerror or error}): mend "
                "that, and run the same again to go on."
            ) from error

    def _feedback(self, face: AlignedFace, found: Explanation) -> Feedback:
        detected = face.face
        return give_feedback(
            found.images[0],
            self.explainer.spec,
            landmarks=None if detected is None else detected.landmarks,
            detector_score=None if detected is None else detected.score,
            cut_off=None if detected is None else face.cut_off,
            scaled_quality=None if found.scaled_quality is None else found.scaled_quality[0],
            lost=None if found.local is None else found.local.lost[0],
            calibration=self.explainer.calibration,
        )
