"""The faces of a study: those that are evaluated, and a reference of other people."""

from __future__ import annotations

import hashlib
import itertools
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.subjects.faces import aligned_chip
from captum_plq.faces import (
    add_noise,
    blur,
    draw_images,
    load_image,
    reduce_resolution,
    sample_face,
)
from captum_plq.models import ModelSpec

__all__ = ["ONE_FACE", "FaceSets", "face_sets", "quick_face_sets"]

ONE_FACE = (
    "ONE face: the sample face mirrored, shifted and mildly degraded, evaluated and reference "
    "alike. This shows that the harness runs, and nothing about any method."
)
"""What every output of the quick set says."""


@dataclass(frozen=True)
class FaceSets:
    """Faces for one network, aligned as it expects them.

    Args:

        images (Tensor): (n, 3, H, W), uint8, RGB, one per person: what is evaluated.
        names (tuple[str, ...]): Theirs.
        reference (Tensor): (r, 3, H, W), likewise, of other people.
        reference_names (tuple[str, ...]): Theirs.
        about (str): Where they are from.
        warning (str): What every output must say, if anything.
        unusable (int): Images that were drawn and in which no face was found.
    """

    images: Tensor
    names: tuple[str, ...]
    reference: Tensor
    reference_names: tuple[str, ...]
    about: str
    warning: str = ""
    unusable: int = field(default=0, kw_only=True)

    @property
    def digest(self) -> str:
        """16 hexadecimal digits, equal for equal names and pixels."""
        digest = hashlib.sha256(repr((self.names, self.reference_names)).encode())
        for pixels in (self.images, self.reference):
            digest.update(pixels.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def face_sets(
    directory: Path, spec: ModelSpec, faces: int, reference: int, seed: int = 0
) -> FaceSets:
    """Draws one face each of different people from a folder; the reference comes first.

    So the reference stays the same when more faces are asked for, and these are added to. Each
    subfolder is a person, and so is each image that lies in the folder itself. How images are
    aligned: see :func:`~benchmarks.subjects.faces.aligned_chip`.

    Args:

        directory (Path): Searched with its subfolders.
        spec (ModelSpec): Of the network.
        faces (int): How many are evaluated, ≥ 1.
        reference (int): How many people the reference is of, ≥ 2.
        seed (int): Of the draw.

    Returns:
        *FaceSets*

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it holds too few people, or a number is too small.
        ImportError: if the extra ``faces`` is not installed.
    """
    if faces < 1 or reference < 2:
        raise ValueError(
            f"At least 1 face and 2 reference faces are needed, not {(faces, reference)}."
        )
    chips: list[NDArray[np.uint8]] = []
    names: list[str] = []
    people: set[Path] = set()
    unusable = 0
    for path in draw_images(directory, seed):
        person = path if path.parent == directory else path.parent
        if person in people:
            continue
        try:
            chips.append(aligned_chip(load_image(path), spec))
        except ValueError:  # no face, or no image: perhaps this person's next one
            unusable += 1
            continue
        people.add(person)
        names.append(str(path.relative_to(directory)))
        if len(chips) == faces + reference:
            break
    if len(chips) < faces + reference:
        raise ValueError(
            f"{directory} holds usable faces of {len(chips)} people, but {faces} to evaluate and "
            f"{reference} for the reference are asked for: give smaller numbers. {unusable} images "
            "could not be used."
        )
    about = Path(os.path.abspath(directory)).name  # "." has none
    return _sets(chips, names, reference, about, "", unusable)


def quick_face_sets(
    spec: ModelSpec, faces: int = 8, reference: int = 16, seed: int = 0
) -> FaceSets:
    """What the package ships: variants of its one sample face, see :data:`ONE_FACE`.

    Args:

        spec (ModelSpec): Of the network.
        faces (int): How many variants are evaluated, ≥ 1.
        reference (int): How many other variants are the reference, ≥ 2; both together at
            most 200.
        seed (int): Of the order in which the variants are taken.

    Returns:
        *FaceSets*

    Raises:
        ValueError: if a number is too small or too large.
        ImportError: if the extra ``faces`` is not installed.
    """
    mirrored, shifts, degraded = (False, True), (-4, -2, 0, 2, 4), range(4)
    variants = list(itertools.product(mirrored, shifts, shifts, degraded))
    if faces < 1 or reference < 2 or faces + reference > len(variants):
        raise ValueError(
            f"There are {len(variants)} variants of the sample face; give at least 1 face and 2 "
            f"reference faces, not {(faces, reference)}."
        )
    chip = aligned_chip(sample_face()[0], spec)
    order = np.random.default_rng(seed).permutation(len(variants))[: faces + reference]
    chosen = [variants[i] for i in order]
    chips = [_variant(chip, *variant) for variant in chosen]
    names = [
        f"sample{' mirrored' * mirror}, {down:+d} {right:+d}, {_DEGRADED[how]}"
        for mirror, down, right, how in chosen
    ]
    return _sets(chips, names, reference, "the sample face", ONE_FACE)


_DEGRADED = ("as it is", "blur", "noise", "fewer pixels")


def _variant(
    chip: NDArray[np.uint8], mirror: bool, down: int, right: int, how: int
) -> NDArray[np.uint8]:
    image = chip[:, ::-1] if mirror else chip
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="edge")
    rows, columns = chip.shape[:2]
    image = padded[4 - down : 4 - down + rows, 4 - right : 4 - right + columns].copy()
    if how == 1:
        return blur(image, 0.7)
    if how == 2:
        return add_noise(image, 5.0, seed=100 + 10 * down + right)
    return reduce_resolution(image, rows * 3 // 4) if how == 3 else image


def _sets(
    chips: list[NDArray[np.uint8]],
    names: list[str],
    reference: int,
    about: str,
    warning: str,
    unusable: int = 0,
) -> FaceSets:
    images = torch.from_numpy(np.stack(chips)).permute(0, 3, 1, 2).contiguous()
    return FaceSets(
        images[reference:],
        tuple(names[reference:]),
        images[:reference],
        tuple(names[:reference]),
        about,
        warning,
        unusable=unusable,
    )
