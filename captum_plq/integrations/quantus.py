"""Pixel-level quality for Quantus: a function that explains, and models its metrics can ask.

Most of Quantus's metrics look at one output of the model, ``model(x)[i, y[i]]``. An embedding
has no such output; :class:`QualityHead` and :class:`IdentityHead` give it one. Quantus itself
is not imported here: ``pip install 'captum-plq[quantus]'``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_plq._base.precision import at_least_float32
from captum_plq.attribution import PixelQualityAttribution, TargetScalar
from captum_plq.functional import NodeWeights, merge_channels
from captum_plq.quality.serfiq import SERFIQ

__all__ = ["IdentityHead", "QualityHead", "explain_func"]


class QualityHead(nn.Module):
    """The quality of an image as a model with one output, for Quantus: ``y`` is always 0.

    Call metrics with ``softmax=False``: of a single output the softmax, which Quantus takes
    unless it is told not to, is 1 whatever the image.

    Args:

        model (nn.Module or SERFIQ): Embedding network, (B, C, H, W) → (B, d), or a
            :class:`~captum_plq.SERFIQ` around it.

    Shape:

        - Input: images (B, C, H, W).
        - Output: (B, 1), Q of Eq. 1, in (0, 1].

    Examples::

        >>> head, y = QualityHead(model), np.zeros(len(images), dtype=int)
        >>> metric(head, images, y, explain_func=explain_func, softmax=False)
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.serfiq = model if isinstance(model, SERFIQ) else SERFIQ(model)
        self.training = False  # Quantus insists; the network is evaluated as such anyway

    def forward(self, images: Tensor) -> Tensor:
        """Return Q of each image, (B, 1)."""
        quality: Tensor = self.serfiq(images)
        return quality.unsqueeze(1)


class IdentityHead(nn.Module):
    """The similarity of an image to each of some known faces, for Quantus: ``y`` names one.

    Args:

        model (nn.Module or SERFIQ): Embedding network, (B, C, H, W) → (B, d), or a
            :class:`~captum_plq.SERFIQ` around it.
        gallery (Tensor): (n, d), one embedding for each identity, of any length but zero.

    Shape:

        - Input: images (B, C, H, W).
        - Output: (B, n), cosines, in [-1, 1].

    Raises:
        ValueError: if ``gallery`` is not (n, d), is not finite, or has a row of length zero;
            at the first call, if the network's embeddings have another size.

    Examples::

        >>> head = IdentityHead(model, model(references))
        >>> metric(head, images, identities, explain_func=explain_func, softmax=False)
    """

    gallery: Tensor

    def __init__(self, model: nn.Module, gallery: Tensor) -> None:
        super().__init__()
        gallery = gallery.detach()
        if gallery.ndim != 2:
            raise ValueError(
                "gallery must hold one embedding for each identity, (n, d), but has the shape "
                f"{tuple(gallery.shape)}."
            )
        if not bool(torch.isfinite(gallery).all()):
            raise ValueError("gallery holds NaN or infinite values.")
        if bool((gallery == 0).all(dim=1).any()):
            raise ValueError("gallery has a row of zeros, which has no direction.")
        self.serfiq = model if isinstance(model, SERFIQ) else SERFIQ(model)
        self.register_buffer("gallery", F.normalize(gallery, dim=1))
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        """Return the cosine with each identity, (B, n)."""
        embedding = self.serfiq.tap.embed(self.serfiq.model, (images,)).flatten(1)
        if embedding.shape[1] != self.gallery.shape[1]:
            raise ValueError(
                f"The network gives {embedding.shape[1]} features, but the gallery holds "
                f"{self.gallery.shape[1]}: embed the gallery with the same network."
            )
        unit = F.normalize(at_least_float32(embedding), dim=1)
        return unit @ self.gallery.to(unit).T


def explain_func(
    model: nn.Module,
    inputs: npt.NDArray[np.floating],
    targets: npt.NDArray[np.integer] | None = None,
    *,
    weights: NodeWeights = "l1",
    target_scalar: TargetScalar = "node",
    merged: bool = False,
    device: str | None = None,
    method: str | None = None,
) -> npt.NDArray[np.floating]:
    """Explain images as Quantus asks an ``explain_func`` to.

    Nothing is kept between calls: Quantus passes altered copies of the model, and each is
    explained as it is.

    Args:

        model (nn.Module): A :class:`QualityHead`, an :class:`IdentityHead`, or the embedding
            network itself.
        inputs (ndarray): Images (B, C, H, W), in the unit the model takes.
        targets (ndarray, optional): Without effect: an image has one quality, whoever it shows.
        weights (str): As for :class:`~captum_plq.PixelQualityAttribution`.
        target_scalar (str): As there.
        merged (bool): One map per image, the mean absolute gradient over the channels (Eq. 5).
            Metrics that move whole pixels need it. Default: ``False``.
        device (str, optional): Where to compute. ``None``: where the model is.
        method (str, optional): Without effect; the name ``quantus.evaluate`` gives the method.

    Returns:
        *ndarray*: (B, C, H, W), the signed gradient S(I) of Eq. 4, or (B, 1, H, W) if merged.
        Neither is normalised: Quantus's metrics do that themselves.

    Raises:
        TypeError: if ``model`` is no ``nn.Module``, or for an option that is none of these.
            ``quantus.evaluate`` hands the options of a method that is given as a dictionary on
            to those after it: name this one first.
        ValueError: as :class:`~captum_plq.PixelQualityAttribution`.

    Examples::

        >>> quantus.evaluate(
        ...     metrics,
        ...     {"PLQ": explain_func, "Saliency": {"method": "Saliency"}},
        ...     QualityHead(model),
        ...     images,
        ...     np.zeros(len(images), dtype=int),
        ...     explain_func_kwargs={},
        ...     call_kwargs={"": {"softmax": False}},
        ... )
    """
    network = model.serfiq if isinstance(model, (QualityHead, IdentityHead)) else model
    plq = PixelQualityAttribution(network, weights=weights, target_scalar=target_scalar)
    parameter = next(model.parameters(), torch.empty(0))
    images = torch.as_tensor(
        inputs, dtype=parameter.dtype, device=parameter.device if device is None else device
    )
    attributions: Tensor = plq.attribute(images)
    if merged:
        attributions = merge_channels(attributions).unsqueeze(1)
    answer: npt.NDArray[np.floating] = at_least_float32(attributions).cpu().numpy()
    return answer
