"""A network that can be built by name and filled from the weight file a person holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from captum_plq.models.spec import ModelSpec

__all__ = ["STAGES", "Architecture"]

STAGES = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 14, 3),
    100: (3, 13, 30, 3),
    200: (6, 26, 60, 6),
}
"""Residual blocks in each of the four stages, by the published depth."""


@dataclass(frozen=True)
class Architecture:
    """All that :func:`~captum_plq.models.registry.load_model` has to know about a network.

    Args:

        spec (ModelSpec): What is known about it; ``spec.name`` is its name.
        build (Callable): Makes the network, untrained, with the keys of the published weights.
        weights (str): Which file that is, of those that ``spec.source`` leads to, for people.
        wrappers (tuple[str, ...]): Names that stand before the keys in some of its files,
            besides the usual ones (see :func:`~captum_plq.models.weight_files.fit.fit_weights`).
        training_only (tuple[str, ...]): Keys that such a file may hold and the embedding does
            not need, such as a classifier's; with a dot at the end, all keys that begin so.

    Examples::

        >>> Architecture(
        ...     spec=ModelSpec("mine", (112, 112), mean=(127.5,) * 3, std=(127.5,) * 3),
        ...     build=MyNetwork,
        ...     weights="my_network.pth, which my training script writes",
        ...     training_only=("head.",),
        ... )
    """

    spec: ModelSpec
    build: Callable[[], nn.Module]
    weights: str
    wrappers: tuple[str, ...] = ()
    training_only: tuple[str, ...] = ()
