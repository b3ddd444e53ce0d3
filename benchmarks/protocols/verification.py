"""Face verification as on LFW: are two images of the same person, by the cosine alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.harness.environment import dated
from benchmarks.harness.options import PositiveInt
from benchmarks.harness.pages import Field, listing
from benchmarks.harness.protocol import Protocol, Record
from benchmarks.subjects.faces import unit_embeddings
from benchmarks.subjects.pairs import Pair, names_of, paired_faces, read_pairs, require_folds
from captum_plq.models import FaceModel, load_model
from captum_plq.network.output import select_embedding


@dataclass(frozen=True, kw_only=True)
class Verification(Protocol):
    """Verification.

    Are two images of the same person? By the cosine of their embeddings, no flipped image added,
    the threshold of each fold being the best on all other folds. Mean and standard deviation over
    the folds.

    Args:

        images (Path): Folder laid out like LFW.
        pairs (Path): CSV: fold, first, second, mated.
        batch (int): Images at a time.
    """

    name: ClassVar[str] = "verification"

    images: Path
    pairs: Path
    batch: PositiveInt = 16

    def measure(self, model: str) -> Iterator[tuple[str, Record]]:
        """Yield the accuracy of a network, fold by fold."""
        network = load_model(model)
        with self.environment(rows=self.batch) as (device, environment):
            found = verify(
                network.to(device),
                self.images,
                self.pairs,
                batch=self.batch,
                progress=lambda text: self.progress(model, text),
            )
        yield f"verification-{found['model']}", {**found, "conditions": environment}

    @classmethod
    def body(cls, records: Sequence[Record]) -> list[str]:
        """Return one table over all networks; how each was measured stands below it."""
        fields: list[Field] = [
            ("network", "model", ""),
            ("images", "images", ""),
            ("accuracy", "accuracy", ".4f"),
            ("± sd", "deviation", ".4f"),
            ("cosine, mated", "mated", ".3f"),
            ("non-mated", "non_mated", ".3f"),
            ("pairs", lambda record: sum(fold["pairs"] for fold in record["folds"]), "d"),
            ("left out", "pairs_left_out", "d"),
        ]
        about = [f"- **{record['model']}**: {_about(record)}" for record in records]
        return [*listing(fields, records, words=2), "", *about, ""]


def _about(record: Record) -> str:
    folds = ", ".join(f"{x['accuracy']:.4f} at {x['threshold']:.3f}" for x in record["folds"])
    return (
        f"{record['source']}. {record['pairs']}, {record['faces']} images "
        f"({len(record['left_out'])} unusable); by fold, at its threshold: {folds}. "
        f"{dated(record['conditions'])}."
    )


def verify(
    model: FaceModel,
    directory: Path,
    pairs_file: Path,
    *,
    batch: int = 16,
    progress: Callable[[str], object] = lambda text: None,
) -> Record:
    """Embed every image of a list of pairs once, and compare by the cosine.

    No flipped image is added. Images of the network's input size are taken to be aligned.

    Args:

        model (FaceModel): The network, on its device.
        directory (Path): What the images' names in the list are relative to.
        pairs_file (Path): see :func:`~benchmarks.subjects.pairs.read_pairs`.
        batch (int): Images at a time.
        progress (Callable): Told what is being done.

    Returns:
        *dict*: ready for JSON: ``"model"`` and ``"source"``; the names of folder and list,
        ``"images"`` and ``"pairs"``; ``"faces"``, how many images were embedded; ``"left_out"``,
        image → why it could not be, and ``"pairs_left_out"``, how many pairs that costs;
        ``"folds"`` of :func:`score_folds`; the mean ``"accuracy"`` over these and the standard
        ``"deviation"`` between them (of a sample); the mean cosine of ``"mated"`` and
        ``"non_mated"`` pairs.

    Raises:
        FileNotFoundError: if there is no such folder or list.
        ValueError: if the list is not as it should be, too few images can be used, or the
            embedding of one has no direction.
    """
    listed = read_pairs(pairs_file)
    left_out: dict[str, str] = {}
    embeddings: dict[str, Tensor] = {}
    read = paired_faces(directory, names_of(listed), model.spec, batch, left_out, progress)
    with torch.no_grad():
        for some, images in read:
            found = select_embedding(model(images.to(next(model.buffers()).device))).flatten(1)
            unit = unit_embeddings(found, some)
            embeddings.update(zip(some, unit.double().cpu(), strict=True))
    pairs = [pair for pair in listed if {pair.first, pair.second} <= embeddings.keys()]
    require_folds(pairs, f"{directory}, {len(left_out)} images of which could not be used,")
    both = [torch.stack([embeddings[name] for name in (p.first, p.second)]) for p in pairs]
    cosine = torch.stack(both).prod(1).sum(1).numpy()
    mated = np.array([pair.mated for pair in pairs])
    folds = score_folds(pairs, cosine)
    accuracies = [fold["accuracy"] for fold in folds]
    return {
        "model": model.spec.name,
        "source": model.spec.source,
        "images": directory.name,
        "pairs": pairs_file.name,
        "faces": len(embeddings),
        "left_out": left_out,
        "pairs_left_out": len(listed) - len(pairs),
        "folds": folds,
        "accuracy": float(np.mean(accuracies)),
        "deviation": float(np.std(accuracies, ddof=1)),
        "mated": float(cosine[mated].mean()),
        "non_mated": float(cosine[~mated].mean()),
    }


def best_threshold(scores: NDArray[np.float64], mated: NDArray[np.bool_]) -> float:
    """Return the threshold with the highest accuracy, if pairs count as mated from it on.

    Tried are the middles between neighbouring scores, and one step beyond both ends; of
    several equally good ones the middle one is taken.

    Args:

        scores (ndarray): (n,), n ≥ 1.
        mated (ndarray): (n,), bool.

    Returns:
        *float*: in the units of the scores.

    Raises:
        ValueError: if a score is not finite.

    Examples::

        >>> best_threshold(np.array([0.1, 0.2, 0.8]), np.array([False, False, True]))
        0.5
    """
    if not np.isfinite(scores).all():
        raise ValueError("Scores must be finite, but some are NaN or infinite.")
    values, where = np.unique(scores, return_inverse=True)
    mated_at = np.bincount(where, weights=mated, minlength=len(values))
    others_at = np.bincount(where, weights=~mated, minlength=len(values))
    # right[k]: with everything below values[k] taken for non-mated
    right = mated.sum() - np.append(0, mated_at.cumsum()) + np.append(0, others_at.cumsum())
    between = (values[:-1] + values[1:]) / 2
    thresholds = np.concatenate([[values[0] - 1], between, [values[-1] + 1]])
    best = np.flatnonzero(right == right.max())
    return float(thresholds[best[(len(best) - 1) // 2]])


def score_folds(pairs: Sequence[Pair], scores: NDArray[np.float64]) -> list[Record]:
    """Return how each fold fares with the threshold that is best on all other folds.

    Args:

        pairs (sequence of Pair): Of at least two folds.
        scores (ndarray): (n,), their similarities.

    Returns:
        *list[dict]*: in the order in which the folds first occur: ``"fold"``, its name;
        ``"pairs"``, how many it has; ``"threshold"``, from which on a pair is taken for mated; and
        ``"accuracy"``, the share of its pairs that are then right.
    """
    folds = np.array([pair.fold for pair in pairs])
    mated = np.array([pair.mated for pair in pairs])
    found = []
    for fold in dict.fromkeys(folds.tolist()):
        own = folds == fold
        threshold = best_threshold(scores[~own], mated[~own])
        right = (scores[own] >= threshold) == mated[own]
        numbers = {"pairs": int(own.sum()), "threshold": threshold, "accuracy": float(right.mean())}
        found.append({"fold": fold, **numbers})
    return found
