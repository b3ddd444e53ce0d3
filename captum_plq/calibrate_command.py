"""From a folder of photographs to a calibration file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_plq.calibration import Calibration, calibrate
from captum_plq.explanation import Explainer, Settings
from captum_plq.faces import align_face, detect_faces, load_image, resize_aligned
from captum_plq.models import ModelSpec, load_model

__all__ = ["run_calibrate"]

_ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
_BATCH = 16


def run_calibrate(
    directory: Path,
    output: Path,
    model: str = "dlib",
    settings: Settings | None = None,
    *,
    aligned: bool = False,
    report: Callable[[str], None] | None = None,
) -> tuple[list[str], dict[str, str]]:
    """Calibrates a network on the images of a folder and writes the file.

    Args:

        directory (Path): Searched with its subfolders, in alphabetical order, for files with the
            ending of an image.
        output (Path): The file to write.
        model (str): A network, see :func:`~captum_plq.models.load_model`.
        settings (Settings, optional): What the calibration shall hold for; its γ is not used.
            Default: the paper's.
        aligned (bool): The images are aligned face crops. Otherwise the surest face of each is
            found and aligned.
        report (Callable, optional): Called with one line for each image that cannot be used.

    Returns:
        *tuple[list[str], dict[str, str]]*: lines for the person who asked, and of the images
        that could not be used, file → reason.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it holds no images, or too few that can be used.
        ImportError: if the extra ``faces`` is not installed.
    """
    if not directory.is_dir():
        raise FileNotFoundError(f"There is no folder {directory}.")
    if output.is_dir():
        raise ValueError(f"{output} is a folder: name the file to write, e.g. {output / 'c.npz'}.")
    paths = sorted(p for p in directory.rglob("*") if p.suffix.lower() in _ENDINGS)
    if not paths:
        raise ValueError(f"{directory} holds no images ({', '.join(sorted(_ENDINGS))}).")
    explainer = Explainer(load_model(model), settings)
    left_out: dict[str, str] = {}
    found = calibrate(
        explainer.plq,
        _batches(paths, explainer.spec, aligned, explainer.device, left_out, report),
        source=f"{directory.resolve().name}, {'aligned crops' if aligned else 'detected faces'}",
    )
    found = replace(found, left_out=len(left_out))
    found.save(output)
    return [*describe(found), str(output)], left_out


def describe(found: Calibration) -> list[str]:
    """What a calibration found, in a few lines."""
    scaling, reference = found.scaling, found.reference
    conditions = found.conditions
    low, high, centre, border, holds = (
        found.low_quality, found.high_quality, found.centre_quality,
        found.border_quality, found.gamma_holds,
    )  # fmt: skip
    lines = [
        f"{found.network}: {found.faces} faces; m = {conditions.passes}, "
        f"p = {conditions.dropout:g}, weights {conditions.weights}",
        f"r = {scaling.r:.4f}, the mean of Q; α = {scaling.alpha:.1f}, from its 5th and 95th "
        f"percentile, {low:.4f} and {high:.4f}",
        f"γ = {found.gamma:.2f}: on the {found.good_faces} good faces the middle reads "
        f"{centre:.2f}, the border {border:.2f}; above and below ½ on {holds:.0%} of them",
    ]
    if reference is not None:
        unknown = float(reference.mean.isnan().double().mean())
        lines.append(
            f"reference map of the {found.good_faces} good faces: spread of ln ĝ "
            f"{float(reference.spread.nanmedian()):.2f}, box {reference.pool}×{reference.pool}"
            + (f"; {unknown:.1%} of the places show no gradient" if unknown else "")
        )
    if found.faces < 100:
        lines.append("Fewer than 100 faces: the percentiles, and so α, are rough.")
    if holds is not None and holds < 0.9:
        lines.append(
            "The middle of these faces does not stand out from the border: are they aligned as "
            "this network expects, and is it trained?"
        )
    return lines


def _batches(
    paths: list[Path],
    spec: ModelSpec,
    aligned: bool,
    device: torch.device,
    left_out: dict[str, str],
    report: Callable[[str], None] | None,
) -> Iterator[Tensor]:
    chips: list[NDArray[np.uint8]] = []
    for path in paths:
        try:
            chips.append(_chip(path, spec, aligned))
        except ImportError:
            raise
        except Exception as error:  # one bad image must not cost the others
            reason = str(error) if isinstance(error, ValueError) else repr(error)
            left_out[str(path)] = reason.removeprefix(f"{path} ")
            if report is not None:
                report(f"{path}: {left_out[str(path)]}")
        if len(chips) == _BATCH:
            yield _tensor(chips, device)
            chips = []
    if chips:
        yield _tensor(chips, device)


def _chip(path: Path, spec: ModelSpec, aligned: bool) -> NDArray[np.uint8]:
    image = load_image(path)
    if aligned:
        return resize_aligned(image, spec.input_size)
    face = detect_faces(image)[0]
    return align_face(image, face, template=spec.alignment, size=spec.input_size)


def _tensor(chips: list[NDArray[np.uint8]], device: torch.device) -> Tensor:
    return torch.from_numpy(np.stack(chips)).permute(0, 3, 1, 2).float().to(device)
