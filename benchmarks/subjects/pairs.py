"""Pairs of images, mated or not, as a list in a file."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from benchmarks.subjects.faces import face_batches
from captum_plq.models import ModelSpec

_COLUMNS = ("fold", "first", "second", "mated")


@dataclass(frozen=True)
class Pair:
    """Two images, relative to their folder, and whether they show the same person."""

    fold: str
    first: str
    second: str
    mated: bool


def read_pairs(path: Path) -> list[Pair]:
    """Read a list of pairs: CSV with the columns fold, first, second and mated (0 or 1).

    Args:

        path (Path): UTF-8; images relative to the folder they are in. More columns may follow.

    Returns:
        *list[Pair]*: in the order of the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a column is missing, ``mated`` is neither 0 nor 1, there are fewer than
            two folds, or one kind of pair is missing.
    """
    pairs = []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(
                f"{path} needs the columns {', '.join(_COLUMNS)}, but lacks {', '.join(missing)}."
            )
        for row in reader:
            if row["mated"] not in ("0", "1") or not row["first"] or not row["second"]:
                raise ValueError(
                    f"{path}, line {reader.line_num}: a pair needs two images and mated 0 or 1, "
                    f"but got {[row[name] for name in _COLUMNS]}."
                )
            pairs.append(Pair(row["fold"], row["first"], row["second"], row["mated"] == "1"))
    require_folds(pairs, str(path))
    return pairs


def paired_faces(
    directory: Path,
    pairs: Sequence[Pair],
    spec: ModelSpec,
    batch: int,
    left_out: dict[str, str],
    progress: Callable[[str], object],
) -> Iterator[tuple[list[str], Tensor]]:
    """Read every image of a list of pairs once.

    Args:

        directory (Path): What the names of the list are relative to.
        pairs (sequence of Pair): The list.
        spec (ModelSpec): Of the network.
        batch (int): Images at a time.
        left_out (dict): Name → reason is added for each image that cannot be used.
        progress (Callable): Told now and then how many are done.

    Yields:
        *tuple[list[str], Tensor]*: see :func:`~benchmarks.subjects.faces.face_batches`.

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    if not directory.is_dir():
        raise FileNotFoundError(f"There is no folder {directory}.")
    names = list(dict.fromkeys(name for pair in pairs for name in (pair.first, pair.second)))
    done = 0
    for turn, (some, images) in enumerate(face_batches(directory, names, spec, batch, left_out)):
        if turn % 16 == 0:
            progress(f"{done} of {len(names)} images")
        yield some, images
        done += len(some)


def require_folds(pairs: Sequence[Pair], where: str) -> None:
    """Raise a ``ValueError`` unless there are two folds, and pairs of both kinds."""
    if len({pair.fold for pair in pairs}) < 2 or len({pair.mated for pair in pairs}) < 2:
        raise ValueError(
            f"{where} must give pairs in at least two folds, mated and non-mated ones, but gives "
            f"{len(pairs)} in {len({pair.fold for pair in pairs})} folds, "
            f"{sum(pair.mated for pair in pairs)} of them mated."
        )
