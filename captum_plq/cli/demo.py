"""The main job on a portrait that needs no download: what one look at PLQ tells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from captum_plq.explanation import Explainer, Settings, calibration_that_holds
from captum_plq.explanation.names import result_names
from captum_plq.explanation.run_record import folder_lock
from captum_plq.faces import (
    MissingExtraError,
    align_face,
    blur,
    cover_eye,
    detect_faces,
    landmarks_in_chip,
    resize_aligned,
    sample_face,
    surgical_mask,
)
from captum_plq.models import DEFAULT_MODEL, ModelSpec, load_model

__all__ = ["run_demo"]

_BLUR = 0.03  # sigma, in chip heights


def run_demo(
    directory: Path,
    model: str = DEFAULT_MODEL,
    settings: Settings | None = None,
    checkpoint: Path | None = None,
) -> list[str]:
    """Explains NASA's portrait of an astronaut, as it is and spoilt in three ways.

    Args:

        directory (Path): Where the figure, the arrays and the record go.
        model (str): A network, see :func:`~captum_plq.models.load_model`.
        settings (Settings, optional): Default: the paper's.
        checkpoint (Path, optional): Weight file of a network that needs one.

    Returns:
        *list[str]*: lines for the person who asked: qualities, what to make of them, and the
        paths of the files.

    Raises:
        MissingExtraError: if the network wants another alignment than the ArcFace template, and
            the extra ``demo``, with the whole portrait and what finds the face in it, is not
            installed.
        ValueError: if ``directory`` cannot be written to, or another run writes there.
    """
    network = load_model(model, checkpoint)
    calibration = calibration_that_holds(network, settings)
    explainer = Explainer(network, settings, calibration)
    spec = explainer.spec
    chip, points = _face_for(spec)
    spoilt = {
        "as it is": chip,
        "square over one eye": cover_eye(chip, points, "left").image,
        "surgical mask": surgical_mask(chip, points).image,
        "blur": blur(chip, _BLUR * chip.shape[0]),
    }
    with folder_lock(directory):
        (stem,) = result_names([Path("astronaut")], directory)
        explanation = explainer(np.stack(list(spoilt.values())))
        paths = explanation.save(
            directory,
            stem,
            names=list(spoilt),
            extra={
                "source": "skimage.data.astronaut(), NASA, public domain",
                **({} if checkpoint is None else {"checkpoint": str(checkpoint)}),
            },
        )
    width = max(map(len, spoilt))
    titles = explanation.titles()
    lines = [f"{name:{width}}  {title}" for name, title in zip(spoilt, titles, strict=True)]
    if network.unused_weights:
        lines.append(f"Left out, for training only: {', '.join(network.unused_weights)}")
    return [*lines, *([spec.note] if spec.note else []), *(str(path) for path in paths)]


def _face_for(spec: ModelSpec) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The portrait's face as the network expects it, and its landmarks."""
    if spec.alignment == "arcface" and spec.input_size[0] == spec.input_size[1]:
        chip, points = sample_face()
        scale = spec.input_size[0] / chip.shape[0]
        return resize_aligned(chip, spec.input_size), (points + 0.5) * scale - 0.5
    portrait = _portrait()
    face = detect_faces(portrait)[0]
    template, size = spec.alignment, spec.input_size
    chip = align_face(portrait, face, template=template, size=size)
    return chip, landmarks_in_chip(face, template=template, size=size)


def _portrait() -> NDArray[np.uint8]:
    try:
        from skimage.data import astronaut
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "The whole portrait comes with scikit-image: pip install 'captum-plq[demo]'"
        ) from error
    return np.ascontiguousarray(astronaut()[..., :3])
