"""The images that are trained on, people kept for validation, and the teacher's embeddings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from benchmarks.subjects.faces import as_images
from benchmarks.subjects.pairs import read_pairs_of_folders
from benchmarks.training.augment import augment
from captum_plq.faces import read_crop
from captum_plq.models import FaceModel

_Chips = NDArray[np.uint8]


@dataclass(frozen=True)
class Split:
    """Names of images, relative to their folder; no person is in two of the three."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


def split_people(pairs_file: Path, folds: Sequence[str], share: float, seed: int) -> Split:
    """Divide the images of a list of pairs by fold, and the training folds by person.

    Args:

        pairs_file (Path): see :func:`~benchmarks.subjects.pairs.read_pairs_of_folders`.
        folds (sequence of str): To train on.
        share (float): Of the people of these folds, for validation.
        seed (int): Which people.

    Raises:
        ValueError: if a fold is not in the list, all are, or a person is in both kinds.
    """
    pairs = read_pairs_of_folders(pairs_file)
    known = {pair.fold for pair in pairs}
    if not set(folds) < known:
        raise ValueError(f"train_folds must be some of {sorted(known)}, but is {list(folds)}.")

    def names(training: bool) -> list[str]:
        some = [pair for pair in pairs if (pair.fold in folds) == training]
        return sorted({name for pair in some for name in (pair.first, pair.second)})

    training, test = names(True), names(False)
    shared = {Path(name).parent for name in training} & {Path(name).parent for name in test}
    if shared:
        raise ValueError(f"{len(shared)} people are in training folds and in others.")
    people = sorted({Path(name).parent.as_posix() for name in training})
    order = np.random.default_rng(seed).permutation(len(people))
    kept = {people[i] for i in order[: round(share * len(people))]}
    validation = tuple(n for n in training if Path(n).parent.as_posix() in kept)
    return Split(
        tuple(name for name in training if name not in set(validation)), validation, tuple(test)
    )


def first_of_each(names: Sequence[str]) -> list[str]:
    """Return the first image of each person."""
    return list({Path(name).parent: name for name in reversed(names)}.values())[::-1]


def as_batch(chips: Sequence[_Chips] | _Chips) -> Tensor:
    """Return crops (n, H, W, 3), uint8, as images (n, 3, H, W), float32, 0–255."""
    return as_images(chips).float()


def teach(teacher: FaceModel, chips: _Chips, device: torch.device, batch: int = 32) -> Tensor:
    """Return the student's targets: the teacher's embeddings of each image and its mirror image.

    Args:

        teacher (FaceModel): In evaluation mode, on ``device``.
        chips (ndarray): (n, H, W, 3), uint8.
        device (torch.device): Where it computes.
        batch (int): Images at a time.

    Returns:
        *Tensor*: (n, d), on the CPU; the mean of the two unit embeddings, of length √d, so
        that a network whose output is always 0 has a mean squared error of 1.
    """
    found = []
    with torch.no_grad():
        for some in np.array_split(chips, max(1, len(chips) // batch)):
            images = as_batch(some).to(device)
            both = [F.normalize(teacher(x).flatten(1)) for x in (images, images.flip(3))]
            found.append(F.normalize(both[0] + both[1]).cpu())
    targets = torch.cat(found)
    return targets * math.sqrt(targets.shape[1])


def read_chips(directory: Path, names: Sequence[str], size: tuple[int, int]) -> _Chips:
    """Read aligned crops, (n, H, W, 3), uint8."""
    return np.stack(
        [read_crop(directory / n, template="arcface", size=size, aligned=True) for n in names]
    )


class AugmentedFaces(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Degraded faces, each with the teacher's embedding of the clean one.

    The same epoch gives the same images.

    Args:

        chips (ndarray): (n, H, W, 3), uint8.
        targets (Tensor): (n, d).
        seed (int): Together with ``epoch`` and the index, it fixes what becomes of an image.
        degraded_share, patched_share (float): see
            :func:`~benchmarks.training.augment.augment`.
    """

    def __init__(
        self,
        chips: _Chips,
        targets: Tensor,
        seed: int,
        degraded_share: float,
        patched_share: float = 0.0,
    ) -> None:
        self.chips, self.targets = chips, targets
        self.seed, self.shares = seed, (degraded_share, patched_share)
        self.epoch = 0

    def __len__(self) -> int:
        """How many there are."""
        return len(self.chips)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """An image (3, H, W), float32, 0–255, the same undegraded, and its target (d,)."""
        generator = np.random.default_rng((self.seed, self.epoch, index))
        other = self.chips[int(generator.integers(len(self.chips)))]
        undegraded, chip = augment(self.chips[index], other, generator, *self.shares)
        image, clean = as_batch([chip, undegraded])
        return image, clean, self.targets[index]
