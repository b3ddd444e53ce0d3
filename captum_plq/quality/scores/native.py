"""The quality that some networks give beside the embedding."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from captum_plq.models.spec import FaceModel
from captum_plq.network.borrowed import hookable
from captum_plq.network.forward_function import as_module
from captum_plq.network.output import OutputSelector, embed, select_embedding
from captum_plq.quality.scores.base import Score, UnsuitableNetworkError

__all__ = ["NativeQuality"]


class NativeQuality(Score):
    """The network's own estimate of quality.

    CR-FIQA's output (Boutros et al., CVPR 2023), MagFace's norm (Meng et al., CVPR 2021), AdaFace's
    norm (Kim et al., CVPR 2022). Where it stands in the network's output is a fact of the network:
    ``ModelSpec.quality``. One forward.

    Args:

        model (nn.Module or Callable): As for :class:`~captum_plq.quality.scores.base.Score`.
        quality (int, str, Callable or None): Which part of the network's output is the quality,
            (B,) or (B, 1), or a function of the output; higher must be better. ``None``: what the
            spec of a :class:`~captum_plq.models.FaceModel` says. Of a ``FaceModel``, the output is
            that of its ``backbone``.
        output (int, str, Callable or None): Which part of the model's output is the embedding.

    Raises:
        UnsuitableNetworkError: if nothing says where the quality is, or it is not one number for
            each image.

    Examples::

        >>> model = load_model("crfiqa-iresnet50", weights="32572backbone.pth")
        >>> quality = NativeQuality(model)(images)  # (B, 3, 112, 112) -> (B,)
    """

    differentiable: bool = True
    needs: str = "an output of its own for quality (ModelSpec.quality, or quality=)"

    def __init__(
        self,
        model: nn.Module | Callable[..., object],
        *,
        quality: OutputSelector = None,
        output: OutputSelector = None,
    ) -> None:
        model = as_module(model)
        if quality is None and isinstance(model, FaceModel):
            quality = model.spec.quality
        if quality is None:
            raise UnsuitableNetworkError(
                "Nothing says which part of the network's output is its own quality, and most "
                "networks have none: pass quality=, an index, a key or a function of the output."
            )
        super().__init__(model, output=output)
        self.quality = quality

    def score(self, network: nn.Module, inputs: Sequence[object]) -> tuple[Tensor, Tensor]:
        """Return scores (B,) and embeddings."""
        given: list[object] = []
        whole = network.backbone if isinstance(network, FaceModel) else network
        hookable(whole).register_forward_hook(lambda _, __, y: given.append(y))
        embedding = embed(network, inputs, self.output)
        found = select_embedding(given[-1], self.quality)
        if found.numel() != len(embedding):
            raise UnsuitableNetworkError(
                f"quality={self.quality!r} selects {tuple(found.shape)} of the network's output, "
                "but must select one number for each image."
            )
        return found.flatten(), embedding
