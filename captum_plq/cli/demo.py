"""The command ``captum-plq demo``: what the maps show, on a portrait that needs no download."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import App

from captum_plq.cli.explain import load_explainer
from captum_plq.cli.options import Explaining
from captum_plq.cli.terminal import tell

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from captum_plq.explanation import Explainer
    from captum_plq.models import ModelSpec

__all__ = ["command", "run_demo"]

_BLUR = 0.03  # sigma, in chip heights

command = App("demo", help_epilogue="Example:\n  captum-plq demo -o demo-output")


@command.default
def demo(*, options: Explaining) -> None:
    """Explain a portrait, as it is and degraded in three ways; needs no download."""
    explainer = load_explainer(options)
    extra = {"source": "skimage.data.astronaut(), NASA, public domain", **options.extra()}
    for line in run_demo(options.output, explainer, extra):
        tell(line)


def run_demo(
    directory: Path, explainer: Explainer | None = None, extra: dict[str, Any] | None = None
) -> list[str]:
    """Explain NASA's portrait of an astronaut, as it is and degraded in three ways.

    Args:

        directory (Path): Where the figure, the arrays and the record go.
        explainer (Explainer, optional): Default: of this package's network, as the paper has it.
        extra (dict, optional): More for the record.

    Returns:
        *list[str]*: lines for the user: the quality of each image, and the paths of the files.

    Raises:
        MissingExtraError: if the network wants another alignment than the ArcFace template, and
            the extra ``demo``, with the whole portrait and what finds the face in it, is not
            installed.
        ValueError: if ``directory`` cannot be written to, or another run writes there.
    """
    import numpy as np

    from captum_plq._base.folder_lock import folder_lock
    from captum_plq.explanation import Explainer, matching_calibration
    from captum_plq.explanation.names import result_names
    from captum_plq.faces import blur, cover_eye, surgical_mask
    from captum_plq.models import DEFAULT_MODEL, load_model

    if explainer is None:
        network = load_model(DEFAULT_MODEL)
        explainer = Explainer(network, calibration=matching_calibration(network))
    chip, points = _face_for(explainer.spec)
    images = {
        "as it is": chip,
        "square over one eye": cover_eye(chip, points, "left").image,
        "surgical mask": surgical_mask(chip, points).image,
        "blur": blur(chip, _BLUR * chip.shape[0]),
    }
    with folder_lock(directory):
        (stem,) = result_names([Path("astronaut")], directory)
        explanation = explainer(np.stack(list(images.values())))
        paths = explanation.save(directory, stem, names=list(images), extra=extra)
    width = max(map(len, images))
    titles = [", ".join(title.splitlines()) for title in explanation.titles()]
    if explanation.local is not None:
        found = zip(titles, explanation.local.words(), strict=True)
        titles = [f"{title}; local quality: {words}" for title, words in found]
    lines = [f"{name:{width}}  {title}" for name, title in zip(images, titles, strict=True)]
    return [*lines, *map(str, paths)]


def _face_for(spec: ModelSpec) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return the portrait's face as the network expects it, and its landmarks."""
    from captum_plq.faces import (
        align_face,
        detect_faces,
        landmarks_in_chip,
        resize_aligned,
        sample_face,
    )

    template, size = spec.alignment, spec.input_size
    if template == "arcface" and size[0] == size[1]:
        chip, points = sample_face()
        scale = size[0] / chip.shape[0]
        return resize_aligned(chip, size), (points + 0.5) * scale - 0.5
    portrait = _portrait()
    face = detect_faces(portrait)[0]
    chip = align_face(portrait, face, template=template, size=size)
    return chip, landmarks_in_chip(face, template=template, size=size)


def _portrait() -> NDArray[np.uint8]:
    import numpy as np

    from captum_plq.errors import extra

    with extra("demo"):
        from skimage.data import astronaut
    return np.ascontiguousarray(astronaut()[..., :3])
