"""The scores of vision transformers against attention and tokens by hand."""

import math
from itertools import pairwise

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from captum_plq.quality.scores import UnsuitableNetworkError
from captum_plq.quality.scores.attn_fiqa import AttnFIQAStyle
from captum_plq.quality.scores.vitnt import ViTNTStyle
from tests.quality.scores.networks import vit
from tests.support.architectures import build, faces


def close(actual, expected, rtol=1e-9):
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=0)


def tokens_and_attention(net, images):
    """What each block gives, and the last one's scores before the softmax, by hand."""
    found, scores = [], None
    with torch.no_grad():
        x = net.norm_pre(net._pos_embed(net.patch_embed(images)))
        for block in net.blocks:
            h = block.norm1(x)
            heads = block.attn.num_heads
            width = h.shape[-1] // heads
            q, k, v = block.attn.qkv(h).split(h.shape[-1], -1)
            scores = torch.zeros(len(x), heads, x.shape[1], x.shape[1], dtype=x.dtype)
            mixed = torch.zeros_like(h)
            for i in range(heads):
                own = slice(i * width, (i + 1) * width)
                queries, keys = block.attn.q_norm(q[..., own]), block.attn.k_norm(k[..., own])
                scores[:, i] = queries @ keys.transpose(1, 2) / math.sqrt(width)
                mixed[..., own] = scores[:, i].softmax(-1) @ v[..., own]
            x = x + block.attn.proj(mixed)
            x = x + block.mlp(block.norm2(x))
            found.append(x)
    return found, scores


VITS = {
    "class token": {},
    "average": {"class_token": False, "global_pool": "avg"},
    "registers and norms": {"reg_tokens": 2, "qk_norm": True},
}


@pytest.mark.parametrize("kind", VITS)
def test_vision_transformers_by_hand(kind):
    net, images = vit(**VITS[kind]), faces(2)
    tokens, scores = tokens_and_attention(net, images)
    close(net.forward_head(net.norm(tokens[-1])).detach(), net(images).detach())
    prefix = tokens[0].shape[1] - 16
    for i in range(2):
        steps = [
            math.dist((a[i, p] / a[i, p].norm()).tolist(), (b[i, p] / b[i, p].norm()).tolist())
            for a, b in pairwise(tokens)
            for p in range(prefix, prefix + 16)
        ]
        expected = 1 - sum(steps) / len(steps) / 2
        assert float(ViTNTStyle(net)(images)[i].detach()) == pytest.approx(expected, rel=1e-9)
        products = [
            float(scores[i, h, p, q])
            for h in range(3)
            for p in range(prefix, prefix + 16)
            for q in range(prefix, prefix + 16)
        ]
        expected = sum(products) / len(products)
        assert float(AttnFIQAStyle(net)(images)[i].detach()) == pytest.approx(expected, rel=1e-8)


def test_vitnt_looks_at_the_first_blocks_only():
    net, images = vit(depth=4), faces(2)
    tokens, _ = tokens_and_attention(net, images)
    steps = (F.normalize(tokens[1], dim=-1) - F.normalize(tokens[0], dim=-1)).norm(dim=-1)[:, 1:]
    close(ViTNTStyle(net, blocks=2)(images).detach(), 1 - steps.mean(1) / 2)
    with pytest.raises(ValueError, match="at least 2"):
        ViTNTStyle(net, blocks=1)
    with pytest.raises(UnsuitableNetworkError, match="only one"):
        ViTNTStyle(vit(depth=1))(images)


class InsightFaceViT(nn.Module):
    """insightface's: no class token, attention of its own, the tokens flattened into a Linear."""

    class Block(nn.Module):
        class Attention(nn.Module):
            def __init__(self, width, heads):
                super().__init__()
                self.num_heads, self.scale = heads, (width // heads) ** -0.5
                self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

            def forward(self, x):
                b, n, c = x.shape
                qkv = self.qkv(x).reshape(b, n, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
                mixed = (qkv[0] @ qkv[1].transpose(-2, -1) * self.scale).softmax(-1) @ qkv[2]
                return self.proj(mixed.transpose(1, 2).reshape(b, n, c))

        def __init__(self, width, heads):
            super().__init__()
            self.norm1, self.attn = nn.LayerNorm(width), self.Attention(width, heads)
            self.norm2, self.mlp = nn.LayerNorm(width), nn.Linear(width, width)

        def forward(self, x):
            x = x + self.attn(self.norm1(x))
            return x + self.mlp(self.norm2(x))

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 24, 8, 8)
        self.blocks = nn.ModuleList(self.Block(24, 3) for _ in range(3))
        self.feature = nn.Sequential(nn.Linear(24 * 16, 16), nn.BatchNorm1d(16))

    def forward(self, x):
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        for block in self.blocks:
            tokens = block(tokens)
        return self.feature(tokens.flatten(1))


def test_an_insightface_vit():
    net, images = build(InsightFaceViT), faces(2)
    assert ViTNTStyle(net)(images).shape == (2,)
    with torch.no_grad():
        tokens = net.patch(images).flatten(2).transpose(1, 2)
        for block in net.blocks[:2]:
            tokens = block(tokens)
        last = net.blocks[2]
        q, k, _ = last.attn.qkv(last.norm1(tokens)).chunk(3, -1)
        scores = [
            q[..., i : i + 8] @ k[..., i : i + 8].transpose(1, 2) / math.sqrt(8) for i in (0, 8, 16)
        ]
    close(AttnFIQAStyle(net)(images).detach(), torch.stack(scores).mean((0, 2, 3)), 1e-8)


def test_turned_queries_and_windows_are_refused():
    class Rotary(type(vit().blocks[0].attn)):
        def forward(self, x, rope=None, **_):
            return super().forward(x)

    net = vit()
    net.blocks[2].attn.__class__ = Rotary
    net.blocks[2].forward = lambda x, block=net.blocks[2]: x + block.attn(x, rope=x)
    with pytest.raises(UnsuitableNetworkError, match="RoPE"):
        AttnFIQAStyle(net)(faces())
    swin = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=64, window_size=4, embed_dim=12,
        depths=(1, 1), num_heads=(2, 2), num_classes=16,
    )  # fmt: skip
    with pytest.raises(UnsuitableNetworkError, match="tokens"):
        ViTNTStyle(swin.eval())(faces(size=64).float())
