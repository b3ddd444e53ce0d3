"""A network for each score: one that has what the score needs, and one that lacks it."""

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from captum_plq.models import FaceModel, ModelSpec
from tests.support.architectures import (
    DIM,
    BatchNormTail,
    FunctionalLinear,
    UnitLength,
    build,
)

__all__ = ["LACKING", "network_for", "vit", "with_quality"]


def vit(depth=3, **options):
    """A small vision transformer, float64, with weights that are not the untrained ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = VisionTransformer(
            img_size=32, patch_size=8, embed_dim=24, depth=depth, num_heads=3, num_classes=DIM,
            **options,
        )  # fmt: skip
        for parameter in net.parameters():
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    return net.double().eval()


class TwoOutputs(BatchNormTail):
    """The embedding, and a quality read from it, as CR-FIQA's."""

    def __init__(self):
        super().__init__()
        self.qs = nn.Linear(DIM, 1)

    def forward(self, x):
        embedding = super().forward(x)
        return embedding, self.qs(embedding)


def with_quality():
    """A face model whose spec says where its own quality is."""
    spec = ModelSpec("two", (32, 32), (0.0,) * 3, (1.0,) * 3, output=0, quality=1)
    model = FaceModel(build(TwoOutputs), spec).double().eval()
    model.pixel_range = None
    return model


_NETWORKS = {"vitnt-style": vit, "attn-fiqa-style": vit, "native": with_quality}

LACKING = {
    "serfiq": FunctionalLinear,
    "serfiq-balanced": FunctionalLinear,
    "serfiq-closed-form": FunctionalLinear,
    "embedding-norm": UnitLength,
    "grafiqs-style": lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, DIM)),
    "prefiqs-style": FunctionalLinear,
    "vitnt-style": BatchNormTail,
    "attn-fiqa-style": BatchNormTail,
    "native": BatchNormTail,
}
"""Score → what makes a network that lacks what it needs."""


def network_for(name):
    """Return a network, float64, that has what a score needs."""
    return _NETWORKS.get(name, lambda: build(BatchNormTail))()
