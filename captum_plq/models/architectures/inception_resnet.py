"""FaceNet's Inception-ResNet-v1: 160×160 pixels to 512 numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_plq.models.architecture import Architecture
from captum_plq.models.spec import ModelSpec

__all__ = ["FACENET", "INCEPTION_RESNET_V1_SPEC", "InceptionResnetV1"]

INCEPTION_RESNET_V1_SPEC = ModelSpec(
    name="inception-resnet-v1",
    input_size=(160, 160),
    mean=(127.5, 127.5, 127.5),
    std=(128.0, 128.0, 128.0),
    channel_order="RGB",
    alignment="arcface",
    embedding_layer="last_linear",
    trained_with_dropout=True,
    licence_code="BSD-3-Clause (this package)",
    licence_weights=(
        "published with MIT code; trained on VGGFace2 or CASIA-WebFace, whose terms may "
        "restrict their use: see source"
    ),
    source=(
        "Szegedy et al., Inception-v4, Inception-ResNet (2016); weights: David Sandberg's "
        "facenet, converted by github.com/timesler/facenet-pytorch (releases)"
    ),
    note=(
        "This network was trained on the face boxes of MTCNN, resized without alignment: faces "
        "aligned to the ArcFace template are near to them, not equal. alpha, r and gamma have "
        "not been measured for it."
    ),
)
"""What has to be known about :class:`InceptionResnetV1` with the weights of facenet-pytorch.

It has no α, r and γ: the paper's 130, 0.88 and 7.5 were measured on its authors' ResNet-100,
and nobody has measured them on these weights.
"""

_Kernel = int | tuple[int, int]
_Branch = tuple[tuple[int, _Kernel], ...]

# Channels and kernels of the convolutions of each branch, Fig. 10 to 15.
_BLOCK_35: tuple[_Branch, ...] = (((32, 1),), ((32, 1), (32, 3)), ((32, 1), (32, 3), (32, 3)))
_BLOCK_17: tuple[_Branch, ...] = (((128, 1),), ((128, 1), (128, (1, 7)), (128, (7, 1))))
_BLOCK_8: tuple[_Branch, ...] = (((192, 1),), ((192, 1), (192, (1, 3)), (192, (3, 1))))
_REDUCTION_A: tuple[_Branch, ...] = (((384, 3),), ((192, 1), (192, 3), (256, 3)))
_REDUCTION_B: tuple[_Branch, ...] = (
    ((256, 1), (384, 3)),
    ((256, 1), (256, 3)),
    ((256, 1), (256, 3), (256, 3)),
)


class InceptionResnetV1(nn.Module):
    """Inception-ResNet-v1 as FaceNet uses it, in the layout of facenet-pytorch's weights.

    The network of Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual
    Connections on Learning" (2016), Fig. 7 and 10 to 15, with the residuals scaled by 0.17,
    0.10 and 0.20, and after them one block more, neither scaled nor rectified. The maps are
    79×79 after the first convolution and 17×17, 8×8 and 3×3 in the three groups of blocks.
    The head is average pooling, dropout, linear, BatchNorm, unit length.

    Weights of facenet-pytorch fit as they are, and are not distributed here. Their classifier
    (``logits``) is no part of the embedding: ``load_state_dict`` drops it.

    Args:

        embedding_size (int): d. Default: 512.
        dropout (float): Probability of the network's own dropout, before ``last_linear``;
            SER-FIQ does not use it. Default: 0.6, as published.

    Shape:

        - Input: (B, 3, 160, 160), normalised as in :data:`INCEPTION_RESNET_V1_SPEC`.
        - Output: (B, d), of unit length.

    Examples::

        >>> model = load_model("facenet", weights="20180402-114759-vggface2.pt")
        >>> embedding = model(images)  # images: (B, 3, 160, 160), 0–255, RGB
    """

    def __init__(self, embedding_size: int = 512, dropout: float = 0.6) -> None:
        super().__init__()
        # The names are those of the published weights.
        self.conv2d_1a = _Conv(3, 32, 3, stride=2)
        self.conv2d_2a = _Conv(32, 32, 3)
        self.conv2d_2b = _Conv(32, 64, 3, same=True)
        self.maxpool_3a = nn.MaxPool2d(3, stride=2)
        self.conv2d_3b = _Conv(64, 80, 1)
        self.conv2d_4a = _Conv(80, 192, 3)
        self.conv2d_4b = _Conv(192, 256, 3, stride=2)
        self.repeat_1 = nn.Sequential(*(_Residual(256, _BLOCK_35, 0.17) for _ in range(5)))
        self.mixed_6a = _Branches(256, _REDUCTION_A, reduce=True)
        self.repeat_2 = nn.Sequential(*(_Residual(896, _BLOCK_17, 0.10) for _ in range(10)))
        self.mixed_7a = _Branches(896, _REDUCTION_B, reduce=True)
        self.repeat_3 = nn.Sequential(*(_Residual(1792, _BLOCK_8, 0.20) for _ in range(5)))
        self.block8 = _Residual(1792, _BLOCK_8, 1.0, end=nn.Identity())
        self.avgpool_1a = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.last_linear = nn.Linear(1792, embedding_size, bias=False)
        self.last_bn = nn.BatchNorm1d(embedding_size, eps=1e-3)
        nn.Module.register_load_state_dict_pre_hook(self, _drop_classifier)

    def forward(self, images: Tensor) -> Tensor:
        """Embed a batch of normalised images.

        Args:

            images (Tensor): (B, 3, 160, 160), normalised.

        Returns:
            *Tensor*: (B, d), of unit length.
        """
        x = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(images)))
        x = self.conv2d_4b(self.conv2d_4a(self.conv2d_3b(self.maxpool_3a(x))))
        x = self.mixed_6a(self.repeat_1(x))
        x = self.mixed_7a(self.repeat_2(x))
        x = self.block8(self.repeat_3(x))
        x = self.dropout(self.avgpool_1a(x).flatten(1))
        return F.normalize(self.last_bn(self.last_linear(x)))


FACENET = Architecture(
    spec=replace(INCEPTION_RESNET_V1_SPEC, name="facenet"),
    build=InceptionResnetV1,
    weights="20180402-114759-vggface2.pt or 20180408-102900-casia-webface.pt",
    training_only=("logits.",),
)
"""What :func:`~captum_plq.models.load_model` loads as ``facenet``."""


class _Conv(nn.Module):
    """Convolution, BatchNorm, ReLU; unpadded unless ``same``."""

    def __init__(
        self, channels_in: int, channels: int, kernel: _Kernel, stride: int = 1, same: bool = False
    ) -> None:
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, width // 2) if same else 0
        self.conv = nn.Conv2d(channels_in, channels, (height, width), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(channels, eps=1e-3)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.relu(self.bn(self.conv(x)))
        return output


class _Branches(nn.Module):
    """Branches side by side, their channels joined.

    With ``reduce``, the last convolution of each has stride 2 and no padding, and a maximum over
    3×3 pixels is one branch more.
    """

    def __init__(
        self, channels_in: int, branches: tuple[_Branch, ...], reduce: bool = False
    ) -> None:
        super().__init__()
        modules: list[nn.Module] = [_chain(channels_in, layers, reduce) for layers in branches]
        if reduce:
            modules.append(nn.MaxPool2d(3, stride=2))
        self._names = [f"branch{i}" for i in range(len(modules))]
        for name, branch in zip(self._names, modules, strict=True):
            self.add_module(name, branch)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.get_submodule(name)(x) for name in self._names], dim=1)


class _Residual(_Branches):
    """Branches whose output, brought back to the input's channels and scaled, is added to it."""

    def __init__(
        self,
        channels: int,
        branches: tuple[_Branch, ...],
        scale: float,
        end: nn.Module | None = None,
    ) -> None:
        super().__init__(channels, branches)
        joined = sum(layers[-1][0] for layers in branches)
        self.conv2d = nn.Conv2d(joined, channels, 1)
        self.scale = scale
        self.end = nn.ReLU() if end is None else end

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.end(x + self.scale * self.conv2d(super().forward(x)))
        return output


def _chain(channels_in: int, layers: _Branch, reduce: bool) -> nn.Module:
    """Build padded convolutions of stride 1, one after another; one of them stands alone."""
    chain = nn.Sequential()
    for i, (channels, kernel) in enumerate(layers):
        halves = reduce and i == len(layers) - 1
        chain.append(_Conv(channels_in, channels, kernel, 2 if halves else 1, same=not halves))
        channels_in = channels
    return chain if len(layers) > 1 else chain[0]


def _drop_classifier(
    network: nn.Module, state: dict[str, Any], prefix: str, *others: object
) -> None:
    """Hook in before ``load_state_dict``, which gives it a copy of the weights' dictionary."""
    for name in ("weight", "bias"):
        state.pop(f"{prefix}logits.{name}", None)
