"""An explanation, and its files: a figure, arrays, a record."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from captum_plq._base.whole_file import json_bytes, whole_file
from captum_plq.explanation.local import LocalMaps
from captum_plq.visualization import plot_faces

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
            to the reference faces of the calibration, ½ where a pixel is as in those; ``None``
            without a reference.
        local (LocalMaps or None): Where the faces lose their quality, against the reference faces
            of the calibration.
        without_local (str): Why there is no ``local``.
    """

    images: NDArray[np.uint8]
    attributions: NDArray[np.float32]
    maps: NDArray[np.float32]
    quality: list[float]
    quality_standard_error: list[float]
    scaled_quality: list[float] | None
    record: dict[str, Any] = field(repr=False)
    relative_maps: NDArray[np.float32] | None = None
    local: LocalMaps | None = None
    without_local: str = ""

    def titles(self, names: Sequence[str] | None = None) -> list[str]:
        """Return a title per face, in lines: its name, if given, Q, and Q̂ if known."""
        errors = self.quality_standard_error
        titles = [f"Q = {q:.3f} ± {e:.3f}" for q, e in zip(self.quality, errors, strict=True)]
        if names is not None:
            titles = [f"{name}\n{title}" for name, title in zip(names, titles, strict=True)]
        if self.scaled_quality is not None:
            scaled = zip(titles, self.scaled_quality, strict=True)
            titles = [f"{title}\nQ̂ = {q:.2f}" for title, q in scaled]
        return titles

    @property
    def caption(self) -> str:
        """Network and parameters in one line, and below what a reader must know of them."""
        p, model = self.record["parameters"], self.record["model"]
        line = (
            f"{model['name']}; m = {p['passes']}, p = {p['dropout']:g}, weights {p['weights']}, "
            f"γ = {p['gamma']:.2f} ({p['gamma_source']})"
        )
        calibration = self.record["calibration"] or {"note": ""}
        notes = " ".join(filter(None, (model["note"], calibration["note"])))
        return "\n".join(filter(None, (line, notes)))

    def save(
        self,
        directory: Path,
        stem: str,
        *,
        names: Sequence[str] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> list[Path]:
        """Write the figure, the arrays and the record.

        Args:

            directory (Path): Made if it is missing.
            stem (str): File name without its ending.
            names (sequence of str, optional): One per face, for the figure's titles.
            extra (dict, optional): More for the JSON.

        Returns:
            *list[Path]*: ``stem.png``, ``stem.npz`` (``images``, ``attributions``, ``maps``,
            and ``relative_maps``, ``local_maps`` and ``local_zscores`` if there are any) and
            ``stem.json``. What is there is replaced, by whole files only.

        Raises:
            OSError: if one cannot be written; then none is.
        """
        directory.mkdir(parents=True, exist_ok=True)
        paths = [directory / f"{stem}{ending}" for ending in RESULT_ENDINGS]
        figure = self._figure(names)
        arrays = {"images": self.images, "attributions": self.attributions, "maps": self.maps}
        if self.relative_maps is not None:
            arrays["relative_maps"] = self.relative_maps
        if self.local is not None:
            arrays["local_maps"] = self.local.maps
            arrays["local_zscores"] = self.local.zscores
        files = {"figure": paths[0].name, "arrays": paths[1].name}
        record = {"faces": self._faces(names), **(extra or {}), **self.record, "files": files}
        if self.without_local:
            record["without_local"] = self.without_local
        with ExitStack() as stack:  # all three or none; the record comes into place last
            record_file, array_file, figure_file = (
                stack.enter_context(whole_file(path)) for path in reversed(paths)
            )
            figure.savefig(figure_file, format="png")
            np.savez_compressed(array_file, **arrays)  # type: ignore[arg-type]
            record_file.write(json_bytes(record, indent=2) + b"\n")
            for file in (record_file, array_file, figure_file):
                file.flush()  # a full disk is met before the first comes into place
        return paths

    def _figure(self, names: Sequence[str] | None) -> Figure:
        """Draw local quality and the paper's maps; without local quality, the relative ones."""
        images, maps, local = list(self.images), list(self.maps), self.local
        if local is None:
            relative = None if self.relative_maps is None else list(self.relative_maps)
            titles = self.titles(names)
            return plot_faces(images, maps, titles, relative, caption=self.caption)
        words = [text.replace(", ", ",\n") for text in local.words()]  # columns are narrow
        return plot_faces(
            images,
            maps,
            words if names is None else [f"{n}\n{w}" for n, w in zip(names, words, strict=True)],
            local_maps=list(local.maps),
            zscores=list(local.zscores),
            notes=[f"Q̂ = {q:.2f}" for q in self.scaled_quality or []],
            caption=self.caption,
        )

    def _faces(self, names: Sequence[str] | None) -> list[dict[str, Any]]:
        """Return what the record says of each face."""
        columns: dict[str, Sequence[Any]] = {
            "name": names or [],
            "quality": self.quality,
            "quality_standard_error": self.quality_standard_error,
            "scaled_quality": self.scaled_quality or [None] * len(self.quality),
            "mean_pixel_quality": [float(m.mean()) for m in self.maps],
            "local": [None] * len(self.quality) if self.local is None else self.local.records(),
        }
        given = {name: values for name, values in columns.items() if values}
        return [
            dict(zip(given, values, strict=True)) for values in zip(*given.values(), strict=True)
        ]
