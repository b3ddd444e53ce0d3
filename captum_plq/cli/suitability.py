"""The command ``captum-plq suitability``: whether SER-FIQ is informative on a network."""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captum_plq.cli.options import add_network
from captum_plq.cli.terminal import LeftOut, tell

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from captum_plq.models import ModelSpec

__all__ = ["add_suitability"]


def add_suitability(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "suitability", help="measure whether SER-FIQ is informative on a network"
    )
    add = parser.add_argument
    add("directory", metavar="DIR", type=Path, help="photos of faces; subfolders are people")
    add("--faces", type=int, default=200, metavar="N",
        help="how many to take, of different people first (default: %(default)s)")  # fmt: skip
    add("--aligned", action="store_true", help="images are aligned face crops")
    add("--seed", type=int, default=0, help="of the draw, of masks, noise and resampling")
    add_network(parser)
    add("-o", "--output", type=Path, metavar="FILE", help="where the figures go, as JSON")
    parser.set_defaults(run=_suitability)


def _suitability(arguments: argparse.Namespace) -> int:
    from captum_plq._base.device import usable_device
    from captum_plq._base.versions import package_versions
    from captum_plq._base.whole_file import require_writable, write_json
    from captum_plq.models import load_model
    from captum_plq.suitability import assess_suitability

    model = load_model(arguments.model, arguments.checkpoint).to(usable_device(arguments.device))
    spec = model.spec
    if arguments.output is not None:
        require_writable(arguments.output, b"{")
    chips, used, failures = _chips(
        arguments.directory, spec, arguments.faces, arguments.seed, arguments.aligned
    )
    if len(chips) < arguments.faces:
        tell(
            f"{arguments.directory} holds {len(chips)} usable faces; {arguments.faces} were asked "
            "for (--faces)",
            error=True,
        )
    suitability = assess_suitability(
        model,
        chips,
        passes=arguments.passes,
        seed=arguments.seed,
        progress=lambda text: tell(text, error=True),
    )
    tell(f"{spec.name}: {suitability.table()}", lines=True)
    if arguments.output is not None:
        record = {
            "model": spec.name,
            **suitability.to_json(),
            "images": used,
            "left_out": [{"image": path, "reason": why} for path, why in failures.items()],
            "versions": package_versions(),
        }
        write_json(arguments.output, record)
        tell(str(arguments.output))
    return 0


def _chips(
    directory: Path, spec: ModelSpec, count: int, seed: int, aligned: bool
) -> tuple[NDArray[np.uint8], list[str], dict[str, str]]:
    """Aligned faces (n, H, W, 3), their files, and the files that could not be used."""
    import numpy as np

    from captum_plq.faces import draw_images, read_crops

    if count < 1:
        raise ValueError(f"--faces must be at least 1, but got {count}.")
    failures = LeftOut()
    crops = read_crops(
        draw_images(directory, seed),
        failures,
        template=spec.alignment,
        size=spec.input_size,
        aligned=aligned,
    )
    found = list(islice(crops, count))
    if not found:
        raise ValueError(f"{directory} holds no usable face; {len(failures)} images were left out.")
    used = [str(path.relative_to(directory)) for path, _ in found]
    return np.stack([chip for _, chip in found]), used, failures
