"""An explanation, and its files: a figure, arrays, a record."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from captum_plq._base.whole_file import json_bytes, whole_file
from captum_plq.calibration.thresholds import QualityThresholds
from captum_plq.explanation.local import LocalMaps
from captum_plq.visualization import plot_faces

__all__ = ["RESULT_ENDINGS", "Explanation", "files_of_record"]

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
        thresholds (QualityThresholds or None): Of the calibration: what Q means.
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
    thresholds: QualityThresholds | None = field(default=None, repr=False)

    def in_words(self) -> list[str]:
        """Return what the Q of each face means, in one line; empty where it is not known."""
        known = self.thresholds
        return ["" if known is None else known.in_words(q) for q in self.quality]

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
        write: Collection[str] = ("figure", "arrays"),
    ) -> list[Path]:
        """Write the record and, if asked for, the figure and the arrays.

        Args:

            directory (Path): Made if it is missing.
            stem (str): File name without its ending.
            names (sequence of str, optional): One per face, for the figure's titles.
            extra (dict, optional): More for the JSON.
            write (collection of str): ``"figure"``, ``"arrays"``, both or none.

        Returns:
            *list[Path]*: ``stem.png``, ``stem.npz`` (``images``, ``attributions``, ``maps``,
            and ``relative_maps``, ``local_maps`` and ``local_zscores`` if there are any) and
            ``stem.json``, the record. What is there is replaced, by whole files only; figure and
            arrays of an earlier record of that name are removed if they are not written anew.

        Raises:
            OSError: if one cannot be written; then none is.
        """
        directory.mkdir(parents=True, exist_ok=True)
        endings = dict(zip(("figure", "arrays"), RESULT_ENDINGS, strict=False))
        paths = {kind: directory / f"{stem}{end}" for kind, end in endings.items() if kind in write}
        record_path = directory / f"{stem}{RESULT_ENDINGS[-1]}"
        earlier = files_of_record(record_path) or set()
        files = {kind: path.name for kind, path in paths.items()}
        record = {"faces": self._faces(names), **(extra or {}), **self.record, "files": files}
        if self.without_local:
            record["without_local"] = self.without_local
        figure = self._figure(names) if "figure" in paths else None
        with ExitStack() as stack:  # all or none; the record comes into place last
            record_file = stack.enter_context(whole_file(record_path))
            opened = {kind: stack.enter_context(whole_file(p)) for kind, p in paths.items()}
            if figure is not None:
                figure.savefig(opened["figure"], format="png")
            if "arrays" in opened:
                np.savez_compressed(opened["arrays"], **self._arrays())  # type: ignore[arg-type]
            record_file.write(json_bytes(record, indent=2) + b"\n")
            for file in (record_file, *opened.values()):
                file.flush()  # a full disk is met before the first comes into place
        for name in earlier - set(files.values()):
            if name in {f"{stem}{ending}" for ending in endings.values()}:
                with suppress(OSError):
                    (directory / name).unlink()
        return [*paths.values(), record_path]

    def split(self) -> Iterator[Explanation]:
        """Yield an explanation of each face, as if it had been explained alone."""
        for i in range(len(self.images)):
            one = slice(i, i + 1)
            yield replace(
                self,
                images=self.images[one],
                attributions=self.attributions[one],
                maps=self.maps[one],
                quality=self.quality[one],
                quality_standard_error=self.quality_standard_error[one],
                scaled_quality=None if self.scaled_quality is None else self.scaled_quality[one],
                relative_maps=None if self.relative_maps is None else self.relative_maps[one],
                local=None if self.local is None else self.local.part(one),
            )

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """Return what the file of arrays holds."""
        arrays: dict[str, NDArray[Any]] = {
            "images": self.images,
            "attributions": self.attributions,
            "maps": self.maps,
        }
        if self.relative_maps is not None:
            arrays["relative_maps"] = self.relative_maps
        if self.local is not None:
            arrays["local_maps"] = self.local.maps
            arrays["local_zscores"] = self.local.zscores
        return arrays

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
            centres=local.centres,
        )

    def _faces(self, names: Sequence[str] | None) -> list[dict[str, Any]]:
        """Return what the record says of each face."""
        columns: dict[str, Sequence[Any]] = {
            "name": names or [],
            "quality": self.quality,
            "quality_standard_error": self.quality_standard_error,
            "scaled_quality": self.scaled_quality or [None] * len(self.quality),
            "meaning": [] if self.thresholds is None else self.thresholds.records(self.quality),
            "mean_pixel_quality": [float(m.mean()) for m in self.maps],
            "local": [None] * len(self.quality) if self.local is None else self.local.records(),
        }
        given = {name: values for name, values in columns.items() if values}
        return [
            dict(zip(given, values, strict=True)) for values in zip(*given.values(), strict=True)
        ]


def files_of_record(path: Path) -> set[str] | None:
    """Return the names of the files that go with a record on disk.

    Args:

        path (Path): Of the record, ``stem.json``.

    Returns:
        *set[str] or None*: of the figure and the arrays written with it; ``None`` if there is no
        such file, or it is no record of an explanation.
    """
    try:
        files = json.loads(path.read_bytes())["files"] if path.is_file() else None
        return None if files is None else set(files.values())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
