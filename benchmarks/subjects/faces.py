"""Real faces for a network: read from a folder, aligned as the network expects them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from captum_plq.faces import NoFaceError, align_face, detect_faces, draw_images, load_image
from captum_plq.models import ModelSpec

__all__ = ["FaceSet", "aligned_chip", "face_batches", "load_faces", "unit_length"]


@dataclass(frozen=True)
class FaceSet:
    """Faces, ready for one network.

    Args:

        images (Tensor): (n, 3, H, W), float32, RGB, 0–255.
        names (list[str]): Their files, relative to the folder.
        left_out (dict[str, str]): File → why it could not be used.
    """

    images: Tensor
    names: list[str]
    left_out: dict[str, str]


def load_faces(directory: Path, spec: ModelSpec, count: int, seed: int = 0) -> FaceSet:
    """Draws faces from a folder, as many different people as there are.

    Each subfolder counts as a person, as in LFW. Images of the network's own input size are
    taken to be aligned; in others the surest face is found and aligned, with a margin around
    the image if there is none without.

    Args:

        directory (Path): Searched with its subfolders.
        spec (ModelSpec): Of the network.
        count (int): How many faces.
        seed (int): Of the draw; the same seed draws the same files.

    Returns:
        *FaceSet*: ``count`` faces.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it holds fewer usable images.
        ImportError: if the extra ``faces`` is not installed.
    """
    chips: list[NDArray[np.uint8]] = []
    names: list[str] = []
    left_out: dict[str, str] = {}
    for path in draw_images(directory, seed):
        if len(chips) == count:
            break
        name = str(path.relative_to(directory))
        try:
            chips.append(aligned_chip(load_image(path), spec))
            names.append(name)
        except ValueError as error:
            left_out[name] = str(error)
    if len(chips) < count:
        raise ValueError(
            f"{directory} holds {len(chips)} usable faces, fewer than the {count} asked for "
            f"({len(left_out)} images could not be used)."
        )
    images = torch.from_numpy(np.stack(chips)).permute(0, 3, 1, 2).float()
    return FaceSet(images, names, left_out)


def aligned_chip(image: NDArray[np.uint8], spec: ModelSpec) -> NDArray[np.uint8]:
    """The face of an image as a network expects it.

    Args:

        image (ndarray): (H, W, 3), uint8, RGB. Of the network's own input size, it is taken
            to be aligned; otherwise the surest face is found and aligned, with a margin
            around the image if there is none without.
        spec (ModelSpec): Of the network.

    Returns:
        *ndarray*: (*spec.input_size, 3), uint8, RGB.

    Raises:
        ValueError: if no face is found.
        ImportError: if the extra ``faces`` is not installed.
    """
    if image.shape[:2] == spec.input_size:
        return image
    try:
        found = detect_faces(image)
    except NoFaceError:  # a tight crop
        margin = max(image.shape[:2]) // 2
        image = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
        found = detect_faces(image)
    return align_face(image, found[0], template=spec.alignment, size=spec.input_size)


def face_batches(
    directory: Path, names: Sequence[str], spec: ModelSpec, batch: int, left_out: dict[str, str]
) -> Iterator[tuple[list[str], Tensor]]:
    """Reads named images, some at a time.

    Args:

        directory (Path): What the names are relative to.
        names (sequence of str): Of the images.
        spec (ModelSpec): Of the network; how images are aligned: see :func:`aligned_chip`.
        batch (int): Images at a time.
        left_out (dict): Those that cannot be used are added to it, with the reason.

    Yields:
        *tuple[list[str], Tensor]*: names, and images (b, 3, H, W), float32, RGB, 0–255.
    """
    some: list[str] = []
    chips: list[NDArray[np.uint8]] = []
    for i, name in enumerate(names):
        try:
            chips.append(aligned_chip(load_image(directory / name), spec))
            some.append(name)
        except ValueError as error:
            left_out[name] = str(error)
        if len(chips) == batch or (i == len(names) - 1 and chips):
            yield some, torch.from_numpy(np.stack(chips)).permute(0, 3, 1, 2).float()
            some, chips = [], []


def unit_length(embeddings: Tensor, names: Sequence[str]) -> Tensor:
    """Embeddings (n, d) at length 1.

    Args:

        embeddings (Tensor): (n, d).
        names (sequence of str): Of the images.

    Raises:
        ValueError: if one is not finite, or has length 0 and so no direction, by name. Its cosine
            would be below any threshold, as if the network had told two people apart.
    """
    lengths = embeddings.norm(dim=1)
    wrong = (~(lengths.isfinite() & (lengths > 0))).nonzero().flatten().tolist()
    if wrong:
        raise ValueError(
            "The network gives an embedding that is NaN, infinite or 0 for "
            f"{', '.join(names[i] for i in wrong)}."
        )
    return F.normalize(embeddings, dim=1)
