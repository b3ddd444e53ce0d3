"""The IR networks of AdaFace: 112×112 pixels, BGR, to 512 numbers of unit length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

from torch import Tensor, nn

from captum_plq.models.architecture import Architecture
from captum_plq.models.architectures.iresnet import IRESNET_SPEC, STAGES, require_layers

__all__ = ["ADAFACES", "ADAFACE_SPEC", "AdaFaceIR"]

ADAFACE_SPEC = replace(
    IRESNET_SPEC,
    name="adaface",
    channel_order="BGR",
    embedding_layer="output_layer.3",
    output=0,
    quality=1,
    trained_with_dropout=True,
    licence_weights=(
        "published with MIT code; trained on CASIA-WebFace, VGGFace2, MS1M or WebFace, whose "
        "terms may restrict their use: see source"
    ),
    source="Kim et al., AdaFace (CVPR 2022); weights: github.com/mk-minchul/AdaFace",
    note="alpha, r and gamma have not been measured for this network.",
)
"""What has to be known about an :class:`AdaFaceIR` with the published weights."""

_WIDTHS = (64, 64, 128, 256, 512)


class AdaFaceIR(nn.Module):
    """The IR network of AdaFace, in the layout of its published checkpoints.

    It computes what an :class:`~captum_plq.models.architectures.iresnet.IResNet` does, with three
    differences: the first block's way around its residual takes every second pixel as it is,
    where IResNet has a convolution; the last BatchNorm has no weights; and the embedding is
    divided by its norm, which AdaFace takes for a measure of quality and returns beside it.
    Dropout with probability 0.4 comes before the linear layer.

    Args:

        layers (sequence of int): Residual blocks in each of the four stages.

    Shape:

        - Input: (B, 3, 112, 112), normalised as in :data:`ADAFACE_SPEC`, channels BGR.
        - Output: the embedding (B, 512), of unit length, and its norm before that, (B, 1).

    Raises:
        ValueError: if ``layers`` are not four positive numbers.

    Examples::

        >>> model = load_model("adaface-ir50", weights="adaface_ir50_ms1mv2.ckpt")
        >>> embedding = model(images)  # images: (B, 3, 112, 112), 0–255, RGB
    """

    def __init__(self, layers: Sequence[int]) -> None:
        super().__init__()
        require_layers(layers)
        # The names are those of the published weights.
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64)
        )
        self.body = nn.Sequential()
        for blocks, (channels_in, channels) in zip(layers, pairwise(_WIDTHS), strict=True):
            self.body.append(_Block(channels_in, channels, 2))
            self.body.extend(_Block(channels, channels, 1) for _ in range(blocks - 1))
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512),
            nn.Dropout(0.4),
            nn.Flatten(),
            nn.Linear(512 * 7 * 7, 512),
            nn.BatchNorm1d(512, affine=False),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Embed a batch of normalised images.

        Args:

            images (Tensor): (B, 3, 112, 112), normalised, BGR.

        Returns:
            *tuple[Tensor, Tensor]*: embedding (B, 512), of unit length, and norm (B, 1).
        """
        embedding: Tensor = self.output_layer(self.body(self.input_layer(images)))
        norm = embedding.norm(dim=1, keepdim=True)
        return embedding / norm, norm


class _Block(nn.Module):
    """A residual of two 3×3 convolutions; the second has the stride."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)  # only takes every other pixel
        if channels_in != channels:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(channels_in),
            nn.Conv2d(channels_in, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.res_layer(x) + self.shortcut_layer(x)
        return output


ADAFACES = tuple(
    Architecture(
        spec=replace(ADAFACE_SPEC, name=f"adaface-{name}"),
        build=partial(AdaFaceIR, STAGES[depth]),
        weights=f"adaface_{name}_*.ckpt, R{depth} under Pretrained Models",
        training_only=("head.",),
    )
    for name, depth in {"ir18": 18, "ir50": 50, "ir101": 100}.items()
)
"""What :func:`~captum_plq.models.load_model` loads as ``adaface-ir18`` and so on."""
