"""SER-FIQ as a module: images in, their quality for this network out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from captum_plq._base.choices import require_choice
from captum_plq._base.tracing import never_compiled, untraced
from captum_plq.errors import PixelScaleWarning
from captum_plq.functional import (
    PairAverage,
    quality_from_distance,
    quality_from_embeddings,
    quality_with_standard_error,
)
from captum_plq.functional.balanced_masks import BalancedMasks
from captum_plq.functional.masks import DropoutMasks
from captum_plq.network.embedding_layer import OutputSelector
from captum_plq.network.exploration import structure_of
from captum_plq.network.forward_function import as_module
from captum_plq.network.independence import refuse_uninformative
from captum_plq.network.state import check_images, outside_inference, weights_state
from captum_plq.network.tail import NotAffineError
from captum_plq.network.tap import EmbeddingTap
from captum_plq.quality.closed_form import ClosedForm

__all__ = ["SERFIQ", "Assessment", "Estimator"]

Estimator = Literal["sampling", "balanced", "closed-form"]
"""How the mean pairwise distance of Eq. 1 is estimated."""


_ROW_ELEMENTS_AT_A_TIME = 2**20
"""Numbers of stochastic embeddings that distances are taken of at once: 4 MiB in float32."""


class Assessment(NamedTuple):
    """What one forward of a network tells of a batch of images.

    Args:

        embedding (Tensor): (B, ...), clean, under autograd.
        quality (Tensor): (B,), Q, in (0, 1].
        standard_error (Tensor or None): (B,), of Q, from the finite number of passes, in
            units of Q; 0 for the closed form, which draws none. ``None``: not asked for.
    """

    embedding: Tensor
    quality: Tensor
    standard_error: Tensor | None


class SERFIQ(nn.Module):
    r"""Stochastic embedding robustness: face image quality without training.

    An image is good for a network if its embedding barely moves when features before the
    last linear layer are dropped at random (Eq. 1 of the PLQ paper; Terhörst et al.,
    "SER-FIQ", CVPR 2020). The dropout is this module's own: it needs none in the model and
    ignores any that is there; the model always runs in evaluation mode.

    Reliable for networks trained with dropout; on others it can be uninformative.

    Args:

        model (nn.Module or Callable): Embedding network, (B, C, H, W) → (B, d). Not scripted or
            exported: hooks do not fire there. A compiled model is run eagerly. A function is
            taken too, if it is bound to its network or closes over it, see
            :func:`~captum_plq.network.forward_function.as_module`.
        passes (int): m, the number of stochastic embeddings. Default: 100, the paper's.
        dropout (float): p, the probability that a feature is dropped. Default: 0.5, the
            paper's.
        seed (int): Seed of the dropout masks, which all images share. Default: 0.
        estimator (str): ``"sampling"``: the paper's m independent passes, the default.
            ``"balanced"``: passes in balanced groups (p = 0.5 only), about two thirds of the
            sampling error at the same m, and on linear layers a tenth of the cost; see
            :class:`~captum_plq.functional.balanced_masks.BalancedMasks`.
            ``"closed-form"``: no passes, the value that sampling scatters around, to second
            order; see :func:`~captum_plq.functional.closed_form.expected_pairwise_distance`. It
            needs an affine embedding layer and tail. This is checked against sampling at
            the first call; where it fails, sampling is used instead, with one warning, and
            ``fallback_reason`` says why.
        average (str): ``"paper"`` (2/m² Σ, the default) or ``"pairs"`` (the released code),
            see :func:`~captum_plq.functional.mean_pairwise_distance`.
        normalize (bool): Scale the stochastic embeddings to unit length before distances
            are taken. Default: ``True``.
        embedding_layer (str, optional): Qualified name of the layer whose input is dropped
            out. ``None``: the one that the model states in an attribute of this name, as a
            ``FaceModel`` whose spec has one; or the last linear map on the way to the
            embedding, found and checked at the first call.
        output (int, str, Callable or None): Which part of the model's output is the
            embedding, if it is not a tensor.
        chunk_size (int, optional): Rows (one image under one mask) put through the
            embedding layer at a time. Bounds memory; does not change results.

    Shape:

        - Input: what ``model`` takes; the images first, (B, ...), floating point.
        - Output: (B,), float32 or float64, in (0, 1]. Differentiable with respect to the
          images.

    Raises:
        ValueError: for ``passes`` < 2, ``dropout`` outside (0, 1), or a scripted model; as
            :class:`~captum_plq.network.embedding_layer.EmbeddingLayerError` if the embedding layer
            cannot be found or used; as :class:`~captum_plq.errors.UnusableImagesError`, which
            names the images, for NaN pixels and for embeddings that are not finite or all zero.
        TypeError: for a model that is neither, or integer images.

    Warns:
        UninformativeWarning: for an image whose embedding dropout does not move at all.
        PixelScaleWarning: for 0–1 pixels where the network takes 0–255.

    Examples::

        >>> serfiq = SERFIQ(model)
        >>> quality = serfiq(images)  # (B, 3, 112, 112) -> (B,)
        >>> # The score itself as the target of any Captum method:
        >>> attributions = IntegratedGradients(serfiq).attribute(images)
    """

    def __init__(
        self,
        model: nn.Module | Callable[..., object],
        *,
        passes: int = 100,
        dropout: float = 0.5,
        seed: int = 0,
        estimator: Estimator = "sampling",
        average: PairAverage = "paper",
        normalize: bool = True,
        embedding_layer: str | None = None,
        output: OutputSelector = None,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        model = as_module(model)
        if _is_scripted(model):
            raise ValueError(
                "model is a scripted or traced program, where hooks do not fire: pass the "
                "nn.Module it was made from."
            )
        require_choice("average", average, PairAverage)
        require_choice("estimator", estimator, Estimator)
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1, but got {chunk_size!r}.")
        if estimator == "closed-form" and not normalize:
            raise ValueError("The closed form is that of unit-length embeddings: normalize=True.")
        self.model = model
        self.estimator: Estimator = estimator
        self._closed_form = _ClosedFormKept()
        make_masks = BalancedMasks if estimator == "balanced" else DropoutMasks
        self.masks = make_masks(passes, dropout, seed)
        self.average: PairAverage = average
        self.normalize = normalize
        self.chunk_size = chunk_size
        self.tap = EmbeddingTap(embedding_layer, output)

    def forward(self, *inputs: object) -> Tensor:
        """Quality Q of each image (Eq. 1).

        Args:

            inputs: What the model takes, the images first, (B, ...).

        Returns:
            *Tensor*: (B,), in (0, 1].
        """
        return self.assess(*inputs, differentiable=True).quality

    def assess(
        self, *inputs: object, differentiable: bool = False, standard_error: bool = False
    ) -> Assessment:
        """Clean embedding, quality and its standard error, in one forward of the network.

        Args:

            inputs: What the model takes, the images first, (B, ...).
            differentiable (bool): Keep the quality under autograd too.
            standard_error (bool): Also say how far Q may be off for having sampled. It takes
                at least 3 passes, or with ``"balanced"`` 3 groups of them, e.g. 6, 100.

        Returns:
            *Assessment*: the embedding (B, ...), under autograd, Q (B,), and its standard
            error (B,) or ``None``.

        Raises:
            ValueError: as :class:`SERFIQ`, or if there are too few passes for a standard error.

        Examples::

            >>> _, quality, error = serfiq.assess(images, standard_error=True)
        """
        check_images(inputs[:1])
        self._warn_of_pixels(inputs)
        closed_form = self._usable_closed_form(inputs)
        if closed_form is not None:
            clean, features, output = self.tap.features(self.model, inputs)
            if not closed_form.agrees(clean, output):
                self._closed_form.form = None
                closed_form = self._usable_closed_form(inputs)
        if closed_form is None:
            clean, stochastic = self.embeddings(*inputs, differentiable=differentiable)
            if differentiable:
                quality, error = self._estimate(stochastic, standard_error)
            else:
                quality, error = self._estimate_in_parts(stochastic.detach(), standard_error)
        else:
            if not differentiable:
                features, output = features.detach(), output.detach()
            distance = closed_form.distance(features, output)
            if self.average == "paper":  # what m passes would be expected to give
                distance = distance * (self.masks.passes - 1) / self.masks.passes
            quality = quality_from_distance(distance)
            error = torch.zeros_like(quality) if standard_error else None
        refuse_uninformative(inputs[0], clean, quality)
        return Assessment(clean, quality, error)

    def prepare(self, *inputs: object) -> str:
        """Does now what the first call does once: finds the embedding layer, checks the head.

        Args:

            inputs: What the model takes, the images first, (B, ...).

        Returns:
            *str*: the embedding layer's name, for ``model.get_submodule``.
        """
        name = self.tap.locate(self.model, inputs)
        self._usable_closed_form(inputs)
        return name

    @property
    def fallback_reason(self) -> str | None:
        """Why there is no closed form on this network; ``None``: there is, or it was not tried."""
        return self._closed_form.reason

    def _estimate_in_parts(
        self, stochastic: Tensor, standard_error: bool
    ) -> tuple[Tensor, Tensor | None]:
        """As :meth:`_estimate`, a few images at a time: copies on the way stay small."""
        images = max(1, _ROW_ELEMENTS_AT_A_TIME // max(1, stochastic[0].numel()))
        parts = [self._estimate(x, standard_error) for x in stochastic.split(images)]
        errors = [error for _, error in parts if error is not None]
        return torch.cat([q for q, _ in parts]), torch.cat(errors) if errors else None

    def _estimate(self, stochastic: Tensor, standard_error: bool) -> tuple[Tensor, Tensor | None]:
        """Q (B,) of stochastic embeddings (B, m, ...), and its standard error if wanted."""
        estimate = quality_with_standard_error if standard_error else quality_from_embeddings
        found = estimate(
            stochastic.flatten(2),
            average=self.average,
            normalize=self.normalize,
            group_size=self.masks.group_size,
        )
        return (found[0], found[1].detach()) if isinstance(found, tuple) else (found, None)

    def embeddings(self, *inputs: object, differentiable: bool = False) -> tuple[Tensor, Tensor]:
        """Clean and stochastic embeddings, in one forward of the network.

        Args:

            inputs: What the model takes, the images first, (B, ...).
            differentiable (bool): Keep the stochastic embeddings under autograd too.

        Returns:
            *tuple[Tensor, Tensor]*: (B, ...) and (B, m, ...), not normalised by us.
        """
        return self.tap.run(
            self.model,
            inputs,
            self.masks,
            differentiable=differentiable,
            chunk_size=self.chunk_size,
        )

    @never_compiled
    def _usable_closed_form(self, inputs: tuple[object, ...]) -> ClosedForm | None:
        """The closed form of the model as it is now; ``None``: sampling is to be used."""
        if self.estimator != "closed-form":
            return None
        kept = self._closed_form
        if kept.form is not None and kept.form.holds_for(self.model):
            return kept.form
        if kept.reason is not None and kept.failed_on == _state_of(self.model):
            return None
        try:
            with torch.inference_mode(False), untraced():
                kept.form = ClosedForm(
                    self.model, self.tap, outside_inference(inputs), self.masks.dropout
                )
                kept.reason = None
        except NotAffineError as error:
            kept.form, kept.reason, kept.failed_on = None, str(error), _state_of(self.model)
            warnings.warn(
                f"No closed form on this network, sampling instead: {error}", stacklevel=3
            )
        return kept.form

    @never_compiled
    def _warn_of_pixels(self, inputs: tuple[object, ...]) -> None:
        """Warns where a network that takes 0–255 pixels is given 0–1."""
        model, images = getattr(self.model, "module", self.model), inputs[0]
        if getattr(model, "pixel_range", None) != (0, 255) or not isinstance(images, Tensor):
            return
        with untraced():
            low, high = (float(x) for x in images.detach().aminmax())
        if low >= 0.0 and 0.0 < high <= 1.0:
            warnings.warn(
                f"The pixels lie between {low:.3g} and {high:.3g}, but the network takes 0–255: "
                "multiply by 255. As they are, the image is all but black to it.",
                PixelScaleWarning,
                stacklevel=3,
            )

    def extra_repr(self) -> str:
        """The parameters, for ``print``."""
        masks = self.masks
        return (
            f"passes={masks.passes}, dropout={masks.dropout}, seed={masks.seed}, "
            f"estimator={self.estimator!r}"
        )


@dataclass
class _ClosedFormKept:
    """The closed form of the weights that were last seen, or why they have none."""

    form: ClosedForm | None = None
    reason: str | None = None
    failed_on: object = None


def _state_of(model: nn.Module) -> object:
    """Changes when modules or weights do, as far as versions tell."""
    return structure_of(model), weights_state(model)


def _is_scripted(model: nn.Module) -> bool:
    return any(isinstance(module, torch.jit.ScriptModule) for module in model.modules())
