"""Embeddings and all quality scores of batches of faces, and what each score costs."""

from __future__ import annotations

import time
import warnings
import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.subjects.faces import unit_embeddings
from captum_plq import SERFIQ
from captum_plq.quality.scores import QualityScore, make_score

EMBEDDING = "embedding"
CONTROLS = ("sharpness", "random")
"""What asks no network."""


class FaceScores:
    """Scores batches of faces; what a network has no score for is told in ``failed``.

    Args:

        network (nn.Module): On its device.
        names (sequence of str): Of :data:`~captum_plq.quality.scores.SCORES`.
        seed (int): Of the random numbers.
    """

    def __init__(self, network: nn.Module, names: Sequence[str], seed: int) -> None:
        self.network, self.seed = network, seed
        self.failed: dict[str, str] = {}
        self._scores: dict[str, QualityScore] = {}
        self._times: dict[str, list[float]] = defaultdict(list)
        for name in names:
            self._try(name, lambda name=name: self._make(name))  # type: ignore[misc]

    def of(self, names: Sequence[str], images: Tensor) -> dict[str, Tensor]:
        """Return unit embeddings (b, d) and scores (b,) by name, float64, on the CPU.

        Args:

            names (sequence of str): Of the images, which fix their random numbers.
            images (Tensor): (b, 3, H, W), on the network's device.
        """
        found: dict[str, Tensor] = {}
        began = self._now()
        embeddings = self.network(images).flatten(1).double().cpu()
        forward = self._now() - began
        found[EMBEDDING] = unit_embeddings(embeddings, names)
        for name, score in list(self._scores.items()):
            began = self._now()
            self._try(name, lambda: found.update({name: score(images).double().cpu()}))  # noqa: B023
            self._times[name].append((self._now() - began) / forward)
            if isinstance(score, SERFIQ) and score.fallback_reason is not None:
                self.failed[name] = score.fallback_reason
            if name in self.failed:
                del self._scores[name]
                found.pop(name, None)
        found["sharpness"] = sharpness(images).cpu()
        draws = [zlib.crc32(f"{self.seed} {name}".encode()) / 2**32 for name in names]
        found["random"] = torch.tensor(draws, dtype=torch.float64)
        return found

    def costs(self) -> dict[str, float]:
        """Return each score's time in forwards of the network, the median over batches.

        The first two batches are left out, if there are more.
        """
        return {
            name: float(f"{median(times[2:] or times):.3g}")
            for name, times in self._times.items()
            if name not in self.failed
        }

    def _make(self, name: str) -> None:
        self._scores[name] = make_score(name, self.network)

    def _try(self, name: str, run: Callable[[], object]) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of a fallback, which is told
                run()
        except ValueError as error:
            self.failed[name] = str(error)

    def _now(self) -> float:
        if next(self.network.parameters()).device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def joined(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return what all batches have, each as one tensor."""
    names = [name for name in parts[0] if all(name in part for part in parts)]
    return {name: torch.cat([part[name] for part in parts]) for name in names}


def sharpness(images: Tensor) -> Tensor:
    """Return the variance of the Laplacian of the grey image, a usual measure of focus.

    Args:

        images (Tensor): (B, 3, H, W).

    Returns:
        *Tensor*: (B,), float64, ≥ 0, in squared units of the pixels.
    """
    grey = images.double().mean(1, keepdim=True)
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]], dtype=grey.dtype)
    return F.conv2d(grey, kernel.to(grey.device)[None, None]).flatten(1).var(1)
