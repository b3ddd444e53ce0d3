"""GraFIQs-style quality: how strongly a network's BatchNorms ask for other weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from captum_plq._base.precision import at_least_float32
from captum_plq.network.borrowed import hookable, modules_of, original_of, with_weights
from captum_plq.network.output import OutputSelector, embed
from captum_plq.quality.scores.base import Score, UnsuitableNetworkError

__all__ = ["GraFIQsStyle"]


class GraFIQsStyle(Score):
    r"""Gradient magnitudes of a loss on BatchNorm's statistics, after GraFIQs.

    Kolf, Damer, Boutros, "GraFIQs: Face Image Quality Assessment Using Gradient Magnitudes", CVPR
    Workshops 2024. In each BatchNorm ℓ an image has its own mean and variance over places; their
    squared distance to the running ones, with which the network was trained, is a loss, and the
    absolute sum of its gradients with respect to weights φ the score:

    .. math::
        L = \sum_\ell \operatorname{MSE}(\mu_\ell, \hat\mu_\ell)
            + \operatorname{MSE}(\sigma^2_\ell, \hat\sigma^2_\ell), \qquad
        Q = -\sum_{\theta \in \varphi} \Bigl| \frac{\partial L}{\partial \theta} \Bigr|.

    Written from the paper's abstract and its overview; not checked against its text: which weights
    φ are best (here: all), whether L weights the layers otherwise, and the scale of Q. Its sign is
    chosen so that higher is better. One forward and one backward of each image alone.

    Args:

        model (nn.Module or Callable): As for :class:`~captum_plq.quality.scores.base.Score`.
        group (str): Qualified name of the module whose weights are φ. Default: the whole model.
        output (int, str, Callable or None): Which part of the output is the embedding.

    Raises:
        ValueError: if ``group`` is no module of the model, or has no weights in front of a
            BatchNorm.
        UnsuitableNetworkError: if no BatchNorm with running statistics sees a spatial map.

    Examples::

        >>> quality = GraFIQsStyle(model)(images)  # (B, 3, 112, 112) -> (B,)
    """

    needs: str = "BatchNorm layers with running statistics on spatial maps"

    def __init__(
        self,
        model: nn.Module | Callable[..., object],
        *,
        group: str = "",
        output: OutputSelector = None,
    ) -> None:
        super().__init__(model, output=output)
        try:
            self.model.get_submodule(group)
        except AttributeError as error:
            raise ValueError(f"The model has no module {group!r}.") from error
        self.group = group

    def score(self, network: nn.Module, inputs: Sequence[object]) -> tuple[Tensor, Tensor]:
        """Return scores (B,) and embeddings, one image after another."""
        images, model = inputs[0], original_of(self.model)
        assert isinstance(images, Tensor)
        group = model.get_submodule(self.group).parameters()
        leaves = {id(p): p.detach().requires_grad_() for p in group if p.is_floating_point()}
        losses: list[Tensor] = []

        def look(module: nn.Module, args: tuple[Any, ...]) -> None:
            x = args[0]
            if x.ndim > 2 and x[0, 0].numel() > 1:
                losses.append(_loss(x, module))

        network = with_weights(model, leaves)
        for module in modules_of(network):
            if isinstance(module, _BatchNorm) and module.running_mean is not None:
                hookable(module).register_forward_pre_hook(look)
        scores, embeddings = [], []
        for i in range(len(images)):
            losses.clear()
            with torch.enable_grad():
                embedding = embed(network, _row(inputs, i), self.output)
                scores.append(-self._gradients(losses, list(leaves.values())))
            embeddings.append(embedding.detach())
        return torch.stack(scores), torch.cat(embeddings)

    def _gradients(self, losses: list[Tensor], weights: list[Tensor]) -> Tensor:
        """The absolute sum of the gradients of an image's losses."""
        if not losses:
            raise UnsuitableNetworkError(
                "GraFIQs needs BatchNorm layers with running statistics on spatial maps, and "
                "this network runs none."
            )
        loss, slopes = torch.stack(losses).sum(), tuple[Tensor | None, ...]()
        if loss.requires_grad:
            slopes = torch.autograd.grad(loss, weights, allow_unused=True)
        sums = [at_least_float32(x).abs().sum() for x in slopes if x is not None]
        if not sums:
            raise ValueError(
                f"No weight of {self.group or 'the model'!r} lies in front of a BatchNorm of the "
                "network: name another group."
            )
        return torch.stack(sums).sum()


def _loss(x: Tensor, module: _BatchNorm | nn.Module) -> Tensor:
    """Squared distance of an image's (1, C, ...) mean and variance from the running ones."""
    places = tuple(range(2, x.ndim))
    x = at_least_float32(x)
    mean, variance = x.mean(places)[0], x.var(places, correction=0)[0]
    assert isinstance(module.running_mean, Tensor)
    assert isinstance(module.running_var, Tensor)
    return F.mse_loss(mean, module.running_mean.to(mean)) + F.mse_loss(
        variance, module.running_var.to(mean)
    )


def _row(inputs: Sequence[object], i: int) -> tuple[object, ...]:
    """The arguments of one image; tensors of as many rows as there are images are split too."""
    count = len(inputs[0]) if isinstance(inputs[0], Tensor) else 0
    return tuple(
        x[i : i + 1] if isinstance(x, Tensor) and x.ndim > 0 and len(x) == count else x
        for x in inputs
    )
