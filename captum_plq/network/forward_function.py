"""A function that runs a network, as a module: what Captum calls ``forward_func``."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from captum_plq.network.rebinding import Rebinder, modules_behind

__all__ = ["ForwardFunction", "as_module", "as_network"]


class ForwardFunction(nn.Module):
    """A function as a module, whose children are the networks that the function runs.

    Args:

        function (Callable): Images (B, ...) → what a network returns.
        networks (sequence of nn.Module): What it is bound to or closes over.
    """

    def __init__(self, function: Callable[..., Any], networks: list[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self.function(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> ForwardFunction:
        networks = [copy.deepcopy(network, memo) for network in self.networks]
        copies = {id(a): b for a, b in zip(self.networks, networks, strict=True)}
        rebind = Rebinder(lambda network: copies.get(id(network)))
        return ForwardFunction(rebind(self.function), networks)


def as_module(forward_func: object) -> nn.Module:
    """Return a network, or a function around one, as a module.

    Args:

        forward_func (nn.Module or Callable): A module is returned as it is. Of a bound method
            (``network.embed``), a lambda or function that closes over a network or names it as a
            global, or a ``functools.partial`` of these, the network is found.

    Returns:
        *nn.Module*: with the network in it.

    Raises:
        TypeError: for anything else, and for a function that no network is found in.

    Examples::

        >>> SERFIQ(lambda images: model(images * 255))  # calls as_module
    """
    if isinstance(forward_func, nn.Module):
        return forward_func
    if not callable(forward_func):
        raise TypeError(
            f"model must be an nn.Module or a function around one, but got "
            f"{type(forward_func).__name__}."
        )
    networks = modules_behind(forward_func)
    if not networks:
        raise TypeError(
            "model is a function in which no nn.Module is found, so there is no layer to drop out "
            "before: pass the network itself, its method, or a function that closes over it."
        )
    return ForwardFunction(forward_func, networks)


def as_network(forward_func: object) -> nn.Module:
    """Return what :func:`as_module` returns, if hooks fire in it.

    Raises:
        ValueError: for a scripted or traced program; as :func:`as_module`.
    """
    model = as_module(forward_func)
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise ValueError(
            "model is a scripted or traced program, where hooks do not fire: pass the "
            "nn.Module it was made from."
        )
    return model
