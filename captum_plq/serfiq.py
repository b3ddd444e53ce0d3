"""SER-FIQ as a module: images in, their quality for this network out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from captum_plq._state import check_images
from captum_plq.dropout_masks import DropoutMasks
from captum_plq.embedding_layer import OutputSelector
from captum_plq.embedding_tap import EmbeddingTap
from captum_plq.functional import PairAverage, quality_from_embeddings

__all__ = ["SERFIQ"]


class SERFIQ(nn.Module):
    r"""Stochastic embedding robustness: face image quality without training.

    An image is good for a network if its embedding barely moves when features before the
    last linear layer are dropped at random (Eq. 1 of the PLQ paper; Terhörst et al.,
    "SER-FIQ", CVPR 2020). The dropout is this module's own: it needs none in the model and
    ignores any that is there; the model always runs in evaluation mode.

    Reliable for networks trained with dropout; on others it can be uninformative.

    Args:

        model (nn.Module): Embedding network, (B, C, H, W) → (B, d). Not scripted or
            exported: hooks do not fire there. A compiled model is run eagerly.
        passes (int): m, the number of stochastic embeddings. Default: 100, the paper's.
        dropout (float): p, the probability that a feature is dropped. Default: 0.5, the
            paper's.
        seed (int): Seed of the dropout masks, which all images share. Default: 0.
        average (str): ``"paper"`` (2/m² Σ, the default) or ``"pairs"`` (the released code),
            see :func:`~captum_plq.functional.mean_pairwise_distance`.
        normalize (bool): Scale the stochastic embeddings to unit length before distances
            are taken. Default: ``True``.
        embedding_layer (str, optional): Qualified name of the layer whose input is dropped
            out. ``None``: the last linear map on the way to the embedding, found and
            checked at the first call.
        output (int, str, Callable or None): Which part of the model's output is the
            embedding, if it is not a tensor.
        chunk_size (int, optional): Rows (one image under one mask) put through the
            embedding layer at a time. Bounds memory; does not change results.

    Shape:

        - Input: what ``model`` takes; the images first, (B, ...), floating point.
        - Output: (B,), float32 or float64, in (0, 1]. Differentiable with respect to the
          images.

    Raises:
        ValueError: for ``passes`` < 2, ``dropout`` outside (0, 1), NaN pixels, or a scripted
            model; as :class:`~captum_plq.embedding_layer.EmbeddingLayerError` if the
            embedding layer cannot be found or used.
        TypeError: for a model that is no ``nn.Module``, or integer images.

    Examples::

        >>> serfiq = SERFIQ(model)
        >>> quality = serfiq(images)  # (B, 3, 112, 112) -> (B,)
        >>> # The score itself as the target of any Captum method:
        >>> attributions = IntegratedGradients(serfiq).attribute(images)
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        passes: int = 100,
        dropout: float = 0.5,
        seed: int = 0,
        average: PairAverage = "paper",
        normalize: bool = True,
        embedding_layer: str | None = None,
        output: OutputSelector = None,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be an nn.Module, but got {type(model).__name__}.")
        if _is_scripted(model):
            raise ValueError(
                "model is a scripted or traced program, where hooks do not fire: pass the "
                "nn.Module it was made from."
            )
        if average not in ("paper", "pairs"):
            raise ValueError(f"average must be 'paper' or 'pairs', but got {average!r}.")
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1, but got {chunk_size!r}.")
        self.model = model
        self.masks = DropoutMasks(passes, dropout, seed)
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
        check_images(inputs[:1])
        _, stochastic = self.embeddings(*inputs, differentiable=True)
        return self.quality(stochastic)

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

    def quality(self, stochastic: Tensor) -> Tensor:
        """Quality Q (B,) of stochastic embeddings (B, m, ...) that are already there."""
        return quality_from_embeddings(
            stochastic.flatten(2), average=self.average, normalize=self.normalize
        )

    def extra_repr(self) -> str:
        """The parameters, for ``print``."""
        return f"passes={self.masks.passes}, dropout={self.masks.dropout}, seed={self.masks.seed}"


def _is_scripted(model: nn.Module) -> bool:
    return any(isinstance(module, torch.jit.ScriptModule) for module in model.modules())
