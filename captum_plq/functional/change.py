"""What a disturbance changes, in the quality of an image and of its pixels (Eqs. 7, 8)."""

from __future__ import annotations

from torch import Tensor

from captum_plq._base.precision import at_least_float32

__all__ = ["pixel_quality_change", "quality_change"]


def quality_change(original: Tensor, disturbed: Tensor) -> Tensor:
    r"""Compute the loss of image quality by a disturbance (Eq. 7).

    .. math:: \Delta_{\hat Q} = \hat Q_{I_{org}} - \hat Q_{I_{mask}}

    Examples::

        >>> quality_change(torch.tensor([0.75]), torch.tensor([0.5]))
        tensor([0.2500])

    Args:

        original (Tensor): Q̂ of the unmodified images, any shape.
        disturbed (Tensor): Q̂ of the disturbed ones, the same shape.

    Returns:
        *Tensor*: the same shape, in [-1, 1]; positive where the disturbance lowered the
        quality.
    """
    return original - disturbed


def pixel_quality_change(original: Tensor, disturbed: Tensor, mask: Tensor) -> Tensor:
    r"""Average the loss of pixel quality inside a disturbed area (Eq. 8).

    .. math:: \Delta_p = \frac{1}{|P|} \sum_{(i,j) \in P} p^{org}_{ij} - p^{mask}_{ij}

    Part of it is global: a lower Q̂ dims the whole map. Compare with the change outside,
    ``pixel_quality_change(original, disturbed, ~mask)``.

    Examples::

        >>> p = torch.tensor([[0.75, 0.25]])
        >>> pixel_quality_change(p, p / 2, torch.tensor([[True, False]]))
        tensor(0.3750)

    Args:

        original (Tensor): (..., H, W), pixel qualities of the unmodified image.
        disturbed (Tensor): (..., H, W), those of the disturbed one.
        mask (Tensor): (..., H, W), bool, true inside the disturbed area P.

    Returns:
        *Tensor*: (...,), in [-1, 1]; positive where the pixels lost quality, NaN for an
        empty area.
    """
    loss = at_least_float32(original) - at_least_float32(disturbed)
    inside = mask.to(loss.dtype)
    return (loss * inside).sum(dim=(-2, -1)) / inside.sum(dim=(-2, -1))
