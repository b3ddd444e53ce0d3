"""What has to be known about a face network before a photograph can be put into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from captum_plq.functional import QualityScaling
from captum_plq.network.output import OutputSelector, select_embedding

__all__ = ["FaceModel", "ModelSpec"]


@dataclass(frozen=True)
class ModelSpec:
    """The facts about one face-recognition network that its weights do not tell.

    Args:

        name (str): Short name, as on the command line.
        input_size (tuple[int, int]): Height and width the network takes, in pixels.
        mean (tuple[float, float, float]): Subtracted from the 0–255 channels, in
            ``channel_order``.
        std (tuple[float, float, float]): What the difference is then divided by.
        channel_order (str): ``"RGB"`` or ``"BGR"``: what the network itself wants.
            A :class:`FaceModel` is always given RGB.
        alignment (str): ``"dlib"`` (the square chip of dlib's ``get_face_chip``) or
            ``"arcface"`` (the five-point template of the 112×112 ArcFace crop).
        embedding_layer (str, optional): Qualified name, within the network, of the layer
            whose input SER-FIQ drops out. ``None``: it is found by itself.
        output (int, str, Callable or None): Which part of what the network returns is the
            embedding: index, key or field, or a function; see
            :func:`~captum_plq.network.output.select_embedding`. ``None``: all of it, or
            the only tensor in it.
        trained_with_dropout (bool, optional): SER-FIQ's precondition: whether features were
            dropped out before the embedding layer in training. ``None``: unknown.
        scaling (QualityScaling, optional): α and r of Eq. 2, measured for this network
            with the paper's 100 passes at dropout 0.5; for others they do not hold.
        gamma (float, optional): γ of Eq. 6, measured for this network with the paper's
            node weights (``"l1"``), for gradients with respect to 0–255 pixels.
        licence_code (str): Licence of the network's code here.
        licence_weights (str): Licence of its weights.
        source (str): Where network and weights were published.
        note (str): What a reader of its maps must be told.
        quality (int, str, Callable or None): Which part of what the network returns is its own
            estimate of quality, (B,) or (B, 1), higher is better, or a function of it. ``None``: it
            has none.
    """

    name: str
    input_size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channel_order: Literal["RGB", "BGR"] = "RGB"
    alignment: Literal["dlib", "arcface"] = "arcface"
    embedding_layer: str | None = None
    trained_with_dropout: bool | None = None
    scaling: QualityScaling | None = None
    gamma: float | None = None
    licence_code: str = "unknown"
    licence_weights: str = "unknown"
    source: str = "unknown"
    note: str = ""
    output: OutputSelector = None
    quality: OutputSelector = None


class FaceModel(nn.Module):
    """A face network that takes 0–255 RGB images and normalises them itself.

    Args:

        backbone (nn.Module): The network as published; takes normalised images.
        spec (ModelSpec): How its input is normalised, and where in its output the embedding is.
        unused_weights (sequence of str): Names in the weight file that only training needs,
            and that ``backbone`` was not given.

    Shape:

        - Input: (B, 3, H, W), floating point, 0–255, RGB, (H, W) = ``spec.input_size``.
        - Output: the embedding, as a rule (B, d), whatever else ``backbone`` returns with it.

    Examples::

        >>> spec = ModelSpec("mine", (112, 112), mean=(127.5,) * 3, std=(128.0,) * 3)
        >>> model = FaceModel(my_network, spec)
        >>> embedding = model(images)  # images: (B, 3, 112, 112), 0–255, RGB
    """

    mean: Tensor
    std: Tensor
    pixel_range = (0, 255)
    """What the network takes; :class:`~captum_plq.SERFIQ` warns of 0–1 pixels."""

    def __init__(
        self, backbone: nn.Module, spec: ModelSpec, unused_weights: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.spec = spec
        self.unused_weights = tuple(unused_weights)
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)

    @property
    def embedding_layer(self) -> str | None:
        """The spec's embedding layer by its name within this module; ``None``: to be found."""
        layer = self.spec.embedding_layer
        return None if layer is None else f"backbone.{layer}"

    def forward(self, images: Tensor) -> Tensor:
        """Embeds a batch of aligned faces.

        Args:

            images (Tensor): (B, 3, H, W), floating point, 0–255, RGB.

        Returns:
            *Tensor*: the embedding that the spec's ``output`` selects, as a rule (B, d).

        Raises:
            ValueError: if the shape is not (B, 3, H, W) with the spec's H and W, or if the
                network returns several tensors and ``output`` does not say which it is.
        """
        expected = (3, *self.spec.input_size)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected:
            raise ValueError(
                f"{self.spec.name} takes images of shape (B, {', '.join(map(str, expected))}) "
                f"(RGB, 0–255), but got {tuple(images.shape)}."
            )
        if self.spec.channel_order == "BGR":
            images = images.flip(1)
        return select_embedding(self.backbone((images - self.mean) / self.std), self.spec.output)
