"""Pixel-level quality in pytorch-grad-cam's conventions: targets for its CAMs, and a CAM.

Its CAMs and metrics take ``targets``, one callable for each image, of that image's row of the
model's output. Without them they pick the largest number of the output, which for a classifier
is a class; of an embedding it is a feature that means nothing. So pass targets, always:
:class:`EmbeddingQualityTarget` or :class:`CosineTarget`. pytorch-grad-cam itself is not
imported here: ``pip install 'captum-plq[grad-cam]'``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_plq._base.precision import at_least_float32
from captum_plq.attribution import PixelQualityAttribution
from captum_plq.functional import merge_channels, pixel_quality
from captum_plq.network.borrowed import borrowed
from captum_plq.network.state import check_images, differentiable_copies
from captum_plq.quality.model import QualityModel

__all__ = ["CosineTarget", "EmbeddingQualityTarget", "PLQCam"]

Target = Callable[[Tensor], Tensor]
"""One image's row of the model's output → a scalar."""

_FACTORS = (0.9, 1.0, 1.1)
_CLASS_NUMBERS = ("category", "main_category")
"""Where pytorch-grad-cam's targets for classifiers keep the number of a class."""


class EmbeddingQualityTarget:
    r"""The quality node of one image (Eq. 3), for images that are made from it.

    The node belongs to the image that is explained, and stays its own where a CAM or a metric
    shows the model altered copies: :math:`w \cdot e`, with w from :meth:`QualityModel.node
    <captum_plq.QualityModel.node>`.

    Args:

        node (Tensor): (d,), the image's node weights.
        normalize (bool): Scale the embedding to unit length first, as
            :class:`~captum_plq.QualityModel` does by default.

    Note:
        The output of the paper's node (``weights="l1"``) may be negative, and lower is then not
        worse: CAMs that keep positive values alone may be zero everywhere, and metrics that
        watch the target fall, as ROAD, mislead. ``QualityModel(model, weights="signed")``, whose
        output is Q, serves both.

    Raises:
        ValueError: if ``node`` is not (d,); when called, if the output is not (d,) too.

    Examples::

        >>> node = QualityModel(model, weights="signed")
        >>> targets = EmbeddingQualityTarget.of_images(node, images)
        >>> with GradCAM(model=model, target_layers=[model.layer4]) as cam:
        ...     maps = cam(input_tensor=images, targets=targets)
    """

    def __init__(self, node: Tensor, *, normalize: bool = True) -> None:
        if node.ndim != 1:
            raise ValueError(
                f"node must be that of one image, (d,), but has the shape {tuple(node.shape)}: "
                "EmbeddingQualityTarget.of_images makes one for each image of a batch."
            )
        self.node = node.detach()
        self.normalize = normalize

    @classmethod
    def of_images(cls, model: nn.Module, images: Tensor) -> list[EmbeddingQualityTarget]:
        """Make one target for each image.

        Args:

            model (nn.Module, SERFIQ or QualityModel): What gives the quality.
            images (Tensor): (B, C, H, W).

        Returns:
            *list[EmbeddingQualityTarget]*: B of them, as ``targets=`` takes them.
        """
        quality_model = model if isinstance(model, QualityModel) else QualityModel(model)
        with torch.no_grad():
            nodes = quality_model.node(images)
        return [cls(node, normalize=quality_model.normalize) for node in nodes]

    def __call__(self, model_output: Tensor) -> Tensor:
        """Return the node's value for one row of the model's output, a scalar."""
        embedding = _one_row(model_output, self.node)
        if self.normalize:
            embedding = F.normalize(embedding, dim=0)
        return self.node.to(embedding) @ embedding


class CosineTarget:
    """The similarity of one image's embedding to a reference.

    Args:

        reference (Tensor): (d,), an embedding, of any length but zero.

    Raises:
        ValueError: if ``reference`` is not (d,) or is zero; when called, if the output is not
            (d,) too.

    Examples::

        >>> targets = [CosineTarget(e) for e in model(references)]
    """

    def __init__(self, reference: Tensor) -> None:
        if reference.ndim != 1 or not bool(reference.any()):
            raise ValueError(
                "reference must be one embedding, (d,), that is not zero, but has the shape "
                f"{tuple(reference.shape)}."
            )
        self.reference = F.normalize(at_least_float32(reference.detach()), dim=0)

    def __call__(self, model_output: Tensor) -> Tensor:
        """Return the cosine of one row of the output with the reference, a scalar in [-1, 1]."""
        embedding = _one_row(model_output, self.reference)
        return self.reference.to(embedding) @ F.normalize(embedding, dim=0)


class PLQCam(AbstractContextManager["PLQCam"]):
    """Pixel-level quality, called as pytorch-grad-cam's CAMs are.

    It looks at pixels, so it takes no ``target_layers``; and it leaves the model as it was.

    Args:

        model (nn.Module or PixelQualityAttribution): Embedding network, or a
            :class:`~captum_plq.SERFIQ` around it; or an attribution with other than the
            paper's parameters.
        gamma (float, optional): γ of Eq. 6: maps on a scale that is the same for all
            images. ``None``: each map is stretched to [0, 1], as pytorch-grad-cam's are.

    Examples::

        >>> with PLQCam(model, gamma=7.5) as cam:
        ...     maps = cam(input_tensor=images)  # (B, H, W), ndarray in [0, 1]
    """

    def __init__(
        self, model: nn.Module | PixelQualityAttribution, *, gamma: float | None = None
    ) -> None:
        self.plq = (
            model if isinstance(model, PixelQualityAttribution) else PixelQualityAttribution(model)
        )
        self.gamma = gamma

    def __call__(
        self,
        input_tensor: Tensor,
        targets: Sequence[Target] | None = None,
        aug_smooth: bool = False,
        eigen_smooth: bool = False,
    ) -> npt.NDArray[np.float32]:
        """Return maps of a batch of images.

        Args:

            input_tensor (Tensor): Images (B, C, H, W), in the unit the model takes.
            targets (sequence, optional): One callable for each image, of its embedding (d,).
                ``None``: the image's own quality. Never the largest feature.
            aug_smooth (bool): Average over the image and its mirror image, each with its
                values times 0.9, 1 and 1.1.
            eigen_smooth (bool): Must be ``False``: pixels have no channels of activations.

        Returns:
            *ndarray*: (B, H, W), float32, in [0, 1], high where pixels matter.

        Raises:
            TypeError: for integer images.
            ValueError: for NaN pixels, another number of targets than images, targets made for
                classifiers, or ``eigen_smooth``.
        """
        if eigen_smooth:
            raise ValueError(
                "eigen_smooth projects a layer's channels onto their first component; pixel-level "
                "quality has no such channels. Leave it out, or use aug_smooth."
            )
        check_images([input_tensor])
        if targets is not None:
            _check_targets(targets, len(input_tensor))
        parameter = next(self.plq.quality_model.parameters(), input_tensor)
        images = input_tensor.to(parameter.device)
        if not aug_smooth:
            return self._maps(images, targets)
        versions = [self._maps(images * factor, targets) for factor in _FACTORS] + [
            self._maps(images.flip(-1) * factor, targets)[..., ::-1] for factor in _FACTORS
        ]
        mean: npt.NDArray[np.float32] = np.mean(versions, axis=0, dtype=np.float32)
        return mean

    def __exit__(self, *_: object) -> None:
        """Do nothing: there is nothing to release, and errors pass."""

    def _maps(self, images: Tensor, targets: Sequence[Target] | None) -> npt.NDArray[np.float32]:
        gradient = self.plq.attribute(images) if targets is None else self._of(images, targets)
        merged = merge_channels(gradient)
        maps = _stretched(merged) if self.gamma is None else pixel_quality(merged, self.gamma)
        answer: npt.NDArray[np.float32] = maps.float().cpu().numpy()
        return answer

    def _of(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        """Gradient of each image's target with respect to its pixels."""
        serfiq = self.plq.quality_model.serfiq
        model = borrowed(serfiq.model, frozen=True)
        with torch.inference_mode(False), torch.enable_grad():
            (leaf,) = differentiable_copies((images,))
            assert isinstance(leaf, Tensor)
            embeddings = serfiq.tap.embed(model, (leaf,))
            values = [target(e) for target, e in zip(targets, embeddings, strict=True)]
            for value in values:
                if not isinstance(value, Tensor) or value.numel() != 1:
                    raise ValueError("A target must make one number of an image's embedding (d,).")
            total = torch.stack([value.reshape(()) for value in values]).sum()
            (gradient,) = torch.autograd.grad(total, leaf)
        return gradient


def _one_row(output: Tensor, reference: Tensor) -> Tensor:
    if output.shape != reference.shape:
        raise ValueError(
            f"The target is for an embedding of {len(reference)} features, but was called on an "
            f"output of shape {tuple(output.shape)}: it takes one image's row, from a model that "
            "returns embeddings (B, d)."
        )
    return at_least_float32(output)


def _check_targets(targets: Sequence[Target], images: int) -> None:
    if len(targets) != images:
        raise ValueError(f"There are {len(targets)} targets for {images} images: pass one each.")
    for target in targets:
        if any(hasattr(target, name) for name in _CLASS_NUMBERS):
            raise ValueError(
                f"{type(target).__name__} picks a class by its number; a feature of an embedding, "
                "picked by its number, means nothing. Leave targets out for the quality, or pass "
                "CosineTarget(reference) or EmbeddingQualityTarget for each image."
            )


def _stretched(maps: Tensor) -> Tensor:
    """Each map from its smallest to its largest value; a flat map is all 0."""
    low, high = (x.view(-1, 1, 1) for x in (maps.flatten(1).amin(1), maps.flatten(1).amax(1)))
    span = high - low
    return torch.where(span > 0, (maps - low) / span, torch.zeros_like(maps))
