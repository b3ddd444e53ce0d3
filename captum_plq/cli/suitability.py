"""The command ``captum-plq suitability``: whether SER-FIQ is informative on a network."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from captum_plq.cli.options import Aligned, Directory, Network, Whole
from captum_plq.cli.terminal import LeftOut, tell

__all__ = ["command"]

command = App(
    "suitability",
    help_epilogue="Example:\n  captum-plq suitability faces/ --model my_network.py",
)


@command.default
def suitability(
    directory: Directory,
    /,
    *,
    faces: Annotated[Whole, Parameter(help="How many to take, of different people first.")] = 200,
    aligned: Aligned = False,
    local: Annotated[
        bool,
        Parameter(
            help="Judge the quality that local maps add up to: dropout on the last spatial map.",
            show_default=False,
        ),
    ] = False,
    all_scores: Annotated[
        bool,
        Parameter(help="Judge every quality score, not SER-FIQ's settings.", show_default=False),
    ] = False,
    seed: Annotated[Whole, Parameter(help="Of the draw, of masks, noise and resampling.")] = 0,
    network: Network = Network(),
    output: Annotated[
        Path | None,
        Parameter(name=("--output", "-o"), help="Where the measurements go, as JSON."),
    ] = None,
) -> None:
    """Measure whether a score is informative on a network; subfolders of DIR are people."""
    import numpy as np

    from captum_plq._base.device import usable_device
    from captum_plq._base.versions import package_versions
    from captum_plq._base.whole_file import require_writable, write_json
    from captum_plq.faces import draw_images, read_crops
    from captum_plq.quality.spatial import SpatialSERFIQ
    from captum_plq.suitability import assess_suitability, compare_scores

    if local and all_scores:
        raise ValueError("--local and --all-scores exclude each other: give one of them.")
    model = network.load().to(usable_device(network.device))
    spec = model.spec
    if output is not None:
        require_writable(output, b"{")
    if faces < 1:
        raise ValueError(f"--faces must be at least 1, but got {faces}.")
    left_out = LeftOut()
    images = draw_images(directory, seed)
    crops = read_crops(
        images, left_out, template=spec.alignment, size=spec.input_size, aligned=aligned
    )
    found = list(islice(crops, faces))
    if not found:
        raise ValueError(f"{directory} has no usable face; {len(left_out)} images were left out.")
    if len(found) < faces:
        count = f"{len(found)} usable face" + ("" if len(found) == 1 else "s")
        tell(f"{directory} has {count}; {faces} were asked for (--faces)", error=True)
    chips = np.stack([chip for _, chip in found])

    def progress(text: str) -> None:
        tell(text, error=True)

    result = (
        compare_scores(model, chips, seed=seed, progress=progress)
        if all_scores
        else assess_suitability(
            SpatialSERFIQ(model) if local else model,
            chips,
            passes=network.passes,
            seed=seed,
            progress=progress,
        )
    )
    tell(f"{spec.name}: {result.table()}", lines=True)
    if output is not None:
        record = {
            "model": spec.name,
            **result.to_json(),
            "images": [str(path.relative_to(directory)) for path, _ in found],
            "left_out": [{"image": path, "reason": why} for path, why in left_out.items()],
            "versions": package_versions(),
        }
        write_json(output, record)
        tell(str(output))
