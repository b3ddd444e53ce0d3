"""The faces of a study: those that are evaluated, and a reference of other people."""

from __future__ import annotations

import hashlib
import itertools
import os
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.subjects.faces import aligned_chip, as_images, sample_image, usable_chips
from benchmarks.subjects.pairs import read_pairs_of_folders
from captum_plq.faces import add_noise, blur, draw_images, reduce_resolution, sample_face
from captum_plq.models import ModelSpec

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


def face_sets(
    directory: Path,
    spec: ModelSpec,
    faces: int,
    reference: int,
    seed: int = 0,
    one_each: bool = True,
) -> FaceSets:
    """Draw faces of different people from a folder; the reference comes first.

    So the reference stays the same when more faces are asked for, and these are added to. Each
    subfolder is a person, and so is each image that lies in the folder itself. How images are
    aligned: see :func:`~benchmarks.subjects.faces.aligned_chip`.

    Args:

        directory (Path): Searched with its subfolders.
        spec (ModelSpec): Of the network.
        faces (int): How many are evaluated, ≥ 1.
        reference (int): How many people the reference is of, ≥ 2; 0 for none.
        seed (int): Of the draw; the same seed draws the same files.
        one_each (bool): Whether there is one face of each person; otherwise second shots follow
            when nobody is left.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it holds too few usable faces, or a number is too small.
        ImportError: if the extra ``faces`` is not installed.
    """
    if faces < 1 or reference == 1:
        raise ValueError(
            f"At least 1 face and 2 reference faces are needed, not {(faces, reference)}."
        )
    people: set[str] = set()
    left_out: dict[str, str] = {}
    names = (str(path.relative_to(directory)) for path in draw_images(directory, seed))
    wanted = (name for name in names if not (one_each and _person(name) in people))
    usable, count = usable_chips(directory, wanted, spec, left_out), faces + reference
    chips: dict[str, NDArray[np.uint8]] = {}
    for name, chip in itertools.islice(usable, count):
        people.add(_person(name))
        chips[name] = chip
    if len(chips) < count:
        raise ValueError(
            f"{directory} holds usable faces of {len(people)} people, {len(chips)} in all where "
            f"{count} are asked for{', one of each' * one_each}: give smaller numbers. "
            f"{len(left_out)} images could not be used."
        )
    about = Path(os.path.abspath(directory)).name  # "." has none
    return _divided(chips, reference, about, unusable=len(left_out))


def quick_face_sets(
    spec: ModelSpec, faces: int = 8, reference: int = 16, seed: int = 0
) -> FaceSets:
    """Return variants of the package's one sample face, see :data:`ONE_FACE`.

    Args:

        spec (ModelSpec): Of the network.
        faces (int): How many variants are evaluated, ≥ 1.
        reference (int): How many other variants are the reference, ≥ 2; both together at
            most 200.
        seed (int): Of the order in which the variants are taken.

    Raises:
        ValueError: if a number is too small or too large.
        ImportError: if the extra ``faces`` is not installed.
    """
    shifts, how = (-4, -2, 0, 2, 4), ("as it is", "blur", "noise", "fewer pixels")
    variants = list(itertools.product((False, True), shifts, shifts, how))
    if faces < 1 or reference < 2 or faces + reference > len(variants):
        raise ValueError(
            f"There are {len(variants)} variants of the sample face; give at least 1 face and 2 "
            f"reference faces, not {(faces, reference)}."
        )
    chip = aligned_chip(sample_face().chip, spec)
    order = np.random.default_rng(seed).permutation(len(variants))[: faces + reference]
    chosen = dict(_variant(chip, *variants[i]) for i in order)
    return _divided(chosen, reference, "the sample face", ONE_FACE)


def pair_sets(
    directory: Path, pairs: Path, spec: ModelSpec, faces: int, reference: int, seed: int = 0
) -> PairSets:
    """Draw one mated pair each of different people from a list; the reference is of others.

    The reference is the one that :func:`face_sets` draws.

    Args:

        directory (Path): What the names of the list are relative to; a subfolder is a person.
        pairs (Path): see :func:`~benchmarks.subjects.pairs.read_pairs_of_folders`; the first image
            of a pair is the gallery's.
        spec (ModelSpec): Of the network.
        faces (int): How many pairs, ≥ 1.
        reference (int): How many people the reference is of, ≥ 2.
        seed (int): Of the draws.

    Raises:
        FileNotFoundError: if there is no such folder or list.
        ValueError: if the list is not as it should be, or holds too few people.
        ImportError: if the extra ``faces`` is not installed.
    """
    others = face_sets(directory, spec, 1, reference, seed)
    people = {_person(name) for name in others.reference_names}
    mated = [pair for pair in read_pairs_of_folders(pairs) if pair.mated]
    gallery: dict[str, NDArray[np.uint8]] = {}
    probes: dict[str, NDArray[np.uint8]] = {}
    unusable = others.unusable
    for i in np.random.default_rng(seed).permutation(len(mated)):
        first, second = mated[i].first, mated[i].second
        if _person(first) in people or len(probes) == faces:
            continue
        both = dict(usable_chips(directory, (first, second), spec, {}))
        if len(both) < 2:  # perhaps this person's next pair
            unusable += 1
            continue
        people.add(_person(first))
        gallery[first], probes[second] = both[first], both[second]
    if len(probes) < faces:
        raise ValueError(
            f"{pairs} holds usable mated pairs of {len(probes)} people outside the reference, "
            f"fewer than the {faces} asked for: give smaller numbers."
        )
    return PairSets(
        as_images(probes.values()).contiguous(),
        tuple(probes),
        others.reference,
        others.reference_names,
        f"{others.about}, {pairs.name}",
        unusable=unusable,
        gallery=as_images(gallery.values()).contiguous(),
        gallery_names=tuple(gallery),
    )


def quick_pair_sets(
    spec: ModelSpec, faces: int = 8, reference: int = 16, seed: int = 0
) -> PairSets:
    """Return variants of the one sample face, each paired with the sample face as it is.

    Args and errors as of :func:`quick_face_sets`.
    """
    sets = quick_face_sets(spec, faces, reference, seed)
    sample = sample_image(spec, sets.images).contiguous()
    return PairSets(
        **vars(sets),
        gallery=sample[None].repeat(len(sets.names), 1, 1, 1),
        gallery_names=("sample",) * len(sets.names),
        several_people=False,
    )


def _person(name: str) -> str:
    """The folder of an image; an image that lies in none is a person of its own."""
    parent = PurePath(name).parent
    return str(parent) if parent.parts else name


def _variant(
    chip: NDArray[np.uint8], mirror: bool, down: int, right: int, how: str
) -> tuple[str, NDArray[np.uint8]]:
    image = chip[:, ::-1] if mirror else chip
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="edge")
    rows, columns = chip.shape[:2]
    image = padded[4 - down : 4 - down + rows, 4 - right : 4 - right + columns].copy()
    if how == "blur":
        image = blur(image, 0.7)
    elif how == "noise":
        image = add_noise(image, 5.0, seed=100 + 10 * down + right)
    elif how == "fewer pixels":
        image = reduce_resolution(image, rows * 3 // 4)
    return f"sample{' mirrored' * mirror}, {down:+d} {right:+d}, {how}", image


def _divided(
    chips: dict[str, NDArray[np.uint8]],
    reference: int,
    about: str,
    warning: str = "",
    unusable: int = 0,
) -> FaceSets:
    names, images = tuple(chips), as_images(chips.values()).contiguous()
    return FaceSets(
        images[reference:],
        names[reference:],
        images[:reference],
        names[:reference],
        about,
        warning,
        unusable=unusable,
    )
