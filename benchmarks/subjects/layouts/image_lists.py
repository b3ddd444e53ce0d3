"""Lists of pairs of images in one text file: our CSV, and the layouts of LFW, CPLFW and AgeDB."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.subjects.layouts.pair import Pair, folder_of, inside, lines_of, require_kinds

_COLUMNS = ("fold", "first", "second", "mated")
_PERSON = re.compile(r"(?:.*/)?(.+)_\d+\.\w+")
"""Name_0001.jpg, as of CALFW and CPLFW."""
_PERSON_OF_AGEDB = re.compile(r"(?:.*/)?\d+_(.+)_\d+_[fm]\.\w+")
"""0_MariaCallas_35_f.jpg."""


def read_csv(path: Path) -> list[Pair]:
    """Read a CSV with the columns fold, first, second and mated (0 or 1); more may follow.

    Raises:
        ValueError: if a column is missing, or a line is not as described.
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
            where = f"{path}, line {reader.line_num}"
            if row["mated"] not in ("0", "1") or not row["first"] or not row["second"]:
                raise ValueError(
                    f"{where}: a pair needs two images and mated 0 or 1, "
                    f"but got {[row[name] for name in _COLUMNS]}."
                )
            one, other = inside(row["first"], where), inside(row["second"], where)
            pairs.append(Pair(row["fold"], one, other, row["mated"] == "1"))
    return _with_people(pairs)


def read_lfw(path: Path) -> list[Pair]:
    """Read the layout of LFW's ``pairs.txt``.

    The first line has the number of folds (left out: 1) and of mated pairs in each, and as many
    non-mated ones follow these: ``name i j`` or ``name i name j``. An image is
    ``name/name_000i.jpg``.

    Raises:
        ValueError: if a line is not as described, or there are more or fewer.
    """
    (_, head), *rest = lines_of(path)
    folds, each = (1, *map(int, head))[-2:]
    if not folds * each or len(rest) != 2 * folds * each:
        raise ValueError(
            f"{path} says that it has {folds} folds of {each} mated and {each} non-mated pairs, "
            f"but {len(rest)} lines follow."
        )
    pairs = []
    for k, (where, words) in enumerate(rest):
        mated = k // each % 2 == 0
        one, i, *others = words
        other, j = others if len(others) == 2 else (one, *others)
        if len(words) != (3 if mated else 4) or not (i.isdecimal() and j.isdecimal()):
            form = "'name i j'" if mated else "'name i name j'"
            raise ValueError(f"{where}: a pair here is {form}, but got {' '.join(words)!r}.")
        images = [f"{x}/{x}_{int(n):04d}.jpg" for x, n in ((one, i), (other, j))]
        first, second = (inside(image, where) for image in images)
        pairs.append(Pair(str(k // (2 * each) + 1), first, second, mated, (one, other)))
    return pairs


def read_twos(path: Path) -> list[Pair]:
    """Read the layout of CALFW's and CPLFW's lists: two lines ``image flag`` are a pair.

    The flag is 0 for non-mated pairs, else (1, in CALFW 1 to 10) they are mated. The list does not
    say which fold a non-mated pair is in: a fold is a tenth of the mated pairs and a tenth of the
    non-mated ones, in the order of the file. That is the common reading; it was checked against
    descriptions and programs of others, not against the published files.

    Raises:
        ValueError: if a line is not as described, the flags of a pair differ, or a line is alone.
    """
    lines = list(lines_of(path))
    if len(lines) % 2:
        raise ValueError(f"{path} must have two lines for each pair, but has {len(lines)}.")
    pairs = []
    for (where, one), (_, other) in zip(lines[::2], lines[1::2], strict=True):
        if not len(one) == len(other) == 2 or one[1] != other[1] or not one[1].isdecimal():
            raise ValueError(
                f"{where}: a pair is two lines 'image flag' with one flag, 0 or more, but got "
                f"{' '.join(one)!r} and {' '.join(other)!r}."
            )
        first, second = inside(one[0], where), inside(other[0], where)
        pairs.append(Pair("", first, second, int(one[1]) > 0))
    return _with_people(_in_tenths(pairs))


def read_threes(path: Path) -> list[Pair]:
    """Read lines ``image image 1`` (mated) or ``image image 0``.

    In this layout AgeDB-30 and CFP-FP are passed on as folders and lists (``agedb_30_pair.txt``,
    ``cfp_fp_pair.txt``). Folds are tenths in the order of the file. It was checked against programs
    of others that read these lists; AgeDB's own release was not looked at.

    Raises:
        ValueError: if a line is not as described.
    """
    pairs = []
    for where, words in lines_of(path):
        if len(words) != 3 or words[2] not in ("0", "1"):
            raise ValueError(
                f"{where}: a pair is 'image image 1' or 'image image 0', but got "
                f"{' '.join(words)!r}."
            )
        pairs.append(Pair("", inside(words[0], where), inside(words[1], where), words[2] == "1"))
    return _with_people([replace(p, fold=str(i * 10 // len(pairs))) for i, p in enumerate(pairs)])


def read_image_list(path: Path) -> list[Pair]:
    """Read a list in whichever of these layouts its first line is.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is in none of them, is not as its layout wants it, holds one kind of pair
            only, or is a pickle: these can run code, and are never loaded.
    """
    with path.open("rb") as file:
        pickled = file.read(1) == b"\x80"
    if pickled or path.suffix in (".bin", ".pkl", ".pickle"):
        raise ValueError(
            f"{path} is a pickle, as insightface's .bin files are, and could run code when loaded: "
            "unpack it to a folder of images and a list with a line 'image image 1' for each mated "
            "pair and 'image image 0' for each other."
        )
    pairs = _reader(next(lines_of(path), ("", [","]))[1], path)(path)
    require_kinds(pairs, path)
    return pairs


def _reader(first: Sequence[str], path: Path) -> Callable[[Path], list[Pair]]:
    numbers = [word.isdecimal() for word in first]
    if any("," in word for word in first):
        return read_csv
    if len(first) <= 2 and all(numbers):
        return read_lfw
    if numbers == [False, True]:
        return read_twos
    if numbers == [False, False, True]:
        return read_threes
    raise ValueError(
        f"{path} begins with {' '.join(first)[:80]!r}, which is no layout read here: CSV with the "
        f"columns {', '.join(_COLUMNS)}; LFW's, which begins with '10 300'; lines 'image flag' in "
        "twos (CALFW, CPLFW); lines 'image image 1' or 'image image 0' (AgeDB-30)."
    )


def _in_tenths(pairs: Sequence[Pair]) -> list[Pair]:
    """Number the tenths of the mated pairs and those of the others as folds."""
    count = {kind: sum(pair.mated is kind for pair in pairs) for kind in (True, False)}
    before = dict.fromkeys(count, 0)
    found = []
    for pair in pairs:
        found.append(replace(pair, fold=str(before[pair.mated] * 10 // count[pair.mated])))
        before[pair.mated] += 1
    return found


def _with_people(pairs: list[Pair]) -> list[Pair]:
    """Tell whom the images show by the first way that agrees with every pair, if one does."""
    ways: tuple[Callable[[str], str], ...] = (
        folder_of,
        lambda name: _matched(_PERSON_OF_AGEDB, name),
        lambda name: _matched(_PERSON, name),
    )
    for person in ways:
        named = [replace(p, people=(person(p.first), person(p.second))) for p in pairs]
        if all(all(p.people) and (len(set(p.people)) == 1) is p.mated for p in named):
            return named
    return pairs


def _matched(pattern: re.Pattern[str], name: str) -> str:
    found = pattern.fullmatch(name)
    return found[1] if found else ""
