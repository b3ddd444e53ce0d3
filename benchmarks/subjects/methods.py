"""What is compared: an attribution method or a score map, one entry of a registry each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from benchmarks.subjects.network import ExplainedNetwork

_NULL = re.compile(r"(?P<name>.*) \(random weights(?: (?P<number>[1-9]\d*))?\)")

Kind = Literal["plq", "other", "control", "reference"]
"""This package, another method, a control, or the same result computed naively."""
Attribute = Callable[[Tensor], Tensor]
"""Images (B, C, H, W) → attributions of their shape, score maps (B, H, W) or qualities (B,)."""
Build = Callable[[ExplainedNetwork], Attribute]
"""Prepares a method for a network; raises the reason if it cannot run there."""

_ROUNDING = 32
"""Multiples of the machine epsilon by which upsampling a single value may scatter it."""


@dataclass(frozen=True)
class Method:
    """One method of a comparison.

    Args:

        name (str): As on the command line.
        kind (str): One of :data:`Kind`.
        build (Callable): Prepares it for a network.
        description (str): Its parameters, and what a reader must know.
        slow (bool): Whether it takes tens of forwards.
        gives (str): ``"attribution"``, ``"quality"`` alone, or a score ``"map"`` that is high
            for useful pixels.
        bounded (bool): Whether its scores are qualities in [0, 1] on the same scale for all
            images; other maps become so by Eq. 6.
        signed (bool): Whether its scores may be of either sign, as those of local quality are.
        null (int, optional): Which of the networks with random weights it explains. ``None``: the
            trained one.
        as_map (str): Of an attribution: whether its absolute values are also compared as a score
            map (``"plain"``), and relative to the reference faces as well (``"relative"``).
    """

    name: str
    kind: Kind
    build: Build
    description: str = ""
    slow: bool = False
    gives: Literal["attribution", "quality", "map"] = "attribution"
    bounded: bool = False
    signed: bool = False
    as_map: Literal["", "plain", "relative"] = ""
    null: int | None = None


def control(name: str, description: str) -> Method:
    """Return what has rows among the methods, described as they are, but has no map."""

    def no_map(network: ExplainedNetwork) -> Attribute:
        raise ValueError("has no map")

    return Method(name, "control", no_map, description)


def on_random_weights(method: Method, number: int = 0) -> Method:
    """Return the same map of an untrained network: the null of what the network has learned.

    Args:

        method (Method): Of the trained network.
        number (int): Which random weights, ≥ 0.
    """
    return replace(
        method,
        name=null_name(method.name, number),
        kind="control",
        build=lambda network: method.build(network.untrained(number)),
        null=number,
    )


def null_name(name: str, number: int = 0) -> str:
    """Return the name of a map on the random weights of this number.

    Examples::

        >>> null_name("plq"), null_name("plq", 2)
        ('plq (random weights)', 'plq (random weights 2)')
    """
    return f"{name} (random weights {number})" if number else f"{name} (random weights)"


def is_null(name: str) -> bool:
    """Return whether a map of this name is on random weights."""
    return trained_name(name)[1] is not None


def trained_name(name: str) -> tuple[str, int | None]:
    """Return the name on the trained network, and which random weights a name is on, if any.

    Examples::

        >>> trained_name("plq (random weights 2)"), trained_name("plq")
        (('plq', 2), ('plq', None))
    """
    found = _NULL.fullmatch(name)
    return (found["name"], int(found["number"] or 0)) if found else (name, None)


def select(
    registry: Mapping[str, Method], names: Sequence[str], always: Sequence[str] = ()
) -> tuple[Method, ...]:
    """Return the methods of these names, each once, in the registry's order.

    Args:

        registry (mapping): Name → method.
        names (sequence of str): Names, ``"all"``, or ``"fast"`` (all but the slow ones).
        always (sequence of str): Names that are added whatever is asked for.

    Raises:
        ValueError: if a name is unknown, or nothing is selected.
    """
    unknown = sorted(set(names) - set(registry) - {"all", "fast"})
    wanted = {*names, *always}
    if unknown or not wanted:
        raise ValueError(
            f"Unknown methods {unknown}; choose from all, fast, {', '.join(registry)}."
        )
    return tuple(
        method
        for name, method in registry.items()
        if name in wanted or "all" in wanted or ("fast" in wanted and not method.slow)
    )


def check_maps(maps: Tensor, expected: tuple[int, ...]) -> Tensor:
    """Raise unless a method's result has the expected shape, is finite and not constant.

    A constant map ranks no pixel before another: its AUROC is ½ whatever the image shows, and
    relative to reference faces it is rounding noise.

    Args:

        maps (Tensor): What a method returned.
        expected (tuple[int, ...]): (B, H, W), or the shape of attributions; (B,) for qualities.

    Returns:
        *Tensor*: ``maps``.

    Raises:
        ValueError: if their shape is another one, a value is not finite, or a map is constant.
    """
    if tuple(maps.shape) != tuple(expected):
        raise ValueError(f"returned shape {tuple(maps.shape)}, not {tuple(expected)}")
    flat = maps.detach().reshape(len(maps), -1)
    if not bool(torch.isfinite(flat).all()):
        raise ValueError("returned NaN or infinite values")
    if flat.shape[1] > 1:
        spread = flat.amax(1) - flat.amin(1)
        constant = spread <= _ROUNDING * torch.finfo(flat.dtype).eps * flat.abs().amax(1)
        if bool(constant.any()):
            raise ValueError(
                f"constant: {int(constant.sum())} of {len(flat)} maps have one value at all pixels"
            )
    return maps
