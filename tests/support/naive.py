"""PLQ as one would write it straight from the paper: the oracle for the fast one."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor


def naive_embeddings(trunk, head, images: Tensor, masks: Tensor, p: float) -> list[Tensor]:
    """One separate head pass per mask; the trunk is run anew for each."""
    return [F.normalize(head(trunk(images) * mask / (1 - p)), dim=1) for mask in masks]


def naive_quality(trunk, head, images: Tensor, masks: Tensor, p: float) -> Tensor:
    """Eq. 1, pair by pair."""
    passes = naive_embeddings(trunk, head, images, masks, p)
    pairs = itertools.combinations(passes, 2)
    total = sum((a - b).square().sum(1).sqrt() for a, b in pairs)
    return 2 * torch.sigmoid(-2 / len(passes) ** 2 * total)


def naive_plq(trunk, head, images: Tensor, masks: Tensor, p: float) -> tuple[Tensor, Tensor]:
    """S(I) of Eq. 4 and Q: first SER-FIQ, then a second forward, then the backward."""
    with torch.no_grad():
        q = naive_quality(trunk, head, images, masks, p)
    x = images.detach().clone().requires_grad_()
    e = F.normalize(head(trunk(x)), dim=1)
    w = q / e.detach().abs().sum(1)
    return torch.autograd.grad((w * e.sum(1)).sum(), x)[0], q
