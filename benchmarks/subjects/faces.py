"""Faces as a network expects them: read from files, aligned, as arrays and as tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_plq.faces import (
    NoFaceError,
    align_face,
    detect_faces,
    load_image,
    sample_face,
    template_landmarks,
)
from captum_plq.functional import unit_length
from captum_plq.models import ModelSpec


def as_chip(image: Tensor) -> NDArray[np.uint8]:
    """Return an image (3, H, W) of whole numbers 0–255 as a chip (H, W, 3), uint8."""
    return np.ascontiguousarray(image.permute(1, 2, 0).byte().cpu().numpy())


def as_image(chip: NDArray[np.uint8], like: Tensor) -> Tensor:
    """Return a chip (H, W, 3), uint8, as an image (3, H, W) of another tensor's type and device."""
    return torch.from_numpy(np.ascontiguousarray(chip)).permute(2, 0, 1).to(like)


def as_images(chips: Iterable[NDArray[np.uint8]]) -> Tensor:
    """Return chips (H, W, 3) as images (n, 3, H, W), uint8, a view of one (n, H, W, 3) array."""
    return torch.from_numpy(np.stack(list(chips))).permute(0, 3, 1, 2)


def spec_landmarks(spec: ModelSpec) -> NDArray[np.float64]:
    """Return where the template of a network's aligned faces has its landmarks, (5, 2)."""
    return template_landmarks(spec.alignment, spec.input_size)


def sample_image(spec: ModelSpec, like: Tensor) -> Tensor:
    """Return the package's sample face as a network takes it, (3, H, W)."""
    return as_image(aligned_chip(sample_face().chip, spec), like)


def aligned_chip(image: NDArray[np.uint8], spec: ModelSpec) -> NDArray[np.uint8]:
    """Return the face of an image as a network expects it.

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


def usable_chips(
    directory: Path, names: Iterable[str], spec: ModelSpec, left_out: dict[str, str]
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Read named images and align them, see :func:`aligned_chip`.

    Args:

        directory (Path): What the names are relative to.
        names (iterable of str): Of the images; taken one at a time.
        spec (ModelSpec): Of the network.
        left_out (dict): Name → reason is added for each image that cannot be used.

    Yields:
        *tuple[str, ndarray]*: name, and chip (H, W, 3), uint8, RGB.
    """
    for name in names:
        try:
            chip = aligned_chip(load_image(directory / name), spec)
        except ValueError as error:
            left_out[name] = str(error)
            continue
        yield name, chip


def face_batches(
    directory: Path, names: Sequence[str], spec: ModelSpec, batch: int, left_out: dict[str, str]
) -> Iterator[tuple[list[str], Tensor]]:
    """Read named images as :func:`usable_chips` does, ``batch`` at a time.

    Yields:
        *tuple[list[str], Tensor]*: names, and images (b, 3, H, W), float32, RGB, 0–255.
    """
    usable = usable_chips(directory, names, spec, left_out)
    while some := dict(islice(usable, batch)):
        yield list(some), as_images(some.values()).float()


def unit_embeddings(embeddings: Tensor, names: Sequence[str]) -> Tensor:
    """Return embeddings (n, d) at length 1.

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
    return unit_length(embeddings)
