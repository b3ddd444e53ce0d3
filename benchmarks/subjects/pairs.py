"""Lists of pairs, mated or not, in the layouts that they are published in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from benchmarks.subjects.faces import face_batches
from benchmarks.subjects.layouts.cfp import read_cfp
from benchmarks.subjects.layouts.image_lists import read_image_list
from benchmarks.subjects.layouts.pair import Pair, folder_of
from benchmarks.subjects.layouts.templates import Templates, connected, read_templates
from captum_plq.models import ModelSpec

__all__ = [
    "Pair",
    "PairList",
    "names_of",
    "paired_faces",
    "people_of_folds",
    "read_list",
    "read_pairs",
    "read_pairs_of_folders",
    "require_folds",
]


@dataclass(frozen=True)
class PairList:
    """Pairs of images or, where ``templates`` are given, of these.

    Args:

        pairs (list[Pair]): In the order of the list.
        templates (mapping, optional): Template → its images with their media.
    """

    pairs: list[Pair]
    templates: Templates | None = None

    @property
    def mated(self) -> list[Pair]:
        """The mated pairs."""
        return [pair for pair in self.pairs if pair.mated]

    @property
    def tells_people(self) -> bool:
        """Whether it tells whom every image shows."""
        return all(all(pair.people) for pair in self.pairs)

    def images(self) -> list[str]:
        """Return the images that its measurement takes, each once, in the order of the list.

        Where it tells people, those of mated pairs: any two people of theirs are a non-mated pair.
        """
        names = names_of(self.mated if self.tells_people else self.pairs)
        if self.templates is None:
            return names
        return list(dict.fromkeys(image for name in names for image, _ in self.templates[name]))

    def people_of(self, mated: Sequence[Pair]) -> list[str]:
        """Return whom each mated pair shows; where it is not told, what shares an image is one."""
        if self.tells_people:
            return [pair.people[0] for pair in mated]
        return connected(mated)


def read_list(path: Path, limit: int | None = None, seed: int = 0) -> PairList:
    """Read a list of pairs in whichever layout it is.

    Args:

        path (Path): A file: CSV with the columns fold, first, second and mated (0 or 1), LFW's
            ``pairs.txt``, CALFW's or CPLFW's list, or one of AgeDB-30
            (:mod:`~benchmarks.subjects.layouts.image_lists`). Or a folder: CFP's
            ``Protocol/Split/FP`` (:mod:`~benchmarks.subjects.layouts.cfp`) or IJB-C's ``meta``
            (:mod:`~benchmarks.subjects.layouts.templates`).
        limit (int, optional): Pairs of each kind, drawn; of templates, mated ones.
        seed (int): Of the draw.

    Raises:
        FileNotFoundError: if there is no such file or folder, or one in it is missing.
        ValueError: if it is in no layout that is read here, is not as its layout wants it, names
            an image outside the folder, or one kind of pair is missing.
    """
    if path.is_dir():
        if any(path.glob("*_face_tid_mid.txt")):
            return PairList(*read_templates(path, limit, seed))
        if not any(path.glob("*/same.txt")):
            raise ValueError(
                f"{path} is a folder, but has neither */same.txt, as CFP's Protocol/Split/FP, nor "
                "*_face_tid_mid.txt, as IJB-C's meta."
            )
        pairs = read_cfp(path)
    else:
        pairs = read_image_list(path)
    return PairList(pairs if limit is None else _drawn(pairs, limit, seed))


def read_pairs(path: Path) -> list[Pair]:
    """Read a list of pairs of images in two folds or more, see :func:`read_list`.

    Returns:
        *list[Pair]*: in the order of the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: of :func:`read_list`; and if the pairs are of templates, there are fewer than
            two folds, or one kind of pair is missing.
    """
    listed = read_list(path)
    if listed.templates is not None:
        raise ValueError(f"{path} pairs templates, which only edc compares, not images.")
    require_folds(listed.pairs, str(path))
    return listed.pairs


def read_pairs_of_folders(path: Path) -> list[Pair]:
    """Read a list as :func:`read_pairs` does, for who takes a folder of images for a person.

    Raises:
        ValueError: of :func:`read_pairs`; and if the list says otherwise.
    """
    pairs = read_pairs(path)
    for pair in pairs:
        if "" in pair.people or (folder_of(pair.first), folder_of(pair.second)) != pair.people:
            raise ValueError(
                f"{path} must have a folder for each person, as LFW, but pairs {pair.first} and "
                f"{pair.second}, {'' if pair.mated else 'non-'}mated."
            )
    return pairs


def people_of_folds(path: Path, folds: Sequence[str], seed: int = 0) -> dict[str, list[str]]:
    """Return, for each fold of a list, the first image of each person of no fold before it.

    Args:

        path (Path): The list, see :func:`read_pairs_of_folders`.
        folds (sequence of str): Those that must have people.
        seed (int): Of the order, which is drawn.

    Raises:
        ValueError: of :func:`read_pairs_of_folders`; and if one of ``folds`` has nobody.
    """
    found: dict[str, dict[str, str]] = {}
    taken: set[str] = set()
    pairs = read_pairs_of_folders(path)
    for fold in dict.fromkeys(pair.fold for pair in pairs):
        own = found.setdefault(fold, {})
        for pair in (pair for pair in pairs if pair.fold == fold):
            for name in (pair.first, pair.second):
                if folder_of(name) not in taken:
                    own.setdefault(folder_of(name), name)
        taken |= own.keys()
    for fold in folds:
        if not found.get(fold):
            raise ValueError(f"{path} has no people of its own in fold {fold!r}.")
    draw = np.random.default_rng(seed)
    return {
        fold: [sorted(own.values())[i] for i in draw.permutation(len(own))]
        for fold, own in found.items()
    }


def names_of(pairs: Sequence[Pair]) -> list[str]:
    """Return what is paired, each once, in the order of the pairs."""
    return list(dict.fromkeys(name for pair in pairs for name in (pair.first, pair.second)))


def paired_faces(
    directory: Path,
    names: Sequence[str],
    spec: ModelSpec,
    batch: int,
    left_out: dict[str, str],
    progress: Callable[[str], object],
) -> Iterator[tuple[list[str], Tensor]]:
    """Read the images of a list of pairs.

    Args:

        directory (Path): What the names of the list are relative to.
        names (sequence of str): Of the images.
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


def _drawn(pairs: list[Pair], limit: int, seed: int) -> list[Pair]:
    """As many of each kind at most, in their order."""
    rng, kept = np.random.default_rng(seed), set[int]()
    for kind in (True, False):
        of_kind = [i for i, pair in enumerate(pairs) if pair.mated is kind]
        kept |= {of_kind[k] for k in rng.permutation(len(of_kind))[:limit]}
    return [pair for i, pair in enumerate(pairs) if i in kept]
