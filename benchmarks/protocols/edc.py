"""Error versus discard: whether recognition errs less when images of low quality are left out."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness.environment import Environment, current_environment, reproducible_settings
from benchmarks.protocols.discard_areas import discarded
from benchmarks.subjects.faces import face_batches, unit_embeddings
from benchmarks.subjects.pairs import Pair, read_pairs
from captum_plq import SERFIQ
from captum_plq.calibration.settings import network_digest
from captum_plq.faces import STANDARD_DEGRADATIONS
from captum_plq.metrics import threshold_at_fmr
from captum_plq.models import FaceModel

__all__ = ["MEASURES", "EDCResult", "measure_edc", "sharpness"]

MEASURES = {
    "serfiq": "SER-FIQ, sampled (the paper's)",
    "serfiq-closed-form": "SER-FIQ without sampling",
    "embedding-norm": "length of the embedding",
    "sharpness": "variance of the image's Laplacian; asks no network",
    "random": "a random number for each image: chance",
}
"""The qualities that are compared."""
_AT_MOST = 4000


@dataclass(frozen=True)
class EDCResult:
    """One network on one list of pairs.

    Args:

        model (str), source (str), network (str): Name, where the weights are from, digest.
        images (str), pairs (str): Names of the folder and of the list.
        faces (int): Images embedded.
        left_out (dict[str, str]): Image → why not; its pairs do not count.
        threshold (float): Cosine from which on a pair matches, of clean images.
        fmr (float): The false match rate that it was made for.
        non_mated_pairs (int): Over how many pairs of different people.
        failed (dict[str, str]): Quality → why it does not exist on this network.
        sets (dict): ``"as they are"`` and ``"one degraded"`` (in three pairs of four the second
            image, one way of five) → ``pairs``, ``people``, ``starting_error``, ``curves``
            (quality → discarded shares and errors) and ``areas`` (quality → limit → area over
            that of a quality that knows nothing, with its bootstrap interval over people, and
            the same of the difference to SER-FIQ with its corrected p; ``None`` without errors).
        conditions (Environment): Device, versions and all the rest.
    """

    model: str
    source: str
    network: str
    images: str
    pairs: str
    faces: int
    left_out: dict[str, str]
    threshold: float
    fmr: float
    non_mated_pairs: int
    failed: dict[str, str]
    sets: dict[str, dict[str, Any]]
    conditions: Environment

    @property
    def stem(self) -> str:
        """Name of its file."""
        return f"edc-{self.model}"

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def sharpness(images: Tensor) -> Tensor:
    """Variance of the Laplacian of the grey image, a usual measure of focus.

    Args:

        images (Tensor): (B, 3, H, W).

    Returns:
        *Tensor*: (B,), float64, ≥ 0, in squared units of the pixels.
    """
    grey = images.double().mean(1, keepdim=True)
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]], dtype=grey.dtype)
    return F.conv2d(grey, kernel.to(grey.device)[None, None]).flatten(1).var(1)


def measure_edc(
    model: FaceModel,
    directory: Path,
    pairs_file: Path,
    *,
    fmr: float = 1e-3,
    passes: int = 100,
    dropout: float = 0.5,
    seed: int = 0,
    device: str = "cpu",
    threads: int | None = None,
    batch: int = 16,
    progress: Callable[[str], object] = lambda _: None,
) -> EDCResult:
    """Embeds and assesses every image of a list of pairs, as it is and degraded.

    The threshold comes from all pairs of images of different people (subfolders), at most
    4,000 images drawn; it stays for the degraded images.

    Args:

        model (FaceModel): The network.
        directory (Path): What the images' names are relative to; a subfolder is a person.
        pairs_file (Path): see :func:`~benchmarks.subjects.pairs.read_pairs`; only mated pairs
                count.
        fmr (float): In (0, 1).
        passes (int): m of SER-FIQ.
        dropout (float): p of SER-FIQ.
        seed (int): Of SER-FIQ, the degradations, the random quality and the bootstrap.
        device (str): ``"cpu"`` or ``"cuda"``.
        threads (int, optional): Of the CPU. ``None``: torch's own number.
        batch (int): Images at a time.
        progress (Callable): Told what is being done.

    Returns:
        *EDCResult*

    Raises:
        FileNotFoundError: if there is no such folder or list.
        ValueError: if the list is not as it should be, or holds too few images of different
            people for this false match rate.
    """
    if not directory.is_dir():
        raise FileNotFoundError(f"There is no folder {directory}.")
    mated = [pair for pair in read_pairs(pairs_file) if pair.mated]
    names = list(dict.fromkeys(n for pair in mated for n in (pair.first, pair.second)))
    place, left_out, failed = torch.device(device), dict[str, str](), dict[str, str]()
    model = model.to(place).eval()
    with reproducible_settings(threads, False, seed), torch.no_grad():
        conditions = current_environment(
            place, torch.float32, passes=passes, dropout=dropout, seed=seed, rows=batch
        )
        assess = _Assessor(model, passes, dropout, seed, failed)
        clean: dict[str, dict[str, Any]] = {}
        degraded: dict[str, dict[str, Any]] = {}
        for some, images in face_batches(directory, names, model.spec, batch, left_out):
            clean |= assess(some, images.to(place), "")
            worse = torch.stack([_degraded(x, n, seed) for x, n in zip(images, some, strict=True)])
            degraded |= assess(some, worse.to(place), " degraded")
            if len(clean) % (16 * batch) < batch:
                progress(f"{len(clean)} of {len(names)} images")
    pairs = [pair for pair in mated if {pair.first, pair.second} <= clean.keys()]
    threshold, count = _threshold(clean, fmr, seed)
    return EDCResult(
        model=model.spec.name,
        source=model.spec.source,
        network=network_digest(model),
        images=directory.name,
        pairs=pairs_file.name,
        faces=len(clean),
        left_out=left_out,
        threshold=threshold,
        fmr=fmr,
        non_mated_pairs=count,
        failed=failed,
        sets={
            "as they are": _discarded(pairs, clean, clean, threshold, seed),
            "one degraded": _discarded(pairs, clean, degraded, threshold, seed),
        },
        conditions=conditions,
    )


class _Assessor:
    """Unit embedding and qualities of images; a quality that fails is left out for good."""

    def __init__(
        self, model: FaceModel, passes: int, dropout: float, seed: int, failed: dict[str, str]
    ) -> None:
        self.sampled = SERFIQ(model, passes=passes, dropout=dropout, seed=seed)
        self.closed = SERFIQ(
            model, passes=passes, dropout=dropout, seed=seed, estimator="closed-form"
        )
        self.seed, self.failed = seed, failed

    def __call__(
        self, names: Sequence[str], images: Tensor, kind: str
    ) -> dict[str, dict[str, Any]]:
        clean, sampled, _ = self.sampled.assess(images)
        embeddings = clean.flatten(1).double().cpu()
        draws = [zlib.crc32(f"{self.seed} {name}{kind}".encode()) / 2**32 for name in names]
        qualities = {
            "serfiq": sampled.double().cpu(),
            "embedding-norm": embeddings.norm(dim=1),
            "sharpness": sharpness(images).cpu(),
            "random": torch.tensor(draws, dtype=torch.float64),
        }
        if "serfiq-closed-form" not in self.failed:
            closed = self.closed.assess(images)[1]
            if self.closed.fallback_reason is None:
                qualities["serfiq-closed-form"] = closed.double().cpu()
            else:
                self.failed["serfiq-closed-form"] = self.closed.fallback_reason
        unit = unit_embeddings(embeddings, names)
        return {
            name: {"embedding": unit[i], **{q: float(v[i]) for q, v in qualities.items()}}
            for i, name in enumerate(names)
        }


def _degraded(image: Tensor, name: str, seed: int) -> Tensor:
    """One image in four as it is, the others degraded in one of the standard ways."""
    generator = np.random.default_rng((seed, zlib.crc32(name.encode())))
    if generator.random() < 0.25:
        return image
    ways = list(STANDARD_DEGRADATIONS.values())
    way = ways[int(generator.integers(len(ways)))]
    pixels = image.permute(1, 2, 0).contiguous().numpy().astype(np.uint8)
    spoilt = np.ascontiguousarray(way(pixels, int(generator.integers(2**31))))
    return torch.from_numpy(spoilt).permute(2, 0, 1).to(image)


def _threshold(found: Mapping[str, Mapping[str, Any]], fmr: float, seed: int) -> tuple[float, int]:
    """The threshold, and of how many non-mated pairs."""
    names = list(found)
    if len(names) > _AT_MOST:
        drawn = np.random.default_rng(seed).permutation(len(names))[:_AT_MOST]
        names = [names[i] for i in sorted(drawn)]
    people = list(dict.fromkeys(_person(name) for name in names))
    of = torch.tensor([people.index(_person(name)) for name in names])
    unit = torch.stack([found[name]["embedding"] for name in names]).float()
    above = torch.ones(len(names), len(names), dtype=torch.bool).triu(1)
    scores = (unit @ unit.T)[above & (of[:, None] != of)]
    return threshold_at_fmr(scores, fmr), len(scores)


def _person(name: str) -> str:
    return str(PurePosixPath(name).parent)


def _discarded(
    pairs: Sequence[Pair],
    first: Mapping[str, Mapping[str, Any]],
    second: Mapping[str, Mapping[str, Any]],
    threshold: float,
    seed: int,
) -> dict[str, Any]:
    sides = [(first[pair.first], second[pair.second]) for pair in pairs]
    qualities = {
        name: _columns(sides, name)
        for name in MEASURES
        if all(name in side for both in sides for side in both)
    }
    scores = torch.stack([one["embedding"] @ other["embedding"] for one, other in sides])
    people = [_person(pair.first) for pair in pairs]
    return discarded(scores, qualities, people, threshold, against="serfiq", seed=seed)


def _columns(
    sides: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], name: str
) -> tuple[Tensor, Tensor]:
    first, second = (torch.tensor([x[name] for x in side], dtype=torch.float64)
                     for side in zip(*sides, strict=True))  # fmt: skip
    return first, second
