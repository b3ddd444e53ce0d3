"""``calibrate --pairs``: how often pairs of photos fail by their quality."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from captum_plq.attribution import PixelQualityAttribution
    from captum_plq.calibration import QualityThresholds
    from captum_plq.models import ModelSpec

__all__ = ["read_mated_pairs", "with_failures"]

_BATCH = 16
_COLUMNS = ("first", "second", "mated")

Pairs = list[tuple[str, str]]


def read_mated_pairs(path: Path) -> Pairs:
    """Read the mated pairs of a list, such as those of ``python -m benchmarks edc``.

    Args:

        path (Path): CSV, UTF-8, with the columns first and second, images relative to the folder
            of the photos, and mated, 1 or 0; others may be there. A person is a subfolder.

    Returns:
        *list[tuple[str, str]]*: first and second of the mated ones.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a column is missing, a value is something else, or the subfolders say
            something else than ``mated``.
    """
    found: Pairs = []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if missing := [name for name in _COLUMNS if name not in (reader.fieldnames or ())]:
            raise ValueError(
                f"{path} needs the columns {', '.join(_COLUMNS)}, but lacks {', '.join(missing)}."
            )
        for row in reader:
            first, second, mated = (row[name] for name in _COLUMNS)
            where = f"{path}, line {reader.line_num}:"
            if mated not in ("0", "1") or not first or not second or first == second:
                raise ValueError(
                    f"{where} a pair needs two images and mated 0 or 1, but got "
                    f"{[first, second, mated]}."
                )
            if (_person(first) == _person(second)) != (mated == "1"):
                raise ValueError(
                    f"{where} mated is {mated}, but the subfolders of {first} and {second} say "
                    "otherwise. Put all photos of a person, and of no one else, into one subfolder."
                )
            if mated == "1":
                found.append((first, second))
    if not found:
        raise ValueError(f"{path} has no mated pairs.")
    return found


def with_failures(
    thresholds: QualityThresholds,
    method: PixelQualityAttribution,
    spec: ModelSpec,
    directory: Path,
    pairs: Pairs,
    *,
    aligned: bool,
    device: str,
    left_out: dict[str, str],
) -> QualityThresholds:
    """Return thresholds with the failure rates of pairs of photos as they are.

    Args:

        thresholds (QualityThresholds): Without them.
        method (PixelQualityAttribution): Whose network and Q are taken.
        spec (ModelSpec): Of the network.
        directory (Path): What the images are relative to.
        pairs (list): Of :func:`read_mated_pairs`.
        aligned (bool): Whether the images are aligned crops.
        device (str): Where to compute.
        left_out (dict): Takes image → reason for what cannot be used.

    Raises:
        ValueError: if too few can be used.
    """
    import torch

    from captum_plq.calibration import measure_failures
    from captum_plq.errors import UnusableImagesError
    from captum_plq.faces import read_crops

    names = {directory / name: name for pair in pairs for name in pair}
    crops = read_crops(
        list(names), left_out, template=spec.alignment, size=spec.input_size, aligned=aligned
    )
    serfiq = method.quality_model.serfiq
    embeddings: list[Tensor] = []
    qualities: list[Tensor] = []
    place: dict[str, int] = {}

    def assess(paths: Sequence[Path], images: Tensor) -> None:
        try:
            with torch.no_grad():
                found = serfiq.assess(images)
        except ValueError as error:  # one bad image must not cost the others
            if len(paths) > 1:
                bad = error.indices if isinstance(error, UnusableImagesError) else range(len(paths))
                good = [i for i in range(len(paths)) if i not in bad]
                for some in ([good] if good else []) + [[i] for i in bad]:
                    assess([paths[i] for i in some], images[some])
            else:
                left_out[str(paths[0])] = str(error)
            return
        place.update({names[path]: len(place) + i for i, path in enumerate(paths)})
        embeddings.append(found.embedding.detach().flatten(1).float().cpu())
        qualities.append(found.quality.detach().double().cpu())

    for paths, images in _batches(crops):
        assess(paths, images.to(device))
    usable = [(place[a], place[b]) for a, b in pairs if a in place and b in place]
    if not usable:
        raise ValueError("No pair of --pairs could be used: see what was left out.")
    people = [_person(name) for name in place]
    failures = measure_failures(torch.cat(embeddings), torch.cat(qualities), people, usable)
    kind = "aligned crops" if aligned else "detected faces"
    return replace(
        thresholds,
        failures=failures,
        pairs=len(usable),
        people=len({people[i] for i, _ in usable}),
        source=f"photos of {directory.resolve().name} as they are, {kind}",
    )


def _batches(crops: Iterator[tuple[Path, object]]) -> Iterator[tuple[list[Path], Tensor]]:
    """Yield paths, and images (B, 3, H, W), float32, 0–255."""
    import numpy as np
    import torch

    while batch := list(islice(crops, _BATCH)):
        chips = torch.from_numpy(np.stack([np.asarray(chip) for _, chip in batch]))
        yield [path for path, _ in batch], chips.permute(0, 3, 1, 2).float()


def _person(name: str) -> str:
    return str(PurePosixPath(name).parent)
