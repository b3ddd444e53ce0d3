"""The residual networks of MagFace: 112×112 pixels, BGR, to 512 numbers whose norm has meaning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from torch import Tensor, nn

from captum_plq.models.architecture import Architecture
from captum_plq.models.architectures.iresnet import IRESNET_SPEC, STAGES, IResNet

__all__ = ["MAGFACES", "MAGFACE_SPEC", "MagFaceIResNet"]


def embedding_length(embedding: Tensor) -> Tensor:
    """Return the norm of each embedding, (B, d) → (B,): MagFace's measure of quality."""
    length: Tensor = embedding.norm(dim=1)
    return length


MAGFACE_SPEC = replace(
    IRESNET_SPEC,
    name="magface",
    mean=(0.0, 0.0, 0.0),
    std=(255.0, 255.0, 255.0),
    channel_order="BGR",
    trained_with_dropout=True,
    quality=embedding_length,
    licence_weights=(
        "published with Apache-2.0 code; trained on MS1MV2 or CASIA-WebFace, whose terms may "
        "restrict their use: see source"
    ),
    source="Meng et al., MagFace (CVPR 2021); weights: github.com/IrvingMeng/MagFace",
    note=(
        "This network was trained with dropout of whole channels, SER-FIQ drops single features; "
        "alpha, r and gamma have not been measured for it."
    ),
)
"""What has to be known about a :class:`MagFaceIResNet` with the published weights."""


class MagFaceIResNet(IResNet):
    """MagFace's residual network, in the layout of its published checkpoints.

    An :class:`~captum_plq.models.IResNet` with two differences that its names do not
    tell: its BatchNorms add 2e-5 to the variance, not 1e-5, and its dropout takes whole
    channels of the last maps. It takes pixels as fractions of 255, BGR, without a mean.

    Args:

        layers (sequence of int): Residual blocks in each of the four stages.
        dropout (float): Probability of the network's own dropout; SER-FIQ does not use it.
            Default: 0.4, as published.

    Shape:

        - Input: (B, 3, 112, 112), in [0, 1], channels BGR.
        - Output: (B, 512). Its norm is MagFace's own measure of quality.

    Examples::

        >>> model = load_model("magface-iresnet100", weights="magface_epoch_00025.pth")
        >>> embedding = model(images)  # images: (B, 3, 112, 112), 0–255, RGB
    """

    def __init__(self, layers: Sequence[int], dropout: float = 0.4) -> None:
        super().__init__(layers)
        self.dropout = nn.Dropout2d(dropout)
        for module in self.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.eps = 2e-5

    def _embed(self, maps: Tensor) -> Tensor:
        embedding: Tensor = self.features(self.fc(self.dropout(self.bn2(maps)).flatten(1)))
        return embedding


MAGFACES = tuple(
    Architecture(
        spec=replace(MAGFACE_SPEC, name=f"magface-iresnet{depth}"),
        build=partial(MagFaceIResNet, STAGES[depth]),
        weights=f"the .pth of iResNet{depth} under Model Zoo",
        wrappers=("features",),
        training_only=(
            "fc.weight",
            "module.fc.weight",
            "parallel_fc.weight",
            "module.parallel_fc.weight",
        ),
    )
    for depth in (18, 50, 100)
)
"""What :func:`~captum_plq.models.load_model` loads as ``magface-iresnet18`` and so on."""
