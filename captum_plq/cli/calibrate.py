"""The command ``captum-plq calibrate``: from a folder of photographs to a calibration file."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captum_plq.cli.options import add_method, settings_of
from captum_plq.cli.terminal import LeftOut, tell

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from captum_plq.calibration import Calibration
    from captum_plq.explanation import Settings

__all__ = ["add_calibrate", "describe", "run_calibrate"]

_BATCH = 16


def add_calibrate(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "calibrate", help="measure α, r, γ and what good faces show, on a folder of images"
    )
    add = parser.add_argument
    add("directory", metavar="DIR", type=Path)
    add("--aligned", action="store_true", help="images are aligned face crops")
    add("-o", "--output", type=Path, required=True, metavar="FILE",
        help="the calibration file to write, e.g. mine.npz")  # fmt: skip
    for name, default, words in (
        ("--pool", 5, "deviations from good faces are averaged over"),
        ("--smooth", 1, "gradients are averaged over first"),
    ):
        add(name, type=int, default=default, metavar="K",
            help=f"side of the box that {words}, odd (default: {default})")  # fmt: skip
    add_method(parser)
    parser.set_defaults(run=_calibrate, gamma=None)


def _calibrate(arguments: argparse.Namespace) -> int:
    lines, left_out = run_calibrate(
        arguments.directory,
        arguments.output,
        arguments.model,
        settings_of(arguments),
        checkpoint=arguments.checkpoint,
        aligned=arguments.aligned,
        pool=arguments.pool,
        smoothed=arguments.smooth,
    )
    if left_out:
        tell(f"images that could not be used: {len(left_out)}", error=True)
    for line in lines:
        tell(line)
    return 0


def run_calibrate(
    directory: Path,
    output: Path,
    model: str = "mobilefacenet-dropout",
    settings: Settings | None = None,
    *,
    checkpoint: Path | None = None,
    aligned: bool = False,
    pool: int = 5,
    smoothed: int = 1,
) -> tuple[list[str], dict[str, str]]:
    """Calibrates a network on the images of a folder and writes the file.

    An image that cannot be used is left out and told on standard error; the rest goes on.

    Args:

        directory (Path): Searched with its subfolders, in alphabetical order, for files with the
            ending of an image.
        output (Path): The file to write.
        model (str): A network, see :func:`~captum_plq.models.load_model`.
        settings (Settings, optional): What the calibration shall hold for; its γ is not used.
            Default: the paper's.
        checkpoint (Path, optional): Weight file of a network that needs one.
        aligned (bool): The images are aligned face crops. Otherwise the surest face of each is
            found and aligned.
        pool (int): As of :func:`~captum_plq.calibration.calibrate`.
        smoothed (int): Likewise.

    Returns:
        *tuple[list[str], dict[str, str]]*: lines for the person who asked, and of the images
        that could not be used, file → reason.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it holds no images, or too few that can be used, or ``output`` cannot be
            written.
        ImportError: if the extra ``faces`` is not installed.
    """
    from captum_plq._base.whole_file import require_writable
    from captum_plq.calibration import calibrate
    from captum_plq.explanation import Explainer
    from captum_plq.faces import list_images, read_crops
    from captum_plq.models import load_model

    paths = list_images(directory)
    explainer = Explainer(load_model(model, checkpoint), settings)
    require_writable(output, b"PK")
    spec = explainer.spec
    left_out = LeftOut()
    crops = read_crops(
        paths, left_out, template=spec.alignment, size=spec.input_size, aligned=aligned
    )
    read: list[Path] = []
    unusable: dict[int, str] = {}
    found = calibrate(
        explainer.plq,
        _batches(crops, read, explainer.device),
        left_out=unusable,
        pool_size=pool,
        blur_size=smoothed,
        source=f"{directory.resolve().name}, {'aligned crops' if aligned else 'detected faces'}",
    )
    for place, reason in unusable.items():
        left_out[str(read[place])] = reason
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
        box, k = reference.pool_size, reference.blur_size
        lines.append(
            f"reference map of the {found.good_faces} good faces: spread of ln ĝ "
            f"{float(reference.spread.nanmedian()):.2f}, box {box}×{box}"
            + (f", smoothed {k}×{k}" if k > 1 else "")
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
    crops: Iterable[tuple[Path, NDArray[np.uint8]]], read: list[Path], device: torch.device
) -> Iterator[Tensor]:
    """Crops as batches (B, 3, H, W), float32, 0–255; ``read`` takes their files."""
    import numpy as np
    import torch

    remaining = iter(crops)
    while batch := list(islice(remaining, _BATCH)):
        read += [path for path, _ in batch]
        chips = np.stack([chip for _, chip in batch])
        yield torch.from_numpy(chips).permute(0, 3, 1, 2).float().to(device)
