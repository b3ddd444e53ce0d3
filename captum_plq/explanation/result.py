"""An explanation, and the files of it: a figure, arrays, a record."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from captum_plq._base.whole_file import json_bytes, whole_file
from captum_plq.visualization import plot_quality_map, plot_quality_maps

__all__ = ["RESULT_ENDINGS", "Explanation"]

RESULT_ENDINGS = (".png", ".npz", ".json")
"""Of the files of an explanation: figure, arrays, record."""


@dataclass(frozen=True)
class Explanation:
    """What is known about a batch of n faces.

    Args:

        images (ndarray): (n, H, W, 3), uint8, RGB.
        attributions (ndarray): (n, 3, H, W), float32, S(I) of Eq. 4 with respect to 0–255
            pixels.
        maps (ndarray): (n, H, W), float32, P(I) in [0, 1].
        quality (list[float]): Q (Eq. 1).
        quality_standard_error (list[float]): of Q, from the finite number of passes.
        scaled_quality (list[float] or None): Q̂ (Eq. 2), if α and r are known.
        record (dict): Parameters, model, calibration and versions, ready for JSON.
        relative_maps (ndarray or None): (n, H, W), float32, in [0, 1]: pixel quality relative
            to good faces, ½ where a pixel is as in those; if the calibration has a reference.
    """

    images: NDArray[np.uint8]
    attributions: NDArray[np.float32]
    maps: NDArray[np.float32]
    quality: list[float]
    quality_standard_error: list[float]
    scaled_quality: list[float] | None
    record: dict[str, Any] = field(repr=False)
    relative_maps: NDArray[np.float32] | None = None

    def titles(self, names: Sequence[str] | None = None) -> list[str]:
        """One title per face: its name, if given, and its quality."""
        titles = []
        for i, q in enumerate(self.quality):
            text = f"Q = {q:.3f} ± {self.quality_standard_error[i]:.3f}"
            if self.scaled_quality is not None:
                text += f", Q̂ = {self.scaled_quality[i]:.2f}"
            titles.append(text if names is None else f"{names[i]}\n{text}")
        return titles

    @property
    def caption(self) -> str:
        """Network and parameters in one line, and what a reader must be told."""
        p, model = self.record["parameters"], self.record["model"]
        line = (
            f"{model['name']}; m = {p['passes']}, p = {p['dropout']:g}, weights {p['weights']}, "
            f"γ = {p['gamma']:.2f} ({p['gamma_source']})"
        )
        calibration = self.record["calibration"] or {"note": ""}
        notes = " ".join(filter(None, (model["note"], calibration["note"])))
        return "\n".join([line, *textwrap.wrap(notes, 50 * max(2, len(self.images)))])

    def save(
        self,
        directory: Path,
        stem: str,
        *,
        names: Sequence[str] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> list[Path]:
        """Writes the figure, the arrays and the record.

        Args:

            directory (Path): Made if it is missing.
            stem (str): File name without its ending.
            names (sequence of str, optional): One per face, for the figure's titles.
            extra (dict, optional): More for the JSON.

        Returns:
            *list[Path]*: ``stem.png``, ``stem.npz`` (``images``, ``attributions``, ``maps``,
            and ``relative_maps`` if there are any) and ``stem.json``. What is there is replaced,
            by whole files only.

        Raises:
            OSError: if one cannot be written; then none is.
        """
        directory.mkdir(parents=True, exist_ok=True)
        paths = [directory / f"{stem}{ending}" for ending in RESULT_ENDINGS]
        arrays = {"images": self.images, "attributions": self.attributions, "maps": self.maps}
        if self.relative_maps is not None:
            arrays["relative_maps"] = self.relative_maps
        relative = self.relative_maps
        faces = [
            {
                **({} if names is None else {"name": names[i]}),
                "quality": self.quality[i],
                "quality_standard_error": self.quality_standard_error[i],
                "scaled_quality": None if self.scaled_quality is None else self.scaled_quality[i],
                "mean_pixel_quality": float(self.maps[i].mean()),
                **(
                    {} if relative is None else {"mean_relative_quality": float(relative[i].mean())}
                ),
            }
            for i in range(len(self.quality))
        ]
        files = {"figure": paths[0].name, "arrays": paths[1].name}
        record = {"faces": faces, **(extra or {}), **self.record, "files": files}
        figure = self._figure(self.titles(names))
        with ExitStack() as stack:  # all three or none; the record comes into place last
            record_file, array_file, figure_file = (
                stack.enter_context(whole_file(path)) for path in reversed(paths)
            )
            figure.savefig(figure_file, format="png", dpi=150)
            np.savez_compressed(array_file, **arrays)  # type: ignore[arg-type]
            record_file.write(json_bytes(record, indent=2) + b"\n")
            for file in (record_file, array_file, figure_file):
                file.flush()  # a full disk is met before the first comes into place
        return paths

    def _figure(self, titles: list[str]) -> Figure:
        images, maps, relative = list(self.images), list(self.maps), self.relative_maps
        if len(images) > 1:
            below = None if relative is None else list(relative)
            return plot_quality_maps(images, maps, titles, below, caption=self.caption)[0]
        beside = None if relative is None else relative[0]
        return plot_quality_map(images[0], maps[0], beside, title=titles[0], caption=self.caption)[
            0
        ]
