"""Quality scores that need no training, one class a file, behind one protocol.

Each takes images and gives one number each, higher is better; each says what it needs of the
network. :data:`SCORES` registers them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import cast

from torch import nn

from captum_plq.network.output import OutputSelector
from captum_plq.quality.scores.base import QualityScore, Score, UnsuitableNetworkError

__all__ = [
    "SCORES",
    "QualityScore",
    "Score",
    "UnsuitableNetworkError",
    "make_score",
    "score_doc",
]

SCORES = {
    "serfiq": "serfiq:sampling",
    "serfiq-balanced": "serfiq:balanced",
    "serfiq-closed-form": "serfiq:closed_form",
    "serfiq-spatial": "serfiq:spatial",
    "embedding-norm": "embedding_norm:EmbeddingNorm",
    "grafiqs-style": "grafiqs:GraFIQsStyle",
    "prefiqs-style": "prefiqs:PreFIQsStyle",
    "vitnt-style": "vitnt:ViTNTStyle",
    "attn-fiqa-style": "attn_fiqa:AttnFIQAStyle",
    "native": "native:NativeQuality",
}
"""Name → module of this package and what makes the score of a network."""


def make_score(
    name: str, model: nn.Module | Callable[..., object], *, output: OutputSelector = None
) -> QualityScore:
    """Return a score of :data:`SCORES` with its default parameters.

    Args:

        name (str): One of :data:`SCORES`.
        model (nn.Module or Callable): Embedding network, (B, C, H, W) → (B, d).
        output (int, str, Callable or None): Which part of its output is the embedding.

    Returns:
        *QualityScore*: images (B, ...) → (B,). Whether the network has what the score needs, some
        tell only at the first call.

    Raises:
        ValueError: if there is no such score, or, as :class:`UnsuitableNetworkError`, the network
            lacks what it needs.

    Examples::

        >>> quality = make_score("embedding-norm", model)(images)
    """
    return cast(QualityScore, _maker(name)(model, output=output))


def score_doc(name: str) -> str:
    """Return what a score of :data:`SCORES` is, the first line of its docstring.

    Examples::

        >>> score_doc("serfiq")
        "The paper's SER-FIQ"
    """
    line = (_maker(name).__doc__ or "").strip().splitlines()[0].removesuffix(".")
    words = line.removeprefix("Return ")
    return words[:1].upper() + words[1:]


def _maker(name: str) -> Callable[..., object]:
    if name not in SCORES:
        raise ValueError(f"There is no score {name!r}; there are {', '.join(SCORES)}.")
    module, _, own = SCORES[name].partition(":")
    made: Callable[..., object] = getattr(importlib.import_module(f"{__name__}.{module}"), own)
    return made
