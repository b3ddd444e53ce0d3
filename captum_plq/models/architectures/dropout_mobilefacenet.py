"""A compact face network with ArcFace's dropout head: 112×112 pixels to 128 numbers."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from functools import partial
from importlib.resources import files
from os import PathLike
from pathlib import Path

from torch import nn

from captum_plq.functional import QualityScaling
from captum_plq.models.architecture import Architecture, InstalledWeights
from captum_plq.models.architectures.mobilefacenet_layouts import foamliu
from captum_plq.models.spec import FaceModel, ModelSpec

__all__ = [
    "DROPOUT_MOBILEFACENETS",
    "DROPOUT_MOBILEFACENET_SPEC",
    "DROPOUT_RATE",
    "NECK_CHANNELS",
    "PLACES_MOBILEFACENET_SPEC",
    "TRUNK",
    "DropoutMobileFaceNet",
    "dropout_mobilefacenet",
    "find_shipped_weights",
    "new_dropout_mobilefacenet",
]

DROPOUT_MOBILEFACENET_SPEC = ModelSpec(
    name="mobilefacenet-dropout",
    input_size=(112, 112),
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
    channel_order="RGB",
    alignment="arcface",
    embedding_layer="fc",
    trained_with_dropout=True,
    scaling=QualityScaling(20.99, 0.6445),
    gamma=10.684,
    licence_code="BSD-3-Clause (this package)",
    licence_weights="Apache-2.0 (distilled from foamliu/MobileFaceNet, Apache-2.0)",
    source="this package, benchmarks/training",
)

PLACES_MOBILEFACENET_SPEC = replace(
    DROPOUT_MOBILEFACENET_SPEC,
    name="mobilefacenet-places",
    scaling=QualityScaling(21.83, 0.6428),
    gamma=10.732,
)
"""Trained further, so that the noise under dropout lies where the embedding errs."""

DROPOUT_RATE = 0.5
"""Of the features in training, the same as SER-FIQ's."""

NECK_CHANNELS = 128
"""Channels of the 7×7 map that is flattened: 6,272 features, of which some are dropped."""

_EMBEDDING_SIZE = 128

TRUNK = ("conv1", "dw_conv", "features", "conv2")
"""Children that are named and shaped as in the MobileFaceNet layout ``"foamliu"``."""


class DropoutMobileFaceNet(nn.Sequential):
    """MobileFaceNet up to its 512×7×7 map, then the head of ArcFace's ResNets.

    The trunk is that of Chen et al., "MobileFaceNets" (CCBR 2018), Table 1, with ReLU6. Its
    global depthwise convolution is replaced by what SER-FIQ was defined on (Terhörst et al.,
    CVPR 2020, on ArcFace): BatchNorm, dropout of the flattened map, a linear layer, BatchNorm.
    A 1×1 convolution before it keeps the linear layer small. Built by
    :func:`new_dropout_mobilefacenet`.

    Shape:

        - Input: (B, 3, 112, 112), normalised as in :data:`DROPOUT_MOBILEFACENET_SPEC`.
        - Output: (B, 128), not of unit length.
    """


def new_dropout_mobilefacenet(neck: int = NECK_CHANNELS) -> DropoutMobileFaceNet:
    """Build the network, untrained, in training mode.

    Args:

        neck (int): Channels of the map that is flattened; the shipped weights have 128.

    Examples::

        >>> sum(p.numel() for p in new_dropout_mobilefacenet().parameters())
        1776896
    """
    trunk = foamliu(_EMBEDDING_SIZE)
    children: list[tuple[str, nn.Module]] = [
        *((name, trunk[name]) for name in TRUNK),
        ("neck", nn.Conv2d(512, neck, 1, bias=False)),
        ("bn1", nn.BatchNorm2d(neck)),
        ("flatten", nn.Flatten()),
        ("dropout", nn.Dropout(DROPOUT_RATE)),
        ("fc", nn.Linear(neck * 7 * 7, _EMBEDDING_SIZE)),
        ("bn2", nn.BatchNorm1d(_EMBEDDING_SIZE)),
    ]
    return DropoutMobileFaceNet(OrderedDict(children))


def find_shipped_weights(name: str) -> Path | None:
    """Return the weights that came with this package.

    Args:

        name (str): Of the network.

    Returns:
        *Path or None*: ``None`` if there are none of that name, or they were left out.
    """
    if name not in (DROPOUT_MOBILEFACENET_SPEC.name, PLACES_MOBILEFACENET_SPEC.name):
        return None
    folder = files("captum_plq.models")
    path = Path(str(folder.joinpath("weights").joinpath(f"{name}.safetensors")))
    return path if path.is_file() else None


def dropout_mobilefacenet(
    weights: str | PathLike[str] | None = None, name: str = "mobilefacenet-dropout"
) -> FaceModel:
    """Load a face network that this package ships.

    What it was trained on, what it is for and what not: the model card, ``weights/NAME.md``
    beside the weights.

    Args:

        weights (str or PathLike, optional): Other weights of this architecture, as
            ``python -m benchmarks.training`` writes them. ``None``: those in the package.
        name (str): ``"mobilefacenet-dropout"`` or ``"mobilefacenet-places"``.

    Returns:
        *FaceModel*: in eval mode, float32, on the CPU. It takes (B, 3, 112, 112), RGB, 0–255, and
        returns (B, 128). The global random state is left alone.

    Raises:
        ImportError: if the package was installed without the weights.
        FileNotFoundError: if there is no file ``weights``.
        ValueError: if there is no such name; if the file holds something else; if the one in the
            package was changed.

    Examples::

        >>> model = dropout_mobilefacenet()
        >>> embedding = model(chips)  # chips: (B, 3, 112, 112), RGB, 0–255
    """
    for architecture in DROPOUT_MOBILEFACENETS:
        if architecture.spec.name == name:
            return architecture.load(weights)
    known = " and ".join(repr(architecture.spec.name) for architecture in DROPOUT_MOBILEFACENETS)
    raise ValueError(f"There is no network {name!r} of this kind; there are {known}.")


def _shipped(spec: ModelSpec, sha256: str) -> Architecture:
    return Architecture(
        spec=spec,
        build=new_dropout_mobilefacenet,
        weights=f"{spec.name}.safetensors",
        installed=InstalledWeights(
            find=partial(find_shipped_weights, spec.name),
            sha256=sha256,
            command="pip install --force-reinstall captum-plq",
            package="captum-plq",
        ),
    )


# Hashes of the files in weights/: who makes one anew writes its own here.
DROPOUT_MOBILEFACENETS = (
    _shipped(
        PLACES_MOBILEFACENET_SPEC,
        "bfa87cce86bc54ac1f292d853e04ebd685477e1007efee7114dcb54da9b97e67",
    ),
    _shipped(
        DROPOUT_MOBILEFACENET_SPEC,
        "929013d45f2317afb8f29a08a704f61b672db82310534f000d33c5edef223cd9",
    ),
)
"""What :func:`~captum_plq.models.load_model` loads by these names; the first is the default."""
