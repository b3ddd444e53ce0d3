"""What can be told of a run over photos as it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from captum_plq.explanation.batches import PhotoFace
from captum_plq.explanation.result import Explanation
from captum_plq.explanation.run_record import RunRecord
from captum_plq.faces import AlignedFace
from captum_plq.feedback import Feedback

__all__ = ["Watcher"]


class Watcher:
    """Is told of a run over photos; one derived from it does with that what it likes."""

    def begun(self, record: RunRecord) -> None:
        """Hear that the run has begun, and what earlier ones have left."""

    def noted(self, note: str) -> None:
        """Hear of something out of the ordinary, such as the loss of a worker process."""

    def read(self, image: str, faces: Sequence[AlignedFace]) -> None:
        """Hear which faces of a photo are to be explained."""

    def wrote(self, path: Path) -> None:
        """Hear of a picture that is of no face alone."""

    def explained(
        self, face: PhotoFace, found: Explanation, feedback: Feedback | None, files: Sequence[Path]
    ) -> None:
        """Hear of a face whose files are written."""

    def failed(self, image: str, reason: str) -> None:
        """Hear why a photo, or a face of it, could not be explained."""
