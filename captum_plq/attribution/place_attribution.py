"""What the methods share that divide a number over the places of an image."""

from __future__ import annotations

from typing import Any

from captum.attr import Attribution
from torch import Tensor

from captum_plq.functional.enlargement import PlaceCentres, enlarge
from captum_plq.functional.guided import guided_by_image

__all__ = ["PlaceAttribution", "only_images"]


class PlaceAttribution(Attribution):  # type: ignore[misc]
    """Base class of the methods whose maps add up to a number, but for a rest that no place has."""

    @property
    def multiplies_by_inputs(self) -> bool:
        """``True``: a place's share is its features times a slope."""
        return True

    def has_convergence_delta(self) -> bool:
        """``True``: map and rest add up."""
        return True

    def attribute_future(self) -> None:
        """Not implemented, as for Captum's Saliency."""
        raise NotImplementedError(f"attribute_future is not implemented for {type(self).__name__}.")

    @staticmethod
    def _answer(
        maps: Tensor,
        told: list[Tensor],
        inputs: Tensor | tuple[Tensor, ...],
        at_places: bool,
        centres: PlaceCentres | None,
        guided: bool = False,
    ) -> Any:
        """Maps (B, h, w) in the shape of the images, or as they are, in front of what is told."""
        if not at_places:
            images = inputs[0] if isinstance(inputs, tuple) else inputs
            channels, height, width = images.shape[1:]
            pixels = enlarge(maps / channels, (height, width), centres)
            if guided:
                pixels = guided_by_image(pixels, images)
            pixels = pixels.to(images.dtype)
            maps = pixels.unsqueeze(1).expand(-1, channels, -1, -1).contiguous()
        attributions = (maps,) if isinstance(inputs, tuple) else maps
        return (attributions, *told) if told else attributions


def only_images(inputs: Tensor | tuple[Tensor, ...], target: object) -> Tensor:
    """Return the one tensor of images that these methods take; raise if there is a target."""
    if target is not None:
        raise ValueError("Local quality has no target to choose: leave target out.")
    if isinstance(inputs, tuple):
        if len(inputs) != 1:
            raise ValueError(f"Local quality takes one tensor of images, but got {len(inputs)}.")
        return inputs[0]
    return inputs
