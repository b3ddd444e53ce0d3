"""Pairs of faces of one person: a probe, which is changed, and a gallery image, which is not."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.subjects.face_sets import FaceSets, face_sets, quick_face_sets
from benchmarks.subjects.faces import aligned_chip
from benchmarks.subjects.pairs import read_pairs
from captum_plq.faces import load_image, sample_face
from captum_plq.models import ModelSpec

__all__ = ["PairSets", "pair_sets", "quick_pair_sets"]


@dataclass(frozen=True, kw_only=True)
class PairSets(FaceSets):
    """Probes of different people, and one other image of each.

    Args:

        gallery (Tensor): (n, 3, H, W), uint8: the image that each of ``images`` is compared with.
        gallery_names (tuple[str, ...]): Theirs.
        several_people (bool): Whether the probes are of different people, so that each and the
            gallery image of another are a non-mated pair.
    """

    gallery: Tensor
    gallery_names: tuple[str, ...]
    several_people: bool = True

    @property
    def digest(self) -> str:
        """16 hexadecimal digits, equal for equal names and pixels."""
        digest = hashlib.sha256(super().digest.encode())
        digest.update(repr(self.gallery_names).encode())
        digest.update(self.gallery.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def pair_sets(
    directory: Path, pairs: Path, spec: ModelSpec, faces: int, reference: int, seed: int = 0
) -> PairSets:
    """Draws one mated pair each of different people from a list; the reference is of others.

    The reference is the one that :func:`~benchmarks.subjects.face_sets.face_sets` draws.

    Args:

        directory (Path): What the names of the list are relative to; a subfolder is a person.
        pairs (Path): see :func:`~benchmarks.subjects.pairs.read_pairs`; the first image of a pair
            is the gallery's.
        spec (ModelSpec): Of the network.
        faces (int): How many pairs, ≥ 1.
        reference (int): How many people the reference is of, ≥ 2.
        seed (int): Of the draws.

    Returns:
        *PairSets*

    Raises:
        FileNotFoundError: if there is no such folder or list.
        ValueError: if the list is not as it should be, or holds too few people.
        ImportError: if the extra ``faces`` is not installed.
    """
    others = face_sets(directory, spec, 1, reference, seed)
    people = {PurePosixPath(name).parent for name in others.reference_names}
    mated = [pair for pair in read_pairs(pairs) if pair.mated]
    chosen: list[tuple[str, str]] = []
    chips: list[tuple[NDArray[np.uint8], ...]] = []
    unusable = others.unusable
    for i in np.random.default_rng(seed).permutation(len(mated)):
        names = mated[i].first, mated[i].second
        person = PurePosixPath(names[0]).parent
        if person in people or len(chosen) == faces:
            continue
        try:
            chips.append(tuple(aligned_chip(load_image(directory / n), spec) for n in names))
        except ValueError:  # no face, or no image: perhaps this person's next pair
            unusable += 1
            continue
        people.add(person)
        chosen.append(names)
    if len(chosen) < faces:
        raise ValueError(
            f"{pairs} holds usable mated pairs of {len(chosen)} people outside the reference, "
            f"fewer than the {faces} asked for: give smaller numbers."
        )
    gallery, probes = (
        torch.from_numpy(np.stack(side)).permute(0, 3, 1, 2).contiguous()
        for side in zip(*chips, strict=True)
    )
    return PairSets(
        probes,
        tuple(second for _, second in chosen),
        others.reference,
        others.reference_names,
        f"{others.about}, {pairs.name}",
        unusable=unusable,
        gallery=gallery,
        gallery_names=tuple(first for first, _ in chosen),
    )


def quick_pair_sets(
    spec: ModelSpec, faces: int = 8, reference: int = 16, seed: int = 0
) -> PairSets:
    """Variants of the one sample face, each compared with the sample face as it is.

    Args and errors as of :func:`~benchmarks.subjects.face_sets.quick_face_sets`.

    Returns:
        *PairSets*: with one person only.
    """
    sets = quick_face_sets(spec, faces, reference, seed)
    chip = torch.from_numpy(aligned_chip(sample_face().chip, spec)).permute(2, 0, 1).contiguous()
    return PairSets(
        sets.images,
        sets.names,
        sets.reference,
        sets.reference_names,
        sets.about,
        sets.warning,
        gallery=chip[None].repeat(len(sets.names), 1, 1, 1),
        gallery_names=("sample",) * len(sets.names),
        several_people=False,
    )
