"""SER-FIQ as a module: images in, their quality for this network out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from captum_plq._base.late import reads_once
from captum_plq._base.tracing import is_traced, never_compiled
from captum_plq.functional import PairAverage
from captum_plq.functional.masks import DropoutMasks
from captum_plq.network.forward_function import as_network
from captum_plq.network.independence import refuse_uninformative
from captum_plq.network.lender import Lender
from captum_plq.network.output import OutputSelector
from captum_plq.network.state import check_images
from captum_plq.network.tap import EmbeddingTap
from captum_plq.quality.estimators import (
    Assessment,
    Estimator,
    Request,
    make_estimator,
)

__all__ = ["SERFIQ", "Assessment", "Estimator"]


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
            :class:`~captum_plq.functional.masks.BalancedMasks`.
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

    differentiable: bool = True
    needs: str = "a last linear map or convolution on the way to the embedding"

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
        self.model = as_network(model)
        self.estimator: Estimator = estimator
        self._estimator = make_estimator(
            estimator, passes, dropout, seed, average, normalize, chunk_size
        )
        self.tap = EmbeddingTap(embedding_layer, output)
        self.lender = Lender(frozen=True)

    def forward(self, *inputs: object) -> Tensor:
        """Return the quality Q of each image (Eq. 1).

        Args:

            inputs: What the model takes, the images first, (B, ...).

        Returns:
            *Tensor*: (B,), in (0, 1].
        """
        return self.assess(*inputs, differentiable=True).quality

    @never_compiled
    @reads_once
    def assess(
        self, *inputs: object, differentiable: bool = False, standard_error: bool = False
    ) -> Assessment:
        """Return clean embedding, quality and its standard error, from one forward.

        Args:

            inputs: What the model takes, the images first, (B, ...).
            differentiable (bool): Keep the quality under autograd too.
            standard_error (bool): Estimate Q's sampling error as well. It takes
                at least 3 passes, or with ``"balanced"`` 3 groups of them, e.g. 6, 100.

        Returns:
            *Assessment*: the embedding (B, ...), under autograd, Q (B,), and its standard
            error (B,) or ``None``.

        Raises:
            ValueError: as :class:`SERFIQ`, or if there are too few passes for a standard error.

        Examples::

            >>> _, quality, error = serfiq.assess(images, standard_error=True)
        """
        options = {"differentiable": differentiable, "standard_error": standard_error}
        if torch.is_grad_enabled() or is_traced():  # a backward may follow, or the weights count
            return self.assess_through(self.model, *inputs, **options)
        with self.lender.lend(self.model) as (network, _):
            return self.assess_through(network, *inputs, **options)

    @reads_once
    def assess_through(
        self,
        network: nn.Module,
        *inputs: object,
        differentiable: bool = False,
        standard_error: bool = False,
    ) -> Assessment:
        """Assess as :meth:`assess` does, running a copy of the model that has hooks of its own.

        Args:

            network (nn.Module): Of :func:`~captum_plq.network.borrowed.borrowed`, not to be run
                again, or of ``lender``.
            inputs: What the model takes, the images first, (B, ...).
            differentiable (bool): As for :meth:`assess`.
            standard_error (bool): As for :meth:`assess`.

        Returns:
            *Assessment*: as of :meth:`assess`.
        """
        check_images(inputs[:1], self.model)
        request = Request(self.tap, network, inputs, differentiable, standard_error)
        assessment = self._estimator.assess(request)
        refuse_uninformative(inputs[0], assessment.embedding, assessment.quality)
        return assessment

    def prepare(self, *inputs: object) -> str:
        """Do now what the first call would do: find the embedding layer, check the head.

        Args:

            inputs: What the model takes, the images first, (B, ...).

        Returns:
            *str*: the embedding layer's name, for ``model.get_submodule``.
        """
        name = self.tap.locate(self.model, inputs)
        self._estimator.prepare(Request(self.tap, self.model, inputs))
        return name

    @property
    def fallback_reason(self) -> str | None:
        """Why there is no closed form on this network; ``None``: there is, or it was not tried."""
        return self._estimator.fallback_reason

    def embeddings(self, *inputs: object, differentiable: bool = False) -> tuple[Tensor, Tensor]:
        """Return clean and stochastic embeddings, from one forward of the network.

        Args:

            inputs: What the model takes, the images first, (B, ...).
            differentiable (bool): Keep the stochastic embeddings under autograd too.

        Returns:
            *tuple[Tensor, Tensor]*: (B, ...) and (B, m, ...), not normalised by us.
        """
        return self._estimator.sampling.embeddings(
            Request(self.tap, self.model, inputs, differentiable)
        )

    @property
    def masks(self) -> DropoutMasks:
        """The dropout masks."""
        return self._estimator.sampling.masks

    @property
    def average(self) -> PairAverage:
        """How Eq. 1 averages over pairs."""
        return self._estimator.sampling.average

    @property
    def chunk_size(self) -> int | None:
        """Rows put through the embedding layer at a time."""
        return self._estimator.sampling.chunk_size

    @property
    def normalize(self) -> bool:
        """Whether the stochastic embeddings are scaled to unit length."""
        return self._estimator.sampling.normalize

    def extra_repr(self) -> str:
        """Return the parameters, for ``print``."""
        masks = self.masks
        return (
            f"passes={masks.passes}, dropout={masks.dropout}, seed={masks.seed}, "
            f"estimator={self.estimator!r}"
        )
