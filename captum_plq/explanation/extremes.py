"""The faces of lowest and highest quality of a run, however long."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

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
        order (int): Its place in the run.
        name (str): What to call it.
        explanation (Explanation): Of it alone.
    """

    quality: float
    order: int
    name: str = field(compare=False)
    explanation: Explanation = field(compare=False)


class Extremes:
    """Keeps the faces of lowest and highest quality; memory does not grow with the others.

    Args:

        each (int): How many of lowest, and how many of highest quality.

    Examples::

        >>> extremes = Extremes(20)
        >>> extremes.add("a.jpg", explanation)
        >>> [face.name for face in extremes.ranked()]
        ['a.jpg']
    """

    def __init__(self, each: int) -> None:
        self.each, self.count = each, 0
        self._lowest: list[tuple[float, int, Scored]] = []
        self._highest: list[tuple[float, int, Scored]] = []

    def add(self, name: str, explanation: Explanation) -> None:
        """Note a face.

        Args:

            name (str): What to call it.
            explanation (Explanation): Of it alone.
        """
        scored = Scored(explanation.quality[0], self.count, name, explanation)
        self.count += 1
        for heap, sign in ((self._lowest, -1), (self._highest, 1)):
            item = (sign * scored.quality, sign * scored.order, scored)
            if len(heap) < self.each:
                heapq.heappush(heap, item)
            else:
                heapq.heappushpop(heap, item)

    def ranked(self) -> list[Scored]:
        """Return the faces kept, each once, the lowest quality first."""
        return sorted(
            {scored.order: scored for _, _, scored in self._lowest + self._highest}.values()
        )

    def contact_sheet(self) -> Figure:
        """Draw the faces kept, each beside its map, the lowest quality first."""
        faces = self.ranked()
        found = [face.explanation for face in faces]
        local = [e.local for e in found if e.local is not None]
        maps: list[NDArray[np.float32]] = [e.maps[0] for e in found]
        order = f"{len(faces)} faces, lowest quality first"
        if self.count > len(faces):
            order = f"The {self.each} faces of lowest and of highest quality, of {self.count}"
        titles = [_title(face) for face in faces]
        return plot_contact_sheet(
            [e.images[0] for e in found],
            titles,
            local_maps=[one.maps[0] for one in local] if len(local) == len(found) else None,
            centres=local[0].centres if local else None,
            quality_maps=maps,
            caption=order,
        )


def _title(face: Scored) -> str:
    quality = ", ".join(face.explanation.titles()[0].splitlines())
    return f"{face.name}\n{quality}"
