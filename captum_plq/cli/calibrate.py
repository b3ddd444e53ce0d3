"""The command ``captum-plq calibrate``: from a folder of photos to a calibration file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from captum_plq.cli.options import Aligned, Directory, Method, Whole
from captum_plq.cli.pairs import read_mated_pairs, with_failures
from captum_plq.cli.terminal import LeftOut, tell

if TYPE_CHECKING:
    from torch import Tensor

    from captum_plq.calibration import Calibration

__all__ = ["command", "describe"]

_BATCH = 16

command = App(
    "calibrate",
    help_epilogue="""Examples:
  captum-plq calibrate faces/ -o mine.npz
  captum-plq calibrate crops/ --aligned --model my_network.py -o mine.npz
  captum-plq calibrate faces/ --pairs pairs.csv -o mine.npz""",
)


@command.default
def calibrate(
    directory: Directory,
    /,
    *,
    output: Annotated[
        Path,
        Parameter(
            name=("--output", "-o"),
            help="The calibration file to write, e.g. mine.npz.",
        ),
    ],
    aligned: Aligned = False,
    pairs: Annotated[
        Path | None,
        Parameter(
            help="CSV with the columns first, second (photos in DIR, a subfolder per person) and "
            "mated (1 or 0): measures how often images fail to match, by their Q.",
        ),
    ] = None,
    pool: Annotated[
        Whole,
        Parameter(
            help="Side of the box that deviations from the reference are averaged over, odd.",
        ),
    ] = 5,
    smooth: Annotated[
        Whole,
        Parameter(help="Side of the box that gradients are averaged over first, odd."),
    ] = 1,
    method: Method = Method(),
) -> int:
    """Measure α, r, γ and the references of a network on a folder of photos.

    A file that cannot be used is reported and left out, and the rest goes on.
    """
    from captum_plq._base.whole_file import require_writable
    from captum_plq.calibration import calibrate
    from captum_plq.faces import list_images, read_crops

    mated = None if pairs is None else read_mated_pairs(pairs)
    paths = list_images(directory)
    model = method.load()
    spec = model.spec
    plq = method.settings().attribution(model)
    require_writable(output, b"PK")
    left_out = LeftOut()
    crops = read_crops(
        paths, left_out, template=spec.alignment, size=spec.input_size, aligned=aligned
    )
    read: list[Path] = []
    unusable: dict[int, str] = {}

    def batches() -> Iterator[Tensor]:
        """Yield crops (B, 3, H, W), float32, 0–255, and note their files."""
        import numpy as np
        import torch

        while batch := list(islice(crops, _BATCH)):
            read.extend(path for path, _ in batch)
            chips = torch.from_numpy(np.stack([chip for _, chip in batch]))
            yield chips.permute(0, 3, 1, 2).float().to(method.device)

    found = calibrate(
        plq,
        batches(),
        left_out=unusable,
        pool_size=pool,
        blur_size=smooth,
        source=f"{directory.resolve().name}, {'aligned crops' if aligned else 'detected faces'}",
    )
    for place, reason in unusable.items():
        left_out[str(read[place])] = reason
    found = replace(found, left_out=len(left_out))
    failed = False
    if mated is not None and found.thresholds is not None:
        try:
            measured = with_failures(
                found.thresholds,
                plq,
                spec,
                directory,
                mated,
                aligned=aligned,
                device=method.device,
                left_out=left_out,
            )
        except ValueError as error:  # what was measured before is kept
            failed = True
            tell(f"no failure rates: {error}", error=True)
        else:
            found = replace(found, thresholds=measured)
    found.save(output)
    if left_out:
        tell(f"images that could not be used: {len(left_out)}", error=True)
    for line in [*describe(found), str(output)]:
        tell(line)
    return int(failed)


def describe(found: Calibration) -> list[str]:
    """Return what a calibration found, in a few lines."""
    scaling, reference, conditions = found.scaling, found.reference, found.conditions
    low, high, centre, border, holds = (
        found.low_quality, found.high_quality, found.centre_quality,
        found.border_quality, found.gamma_holds,
    )  # fmt: skip
    good = f"the {found.good_faces} faces of high quality"
    lines = [
        f"{found.network}: {found.faces} faces; m = {conditions.passes}, "
        f"p = {conditions.dropout:g}, weights {conditions.weights}",
        f"r = {scaling.r:.4f}, the mean of Q; α = {scaling.alpha:.1f}, from its 5th and 95th "
        f"percentile, {low:.4f} and {high:.4f}",
        f"γ = {found.gamma:.2f}: on {good}, the mean pixel quality is {centre:.2f} at the centre "
        f"and {border:.2f} at the border; ½ lies between them on {holds:.0%}",
    ]
    if reference is not None:
        unknown = float(reference.mean.isnan().double().mean())
        box, k = reference.pool_size, reference.blur_size
        lines.append(
            f"reference map of {good}: spread of ln ĝ "
            f"{float(reference.spread.nanmedian()):.2f}, box {box}×{box}"
            + (f", smoothed {k}×{k}" if k > 1 else "")
            + (f"; no gradient at {unknown:.1%} of the pixels" if unknown else "")
        )
    if found.local is not None:
        height, width = found.local.center.shape
        lines.append(
            f"local reference of {good}: ρ₀ = {found.local.snr:.2f}, {height}×{width} places of "
            f"{found.local_layer}"
        )
    elif found.without_local:
        lines.append(f"no local reference: {found.without_local}")
    if found.thresholds is not None:
        lines += found.thresholds.lines()
    if found.faces < 100:
        lines.append("Fewer than 100 faces: the percentiles, and so α, are rough.")
    if holds is not None and holds < 0.9:
        lines.append(
            "The centre of these faces does not stand out from the border. Are they aligned as "
            "this network expects, and is it trained?"
        )
    return lines
