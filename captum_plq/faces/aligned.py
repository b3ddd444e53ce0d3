"""From a decoded photograph to its aligned faces: one way, for one photo and for millions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from captum_plq.faces.align import Template, align_face, resize_aligned
from captum_plq.faces.cut_off import cut_off_share
from captum_plq.faces.detect import Face, detect_faces

__all__ = ["CUT_OFF", "AlignedFace", "aligned_faces"]

CUT_OFF = 0.01
"""From this share on a face is called cut off by the photograph's edge."""


@dataclass(frozen=True, eq=False)
class AlignedFace:
    """A face of a photograph, as a network expects it.

    Args:

        chip (ndarray or None): (H, W, 3), uint8, RGB; ``None`` if it cannot be cut out.
        number (int): Its number in the photograph, from 1, the surest first.
        detected (sequence of Face): All that were found; none for an aligned crop.
        cut_off (float): Which share of it lies beyond the photograph's edge, see
            :func:`~captum_plq.faces.cut_off_share`.
        problem (str): Why there is no ``chip``.
    """

    chip: NDArray[np.uint8] | None
    number: int = 1
    detected: Sequence[Face] = ()
    cut_off: float = 0.0
    problem: str = ""

    @property
    def face(self) -> Face | None:
        """Its detection; ``None`` for an aligned crop."""
        return self.detected[self.number - 1] if self.detected else None

    def warnings(self) -> list[str]:
        """Return what a reader of its quality must know: weak detection, cut off by the edge."""
        which = "the face" if self.number == len(self.detected) == 1 else f"face {self.number}"
        found = []
        if self.face is not None and self.face.weak:
            score = self.face.score
            found.append(f"{which} is a weak detection (score {score:.2f}): is it a face?")
        if self.cut_off >= CUT_OFF:
            found.append(
                f"{which} is cut off by the photo's edge ({self.cut_off:.0%} of it): what is "
                "missing is black, and lowers the quality"
            )
        return found


def aligned_faces(
    image: NDArray[np.uint8],
    *,
    template: Template,
    size: tuple[int, int],
    aligned: bool = False,
    all_faces: bool = False,
) -> list[AlignedFace]:
    """Find the faces in a photograph and cut them out.

    Args:

        image (ndarray): (H, W, 3), uint8, RGB.
        template (str): As for :func:`~captum_plq.faces.align_face`.
        size (tuple[int, int]): Height and width of a chip in pixels.
        aligned (bool): The image is an aligned crop, to be resized only.
        all_faces (bool): All that are found, and not the surest only.

    Returns:
        *list[AlignedFace]*: one or more, the surest first. If ``all_faces``, one that cannot be cut
        out has a ``problem`` and does not cost the others.

    Raises:
        NoFaceError: if no face is found.
        ValueError: if an aligned crop has other proportions than ``size``, or the only face cannot
            be cut out.
        MissingExtraError: if the extra ``faces`` is not installed.

    Examples::

        >>> best, *others = aligned_faces(image, template="arcface", size=(112, 112))
        >>> best.chip.shape, best.face.weak, best.cut_off
        ((112, 112, 3), False, 0.0)
    """
    if aligned:
        return [AlignedFace(resize_aligned(image, size))]
    detected = detect_faces(image)
    found = []
    for number, face in enumerate(detected if all_faces else detected[:1], start=1):
        try:
            chip = align_face(image, face, template=template, size=size)
            cut_off = cut_off_share(face, image.shape, template=template)
            found.append(AlignedFace(chip, number, detected, cut_off))
        except ValueError as error:
            if not all_faces:
                raise
            found.append(AlignedFace(None, number, detected, problem=str(error)))
    return found
