"""What a calibration holds for: a network, and the settings of the method."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import nn

from captum_plq._base.fields import require_field_types
from captum_plq.attribution import PixelQualityAttribution, TargetScalar
from captum_plq.functional import NodeWeights, PairAverage
from captum_plq.models import FaceModel
from captum_plq.quality.scores.base import QualityScore

__all__ = ["MethodSettings", "network_digest", "network_name"]


@dataclass(frozen=True)
class MethodSettings:
    """The settings that a calibration holds for: other ones change Q or the gradients.

    The estimator is not among them, as all three estimate the same Q, and neither is the seed.

    Args:

        passes (int): m of SER-FIQ.
        dropout (float): p of SER-FIQ.
        weights (str): Of the quality node.
        target_scalar (str): ``"node"`` or ``"serfiq"``.
        average (str): Of Eq. 1, ``"paper"`` or ``"pairs"``.
        normalize (bool): Whether the stochastic embeddings are scaled to unit length.
        normalize_embedding (bool): Whether the embedding is, within the gradient path.
        directions (int, optional): Of the attribution; ``None``: the node's one gradient.

    Raises:
        ValueError: for values of other types, or out of range.
    """

    passes: int = 100
    dropout: float = 0.5
    weights: NodeWeights = "l1"
    target_scalar: TargetScalar = "node"
    average: PairAverage = "paper"
    normalize: bool = True
    normalize_embedding: bool = True
    directions: int | None = None

    def __post_init__(self) -> None:
        require_field_types(self)
        directions = 1 if self.directions is None else self.directions
        if self.passes < 2 or not 0 < self.dropout < 1 or directions < 1:
            raise ValueError(
                f"there are no {self.passes} passes at dropout {self.dropout:g} along "
                f"{self.directions} directions"
            )

    @classmethod
    def of(cls, method: PixelQualityAttribution) -> MethodSettings:
        """Return those of an attribution method.

        Raises:
            ValueError: if its quality is not SER-FIQ's.
        """
        node, serfiq = method.quality_model, method.quality_model.serfiq
        target = method.target_scalar
        if node.score is not None or isinstance(target, QualityScore):
            raise ValueError(
                f"A calibration holds the settings of SER-FIQ, but the quality is that of a "
                f"{type(node.score).__name__}. Its α, r and γ can be chosen by hand, see "
                "scaling_factor and gamma_for_median."
            )
        return cls(
            passes=serfiq.masks.passes,
            dropout=serfiq.masks.dropout,
            weights=node.weights,
            target_scalar=target,
            average=serfiq.average,
            normalize=serfiq.normalize,
            normalize_embedding=node.normalize,
            directions=method.directions,
        )


def network_name(model: nn.Module) -> str:
    """Return the name in a network's ``spec``, or else that of its class."""
    return model.spec.name if isinstance(model, FaceModel) else type(model).__name__


def network_digest(model: nn.Module) -> str:
    """Return a fingerprint of a network: its weights and, of a :class:`FaceModel`, how it is fed.

    Args:

        model (nn.Module): The network.

    Returns:
        *str*: 16 hexadecimal digits; equal for equal weights (names, shapes, types and values),
        normalisation, channel order, alignment, input size and embedding layer.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    if isinstance(model, FaceModel):
        s = model.spec
        fed = (s.input_size, s.mean, s.std, s.channel_order, s.alignment, s.embedding_layer)
        digest.update(repr(fed).encode())
    return digest.hexdigest()[:16]
