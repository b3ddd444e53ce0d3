"""Faces from photos, explained in batches, one bad image not costing the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from captum_plq.explanation.run_record import FacePlace
from captum_plq.faces import AlignedFace

if TYPE_CHECKING:
    from captum_plq.explanation.explainer import Explainer
    from captum_plq.explanation.result import Explanation

__all__ = ["PhotoFace", "explained_in_batches"]


@dataclass(frozen=True, eq=False)
class PhotoFace:
    """A face of a photograph that is to be explained.

    Args:

        place (FacePlace): Which face of which photograph, and how many of it are taken.
        image (str): The photograph.
        stem (str): Name of its results, without ending.
        face (AlignedFace): What is known of it, without its chip.
        chip (ndarray): (H, W, 3), uint8, RGB.
        sha256 (str): Of the photograph's bytes.
    """

    place: FacePlace
    image: str
    stem: str
    face: AlignedFace
    chip: NDArray[np.uint8]
    sha256: str

    def detection(self) -> dict[str, Any]:
        """Return what the record says of its detection; nothing for an aligned crop."""
        face = self.face.face
        if face is None:
            return {}
        found = {
            "box": list(face.box),
            "score": face.score,
            "weak": face.weak,
            "cut_off": self.face.cut_off,
            "landmarks": face.landmarks.tolist(),
            "scores_of_all_found": [other.score for other in self.face.detected],
        }
        return {"detection": found}


def explained_in_batches(
    explainer: Explainer, faces: Iterable[PhotoFace], size: int
) -> Iterator[tuple[PhotoFace, Explanation | Exception]]:
    """Explain faces in batches; those of a batch that fails, one by one.

    Args:

        explainer (Explainer): Of the network.
        faces (iterable of PhotoFace): Taken as they are needed.
        size (int): Faces a batch, ≥ 1.

    Yields:
        *tuple[PhotoFace, Explanation or Exception]*: each face in order, with the explanation of
        it alone, or what was raised.
    """
    faces = iter(faces)
    while batch := list(islice(faces, size)):
        yield from zip(batch, _explained(explainer, batch), strict=True)


def _explained(explainer: Explainer, batch: list[PhotoFace]) -> Iterator[Explanation | Exception]:
    try:
        found = explainer(np.stack([face.chip for face in batch]))
    except Exception as error:  # whatever a network raises
        if len(batch) == 1:
            yield error
            return
        for face in batch:
            yield from _explained(explainer, [face])
        return
    yield from found.split()
