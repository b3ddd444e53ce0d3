"""Error versus discard: whether recognition errs less when images of low quality are left out."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.harness.environment import dated
from benchmarks.harness.options import PositiveInt
from benchmarks.harness.pages import number, table
from benchmarks.harness.protocol import Protocol, Record
from benchmarks.protocols.parts.discard_areas import FLOOR, LIMITS, discarded
from benchmarks.subjects.faces import as_chip, as_image, face_batches, unit_embeddings
from benchmarks.subjects.pairs import Pair, read_pairs
from captum_plq import SERFIQ
from captum_plq.calibration.settings import network_digest
from captum_plq.faces import STANDARD_DEGRADATIONS
from captum_plq.metrics import threshold_at_fmr
from captum_plq.models import FaceModel, load_model

__all__ = ["EDC", "MEASURES", "sharpness"]

MEASURES = {
    "serfiq": "SER-FIQ, sampled (the paper's)",
    "serfiq-closed-form": "SER-FIQ without sampling",
    "embedding-norm": "length of the embedding",
    "sharpness": "variance of the image's Laplacian; asks no network",
    "random": "a random number for each image: chance",
}
"""The qualities that are compared."""
_AT_MOST = 4000
_CONTROLS = ("random", FLOOR)


@dataclass(frozen=True, kw_only=True)
class EDC(Protocol):
    """Discard images by quality, and count the false non-matches among the rest.

    The threshold comes from all pairs of images of different people (subfolders), at most
    4,000 images drawn; it stays for the degraded images. Only mated pairs of the list count.

    Args:

        images (Path): Folder laid out like LFW: a subfolder is a person.
        pairs (Path): CSV with the columns fold, first, second, mated.
        fmr (float): False match rate of clean pairs, for the threshold.
        passes (int): m of SER-FIQ.
        dropout (float): p of SER-FIQ.
        batch (int): Images at a time.
    """

    name: ClassVar[str] = "edc"

    images: Path
    pairs: Path
    fmr: float = 1e-3
    passes: PositiveInt = 100
    dropout: float = 0.5
    batch: PositiveInt = 16

    def measure(self, model: str) -> Iterator[tuple[str, Record]]:
        """Embed and assess every image of a list of pairs, as it is and degraded.

        Yields:
            *tuple[str, dict]*: ``"sets"`` holds, for the images as they are and with the second of
            a pair degraded (three in four, one way of five), what
            :func:`~benchmarks.protocols.parts.discard_areas.discarded` returns.

        Raises:
            FileNotFoundError: if there is no such folder or list.
            ValueError: if the list is not as it should be, or holds too few images of different
                people for this false match rate.
        """
        if not self.images.is_dir():
            raise FileNotFoundError(f"There is no folder {self.images}.")
        mated = [pair for pair in read_pairs(self.pairs) if pair.mated]
        names = list(dict.fromkeys(n for pair in mated for n in (pair.first, pair.second)))
        left_out: dict[str, str] = {}
        network, batch = load_model(model).eval(), self.batch
        given = self.environment(passes=self.passes, dropout=self.dropout, rows=batch)
        with given as (device, environment), torch.no_grad():
            assess = _Assessor(network.to(device), self)
            clean: dict[str, dict[str, Any]] = {}
            degraded: dict[str, dict[str, Any]] = {}
            for some, images in face_batches(self.images, names, network.spec, batch, left_out):
                clean |= assess(some, images.to(device), "")
                worse = [_degraded(x, n, self.seed) for x, n in zip(images, some, strict=True)]
                degraded |= assess(some, torch.stack(worse).to(device), " degraded")
                if len(clean) % (16 * batch) < batch:
                    self.progress(model, f"{len(clean)} of {len(names)} images")
        pairs = [pair for pair in mated if {pair.first, pair.second} <= clean.keys()]
        threshold, count = _threshold(clean, self.fmr, self.seed)
        yield (
            f"edc-{network.spec.name}",
            {
                "model": network.spec.name,
                "source": network.spec.source,
                "network": network_digest(network),
                "images": self.images.name,
                "pairs": self.pairs.name,
                "faces": len(clean),
                "left_out": left_out,
                "threshold": threshold,
                "fmr": self.fmr,
                "non_mated_pairs": count,
                "failed": assess.failed,
                "sets": {
                    "as they are": _discarded(pairs, clean, clean, threshold, self.seed),
                    "one degraded": _discarded(pairs, clean, degraded, threshold, self.seed),
                },
                "conditions": environment,
            },
        )

    @classmethod
    def page(cls, records: Sequence[Record]) -> str:
        """Return, for each network and set of pairs, the areas of every quality."""
        lines = [
            "# Error versus discard",
            "",
            "False non-match rate of mated pairs while those of lowest quality are left out: the "
            "quality of a pair is the lower of its two, equal ones go together, the threshold "
            f"stays. Area from 0 to {' and '.join(f'{100 * x:g} %' for x in LIMITS)} discarded, "
            "over that of a quality that knows nothing: 1 is chance, lower is better. In brackets "
            "95 % bootstrap intervals over people; differences to `serfiq` are paired, p after "
            "Holm.",
            "",
            *(f"- `{name}`: {meaning}" for name, meaning in MEASURES.items()),
            f"- `{FLOOR}`: of the pair itself, which no quality may look at; none can do better",
            "",
        ]
        for record in records:
            lines += [f"## {record['model']}", ""]
            for name, found in record["sets"].items():
                lines += _of_set(name, found)
            lines += [f"- `{name}` failed here: {why}" for name, why in record["failed"].items()]
            lines += ["", _about(record), ""]
        return "\n".join(lines)

    @classmethod
    def figures(cls, records: Sequence[Record]) -> dict[str, Figure]:
        """Return error against discarded share: a row per network, a panel per set of pairs."""
        columns = max(len(record["sets"]) for record in records)
        figure = Figure(figsize=(5.2 * columns + 1.6, 3.4 * len(records)), layout="constrained")
        panels = figure.subplots(len(records), columns, squeeze=False)
        for row, record in zip(panels, records, strict=True):
            for axes, (name, found) in zip(row, record["sets"].items(), strict=False):
                for i, (quality, (shares, errors)) in enumerate(found["curves"].items()):
                    control = quality in _CONTROLS
                    axes.step(
                        [100 * x for x in shares],
                        errors,
                        where="post",
                        color="0.55" if control else f"C{i}",
                        linestyle=":" if quality == FLOOR else "-",
                        linewidth=1.2,
                        label=quality,
                    )
                axes.set_xlim(0, 100 * max(LIMITS))
                axes.set_ylim(bottom=0)
                axes.set_title(
                    f"{record['model']}, {name}, {found['pairs']} mated pairs", fontsize=9
                )
                axes.set_xlabel("pairs discarded, %", fontsize=8)
                axes.set_ylabel(f"FNMR, threshold at FMR = {record['fmr']:g}", fontsize=8)
                axes.tick_params(labelsize=7)
            row[-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
        return {cls.name: figure}


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


class _Assessor:
    """Unit embedding and qualities of images; a quality that fails is left out for good."""

    def __init__(self, model: FaceModel, options: EDC) -> None:
        self.sampled, self.closed = (
            SERFIQ(
                model,
                passes=options.passes,
                dropout=options.dropout,
                seed=options.seed,
                estimator=estimator,
            )
            for estimator in ("sampling", "closed-form")
        )
        self.seed = options.seed
        self.failed: dict[str, str] = {}

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
    return as_image(way(as_chip(image), int(generator.integers(2**31))), image)


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


def _of_set(name: str, found: dict[str, Any]) -> list[str]:
    title = f"### Images {name}" if name == "as they are" else f"### {name.capitalize()}"
    errors = round(found["starting_error"] * found["pairs"])
    lines = [
        title,
        "",
        f"{found['pairs']} pairs of {found['people']} people, {errors} of them false non-matches.",
        "",
    ]
    if found["areas"] is None:
        return [*lines, "Nothing to discard for.", ""]
    head = ["quality", *(f"{text}, {100 * x:g} %" for x in LIMITS
                         for text in ("area", "less serfiq's", "p"))]  # fmt: skip
    rows = []
    for quality, of in found["areas"].items():
        cells = [f"*{quality}*" if quality in _CONTROLS else quality]
        for limit in LIMITS:
            cell = of[f"{limit:g}"]
            cells += [
                _interval(cell["area"], ""),
                _interval(cell.get("difference"), "+"),
                number(cell.get("p_holm"), ".2g"),
            ]
        rows.append(cells)
    return [*lines, *table(head, rows), ""]


def _interval(values: Sequence[float] | None, sign: str) -> str:
    if values is None:
        return ""
    value, low, high = (format(x, f"{sign}.3f") for x in values)
    return f"{value} [{low}, {high}]"


def _about(record: dict[str, Any]) -> str:
    return (
        f"{record['source']} (network {record['network']}). {record['faces']} images of "
        f"{record['images']}, {record['pairs']}, {len(record['left_out'])} left out; a match from "
        f"cosine {record['threshold']:.3f} on, a false match rate of {record['fmr']:g} over "
        f"{record['non_mated_pairs']} pairs of different people. "
        f"{dated(record['conditions'])}."
    )
