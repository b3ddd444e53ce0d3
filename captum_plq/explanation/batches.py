"""Faces from photos, explained in batches, one bad image not costing the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from captum_plq.faces import Face, align_face, cut_off_share
from captum_plq.models import ModelSpec

if TYPE_CHECKING:
    from captum_plq.explanation.explainer import Explainer
    from captum_plq.explanation.result import Explanation

__all__ = ["PhotoFace", "aligned_faces", "explained_in_batches"]

_CUT_OFF = 0.01
"""From this share on it is told that a photograph's edge cuts a face off."""


@dataclass(frozen=True, eq=False)
class PhotoFace:
    """A face of a photograph, as the network expects it.

    Args:

        path (Path): The photograph.
        stem (str): Name of its results, without ending.
        chip (ndarray): (H, W, 3), uint8, RGB.
        number (int): Its number among the faces that are taken of the photograph, from 1.
        count (int): How many these are.
        detection (dict): What the record says of its detection; empty for an aligned image.
        warnings (list[str]): What a reader of its quality must know.
    """

    path: Path
    stem: str
    chip: NDArray[np.uint8]
    number: int = 1
    count: int = 1
    detection: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def last(self) -> bool:
        """Whether it is the last face of its photograph."""
        return self.number == self.count


def aligned_faces(
    image: NDArray[np.uint8],
    path: Path,
    stem: str,
    faces: Sequence[Face],
    spec: ModelSpec,
    *,
    all_faces: bool,
) -> Iterator[PhotoFace]:
    """Cut faces out of a photograph.

    Args:

        image (ndarray): (H, W, 3), uint8, RGB.
        path (Path): Its file.
        stem (str): Name of its results; ``-face1`` and so on is added where there are several.
        faces (sequence of Face): As detected, the surest first.
        spec (ModelSpec): How the network's faces are aligned.
        all_faces (bool): All of them, and not the surest only.

    Yields:
        *PhotoFace*: with the detection, and warnings of one that is weak or cut off.
    """
    scores = [face.score for face in faces]
    taken = faces if all_faces else faces[:1]
    for number, face in enumerate(taken, start=1):
        cut_off = cut_off_share(face, image.shape, template=spec.alignment)
        detection = {
            "box": list(face.box),
            "score": face.score,
            "weak": face.weak,
            "cut_off": cut_off,
            "landmarks": face.landmarks.tolist(),
            "scores_of_all_found": scores,
        }
        which = f"face {number}" if len(taken) > 1 else "the face"
        warnings = []
        if face.weak:
            warnings.append(f"{which} is a weak detection (score {face.score:.2f}): is it a face?")
        if cut_off >= _CUT_OFF:
            warnings.append(
                f"{which} is cut off by the photo's edge ({cut_off:.0%} of it): what is missing "
                "is black, and lowers the quality"
            )
        chip = align_face(image, face, template=spec.alignment, size=spec.input_size)
        name = f"{stem}-face{number}" if len(taken) > 1 else stem
        yield PhotoFace(path, name, chip, number, len(taken), detection, warnings)


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
