"""Mated pairs whose second image is degraded, by degrees; their embeddings and scores."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.subjects.faces import as_chip, as_image, spec_landmarks
from benchmarks.subjects.pairs import Pair, names_of, paired_faces
from captum_plq import SERFIQ
from captum_plq.faces import STANDARD_DEGRADATIONS
from captum_plq.faces.disturb.standards import NONCOMPLIANCES
from captum_plq.models import FaceModel

MIXES = {
    "as they are": "no image is degraded",
    "graded": "one second image in four as it is, the others with one of the ten violations of "
    "photo standards, at one of three severities",
    "strong": "one second image in four as it is, the others with one of the five standard "
    "degradations, all strong",
}
SCORES = ("serfiq", "serfiq-closed-form", "embedding-norm", "shuffled")

_AS_IT_IS = 0.25

Chip = NDArray[np.uint8]


@dataclass(frozen=True)
class Side:
    """Images: embeddings (n, d), and scores by name, (n,) each, float64."""

    embeddings: Tensor
    scores: dict[str, Tensor]


class GradedPairs:
    """The mated pairs of one fold, embedded: all their images as they are, and degraded ones.

    Args:

        network (FaceModel): In evaluation mode, on its device.
        images (Path): Folder of the images; a subfolder is a person.
        pairs (sequence of Pair): Of one fold; of the non-mated ones, the images are taken.
        draws (int): How often the second image of each pair is drawn for the mix "graded".
        batch (int): Images at a time.
        seed (int): Of all that is drawn.
        progress (Callable): Told what is being done.
    """

    def __init__(
        self,
        network: FaceModel,
        images: Path,
        pairs: Sequence[Pair],
        *,
        draws: int,
        batch: int,
        seed: int,
        progress: Callable[[str], object],
    ) -> None:
        self.left_out: dict[str, str] = {}
        self._device = next(network.parameters()).device
        self.network = network
        self._serfiq = {
            "serfiq": SERFIQ(network, seed=seed),
            "serfiq-closed-form": SERFIQ(network, estimator="closed-form"),
        }
        draws_of = {"graded": draws, "strong": 1}
        parts: dict[tuple[str, int], list[Side]] = {}
        seconds = {pair.second for pair in pairs if pair.mated}
        names: list[str] = []
        ways = {"graded": _graded(network), "strong": _strong}
        drawn_for: list[str] = []
        read = paired_faces(images, names_of(pairs), network.spec, batch, self.left_out, progress)
        for some, originals in read:
            names += some
            parts.setdefault(("as they are", 0), []).append(self._side(originals))
            own = [i for i, name in enumerate(some) if name in seconds]
            drawn_for += [some[i] for i in own]
            if not own:
                continue
            for mix, count in draws_of.items():
                for turn in range(count):
                    made = [
                        as_image(
                            _drawn(as_chip(originals[i]), ways[mix], f"{seed} {some[i]} {turn}"),
                            originals[i],
                        )
                        for i in own
                    ]
                    parts.setdefault((mix, turn), []).append(self._side(torch.stack(made)))
        sides = {key: _joined(value) for key, value in parts.items()}
        self.names, self.clean = names, sides.pop(("as they are", 0))
        self.people = [person_of(name) for name in names]
        self._degraded, self._drawn_for = sides, drawn_for
        self.pairs = [
            pair for pair in pairs if pair.mated and {pair.first, pair.second} <= set(names)
        ]

    def of(self, mix: str, score: str, seed: int = 0) -> tuple[Tensor, Tensor, list[str]]:
        """Return cosines, lower scores and people of the pairs of a mix, each as often as drawn.

        Args:

            mix (str): Of :data:`MIXES`.
            score (str): Of :data:`SCORES`.
            seed (int): Of the shuffle.
        """
        place = {name: i for i, name in enumerate(self.names)}
        first = [place[pair.first] for pair in self.pairs]
        others = [(self.clean, place)]
        if mix != "as they are":
            where = {name: i for i, name in enumerate(self._drawn_for)}
            others = [(side, where) for (own, _), side in self._degraded.items() if own == mix]
        cosines, lower = [], []
        known = "serfiq" if score == "shuffled" else score
        for side, where in others:
            second = [where[pair.second] for pair in self.pairs]
            cosines.append((self.clean.embeddings[first] * side.embeddings[second]).sum(1))
            lower.append(torch.minimum(self.clean.scores[known][first], side.scores[known][second]))
        quality = torch.cat(lower)
        if score == "shuffled":
            quality = quality[np.random.default_rng(seed).permutation(len(quality))]
        people = [person_of(pair.first) for pair in self.pairs] * len(others)
        return torch.cat(cosines), quality, people

    def different_people(self) -> Tensor:
        """Return the cosines of all pairs of images of different people, as they are."""
        of = torch.from_numpy(np.unique(self.people, return_inverse=True)[1])
        unit = self.clean.embeddings
        return (unit @ unit.T)[(of[:, None] != of).triu(1)]

    def _side(self, images: Tensor) -> Side:
        images = images.to(self._device)
        with torch.no_grad():
            found = self._serfiq["serfiq"].assess(images)
            closed = self._serfiq["serfiq-closed-form"](images)
        embeddings = found.embedding.flatten(1).double().cpu()
        norms = embeddings.norm(dim=1)
        scores = {"serfiq": found.quality, "serfiq-closed-form": closed, "embedding-norm": norms}
        return Side(
            (embeddings / norms[:, None]).float(),
            {name: values.double().cpu() for name, values in scores.items()},
        )


def person_of(name: str) -> str:
    """Return the subfolder of an image."""
    return str(PurePosixPath(name).parent)


def _joined(parts: Sequence[Side]) -> Side:
    scores = {name: torch.cat([x.scores[name] for x in parts]) for name in parts[0].scores}
    return Side(torch.cat([x.embeddings for x in parts]), scores)


def _drawn(chip: Chip, way: Callable[[Chip, np.random.Generator], Chip], key: str) -> Chip:
    generator = np.random.default_rng(zlib.crc32(key.encode()))
    return chip if generator.random() < _AS_IT_IS else way(chip, generator)


def _graded(network: FaceModel) -> Callable[[Chip, np.random.Generator], Chip]:
    landmarks, ways = spec_landmarks(network.spec), list(NONCOMPLIANCES.values())

    def degrade(chip: Chip, generator: np.random.Generator) -> Chip:
        way, severity = ways[int(generator.integers(len(ways)))], int(generator.integers(1, 4))
        return way(chip, landmarks, severity)[0]

    return degrade


def _strong(chip: Chip, generator: np.random.Generator) -> Chip:
    ways = list(STANDARD_DEGRADATIONS.values())
    return ways[int(generator.integers(len(ways)))](chip, int(generator.integers(2**31)))
