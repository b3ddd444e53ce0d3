"""Calibrations that are found by name: the paper's, and those of networks that are shipped."""

from __future__ import annotations

from os import PathLike, fspath

from captum_plq.calibration.file import Calibration
from captum_plq.calibration.settings import MethodSettings
from captum_plq.functional import QualityScaling
from captum_plq.models import INCEPTION_RESNET_V1_SPEC
from captum_plq.models.architectures.dropout_mobilefacenet import (
    DROPOUT_MOBILEFACENETS,
    find_shipped_weights,
)

__all__ = ["PRESETS", "load_calibration", "shipped_calibration"]

_PAPER = (
    "From the paper (Terhörst et al., IEEE T-BIOM 2023, Sec. IV-B), for its own {network}, with "
    "{size} aligned crops and gradients with respect to 0–255 pixels. On another network, or "
    "other weights of this architecture, α, r and γ mean nothing. The paper does not state how it "
    "averages pairs or normalises the embedding."
)

PRESETS: dict[str, Calibration] = {
    "arcface": Calibration(
        network="ArcFace, ResNet-100",
        input_size=(112, 112),
        conditions=MethodSettings(),
        scaling=QualityScaling(130.0, 0.88),
        gamma=7.5,
        networks=("iresnet100",),
        source="the paper; α and r from the quality values of Adience",
        note=_PAPER.format(network="ArcFace ResNet-100, trained on MS1M", size="112×112"),
    ),
    "facenet": Calibration(
        network="FaceNet",
        input_size=(160, 160),
        conditions=MethodSettings(),
        scaling=QualityScaling(450.0, 0.93),
        gamma=5.5,
        networks=("facenet", INCEPTION_RESNET_V1_SPEC.name),
        source="the paper; α and r from the quality values of Adience",
        note=_PAPER.format(network="FaceNet, trained on MS1M", size="160×160"),
    ),
}
"""The paper's values, by name, without a reference map. The paper's weights were not published, so
there is no digest of them either: what is checked is the network's name, the image size and the
conditions."""


def load_calibration(name_or_file: str | PathLike[str]) -> Calibration:
    """Find a calibration: a preset by its name, or else a file.

    Args:

        name_or_file (str or PathLike): A name of ``PRESETS``, or of a network that this package
            ships, neither of which is ever taken for a file; or a file of
            :meth:`Calibration.save`.

    Returns:
        *Calibration*: ready for :class:`~captum_plq.explanation.Explainer`.

    Raises:
        FileNotFoundError: if it is neither; names the presets.
        ValueError: as :meth:`Calibration.load`.
    """
    if isinstance(name_or_file, str):
        preset = PRESETS.get(name_or_file) or shipped_calibration(name_or_file)
        if preset is not None:
            return preset
    try:
        return Calibration.load(name_or_file)
    except FileNotFoundError as error:
        shipped = (architecture.spec.name for architecture in DROPOUT_MOBILEFACENETS)
        known = ", ".join(map(repr, (*PRESETS, *shipped)))
        raise FileNotFoundError(
            f"There is no calibration file {fspath(name_or_file)}, and the presets are {known}."
        ) from error


def shipped_calibration(network: str) -> Calibration | None:
    """Return the calibration that lies beside the weights of a network that this package ships.

    Args:

        network (str): Its name, such as ``captum_plq.models.DEFAULT_MODEL``.

    Returns:
        *Calibration or None*: ``None`` for any other network.
    """
    weights = find_shipped_weights(network)
    path = None if weights is None else weights.with_suffix(".npz")
    return Calibration.load(path) if path is not None and path.is_file() else None
