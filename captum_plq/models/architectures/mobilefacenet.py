"""MobileFaceNet: 112×112 pixels to 128 or 512 numbers, in the layouts its weights come in."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from torch import nn

from captum_plq._base.choices import require_choice
from captum_plq.models.architecture import Architecture
from captum_plq.models.architectures.mobilefacenet_layouts import (
    LAYOUTS,
    MobileFaceNetLayout,
)
from captum_plq.models.spec import ModelSpec

__all__ = [
    "MOBILEFACENETS",
    "MOBILEFACENET_SPECS",
    "MobileFaceNet",
    "MobileFaceNetLayout",
    "mobilefacenet",
]

_PAPER = "Chen et al., MobileFaceNets (CCBR 2018); weights: "
_MEASURED = (
    "This network was not trained with dropout, but SER-FIQ tells good from degraded faces "
    "on it (AUROC of Q, 200 LFW faces against the same degraded, {})."
)

# insightface's arcface_torch; the others differ from it.
_SPEC = ModelSpec(
    name="mobilefacenet-arcface-torch",
    input_size=(112, 112),
    mean=(127.5, 127.5, 127.5),
    std=(127.5, 127.5, 127.5),
    channel_order="RGB",
    alignment="arcface",
    embedding_layer="features.layers.2",
    trained_with_dropout=False,
    licence_code="BSD-3-Clause (this package)",
    licence_weights="non-commercial research only (InsightFace's model zoo)",
    source="insightface, recognition/arcface_torch (mbf, backbone.pth)",
    note=(
        "This network was not trained with dropout; how informative SER-FIQ is on it has "
        "not been measured."
    ),
)

MOBILEFACENET_SPECS: dict[MobileFaceNetLayout, ModelSpec] = {
    "y1": replace(
        _SPEC,
        name="mobilefacenet-y1",
        std=(128.0, 128.0, 128.0),
        embedding_layer="pre_fc1",
        source=(
            f"{_PAPER}insightface's model zoo, MobileFaceNet, ArcFace@ms1m-refine-v1 "
            "(model-y1-test2), under its MXNet names"
        ),
        note=_MEASURED.format("0.975 to 0.998"),
    ),
    "foamliu": replace(
        _SPEC,
        name="mobilefacenet-foamliu",
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
        embedding_layer="conv3",
        licence_weights="Apache-2.0 (its repository)",
        source=f"{_PAPER}foamliu/MobileFaceNet",
        note=_MEASURED.format("0.90 to 0.96"),
    ),
    "xiaoccer": replace(
        _SPEC,
        name="mobilefacenet-xiaoccer",
        std=(128.0, 128.0, 128.0),
        embedding_layer="linear1.conv",
        licence_weights="none stated; trained on CASIA-WebFace",
        source=(
            f"{_PAPER}Xiaoccer/MobileFaceNet_Pytorch (model/best/068.ckpt, under net_state_dict)"
        ),
        note=(
            "This network was trained on 112×96 faces: the outer 8 columns on either side are "
            "cut off, and get no gradient. It was not trained with dropout; how informative "
            "SER-FIQ is on it has not been measured."
        ),
    ),
    "treb1en": replace(
        _SPEC,
        name="mobilefacenet-treb1en",
        channel_order="BGR",
        embedding_layer="linear",
        licence_weights="published with MIT code; trained on refined MS-Celeb-1M",
        source=(
            f"{_PAPER}TreB1eN/InsightFace_Pytorch (model_mobilefacenet.pth), which reads its "
            "images with OpenCV, thus as BGR"
        ),
    ),
    "arcface_torch": _SPEC,
    "arcface_torch_large": replace(
        _SPEC,
        name="mobilefacenet-arcface-torch-large",
        source="insightface, recognition/arcface_torch (mbf_large, backbone.pth)",
    ),
}
"""What has to be known about a :class:`MobileFaceNet`, by layout.

None has α, r and γ: they have not been measured on these weights.
"""


class MobileFaceNet(nn.Sequential):
    """MobileFaceNet, in one of the layouts of its published weights.

    The network of Chen et al., "MobileFaceNets: Efficient CNNs for Accurate Real-Time Face
    Verification on Mobile Devices" (CCBR 2018), Table 1: a 3×3 convolution, a depthwise one,
    bottlenecks (widening 1×1, depthwise 3×3, linear 1×1; with a residual where the shapes
    allow it), a 1×1 convolution to 512 channels, a global depthwise convolution, a linear
    layer, BatchNorm. The maps are 56×56 after the first convolution, then 28, 14 and 7.

    Built by :func:`mobilefacenet`; its children and their names are those of the layout.

    Shape:

        - Input: (B, 3, 112, 112), normalised as in :data:`MOBILEFACENET_SPECS`. The layout
          ``"xiaoccer"`` also takes (B, 3, 112, 96).
        - Output: (B, d); of unit length for ``"treb1en"`` only.
    """


def mobilefacenet(layout: MobileFaceNetLayout, embedding_size: int | None = None) -> MobileFaceNet:
    """Build a :class:`MobileFaceNet`, untrained, that takes the published weights of its layout.

    The weights themselves are not distributed here.

    Args:

        layout (str): One of

            - ``"y1"``: insightface's MXNet model, under its own names (``conv_1.conv2d``,
              ``res_3.model.block0.conv_sep``, ``pre_fc1``);
            - ``"foamliu"``: ReLU6 in place of PReLU (``dw_conv.depthwise``,
              ``features.0.conv.0.0``, ``conv3``);
            - ``"xiaoccer"``: for 112×96 faces (``blocks.0.conv.0``, ``linear1.conv``);
            - ``"treb1en"``: BGR (``conv_23.conv_dw.conv``, ``conv_6_dw.bn``, ``linear``);
            - ``"arcface_torch"``: insightface's ``mbf``, of twice the width
              (``layers.2.layers.0.layers.0``, ``features.layers.2``);
            - ``"arcface_torch_large"``: its ``mbf_large``, wider and deeper.

        embedding_size (int, optional): d. ``None``: as published, 512 for ``"treb1en"`` and
            ``"arcface_torch"``, otherwise 128.

    Returns:
        *MobileFaceNet*: in training mode, with random weights.

    Raises:
        ValueError: for another layout.

    Examples::

        >>> network = mobilefacenet("treb1en")
        >>> network.load_state_dict(torch.load("model_mobilefacenet.pth", weights_only=True))
        >>> model = FaceModel(network, MOBILEFACENET_SPECS["treb1en"]).eval()
        >>> embedding = model(images)  # images: (B, 3, 112, 112), 0–255, RGB
    """
    require_choice("layout", layout, MobileFaceNetLayout)
    size = () if embedding_size is None else (embedding_size,)
    return MobileFaceNet(LAYOUTS[layout](*size))


_FILES: dict[MobileFaceNetLayout, str] = {
    "y1": "a PyTorch port of model-y1-test2 that keeps its MXNet names",
    "foamliu": "its state dict, as published",
    "xiaoccer": "068.ckpt",
    "treb1en": "model_mobilefacenet.pth",
    "arcface_torch": "backbone.pth of mbf",
    "arcface_torch_large": "backbone.pth of mbf_large",
}

MOBILEFACENETS = tuple(
    Architecture(spec=spec, build=partial(mobilefacenet, layout), weights=_FILES[layout])
    for layout, spec in MOBILEFACENET_SPECS.items()
)
"""What :func:`~captum_plq.models.load_model` loads as ``mobilefacenet-y1`` and so on."""
