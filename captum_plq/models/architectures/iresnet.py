"""The residual networks of ArcFace: 112×112 pixels to 512 numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from torch import Tensor, nn

from captum_plq.models.architecture import Architecture
from captum_plq.models.spec import ModelSpec

__all__ = ["IRESNETS", "IRESNET_SPEC", "STAGES", "IResNet", "iresnet", "require_layers"]

IRESNET_SPEC = ModelSpec(
    name="iresnet",
    input_size=(112, 112),
    mean=(127.5, 127.5, 127.5),
    std=(127.5, 127.5, 127.5),
    channel_order="RGB",
    alignment="arcface",
    embedding_layer="fc",
    trained_with_dropout=False,
    licence_code="BSD-3-Clause (this package)",
    licence_weights="non-commercial research only (InsightFace's model zoo)",
    source=(
        "Deng et al., ArcFace (CVPR 2019); weights: github.com/deepinsight/insightface, "
        "recognition/arcface_torch (backbone.pth)"
    ),
    note=(
        "insightface trains these networks with dropout 0, so SER-FIQ's precondition is not "
        "met; alpha, r and gamma have not been measured for them."
    ),
)
"""What has to be known about an :class:`IResNet` with weights of insightface's arcface_torch.

It has no α, r and γ: the paper's 130, 0.88 and 7.5 were measured on its authors' ResNet-100,
which was trained with dropout, and nobody has measured them on these weights.
"""


STAGES = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 14, 3),
    100: (3, 13, 30, 3),
    200: (6, 26, 60, 6),
}
"""Residual blocks in each of the four stages, by the published depth."""


class IResNet(nn.Module):
    """The residual network of ArcFace, in the layout of insightface's ``backbone.pth``.

    Its residuals are BatchNorm, convolution, BatchNorm, PReLU, convolution, BatchNorm, and
    nothing follows their addition (Deng et al., "ArcFace", CVPR 2019 and arXiv:1801.07698v1).
    The maps are 112×112 after the first convolution, then 56, 28, 14 and 7: each stage halves
    them, in the second convolution of its first block. The head is BatchNorm, dropout,
    linear, BatchNorm.

    Weights of insightface's arcface_torch fit as they are; they are not distributed here.

    Args:

        layers (sequence of int): Residual blocks in each of the four stages.
        embedding_size (int): d. Default: 512.
        dropout (float): Probability of the network's own dropout, before ``fc``; SER-FIQ
            does not use it. Default: 0.0, that of arcface_torch.

    Shape:

        - Input: (B, 3, 112, 112), normalised as in :data:`IRESNET_SPEC`.
        - Output: (B, d), not of unit length.

    Raises:
        ValueError: if ``layers`` are not four positive numbers.

    Examples::

        >>> model = load_model("iresnet50", weights="backbone.pth")
        >>> embedding = model(images)  # images: (B, 3, 112, 112), 0–255, RGB
    """

    def __init__(
        self, layers: Sequence[int], embedding_size: int = 512, dropout: float = 0.0
    ) -> None:
        super().__init__()
        require_layers(layers)
        # The names are those of the published weights.
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.prelu = nn.PReLU(64)
        self.layer1 = _stage(64, 64, layers[0])
        self.layer2 = _stage(64, 128, layers[1])
        self.layer3 = _stage(128, 256, layers[2])
        self.layer4 = _stage(256, 512, layers[3])
        self.bn2 = nn.BatchNorm2d(512)
        self.dropout: nn.Module = nn.Dropout(dropout)
        self.fc = nn.Linear(512 * 7 * 7, embedding_size)
        self.features = nn.BatchNorm1d(embedding_size)

    def forward(self, images: Tensor) -> Tensor:
        """Embed a batch of normalised images.

        Args:

            images (Tensor): (B, 3, 112, 112), normalised.

        Returns:
            *Tensor*: (B, d), not of unit length.
        """
        x = self.prelu(self.bn1(self.conv1(images)))
        return self._embed(self.layer4(self.layer3(self.layer2(self.layer1(x)))))

    def _embed(self, maps: Tensor) -> Tensor:
        """Apply the head: (B, 512, 7, 7) to (B, d)."""
        embedding: Tensor = self.features(self.fc(self.dropout(self.bn2(maps).flatten(1))))
        return embedding


def iresnet(depth: int, embedding_size: int = 512, dropout: float = 0.0) -> IResNet:
    """Build an :class:`IResNet` of a published depth, untrained.

    Args:

        depth (int): 18, 34, 50, 100 or 200: insightface's ``r18`` to ``r200``.
        embedding_size (int): see :class:`IResNet`.
        dropout (float): see :class:`IResNet`.

    Returns:
        *IResNet*: in training mode, with random weights.

    Raises:
        ValueError: for another depth.

    Examples::

        >>> iresnet(18).eval()(torch.zeros(1, 3, 112, 112)).shape
        torch.Size([1, 512])
    """
    if depth not in STAGES:
        raise ValueError(f"depth must be one of {list(STAGES)}, but got {depth!r}.")
    return IResNet(STAGES[depth], embedding_size, dropout)


def require_layers(layers: Sequence[int]) -> None:
    """Raise unless layers are four positive numbers."""
    if len(layers) != 4 or min(layers) < 1:
        raise ValueError(f"layers must be four positive numbers, but got {tuple(layers)}.")


IRESNETS = tuple(
    Architecture(
        spec=replace(IRESNET_SPEC, name=f"iresnet{depth}"),
        build=partial(iresnet, depth),
        weights=f"backbone.pth of r{depth}",
    )
    for depth in STAGES
)
"""What :func:`~captum_plq.models.load_model` loads as ``iresnet18`` to ``iresnet200``."""


class _Block(nn.Module):
    """A residual of two 3×3 convolutions; the second has the stride."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.prelu = nn.PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        residual = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        output: Tensor = self.bn3(self.conv2(residual)) + self.downsample(x)
        return output


def _stage(channels_in: int, channels: int, blocks: int) -> nn.Sequential:
    later = [_Block(channels, channels, 1) for _ in range(blocks - 1)]
    return nn.Sequential(_Block(channels_in, channels, 2), *later)
