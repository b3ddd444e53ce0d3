"""EdgeFace: timm's EdgeNeXt with a head of 512 numbers, some of it in low rank."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Literal

from torch import Tensor, nn

from captum_plq._base.choices import require_choice
from captum_plq.models.architecture import Architecture
from captum_plq.models.spec import ModelSpec

__all__ = ["EDGEFACES", "EDGEFACE_SPECS", "EdgeFace", "EdgeFaceVariant", "edgeface"]

EdgeFaceVariant = Literal[
    "edgeface_xxs",
    "edgeface_xs",
    "edgeface_xs_gamma_06",
    "edgeface_s",
    "edgeface_s_gamma_05",
    "edgeface_base",
]
"""The published networks; ``edgeface_xs`` and ``edgeface_s`` are those of full rank."""

# timm's name of the trunk, and the rank of the linear layers as a share of the full one.
_VARIANTS: dict[EdgeFaceVariant, tuple[str, float | None]] = {
    "edgeface_xxs": ("edgenext_xx_small", None),
    "edgeface_xs": ("edgenext_x_small", None),
    "edgeface_xs_gamma_06": ("edgenext_x_small", 0.6),
    "edgeface_s": ("edgenext_small", None),
    "edgeface_s_gamma_05": ("edgenext_small", 0.5),
    "edgeface_base": ("edgenext_base", None),
}

_SPEC = ModelSpec(
    name="edgeface_xs",
    input_size=(112, 112),
    mean=(127.5, 127.5, 127.5),
    std=(127.5, 127.5, 127.5),
    channel_order="RGB",
    alignment="arcface",
    embedding_layer="model.head.fc",
    trained_with_dropout=False,
    licence_code="BSD-3-Clause (this package); trunk: timm, Apache-2.0",
    licence_weights="BSD-3-Clause (otroshi/edgeface); elsewhere published as non-commercial",
    source=(
        "George et al., EdgeFace (IEEE T-BIOM 2024); weights: Idiap, otroshi/edgeface "
        "(checkpoints/edgeface_*.pt)"
    ),
    note=(
        "SER-FIQ says nothing about these faces: the features before the last layer are "
        "layer-normalised, and on edgeface_xs Q did not tell clean from degraded faces "
        "(AUROC 0.38 to 0.50 over 200 LFW faces)."
    ),
)

EDGEFACE_SPECS: dict[EdgeFaceVariant, ModelSpec] = {
    variant: replace(
        _SPEC,
        name=variant,
        embedding_layer="model.head.fc" if rank is None else "model.head.fc.linear1",
    )
    for variant, (_, rank) in _VARIANTS.items()
}
"""What has to be known about an :class:`EdgeFace`, by variant."""


class EdgeFace(nn.Module):
    """EdgeNeXt as a face network, in the layout of Idiap's published weights.

    The trunk is timm's, without its ImageNet weights (George et al., "EdgeFace: Efficient
    Face Recognition Model for Edge Devices", IEEE T-BIOM 2024, Sec. III). A linear layer in
    low rank is two, without anything between them: from all its inputs to a share γ of the
    smaller of inputs and outputs, without a bias, then to its outputs.

    Weights published by Idiap fit as they are, and are not distributed here; those whose
    name ends in ``_q`` hold int8 numbers and have to be dequantised first.

    Args:

        trunk (str): timm's name of the EdgeNeXt.
        rank_ratio (float, optional): γ. ``None``: full rank.
        embedding_size (int): d. Default: 512.

    Shape:

        - Input: (B, 3, 112, 112), normalised as in :data:`EDGEFACE_SPECS`.
        - Output: (B, d), not of unit length.

    Raises:
        ValueError: if ``rank_ratio`` is not in (0, 1].

    Examples::

        >>> network = edgeface("edgeface_s_gamma_05")
        >>> network.load_state_dict(torch.load("edgeface_s_gamma_05.pt", weights_only=True))
        >>> model = FaceModel(network, EDGEFACE_SPECS["edgeface_s_gamma_05"]).eval()
        >>> embedding = model(images)  # images: (B, 3, 112, 112), 0–255, RGB
    """

    def __init__(
        self, trunk: str, rank_ratio: float | None = None, embedding_size: int = 512
    ) -> None:
        super().__init__()
        if rank_ratio is not None and not 0 < rank_ratio <= 1:
            raise ValueError(f"rank_ratio must be in (0, 1], but got {rank_ratio}.")
        import timm  # takes a second

        # The name is that of the published weights.
        self.model = timm.create_model(trunk, pretrained=False, num_classes=embedding_size)
        if rank_ratio is not None:
            _lower_ranks(self.model, rank_ratio)

    def forward(self, images: Tensor) -> Tensor:
        """Embed a batch of normalised images.

        Args:

            images (Tensor): (B, 3, 112, 112), normalised.

        Returns:
            *Tensor*: (B, d), not of unit length.
        """
        embedding: Tensor = self.model(images)
        return embedding


def edgeface(variant: EdgeFaceVariant) -> EdgeFace:
    """Build a published :class:`EdgeFace`, untrained.

    Args:

        variant (str): ``"edgeface_xxs"``, ``"edgeface_xs"``, ``"edgeface_xs_gamma_06"``,
            ``"edgeface_s"``, ``"edgeface_s_gamma_05"`` or ``"edgeface_base"``.

    Returns:
        *EdgeFace*: in training mode, with random weights.

    Raises:
        ValueError: for another variant.

    Examples::

        >>> edgeface("edgeface_xs_gamma_06").eval()(torch.zeros(1, 3, 112, 112)).shape
        torch.Size([1, 512])
    """
    require_choice("variant", variant, EdgeFaceVariant)
    return EdgeFace(*_VARIANTS[variant])


class _LowRankLinear(nn.Module):
    """A linear layer as the product of two narrower ones."""

    def __init__(self, full: nn.Linear, rank_ratio: float) -> None:
        super().__init__()
        inputs, outputs, bias = full.in_features, full.out_features, full.bias is not None
        rank = max(2, int(min(inputs, outputs) * rank_ratio))
        self.linear1 = nn.Linear(inputs, rank, bias=False)
        self.linear2 = nn.Linear(rank, outputs, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear2(self.linear1(x))
        return y


def _lower_ranks(module: nn.Module, rank_ratio: float) -> None:
    """Put a :class:`_LowRankLinear` in the place of each linear layer."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, _LowRankLinear(child, rank_ratio))
        else:
            _lower_ranks(child, rank_ratio)


EDGEFACES = tuple(
    Architecture(spec=spec, build=partial(edgeface, variant), weights=f"{variant}.pt")
    for variant, spec in EDGEFACE_SPECS.items()
)
"""What :func:`~captum_plq.models.load_model` loads as ``edgeface_xs`` and so on."""
