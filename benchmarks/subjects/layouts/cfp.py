"""CFP: pairs of frontal and profile faces by their numbers."""

from __future__ import annotations

import posixpath
from pathlib import Path, PurePosixPath

from benchmarks.subjects.layouts.pair import Pair, inside, lines_of, require_kinds


def read_cfp(path: Path) -> list[Pair]:
    """Read the folder ``Protocol/Split/FP`` (frontal and profile) or ``…/FF`` of CFP.

    It has a folder for each fold, with ``same.txt`` and ``diff.txt``: lines ``i,j``, the numbers of
    two images in ``Protocol/Pair_list_F.txt`` and, in FP the second one, ``Pair_list_P.txt``. Their
    lines are ``1 ../Data/Images/001/frontal/01.jpg``, relative to ``Protocol``. A pair's names are
    relative to the folder above it, so with ``--images`` that one: ``Data/Images/001/…``; the
    folder that holds ``frontal`` and ``profile`` is a person. Checked against programs of others
    that read it, not against the published files.

    Raises:
        FileNotFoundError: if one of these files is missing.
        ValueError: if one is not as described, or holds no pair of one kind.
    """
    protocol = path.parent.parent
    frontal = _images(protocol / "Pair_list_F.txt")
    others = _images(protocol / "Pair_list_P.txt") if path.name.upper() == "FP" else frontal
    pairs = []
    for fold in sorted(x for x in path.iterdir() if x.is_dir()):
        for kind in ("same", "diff"):
            for where, words in lines_of(fold / f"{kind}.txt"):
                numbers = "".join(words).split(",")
                both = [x.get(n) for x, n in zip((frontal, others), numbers, strict=False)]
                if len(numbers) != 2 or None in both:
                    raise ValueError(
                        f"{where}: a pair is 'i,j', numbers of images in the lists of {protocol}, "
                        f"but got {' '.join(words)!r}."
                    )
                first, second = map(str, both)
                people = (_person(first), _person(second))
                if (people[0] == people[1]) is not (kind == "same"):
                    raise ValueError(
                        f"{where}: {first} and {second} lie in {len(set(people))} folders of "
                        f"people, but {kind}.txt lists them."
                    )
                pairs.append(Pair(fold.name, first, second, kind == "same", people))
    require_kinds(pairs, path)
    return pairs


def _images(path: Path) -> dict[str, str]:
    found = {}
    for where, words in lines_of(path):
        if len(words) != 2 or not words[0].isdecimal():
            raise ValueError(f"{where}: needs 'number image', but got {' '.join(words)!r}.")
        name = words[1].replace("\\", "/")
        found[words[0]] = inside(posixpath.normpath(posixpath.join("Protocol", name)), where)
    return found


def _person(name: str) -> str:
    return str(PurePosixPath(name).parent.parent)
