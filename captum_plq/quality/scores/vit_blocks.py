"""What goes on in the blocks of a vision transformer, as timm and insightface build them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from captum_plq._base.precision import at_least_float32
from captum_plq.network.borrowed import hookable
from captum_plq.network.output import OutputSelector, embed
from captum_plq.quality.scores.base import UnsuitableNetworkError

__all__ = ["VIT", "BlockRun", "run_blocks"]

VIT = "a vision transformer whose attention has one linear layer qkv (timm, insightface)"
"""What these scores need."""


class BlockRun(NamedTuple):
    """One forward of a vision transformer.

    Args:

        tokens (list[Tensor]): What each block gives: (B, P, C), its P patches only.
        queries (Tensor): (B, heads, P, c), of the last block, scaled.
        keys (Tensor): (B, heads, P, c), likewise, not scaled.
        embedding (Tensor): (B, ...).
    """

    tokens: list[Tensor]
    queries: Tensor
    keys: Tensor
    embedding: Tensor


def run_blocks(network: nn.Module, inputs: Sequence[object], output: OutputSelector) -> BlockRun:
    """Run a copy of a vision transformer and note what its blocks do.

    Args:

        network (nn.Module): A copy, see :func:`~captum_plq.network.borrowed.borrowed`.
        inputs (sequence): Its arguments, images first, (B, ...).
        output (int, str, Callable or None): Which part of its output is the embedding.

    Returns:
        *BlockRun*: under the caller's autograd mode.

    Raises:
        UnsuitableNetworkError: if there are no such blocks, they do not give tokens (B, N, C), or
            positions are turned into the queries (RoPE).
    """
    attentions = {name: m for name, m in network.named_modules() if _is_attention(m)}
    if not attentions:
        raise UnsuitableNetworkError(f"This score needs {VIT}, and the network has none.")
    last: list[nn.Module] = []
    products: list[Tensor] = []
    tokens: list[Tensor] = []

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if kwargs.get("rope") is not None:
            raise UnsuitableNetworkError(
                "The attention of this network turns its queries by position (RoPE), which this "
                "score does not know."
            )
        last[:] = [module]

    def multiplied(_: nn.Module, __: object, y: Tensor) -> None:
        products[:] = [y]

    def leave(name: str, _: nn.Module, __: object, y: object) -> None:
        if not isinstance(y, Tensor) or y.ndim != 3 or (tokens and y.shape != tokens[0].shape):
            raise UnsuitableNetworkError(
                f"The block {name!r} does not give tokens (B, N, C) as the others do, so this "
                f"score cannot follow them; it needs {VIT}."
            )
        tokens.append(y)

    for name, attention in attentions.items():
        hookable(attention).register_forward_pre_hook(enter, with_kwargs=True)
        hookable(attention.get_submodule("qkv")).register_forward_hook(multiplied)
        block = name.rpartition(".")[0]
        hookable(network.get_submodule(block)).register_forward_hook(partial(leave, block))
    embedding = embed(network, inputs, output)
    if not tokens or not products or products[0].shape[:2] != tokens[0].shape[:2]:
        raise UnsuitableNetworkError(f"This score needs {VIT}: these blocks do not run so.")
    prefix = _prefix(network)
    queries, keys = _queries_and_keys(last[0], at_least_float32(products[0]))
    return BlockRun(
        [at_least_float32(x)[:, prefix:] for x in tokens],
        queries[:, :, prefix:],
        keys[:, :, prefix:],
        embedding,
    )


def _is_attention(module: nn.Module) -> bool:
    qkv = getattr(module, "qkv", None)
    heads = getattr(module, "num_heads", None)
    return isinstance(qkv, nn.Linear) and isinstance(heads, int) and qkv.out_features % 3 == 0


def _prefix(network: nn.Module) -> int:
    """How many tokens in front are no patches (a class token, registers)."""
    for module in network.modules():
        count = getattr(module, "num_prefix_tokens", None)
        if isinstance(count, int):
            return count
    return 0


def _queries_and_keys(attention: nn.Module, products: Tensor) -> tuple[Tensor, Tensor]:
    """(B, N, 3 · heads · c) → queries, scaled, and keys, (B, heads, N, c)."""
    heads = getattr(attention, "num_heads")  # noqa: B009 - for the type checker
    parts = products.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    queries, keys = parts[0], parts[1]
    dtype = next(attention.parameters()).dtype
    for name in ("q_norm", "k_norm"):
        norm = getattr(attention, name, None)
        if isinstance(norm, nn.Module):
            if name == "q_norm":
                queries = at_least_float32(norm(queries.to(dtype)))
            else:
                keys = at_least_float32(norm(keys.to(dtype)))
    scale = getattr(attention, "scale", None)
    return queries * (scale if isinstance(scale, float) else queries.shape[-1] ** -0.5), keys
