"""M_Q: a face network with a quality node on its embedding (Sec. III-B of the paper)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from captum_plq._base.choices import require_choice
from captum_plq._base.late import look, reads_once
from captum_plq._base.precision import at_least_float32
from captum_plq.functional import (
    NodeWeights,
    QualityScaling,
    node_direction,
    node_scale,
    scale_quality,
    unit_length,
)
from captum_plq.network.state import check_images
from captum_plq.quality.scores.base import QualityScore
from captum_plq.quality.serfiq import SERFIQ, Assessment

__all__ = ["QualityModel", "QualityNode"]


class QualityNode(NamedTuple):
    """The quality node of a batch of images, taken apart.

    Args:

        embedding (Tensor): (B, ...), clean, under autograd, normalised if asked for.
        direction (Tensor): the shape of ``embedding``, detached.
        scale (Tensor): (B,), detached. ``scale * direction`` are the weights of Eq. 3.
    """

    embedding: Tensor
    direction: Tensor
    scale: Tensor


class QualityModel(nn.Module):
    r"""The image-specific quality regression model :math:`M_Q` (Eq. 3).

    A node on the embedding layer, without bias, with the weights of
    :func:`~captum_plq.functional.node_weights`: :math:`M_Q(I) = \sum_k w_k e_k(I)`. The
    weights belong to one image. Called with images alone, each image gets its own node;
    this is right for methods that look at the image itself (Saliency, Deconvolution,
    GuidedBackprop, GradCAM). A method that evaluates other images on the way (baselines,
    occlusions, interpolations) must keep the node of the image it explains: build it once
    with :meth:`node` and pass it on as ``additional_forward_args``.

    Args:

        model (nn.Module, QualityScore or Callable): Embedding network, a function around one (see
            :func:`~captum_plq.network.forward_function.as_module`), a :class:`SERFIQ` with
            other than the paper's parameters, or another score of
            :mod:`captum_plq.quality.scores`, which then takes the place of Q; it need not be
            differentiable. Where it can be 0 or less, it needs ``scaling``.
        weights (str): ``"l1"`` (the paper's, the default), ``"sum"`` (released code),
            ``"signed"`` or ``"l2"``.
        scaling (QualityScaling, optional): α and r of Eq. 2. ``None``: Q̂ = Q.
        normalize (bool, optional): Scale the embedding to unit length within the gradient
            path, as the released code does; the paper does not say. ``None``: yes, except
            for ``"l2"``, whose gradient would vanish.

    Raises:
        ValueError: if ``weights`` is unknown.

    Shape:

        - Input: images (B, ...), then optionally node weights (B, d), then whatever else
          the model takes.
        - Output: (B,).

    Examples::

        >>> quality_model = QualityModel(model)
        >>> Saliency(quality_model).attribute(images, abs=False)  # Eq. 4
        >>> node = quality_model.node(images)  # (B, d)
        >>> IntegratedGradients(quality_model).attribute(images, additional_forward_args=node)
    """

    def __init__(
        self,
        model: nn.Module | QualityScore | Callable[..., object],
        *,
        weights: NodeWeights = "l1",
        scaling: QualityScaling | None = None,
        normalize: bool | None = None,
    ) -> None:
        super().__init__()
        require_choice("weights", weights, NodeWeights)
        self.score: QualityScore | None = None
        if isinstance(model, QualityScore) and not isinstance(model, SERFIQ):
            self.score = model
            model = SERFIQ(model.model, output=getattr(model, "output", None))
        self.serfiq = model if isinstance(model, SERFIQ) else SERFIQ(model)
        self.weights: NodeWeights = weights
        self.scaling = scaling
        self.normalize = weights != "l2" if normalize is None else normalize

    def forward(
        self, images: Tensor, node: Tensor | None = None, *additional_inputs: object
    ) -> Tensor:
        """Return the output of the quality node, (B,).

        Args:

            images (Tensor): (B, ...), floating point.
            node (Tensor, optional): (B', d), or (d,) for one image: weights from
                :meth:`node`. Where a Captum method evaluates n·B' images, each row serves n
                of them in turn. ``None``: the node of these very images.
            additional_inputs: What else the model takes.

        Returns:
            *Tensor*: (B,).

        Raises:
            ValueError: if ``node`` has another number of features than the embedding, or
                the number of images is no multiple of the number of nodes.
        """
        inputs = (images, *additional_inputs)
        if node is None:
            own = self.node_on(self.assess(*inputs))
            return own.scale * _dot(own.direction, own.embedding)
        check_images(inputs[:1])
        embedding = self._embedding(self.serfiq.tap.embed(self.serfiq.model, inputs))
        nodes = torch.atleast_2d(node).flatten(1)  # Captum's Lime unpacks a bare (1, d) tensor
        features = embedding.flatten(1).shape[1]
        if nodes.shape[1] != features or embedding.shape[0] % nodes.shape[0]:
            raise ValueError(
                f"{embedding.shape[0]} images with {features} features cannot share quality "
                f"nodes of shape {tuple(node.shape)}: pass what node(images) returned."
            )
        nodes = nodes.repeat_interleave(embedding.shape[0] // nodes.shape[0], dim=0)
        return _dot(nodes, embedding)

    def node(self, *inputs: object) -> Tensor:
        """Return the weights of each image's quality node (Eq. 3).

        Args:

            inputs: What the model takes, the images first, (B, ...).

        Returns:
            *Tensor*: (B, d), detached.
        """
        own = self.node_on(self.assess(*inputs))
        return own.scale.unsqueeze(1) * own.direction.flatten(1)

    @reads_once
    def assess(self, *inputs: object, standard_error: bool = False) -> Assessment:
        """Return what the node is made of: the clean embedding and the quality.

        Args:

            inputs: What the model takes, the images first, (B, ...).
            standard_error (bool): Estimate the quality's sampling error as well.

        Returns:
            *Assessment*: of SER-FIQ, from one forward; of another score with its value, from a
            forward more than that takes.

        Raises:
            ValueError: as the score; if it is 0 or less without ``scaling``; if a standard error is
                asked of a score that is not sampled.
        """
        if self.score is None:
            return self.serfiq.assess(*inputs, standard_error=standard_error)
        if standard_error:
            raise ValueError("Only SER-FIQ is sampled: other scores have no standard error.")
        with torch.no_grad():
            quality = self.score(*inputs)
        if self.scaling is None:
            look((quality.min(),), self._refuse_negative)
        return Assessment(self.serfiq.tap.embed(self.serfiq.model, inputs), quality, None)

    def _refuse_negative(self, lowest: list[float]) -> None:
        if not lowest[0] > 0:
            raise ValueError(
                f"{type(self.score).__name__} gives {lowest[0]:.3g}, but the size of "
                "the quality node must be positive: pass scaling=QualityScaling(alpha, r)."
            )

    def node_on(self, assessed: Assessment) -> QualityNode:
        """Put the quality node of each image on the network's embedding of it.

        Args:

            assessed (Assessment): What :meth:`SERFIQ.assess` told of the images.

        Returns:
            *QualityNode*: with the clean embedding under autograd.
        """
        embedding = self._embedding(assessed.embedding)
        fixed = embedding.detach()
        scaled = scale_quality(assessed.quality.detach(), self.scaling)
        return QualityNode(
            embedding,
            direction=node_direction(fixed, self.weights),
            scale=node_scale(fixed, scaled, self.weights),
        )

    def _embedding(self, clean: Tensor) -> Tensor:
        embedding = at_least_float32(clean)
        if not self.normalize:
            return embedding
        return unit_length(embedding.flatten(1)).view_as(embedding)

    def extra_repr(self) -> str:
        """Return the parameters, for ``print``."""
        return f"weights={self.weights!r}, scaling={self.scaling}, normalize={self.normalize}"


def _dot(weights: Tensor, embedding: Tensor) -> Tensor:
    return (weights.flatten(1) * embedding.flatten(1)).sum(1)
