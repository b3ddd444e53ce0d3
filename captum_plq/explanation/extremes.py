"""The faces of lowest and highest quality of a run, however long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from captum_plq.explanation.result import Explanation
from captum_plq.visualization import plot_contact_sheet

__all__ = ["Extremes", "Scored"]


@dataclass(frozen=True, order=True)
class Scored:
    """What is kept of a face.

    Args:

        quality (float): Q.
        place (tuple[int, int]): Of its photo in the source, and its number there.
        name (str): What to call it.
        row (dict): What the summary says of it.
        explanation (Explanation, optional): Of it alone; ``None``: an earlier run explained it.
    """

    quality: float
    place: tuple[int, int]
    name: str = field(compare=False)
    row: dict[str, Any] = field(compare=False)
    explanation: Explanation | None = field(compare=False, default=None)


class Extremes:
    """Keeps the faces of lowest and highest quality; memory does not grow with the others.

    Args:

        each (int): How many of lowest, and how many of highest quality.

    Examples::

        >>> extremes = Extremes(20)
        >>> extremes.add(Scored(0.7, (0, 1), "a.jpg", {}, explanation))
        >>> [face.name for face in extremes.ranked()]
        ['a.jpg']
    """

    def __init__(self, each: int) -> None:
        self.each, self.count = each, 0
        self._lowest: list[Scored] = []
        self._highest: list[Scored] = []

    def add(self, face: Scored) -> None:
        """Note a face.

        Args:

            face (Scored): The face.
        """
        self.count += 1
        self._lowest = sorted([*self._lowest, face])[: self.each]
        self._highest = sorted([*self._highest, face])[-self.each :]

    def ranked(self) -> list[Scored]:
        """Return the faces kept, each once, the lowest quality first."""
        return sorted({face.place: face for face in self._lowest + self._highest}.values())

    def contact_sheet(self, missing: Mapping[tuple[int, int], Explanation]) -> Figure:
        """Draw the faces kept, each beside its map, the lowest quality first.

        Args:

            missing (Mapping): By their places, explanations of those that were kept without; the
                others are left out.
        """
        known = {face: face.explanation or missing.get(face.place) for face in self.ranked()}
        faces = [face for face, explanation in known.items() if explanation is not None]
        found = [explanation for explanation in known.values() if explanation is not None]
        local = [e.local for e in found if e.local is not None]
        maps: list[NDArray[np.float32]] = [e.maps[0] for e in found]
        order = f"{len(faces)} faces, lowest quality first"
        if self.count > len(faces):
            order = f"The {self.each} faces of lowest and of highest quality, of {self.count}"
        titles = [", ".join(e.titles()[0].splitlines()) for e in found]
        return plot_contact_sheet(
            [e.images[0] for e in found],
            [f"{face.name}\n{title}" for face, title in zip(faces, titles, strict=True)],
            local_maps=[one.maps[0] for one in local] if len(local) == len(found) else None,
            centres=local[0].centres if local else None,
            quality_maps=maps,
            caption=order,
        )
