"""IJB-B and IJB-C: pairs of templates, each of them images of one person from several media."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from benchmarks.subjects.layouts.pair import Pair, inside, lines_of, require_kinds

Templates = Mapping[str, Sequence[tuple[str, str]]]
"""Template → its images, each with its medium."""
_AT_MOST = 1_000_000
"""Non-mated pairs held in memory; IJB-C lists 15.6 million."""


def read_templates(
    path: Path, limit: int | None = None, seed: int = 0
) -> tuple[list[Pair], dict[str, list[tuple[str, str]]]]:
    """Read the 1:1 protocol of IJB-C (or IJB-B) as insightface passes it on, a folder ``meta``.

    ``ijbc_face_tid_mid.txt`` has lines ``image template medium``, ``ijbc_template_pair_label.txt``
    lines ``template template label``, 1 for mated ones. Nothing names people: see
    :func:`connected`. Checked against programs of others that read it, not against the published
    files. Landmarks that come with it are not used: the images are aligned as all others.

    Args:

        path (Path): The folder.
        limit (int, optional): Of the mated pairs, as many, drawn. The non-mated ones are those that
            are listed between templates of these.
        seed (int): Of the draw.

    Returns:
        *tuple*: pairs, with templates for images; and template → its images with their media.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a line is not as described, a template has no image, one kind of pair is
            missing, or there are more than a million non-mated pairs.
    """
    name = next(path.glob("*_face_tid_mid.txt")).name.removesuffix("_face_tid_mid.txt")
    listed = path / f"{name}_template_pair_label.txt"
    mated = [Pair("", one, other, True) for one, other, label in _labels(listed) if label == "1"]
    if limit is not None and limit < len(mated):
        drawn = np.random.default_rng(seed).permutation(len(mated))[:limit]
        mated = [mated[i] for i in sorted(drawn)]
    within = None if limit is None else {x for p in mated for x in (p.first, p.second)}
    pairs = list(mated)
    for one, other, label in _labels(listed):
        if label == "0" and (within is None or {one, other} <= within):
            pairs.append(Pair("", one, other, False))
            if len(pairs) - len(mated) > _AT_MOST:
                raise ValueError(
                    f"{listed} gives more than {_AT_MOST} non-mated pairs: draw mated ones, and "
                    "with them fewer others, by --pairs-limit (1000, say)."
                )
    require_kinds(pairs, listed)
    wanted = {x for pair in pairs for x in (pair.first, pair.second)}
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for where, words in lines_of(path / f"{name}_face_tid_mid.txt"):
        if len(words) != 3:
            raise ValueError(
                f"{where}: needs 'image template medium', but got {' '.join(words)!r}."
            )
        if words[1] in wanted:
            found[words[1]].append((inside(words[0], where), words[2]))
    if without := wanted - found.keys():
        raise ValueError(
            f"{listed} pairs {len(without)} templates without images, such as {min(without)}."
        )
    return pairs, dict(found)


def pooled(
    values: Mapping[str, Tensor], names: Sequence[str], templates: Templates, unit: str
) -> tuple[list[str], dict[str, Tensor]]:
    """Turn embeddings and qualities of images into those of templates.

    The value of a medium is the mean over its images, that of a template the mean over its media:
    of embeddings, brought to length 1 again, and alike of qualities, so that an image counts for
    the quality of its template as much as for its embedding.

    Args:

        values (mapping): What → of each image, (n,) or (n, d).
        names (sequence of str): Of the images, in this order. Images of templates that are missing
            here are left out, and with them templates that have no other.
        templates (mapping): Template → its images with their media.
        unit (str): Key of the embeddings.

    Returns:
        *tuple*: names of the templates, and what → of each of them, (t,) or (t, d).

    Raises:
        ValueError: if the embeddings of a template cancel out.
    """
    number_of = {name: i for i, name in enumerate(names)}
    used, rows = [], []
    for template, images in templates.items():
        media: dict[str, list[int]] = defaultdict(list)
        for name, medium in images:
            if name in number_of:
                media[medium].append(number_of[name])
        if media:
            used.append(template)
            rows.append(list(media.values()))

    def mean(of: Tensor) -> Tensor:
        means = [torch.stack([of[one].mean(0) for one in media]).mean(0) for media in rows]
        return torch.stack(means) if means else of[:0]

    found = {key: mean(of) for key, of in values.items()}
    lengths = found[unit].norm(dim=1, keepdim=True)
    if bool((lengths < 1e-6).any()):
        template = used[int(lengths.flatten().argmin())]
        raise ValueError(f"The embeddings of template {template} cancel out.")
    found[unit] = found[unit] / lengths
    return used, found


def connected(mated: Sequence[Pair]) -> list[str]:
    """Return for each mated pair whom it shows: pairs that share an image show the same person."""
    names = dict.fromkeys(x for pair in mated for x in (pair.first, pair.second))
    number_of = {name: i for i, name in enumerate(names)}
    one, other = ([number_of[getattr(p, x)] for p in mated] for x in ("first", "second"))
    size = (len(names), len(names))
    graph = coo_array((np.ones(len(mated)), (one, other)), shape=size)
    groups = connected_components(graph, directed=False)[1]
    return [str(groups[i]) for i in one]


def _labels(path: Path) -> Iterator[tuple[str, str, str]]:
    for where, words in lines_of(path):
        if len(words) != 3 or words[2] not in ("0", "1"):
            raise ValueError(
                f"{where}: needs 'template template label', the label 0 or 1, but got "
                f"{' '.join(words)!r}."
            )
        yield words[0], words[1], words[2]
