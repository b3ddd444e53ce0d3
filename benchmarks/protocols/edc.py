"""Error versus discard: whether recognition errs less when images of low quality are left out."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
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
from benchmarks.subjects.layouts.templates import pooled
from benchmarks.subjects.pairs import Pair, PairList, paired_faces, read_list
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

        images (Path): Folder that the names in the list are relative to.
        pairs (Path): CSV with the columns fold, first, second, mated, or a list in the layout of
            LFW, CFP, CALFW, CPLFW, AgeDB-30 or IJB-C.
        pairs_limit (int, optional): Pairs of each kind, drawn; of templates, mated ones.
        fmr (tuple[float, ...]): False match rates of clean pairs, for the thresholds.
        scores (tuple[str, ...]): Which scores.
        batch (int): Images at a time.
    """

    name: ClassVar[str] = "edc"

    images: Path
    pairs: Path
    pairs_limit: PositiveInt | None = None
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
        listed = read_list(self.pairs, self.pairs_limit, self.seed)
        left_out: dict[str, str] = {}
        network, names = load_model(model).eval(), list[str]()
        clean, degraded = list[dict[str, Tensor]](), list[dict[str, Tensor]]()
        given = self.environment(passes=100, dropout=0.5, rows=self.batch)
        with given as (device, environment), torch.no_grad():
            scorer = FaceScores(network.to(device), self.scores, self.seed)
            tell = partial(self.progress, model)
            read = paired_faces(
                self.images, listed.images(), network.spec, self.batch, left_out, tell
            )
            for some, images in read:
                names += some
                worse = [_degraded(x, n, self.seed) for x, n in zip(images, some, strict=True)]
                clean.append(scorer.of(some, images.to(device)))
                own = [f"{name} degraded" for name in some]
                degraded.append(scorer.of(own, torch.stack(worse).to(device)))
        if not names:
            raise ValueError(
                f"None of the {len(left_out)} images that {self.pairs} lists can be used: "
                f"{next(iter(left_out.items()), '')}"
            )
        sides, faces = [joined(clean), joined(degraded)], len(names)
        if listed.templates is not None:
            both = [pooled(side, names, listed.templates, EMBEDDING) for side in sides]
            names, sides = both[0][0], [side for _, side in both]
        known = set(names)
        usable = [p for p in listed.pairs if {p.first, p.second} <= known]
        pairs = [pair for pair in usable if pair.mated]
        if not pairs:
            raise ValueError(f"{self.pairs} has no mated pair of images that can be used.")
        people = listed.people_of(pairs)
        embeddings = sides[0][EMBEDDING]
        if listed.tells_people:
            of_others = _scores_of_others(_people(listed), names, embeddings, self.seed)
        else:
            others = [pair for pair in usable if not pair.mated]
            of_others = _scores(others, names, embeddings, embeddings)
        yield (
            f"edc-{network.spec.name}",
            {
                "model": network.spec.name,
                "source": network.spec.source,
                "network": network_digest(network),
                "images": self.images.name,
                "pairs": self.pairs.name,
                "faces": faces,
                "templates": None if listed.templates is None else len(names),
                "tells_people": listed.tells_people,
                "pairs_limit": self.pairs_limit,
                "left_out": left_out,
                "non_mated_pairs": len(of_others),
                "failed": scorer.failed,
                "forwards": scorer.costs(),
                "at": [
                    self._at(fmr, threshold_at_fmr(of_others, fmr), pairs, people, names, sides)
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
        people: Sequence[str],
        names: Sequence[str],
        sides: Sequence[Mapping[str, Tensor]],
    ) -> dict[str, Any]:
        """What is found at one false match rate, with curves for the one in the middle."""
        number_of = {name: i for i, name in enumerate(names)}
        one, other = ([number_of[getattr(pair, x)] for pair in pairs] for x in ("first", "second"))
        common = [x for x in (*self.scores, *CONTROLS) if all(x in side for side in sides)]
        against = "serfiq-closed-form" if "serfiq-closed-form" in common else "random"
        sets = {}
        for name, second in zip(("as they are", "one degraded"), sides, strict=True):
            qualities = {key: (sides[0][key][one], second[key][other]) for key in common}
            scores = _scores(pairs, names, sides[0][EMBEDDING], second[EMBEDDING])
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
            f"{record['non_mated_pairs']} pairs of different people. {_of_list(record)}"
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


def _scores(pairs: Sequence[Pair], names: Sequence[str], first: Tensor, second: Tensor) -> Tensor:
    """Cosines of pairs, of the embeddings of their first and those of their second images."""
    number_of = {name: i for i, name in enumerate(names)}
    found = [first[number_of[p.first]] @ second[number_of[p.second]] for p in pairs]
    return torch.stack(found) if found else first.new_zeros(0)


def _scores_of_others(
    people: Mapping[str, str], names: Sequence[str], embeddings: Tensor, seed: int
) -> Tensor:
    """Cosines of all pairs of different people, of some images."""
    drawn = np.sort(np.random.default_rng(seed).permutation(len(names))[:_AT_MOST])
    of = torch.from_numpy(np.unique([people[names[i]] for i in drawn], return_inverse=True)[1])
    unit = embeddings[drawn].float()
    return (unit @ unit.T)[(of[:, None] != of).triu(1)]


def _people(listed: PairList) -> dict[str, str]:
    """Whom each image shows."""
    return {
        name: person
        for pair in listed.pairs
        for name, person in zip((pair.first, pair.second), pair.people, strict=True)
    }


def _of_list(record: Record) -> str:
    """What is said of a list that does not tell people, has templates or was drawn from."""
    text = ""
    if limit := record.get("pairs_limit"):
        text += f"At most {limit} mated pairs, drawn. "
    if templates := record.get("templates"):
        text += (
            f"{templates} templates; embedding and quality of each: mean over images of a medium, "
            "then over media. "
        )
    if not record.get("tells_people", True):
        text += (
            "The list does not tell people: non-mated pairs are those that it lists, and a person "
            "is what its mated pairs connect, so intervals may be too narrow. "
        )
    return text


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
