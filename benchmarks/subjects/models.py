"""The networks whose speed is measured, with random weights where the real ones are not free."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import timm
import torch
from torch import Tensor, nn

from captum_plq.models import FaceModel, InceptionResnetV1, iresnet, load_model
from captum_plq.models.registry import ARCHITECTURES


@dataclass(frozen=True)
class BenchmarkModel:
    """An embedding network and what has to be known to feed it.

    Args:

        name (str): As on the command line.
        network (nn.Module): (B, 3, S, S) → (B, d), in evaluation mode, float32, on the CPU.
            Its parameters are left as they come, so they require grad.
        input_size (int): S, in pixels.
        low (float): The value of a black pixel.
        high (float): The value of a white pixel.
        weights (str): Where its weights come from, in words.
    """

    name: str
    network: nn.Module
    input_size: int
    low: float
    high: float
    weights: str

    def images(self, batch: int, seed: int) -> Tensor:
        """Return uniform noise between black and white: time does not depend on what is shown.

        Args:

            batch (int): B ≥ 1.
            seed (int): Same seed, same images; the global random state is left alone.

        Returns:
            *Tensor*: (B, 3, S, S), float32, on the CPU.
        """
        generator = torch.Generator().manual_seed(seed)
        shape = (batch, 3, self.input_size, self.input_size)
        return self.low + (self.high - self.low) * torch.rand(shape, generator=generator)


def load_benchmark_model(name: str, seed: int = 0) -> BenchmarkModel:
    """Build a network by name.

    Args:

        name (str): Of a published or a timm architecture, or a ``.py`` file that
            :func:`captum_plq.models.load_model` can load.
        seed (int): Seed of random weights; the global random state is left alone.

    Returns:
        *BenchmarkModel*: in evaluation mode, float32, on the CPU.

    Raises:
        ImportError: if its code or its weights are not installed.
        ValueError: if there is no such model.
    """
    if name == "dlib":
        return BenchmarkModel("dlib", load_model("dlib"), 150, 0.0, 255.0, "dlib's own (CC0)")
    if name.endswith(".py"):
        model = load_model(name)
        height, width = model.spec.input_size
        if height != width:
            raise ValueError(f"Only square images can be measured, but {name} takes others.")
        return BenchmarkModel(model.spec.name, model, height, 0.0, 255.0, model.spec.source)
    published = {a.spec.name: a for a in ARCHITECTURES if a.installed is None}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name in _RANDOM:
            make, size = _RANDOM[name]
            return BenchmarkModel(name, make().eval(), size, -1.0, 1.0, f"random, seed {seed}")
        if name in published:
            spec = published[name].spec
            model, size = FaceModel(published[name].build(), spec).eval(), spec.input_size[0]
            return BenchmarkModel(name, model, size, 0.0, 255.0, f"random, seed {seed}")
    names = dict.fromkeys(["dlib", *_RANDOM, *published])
    raise ValueError(f"There is no model {name!r}; there are {', '.join(names)}.")


def _tiny() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12 * 7 * 7, 16),
        nn.BatchNorm1d(16),
    )


_RANDOM: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "iresnet18": (lambda: iresnet(18), 112),
    "iresnet50": (lambda: iresnet(50), 112),
    "iresnet100": (lambda: iresnet(100), 112),
    "inception-resnet-v1": (InceptionResnetV1, 160),
    "vit-s": (
        lambda: timm.create_model("vit_small_patch16_224", num_classes=512, img_size=112),
        112,
    ),
    "convnext-t": (lambda: timm.create_model("convnext_tiny", num_classes=512), 112),
    "tiny": (_tiny, 28),  # four layers, to try the harness with
}
"""Name → how to build it, and the side of its images in pixels."""
