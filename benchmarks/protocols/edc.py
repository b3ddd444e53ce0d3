"""Error versus discard: whether recognition errs less when images of low quality are left out."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.harness.environment import dated
from benchmarks.harness.figures import label, legend_beside, record_panels
from benchmarks.harness.options import PositiveInt
from benchmarks.harness.pages import estimate, number, table
from benchmarks.harness.protocol import Protocol, Record
from benchmarks.protocols.parts.discard_areas import FLOOR, LIMITS, discarded
from benchmarks.subjects.faces import as_chip, as_image, unit_embeddings
from benchmarks.subjects.pairs import Pair, paired_faces, read_pairs
from captum_plq import SERFIQ, SpatialSERFIQ
from captum_plq.calibration.settings import network_digest
from captum_plq.faces import STANDARD_DEGRADATIONS
from captum_plq.metrics import threshold_at_fmr
from captum_plq.models import load_model
from captum_plq.network.spatial_map import SpatialTailError

_AT_MOST = 4000
"""Images whose pairs the threshold comes from."""
_CONTROLS = ("random", FLOOR)


@dataclass(frozen=True, kw_only=True)
class EDC(Protocol):
    """Error versus discard.

    False non-match rate of mated pairs while those of lowest quality are left out: the quality of a
    pair is the lower of its two, equal ones go together, the threshold stays. Area from 0 to 20 %
    and 30 % discarded, over that of a quality that knows nothing: 1 is chance, lower is better. In
    brackets 95 % bootstrap intervals over people; differences to `serfiq` are paired, p after Holm.

    Columns:

        serfiq: SER-FIQ, sampled (the paper's)
        serfiq-closed-form: SER-FIQ without sampling
        local: what local quality adds up to, SER-FIQ's to leading order, dropout being on the last
            spatial map
        embedding-norm: length of the embedding
        sharpness: variance of the image's Laplacian; asks no network
        random: a random number for each image: chance
        comparison score: of the pair itself, which no quality may look at; none can do better

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
        mated = [pair for pair in read_pairs(self.pairs) if pair.mated]
        left_out: dict[str, str] = {}
        network, names = load_model(model).eval(), list[str]()
        clean, degraded = defaultdict[str, list[Tensor]](list), defaultdict[str, list[Tensor]](list)
        given = self.environment(passes=self.passes, dropout=self.dropout, rows=self.batch)
        with given as (device, environment), torch.no_grad():
            sampled, closed = (
                SERFIQ(network.to(device), passes=self.passes, dropout=self.dropout,
                       seed=self.seed, estimator=estimator)
                for estimator in ("sampling", "closed-form")
            )  # fmt: skip
            spatial, failed = SpatialSERFIQ.of(sampled), dict[str, str]()
            tell = partial(self.progress, model)
            read = paired_faces(self.images, mated, network.spec, self.batch, left_out, tell)
            for some, images in read:
                names += some
                worse = [_degraded(x, n, self.seed) for x, n in zip(images, some, strict=True)]
                for found, shown, kind in (
                    (clean, images, ""), (degraded, torch.stack(worse), " degraded")
                ):  # fmt: skip
                    own = [f"{name}{kind}" for name in some]
                    shown = shown.to(device)
                    for key, x in self._assessed(sampled, closed, own, shown).items():
                        found[key].append(x.double().cpu())
                    try:
                        found["local"].append(spatial(shown).double().cpu())
                    except SpatialTailError as error:
                        failed["local"] = str(error)
        if closed.fallback_reason is not None:
            failed["serfiq-closed-form"] = closed.fallback_reason
        sides = [{key: torch.cat(own) for key, own in found.items() if key not in failed}
                 for found in (clean, degraded)]  # fmt: skip
        threshold, count = _threshold(names, sides[0]["embedding"], self.fmr, self.seed)
        pairs = [pair for pair in mated if {pair.first, pair.second} <= set(names)]
        yield (
            f"edc-{network.spec.name}",
            {
                "model": network.spec.name,
                "source": network.spec.source,
                "network": network_digest(network),
                "images": self.images.name,
                "pairs": self.pairs.name,
                "faces": len(names),
                "left_out": left_out,
                "threshold": threshold,
                "fmr": self.fmr,
                "non_mated_pairs": count,
                "failed": failed,
                "sets": {
                    name: self._discarded(pairs, names, sides[0], second, threshold)
                    for name, second in zip(("as they are", "one degraded"), sides, strict=True)
                },
                "conditions": environment,
            },
        )

    def _assessed(
        self, sampled: SERFIQ, closed: SERFIQ, names: Sequence[str], images: Tensor
    ) -> dict[str, Tensor]:
        """Unit embeddings and qualities; none of a closed form that does not exist here."""
        embeddings, quality, _ = sampled.assess(images)
        embeddings = embeddings.flatten(1).double().cpu()
        draws = [zlib.crc32(f"{self.seed} {name}".encode()) / 2**32 for name in names]
        found = {
            "embedding": unit_embeddings(embeddings, names),
            "serfiq": quality,
            "embedding-norm": embeddings.norm(dim=1),
            "sharpness": sharpness(images),
            "random": torch.tensor(draws, dtype=torch.float64),
        }
        if closed.fallback_reason is None:
            found["serfiq-closed-form"] = closed.assess(images)[1]
        return found

    def _discarded(
        self,
        pairs: Sequence[Pair],
        names: Sequence[str],
        first: Mapping[str, Tensor],
        second: Mapping[str, Tensor],
        threshold: float,
    ) -> dict[str, Any]:
        number_of = {name: i for i, name in enumerate(names)}
        one, other = ([number_of[getattr(pair, x)] for pair in pairs] for x in ("first", "second"))
        both = {name: (first[name][one], second[name][other]) for name in first}
        scores = torch.stack([x @ y for x, y in zip(*both.pop("embedding"), strict=True)])
        qualities = {name: both[name] for name in self.words()[2] if name in both}
        people = [_person(pair.first) for pair in pairs]
        return discarded(scores, qualities, people, threshold, against="serfiq", seed=self.seed)

    @classmethod
    def section(cls, record: Record) -> list[str]:
        """Return, for each set of pairs, the areas of every quality."""
        lines = [f"## {record['model']}", ""]
        for name, found in record["sets"].items():
            lines += _of_set(name, found)
        lines += [f"- `{name}` failed here: {why}" for name, why in record["failed"].items()]
        return [
            *lines,
            "",
            f"{record['source']} (network {record['network']}). {record['faces']} images of "
            f"{record['images']}, {record['pairs']}, {len(record['left_out'])} left out; a match "
            f"from cosine {record['threshold']:.3f} on, a false match rate of {record['fmr']:g} "
            f"over {record['non_mated_pairs']} pairs of different people. "
            f"{dated(record['conditions'])}.",
            "",
        ]

    @classmethod
    def figures(cls, records: Sequence[Record]) -> dict[str, Figure]:
        """Return error against discarded share: a row per network, a panel per set of pairs."""
        figure, rows = record_panels(records, lambda record: record["sets"], (5.2, 3.4), right=1.6)
        for record, row in rows:
            for axes, name, found in row:
                for i, (quality, (shares, errors)) in enumerate(found["curves"].items()):
                    axes.step(
                        [100 * x for x in shares],
                        errors,
                        where="post",
                        color="0.55" if quality in _CONTROLS else f"C{i}",
                        linestyle=":" if quality == FLOOR else "-",
                        linewidth=1.2,
                        label=quality,
                    )
                axes.set_xlim(0, 100 * max(LIMITS))
                axes.set_ylim(bottom=0)
                title = f"{record['model']}, {name}, {found['pairs']} mated pairs"
                y = f"FNMR, threshold at FMR = {record['fmr']:g}"
                label(axes, title, "pairs discarded, %", y)
            legend_beside(row[-1][0], 7)
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


def _degraded(image: Tensor, name: str, seed: int) -> Tensor:
    """One image in four as it is, the others degraded in one of the standard ways."""
    generator = np.random.default_rng((seed, zlib.crc32(name.encode())))
    if generator.random() < 0.25:
        return image
    ways = list(STANDARD_DEGRADATIONS.values())
    way = ways[int(generator.integers(len(ways)))]
    return as_image(way(as_chip(image), int(generator.integers(2**31))), image)


def _threshold(
    names: Sequence[str], embeddings: Tensor, fmr: float, seed: int
) -> tuple[float, int]:
    """The threshold, and of how many non-mated pairs."""
    drawn = np.sort(np.random.default_rng(seed).permutation(len(names))[:_AT_MOST])
    people = np.unique([_person(names[i]) for i in drawn], return_inverse=True)[1]
    of, unit = torch.from_numpy(people), embeddings[drawn].float()
    apart = (of[:, None] != of).triu(1)
    scores = (unit @ unit.T)[apart]
    return threshold_at_fmr(scores, fmr), len(scores)


def _person(name: str) -> str:
    return str(PurePosixPath(name).parent)


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
        for cell in of.values():
            cells += [_interval(cell["area"], ".3f"), _interval(cell.get("difference"), "+.3f")]
            cells.append(number(cell.get("p_holm"), ".2g"))
        rows.append(cells)
    return [*lines, *table(head, rows), ""]


def _interval(values: Sequence[float] | None, form: str) -> str:
    cell = None if values is None else dict(zip(("mean", "low", "high"), values, strict=True))
    return estimate(cell, form)
