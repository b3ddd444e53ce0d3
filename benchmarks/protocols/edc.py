"""Error versus discard: whether recognition errs less when images of low quality are left out."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.harness.environment import dated
from benchmarks.harness.figures import label, legend_beside, record_panels
from benchmarks.harness.options import PositiveInt, some_of
from benchmarks.harness.pages import estimate, number, table
from benchmarks.harness.protocol import Protocol, Record
from benchmarks.protocols.parts.discard_areas import FLOOR, LIMITS, discarded
from benchmarks.protocols.parts.face_scores import CONTROLS, EMBEDDING, FaceScores, joined
from benchmarks.subjects.faces import as_chip, as_image
from benchmarks.subjects.pairs import Pair, paired_faces, read_pairs
from captum_plq.calibration.settings import network_digest
from captum_plq.faces import STANDARD_DEGRADATIONS
from captum_plq.metrics import threshold_at_fmr
from captum_plq.models import load_model
from captum_plq.quality.scores import SCORES, score_doc

_AT_MOST = 4000
"""Images whose pairs the threshold comes from."""
_CONTROLS = ("random", FLOOR)


@dataclass(frozen=True, kw_only=True)
class EDC(Protocol):
    """Error versus discard.

    False non-match rate of mated pairs while those of lowest quality are left out: the quality of a
    pair is the lower of its two, equal ones go together, the threshold stays. Area from 0 to 20 %
    and 30 % discarded, over that of a quality that knows nothing: 1 is chance, lower is better. In
    brackets 95 % bootstrap intervals over people; differences to `serfiq-closed-form` are paired, p
    after Holm. Time: median over batches, in forwards of the network on the same batch.

    These areas cannot be compared with published pAUCs: other networks (small MobileFaceNets and
    EdgeFace, not ResNet-100), other data (LFW, in part with one image degraded by us), and areas
    relative to chance. Scores named `-style` are written from their papers' abstracts, with
    parameters that were not tuned; a low rank here says nothing of the published method.

    Columns:

        serfiq: SER-FIQ, sampled (the paper's)
        serfiq-balanced: SER-FIQ, sampled in balanced groups
        serfiq-closed-form: SER-FIQ without sampling
        serfiq-spatial: what local quality adds up to, SER-FIQ to leading order, with dropout on the
            last spatial map
        embedding-norm: length of the embedding
        grafiqs-style: gradient magnitudes of a loss on BatchNorm's statistics
        prefiqs-style: how little the embedding moves when 30 % of the weights are pruned
        vitnt-style: how little the first blocks of a vision transformer turn its patches
        attn-fiqa-style: mean attention score of a vision transformer's last block
        native: the network's own output for quality
        sharpness: variance of the image's Laplacian; asks no network
        random: a random number for each image: chance
        comparison score: of the pair itself, which no quality may look at: the floor that an oracle
            of the errors reaches

    Args:

        images (Path): Folder laid out like LFW: a subfolder is a person.
        pairs (Path): CSV with the columns fold, first, second, mated.
        fmr (tuple[float, ...]): False match rates of clean pairs, for the thresholds.
        scores (tuple[str, ...]): Which scores.
        batch (int): Images at a time.
    """

    name: ClassVar[str] = "edc"

    images: Path
    pairs: Path
    fmr: Annotated[tuple[float, ...], some_of()] = (1e-2, 1e-3, 1e-4)
    scores: Annotated[tuple[str, ...], some_of(SCORES)] = tuple(SCORES)
    batch: PositiveInt = 16

    def measure(self, model: str) -> Iterator[tuple[str, Record]]:
        """Embed and score every image of a list of pairs, as it is and degraded.

        Yields:
            *tuple[str, dict]*: ``"at"`` holds, for each false match rate, the threshold and, for
            the images as they are and with the second of a pair degraded (three in four, one way of
            five), what :func:`~benchmarks.protocols.parts.discard_areas.discarded` returns.

        Raises:
            FileNotFoundError: if there is no such folder or list.
            ValueError: if the list is not as it should be, or holds too few images of different
                people for a false match rate.
        """
        mated = [pair for pair in read_pairs(self.pairs) if pair.mated]
        left_out: dict[str, str] = {}
        network, names = load_model(model).eval(), list[str]()
        clean, degraded = list[dict[str, Tensor]](), list[dict[str, Tensor]]()
        given = self.environment(passes=100, dropout=0.5, rows=self.batch)
        with given as (device, environment), torch.no_grad():
            faces = FaceScores(network.to(device), self.scores, self.seed)
            tell = partial(self.progress, model)
            read = paired_faces(self.images, mated, network.spec, self.batch, left_out, tell)
            for some, images in read:
                names += some
                worse = [_degraded(x, n, self.seed) for x, n in zip(images, some, strict=True)]
                clean.append(faces.of(some, images.to(device)))
                own = [f"{name} degraded" for name in some]
                degraded.append(faces.of(own, torch.stack(worse).to(device)))
        sides = [joined(clean), joined(degraded)]
        pairs = [pair for pair in mated if {pair.first, pair.second} <= set(names)]
        of_others = _scores_of_others(names, sides[0][EMBEDDING], self.seed)
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
                "non_mated_pairs": len(of_others),
                "failed": faces.failed,
                "forwards": faces.costs(),
                "at": [
                    self._at(fmr, threshold_at_fmr(of_others, fmr), pairs, names, sides)
                    for fmr in self.fmr
                ],
                "conditions": environment,
            },
        )

    def _at(
        self,
        fmr: float,
        threshold: float,
        pairs: Sequence[Pair],
        names: Sequence[str],
        sides: Sequence[Mapping[str, Tensor]],
    ) -> dict[str, Any]:
        """What is found at one false match rate, with curves for the one in the middle."""
        number_of = {name: i for i, name in enumerate(names)}
        one, other = ([number_of[getattr(pair, x)] for pair in pairs] for x in ("first", "second"))
        people = [_person(pair.first) for pair in pairs]
        common = [x for x in (*self.scores, *CONTROLS) if all(x in side for side in sides)]
        against = "serfiq-closed-form" if "serfiq-closed-form" in common else "random"
        sets = {}
        for name, second in zip(("as they are", "one degraded"), sides, strict=True):
            qualities = {key: (sides[0][key][one], second[key][other]) for key in common}
            pairs_of = zip(sides[0][EMBEDDING][one], second[EMBEDDING][other], strict=True)
            scores = torch.stack([x @ y for x, y in pairs_of])
            found = discarded(scores, qualities, people, threshold, against=against, seed=self.seed)
            if fmr != self.fmr[len(self.fmr) // 2]:
                del found["curves"]
            sets[name] = found
        return {"fmr": fmr, "threshold": threshold, "against": against, "sets": sets}

    @classmethod
    def words(cls) -> tuple[str, str, dict[str, str]]:
        """Return title, introduction and meanings; of scores without one, their docstring's."""
        title, introduction, meanings = super().words()
        return title, introduction, {**{n: score_doc(n) for n in SCORES}, **meanings}

    @classmethod
    def section(cls, record: Record) -> list[str]:
        """Return, for each set of pairs and false match rate, the areas of every quality."""
        lines = [f"## {record['model']}", ""]
        for at in record["at"]:
            for name, found in at["sets"].items():
                lines += _of_set(at, name, found, record["forwards"])
        lines += [f"- `{name}` failed here: {why}" for name, why in record["failed"].items()]
        rates = ", ".join(f"{at['threshold']:.3f} ({at['fmr']:g})" for at in record["at"])
        return [
            *lines,
            "",
            f"{record['source']} (network {record['network']}). {record['faces']} images of "
            f"{record['images']}, {record['pairs']}, {len(record['left_out'])} left out; a match "
            f"from these cosines on (false match rates): {rates}, over "
            f"{record['non_mated_pairs']} pairs of different people. "
            f"{dated(record['conditions'])}.",
            "",
        ]

    @classmethod
    def figures(cls, records: Sequence[Record]) -> dict[str, Figure]:
        """Return error against discarded share: a row per network, a panel per set of pairs."""
        middle = {id(r): r["at"][len(r["at"]) // 2] for r in records}
        figure, rows = record_panels(
            records, lambda r: middle[id(r)]["sets"], (5.2, 3.4), right=1.8
        )
        for record, row in rows:
            for axes, name, found in row:
                for i, (quality, (shares, errors)) in enumerate(found["curves"].items()):
                    axes.step(
                        [100 * x for x in shares],
                        errors,
                        where="post",
                        color="0.55" if quality in _CONTROLS else f"C{i % 10}",
                        linestyle=":" if quality == FLOOR else "--" if i > 9 else "-",
                        linewidth=1.2,
                        label=quality,
                    )
                axes.set_xlim(0, 100 * max(LIMITS))
                axes.set_ylim(bottom=0)
                title = f"{record['model']}, {name}, {found['pairs']} mated pairs"
                y = f"FNMR, threshold at FMR = {middle[id(record)]['fmr']:g}"
                label(axes, title, "pairs discarded, %", y)
            legend_beside(row[-1][0], 7)
        return {cls.name: figure}


def _degraded(image: Tensor, name: str, seed: int) -> Tensor:
    """One image in four as it is, the others degraded in one of the standard ways."""
    generator = np.random.default_rng((seed, zlib.crc32(name.encode())))
    if generator.random() < 0.25:
        return image
    ways = list(STANDARD_DEGRADATIONS.values())
    way = ways[int(generator.integers(len(ways)))]
    return as_image(way(as_chip(image), int(generator.integers(2**31))), image)


def _scores_of_others(names: Sequence[str], embeddings: Tensor, seed: int) -> Tensor:
    """Cosines of pairs of different people."""
    drawn = np.sort(np.random.default_rng(seed).permutation(len(names))[:_AT_MOST])
    people = np.unique([_person(names[i]) for i in drawn], return_inverse=True)[1]
    of, unit = torch.from_numpy(people), embeddings[drawn].float()
    return (unit @ unit.T)[(of[:, None] != of).triu(1)]


def _person(name: str) -> str:
    return str(PurePosixPath(name).parent)


def _of_set(
    at: Mapping[str, Any], name: str, found: Mapping[str, Any], forwards: Mapping[str, float]
) -> list[str]:
    title = "Images as they are" if name == "as they are" else name.capitalize()
    errors = round(found["starting_error"] * found["pairs"])
    lines = [
        f"### {title}, FMR {at['fmr']:g}",
        "",
        f"{found['pairs']} pairs of {found['people']} people, {errors} of them false non-matches.",
        "",
    ]
    if found["areas"] is None:
        return [*lines, "Nothing to discard for.", ""]
    less = f"less {at['against']}'s"
    head = ["quality", *(f"{text}, {100 * x:g} %" for x in LIMITS for text in ("area", less, "p"))]
    rows = []
    for quality, of in found["areas"].items():
        cells = [f"*{quality}*" if quality in _CONTROLS else quality]
        for cell in of.values():
            cells += [_interval(cell["area"], ".3f"), _interval(cell.get("difference"), "+.3f")]
            cells.append(number(cell.get("p_holm"), ".2g"))
        rows.append([*cells, number(forwards.get(quality), ".3g")])
    return [*lines, *table([*head, "time, forwards"], rows), ""]


def _interval(values: Sequence[float] | None, form: str) -> str:
    cell = None if values is None else dict(zip(("mean", "low", "high"), values, strict=True))
    return estimate(cell, form)
