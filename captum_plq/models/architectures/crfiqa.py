"""The residual networks of CR-FIQA: 112×112 pixels to 512 numbers and an estimate of quality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from torch import Tensor, nn

from captum_plq.models.architecture import Architecture
from captum_plq.models.architectures.iresnet import IRESNET_SPEC, STAGES, IResNet

__all__ = ["CRFIQAS", "CRFIQA_SPEC", "CRFIQAIResNet"]

CRFIQA_SPEC = replace(
    IRESNET_SPEC,
    name="crfiqa",
    output=0,
    quality=1,
    trained_with_dropout=True,
    licence_weights="CC BY-NC 4.0",
    source=(
        "Boutros et al., CR-FIQA (CVPR 2023), Fraunhofer IGD; weights: github.com/fdbtrs/CR-FIQA"
    ),
    note="alpha, r and gamma have not been measured for this network.",
)
"""What has to be known about a :class:`CRFIQAIResNet` with the published weights."""


class CRFIQAIResNet(IResNet):
    """CR-FIQA's residual network, in the layout of its published checkpoints.

    An :class:`~captum_plq.models.IResNet` with a linear layer ``qs`` that reads a face's
    quality, one number, from its embedding.

    Args:

        layers (sequence of int): Residual blocks in each of the four stages.
        dropout (float): Probability of the network's own dropout; SER-FIQ does not use it.
            Default: 0.4, as published.

    Shape:

        - Input: (B, 3, 112, 112), normalised as in :data:`CRFIQA_SPEC`.
        - Output: the embedding (B, 512), not of unit length, and the quality (B, 1).

    Examples::

        >>> model = load_model("crfiqa-iresnet50", weights="32572backbone.pth")
        >>> embedding = model(images)  # images: (B, 3, 112, 112), 0–255, RGB
    """

    def __init__(self, layers: Sequence[int], dropout: float = 0.4) -> None:
        super().__init__(layers, dropout=dropout)
        self.qs = nn.Linear(512, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Embed a batch of normalised images and estimate their quality.

        Args:

            images (Tensor): (B, 3, 112, 112), normalised.

        Returns:
            *tuple[Tensor, Tensor]*: embedding (B, 512) and quality (B, 1).
        """
        embedding = super().forward(images)
        return embedding, self.qs(embedding)


CRFIQAS = tuple(
    Architecture(
        spec=replace(CRFIQA_SPEC, name=f"crfiqa-iresnet{depth}"),
        build=partial(CRFIQAIResNet, STAGES[depth]),
        weights=f"{file} of CR-FIQA({size})",
    )
    for depth, size, file in ((50, "S", "32572backbone.pth"), (100, "L", "181952backbone.pth"))
)
"""What :func:`~captum_plq.models.load_model` loads as ``crfiqa-iresnet50`` and ``100``."""
