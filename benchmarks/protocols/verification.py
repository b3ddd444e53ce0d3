"""Face verification as on LFW: are two images of the same person, by the cosine alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.harness.environment import Environment, current_environment, reproducible_settings
from benchmarks.subjects.faces import face_batches, unit_embeddings
from benchmarks.subjects.pairs import Pair, read_pairs, require_folds
from captum_plq.models import FaceModel
from captum_plq.network.embedding_layer import select_embedding

__all__ = [
    "FoldScore",
    "VerificationResult",
    "best_threshold",
    "measure_verification",
    "score_folds",
]


@dataclass(frozen=True)
class FoldScore:
    """How one fold fared with the threshold that the other folds chose.

    Args:

        fold (str): Its name.
        pairs (int): How many it has.
        threshold (float): Cosine from which on a pair is taken for mated.
        accuracy (float): Share of its pairs that are then right.
    """

    fold: str
    pairs: int
    threshold: float
    accuracy: float


@dataclass(frozen=True)
class VerificationResult:
    """One network on one list of pairs.

    Args:

        model (str), source (str): The network's name, and where its weights are from.
        images (str), pairs (str): Names of the folder and of the list.
        faces (int): Different images that were embedded.
        left_out (dict[str, str]): Image → why it could not be; its pairs do not count.
        pairs_left_out (int): How many pairs these were.
        folds (list[FoldScore]): One each.
        accuracy (float), deviation (float): Mean over the folds, and standard deviation
            between them (of a sample, n - 1).
        mated (float), non_mated (float): Mean cosine of each kind of pair.
        conditions (Environment): Device, versions and all the rest.
    """

    model: str
    source: str
    images: str
    pairs: str
    faces: int
    left_out: dict[str, str]
    pairs_left_out: int
    folds: list[FoldScore]
    accuracy: float
    deviation: float
    mated: float
    non_mated: float
    conditions: Environment

    @property
    def stem(self) -> str:
        """Name of its file."""
        return f"verification-{self.model}"

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> VerificationResult:
        """The inverse of :meth:`to_json`."""
        record = dict(record)
        record["conditions"] = Environment(**record["conditions"])
        record["folds"] = [FoldScore(**fold) for fold in record["folds"]]
        return cls(**record)


def best_threshold(scores: NDArray[np.float64], mated: NDArray[np.bool_]) -> float:
    """The threshold with the highest accuracy, if pairs count as mated from it on.

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


def score_folds(pairs: Sequence[Pair], scores: NDArray[np.float64]) -> list[FoldScore]:
    """The accuracy of each fold, with the threshold that is best on all other folds.

    Args:

        pairs (sequence of Pair): Of at least two folds.
        scores (ndarray): (n,), their similarities.

    Returns:
        *list[FoldScore]*: in the order in which the folds first occur.
    """
    folds = np.array([pair.fold for pair in pairs])
    mated = np.array([pair.mated for pair in pairs])
    found = []
    for fold in dict.fromkeys(folds.tolist()):
        own = folds == fold
        threshold = best_threshold(scores[~own], mated[~own])
        right = (scores[own] >= threshold) == mated[own]
        found.append(FoldScore(fold, int(own.sum()), threshold, float(right.mean())))
    return found


def measure_verification(
    model: FaceModel,
    directory: Path,
    pairs_file: Path,
    *,
    device: str = "cpu",
    threads: int | None = None,
    batch: int = 16,
    progress: Callable[[str], object] = lambda _: None,
) -> VerificationResult:
    """Embeds every image of a list of pairs once, and compares by the cosine.

    No flipped image is added. Images of the network's input size are taken to be aligned.

    Args:

        model (FaceModel): The network.
        directory (Path): What the images' names in the list are relative to.
        pairs_file (Path): see :func:`read_pairs`.
        device (str): ``"cpu"`` or ``"cuda"``.
        threads (int, optional): Of the CPU. ``None``: torch's own number.
        batch (int): Images at a time.
        progress (Callable): Told what is being done.

    Returns:
        *VerificationResult*

    Raises:
        FileNotFoundError: if there is no such folder or list.
        ValueError: if the list is not as it should be, too few images can be used, or the
            embedding of one has no direction.
    """
    if not directory.is_dir():
        raise FileNotFoundError(f"There is no folder {directory}.")
    listed = read_pairs(pairs_file)
    names = list(dict.fromkeys(name for pair in listed for name in (pair.first, pair.second)))
    place, left_out = torch.device(device), dict[str, str]()
    embeddings: dict[str, Tensor] = {}
    with reproducible_settings(threads, False, 0), torch.no_grad():
        conditions = current_environment(
            place, torch.float32, passes=0, dropout=0.0, seed=0, rows=batch
        )
        model = model.to(place)
        for some, images in face_batches(directory, names, model.spec, batch, left_out):
            unit = unit_embeddings(select_embedding(model(images.to(place))).flatten(1), some)
            embeddings.update(zip(some, unit.double().cpu(), strict=True))
            done = len(embeddings) + len(left_out)
            if done % (16 * batch) < batch or done == len(names):
                progress(f"{done} of {len(names)} images")
    pairs = [pair for pair in listed if {pair.first, pair.second} <= embeddings.keys()]
    require_folds(pairs, f"{directory}, {len(left_out)} images of which could not be used,")
    sides = [
        torch.stack([embeddings[getattr(p, side)] for p in pairs]) for side in ("first", "second")
    ]
    cosine = (sides[0] * sides[1]).sum(1).numpy()
    mated = np.array([pair.mated for pair in pairs])
    folds = score_folds(pairs, cosine)
    accuracies = [fold.accuracy for fold in folds]
    return VerificationResult(
        model=model.spec.name,
        source=model.spec.source,
        images=directory.name,
        pairs=pairs_file.name,
        faces=len(embeddings),
        left_out=left_out,
        pairs_left_out=len(listed) - len(pairs),
        folds=folds,
        accuracy=float(np.mean(accuracies)),
        deviation=float(np.std(accuracies, ddof=1)),
        mated=float(cosine[mated].mean()),
        non_mated=float(cosine[~mated].mean()),
        conditions=conditions,
    )
