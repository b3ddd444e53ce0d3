"""The faces of some rows, cut out again, and their maps of local quality."""

from __future__ import annotations

import hashlib
import os
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captum_plq.errors import extra
from captum_plq.faces import Face, align_face, decode_image, read_image_file, resize_aligned
from captum_plq.faces.align import Template
from captum_plq.gallery.result import MAPS, GalleryResult
from captum_plq.visualization.local_maps import QUALITY_LIMIT, local_picture

__all__ = ["MapsOf", "RowPicture", "pictures_of"]

_MAX_BYTES = 200_000_000

MapsOf = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Chips (n, H, W, 3), uint8, to maps of local quality (n, h, w)."""


@dataclass(frozen=True, eq=False)
class RowPicture:
    """What can be shown of a row.

    Args:

        row (dict): Of the result.
        chip (ndarray or None): (H, W, 3), uint8, RGB, the face as the network saw it.
        map (ndarray or None): (H, W, 3), uint8, RGB, its local quality in colours.
        problem (str): Why there is no ``chip``.
        limit (float or None): What the darkest colours stand for, in units of Q per place.
    """

    row: dict[str, Any]
    chip: NDArray[np.uint8] | None = None
    map: NDArray[np.uint8] | None = None
    problem: str = ""
    limit: float | None = None


def pictures_of(
    rows: Sequence[dict[str, Any]], result: GalleryResult, maps_of: MapsOf | None = None
) -> list[RowPicture]:
    """Cut out the faces of some rows, and colour their maps: those kept by the run, or computed.

    Args:

        rows (sequence of dict): Of the result, with a quality.
        result (GalleryResult): From :func:`~captum_plq.gallery.read_result`.
        maps_of (Callable, optional): Computes maps that the run has not kept.

    Returns:
        *list[RowPicture]*: one per row. A photo that is missing, or is not the one that was
        scored, is a ``problem``.

    Raises:
        MissingExtraError: if the extra ``faces`` is not installed.

    Examples::

        >>> inspection = inspect_result(read_result("scored"))
        >>> pictures = pictures_of(inspection.lowest, read_result("scored"))
    """
    pictures = [_cut_out(row, result) for row in rows]
    kept = [_kept_map(row, result) for row in rows]
    computed = _computed(pictures, kept, maps_of)
    found = []
    for i, (picture, there) in enumerate(zip(pictures, kept, strict=True)):
        if isinstance(there, tuple):  # of a picture the values are not known any more
            found.append(replace(picture, map=there[0]))
            continue
        values = computed.get(i, there)
        if values is not None and picture.chip is not None:
            colours = local_picture(values, picture.chip, result.place_centres)
            picture = replace(picture, map=colours, limit=QUALITY_LIMIT / values.size)
        found.append(picture)
    return found


def _computed(
    pictures: Sequence[RowPicture],
    kept: Sequence[object],
    maps_of: MapsOf | None,
) -> dict[int, NDArray[np.float32]]:
    if maps_of is None:
        return {}
    chips = {
        i: picture.chip
        for i, picture in enumerate(pictures)
        if picture.chip is not None and kept[i] is None
    }
    if not chips:
        return {}
    found = maps_of(np.stack(list(chips.values())))
    return {i: m for i, m in zip(chips, found, strict=True) if m.size and np.isfinite(m).all()}


def _cut_out(row: dict[str, Any], result: GalleryResult) -> RowPicture:
    metadata = result.metadata
    try:
        template: Template = metadata["alignment"]
        size = (int(metadata["input_size"][0]), int(metadata["input_size"][1]))
        data = _read(row["path"], metadata["source"]["root"])
        if row["sha256"] != hashlib.sha256(data).hexdigest():
            return RowPicture(row, problem="The photo has changed since it was scored.")
        image = decode_image(data, row["path"])
        if row["landmarks"] is None:
            return RowPicture(row, resize_aligned(image, size))
        points = np.asarray(row["landmarks"], np.float64).reshape(5, 2)
        face = Face(tuple(row["box"]), row["detector_score"], points)
        return RowPicture(row, align_face(image, face, template=template, size=size))
    except ImportError:
        raise
    except KeyError as error:
        return RowPicture(row, problem=f"The result does not say {error}: it cannot be cut out.")
    except Exception as error:  # whatever a decoder makes of a file that has changed
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        return RowPicture(row, problem=f"The photo cannot be shown: {reason}")


def _read(path: str, root: str) -> bytes:
    file = os.path.join(root, path)
    archive, separator, member = file.partition("::")
    if not separator or os.path.lexists(file):
        return read_image_file(file)
    with tarfile.open(archive, "r:") as opened:
        found = opened.getmember(member)
        content = opened.extractfile(found) if 0 < found.size <= _MAX_BYTES else None
        if content is None:
            raise ValueError("It is no file of its archive, or too long.")
        return content.read()


def _kept_map(
    row: dict[str, Any], result: GalleryResult
) -> NDArray[np.float32] | tuple[NDArray[np.uint8]] | None:
    """Return the map that the run has kept: its values, or a picture of it in brackets."""
    index, face = row["index"], row["face"]
    shard = index // max(1, int(result.metadata.get("parameters", {}).get("shard_size", 1)))
    stem = result.directory / MAPS / f"part-{shard:05}"
    try:
        if (path := Path(f"{stem}.npz")).is_file():
            with np.load(path, allow_pickle=False) as kept:
                (places,) = np.nonzero((kept["index"] == index) & (kept["face"] == face))
                values: NDArray[np.float32] = kept["maps"][places[0]].astype(np.float32)
            return values if np.isfinite(values).all() else None
        if (path := Path(f"{stem}.zip")).is_file():
            with extra("faces"):
                from PIL import Image
            with zipfile.ZipFile(path) as archive, archive.open(f"{index:09}-{face}.png") as file:
                return (np.asarray(Image.open(file).convert("RGB")),)
    except (OSError, ValueError, LookupError, zipfile.BadZipFile):
        return None  # damaged, or there was none
    return None
