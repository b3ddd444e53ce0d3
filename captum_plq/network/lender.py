"""Copies of a network that are kept from one call to the next, while the network stays the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from operator import is_
from typing import Any, NamedTuple

from torch import nn

from captum_plq.network.borrowed import (
    HOOKS,
    STRUCTURE,
    borrowed,
    is_searched,
    modules_of,
    own_attributes,
    without_grad,
)
from captum_plq.network.exploration import structure_of
from captum_plq.network.rebinding import may_hold_modules, modules_behind

__all__ = ["Lender", "Lent"]


class Lent(NamedTuple):
    """A copy of a network, and what the network was when it was made.

    Args:

        network (nn.Module): see :func:`~captum_plq.network.borrowed.borrowed`.
        structure (int): see :func:`~captum_plq.network.exploration.structure_of`.
    """

    network: nn.Module
    structure: int


class Lender:
    """Lends copies of networks for one call, and keeps them for later calls.

    A copy is lent again only if another one would be the same: the network's modules, their
    attributes, names and order are the very ones that it was made of. Weights and buffers are the
    network's own, and may change. A network with hooks is copied anew each time, and so is one
    that holds modules elsewhere than as children, or writes to its own attributes when it runs.
    No two calls have the same copy at once; hooks set on it are taken off when it comes back.

    Args:

        frozen (bool): The copies' parameters require no grad, see
            :func:`~captum_plq.network.borrowed.borrowed`.

    Examples::

        >>> with lender.lend(model) as (network, structure):
        ...     embedding = network(images)
    """

    # Nothing that a network's copy, which copies attributes, would enter.
    __slots__ = ("_frozen", "_kept")

    def __init__(self, frozen: bool = False) -> None:
        self._frozen = frozen
        self._kept: list[_Kept] = []

    def __reduce__(self) -> tuple[type[Lender], tuple[bool]]:
        return Lender, (self._frozen,)

    @contextmanager
    def lend(self, model: nn.Module) -> Iterator[Lent]:
        """Lend a copy in evaluation mode, of which the parameters are the network's own memory.

        Args:

            model (nn.Module): Left as it is.
        """
        kept = self._taken(model)
        if kept is not None:
            lent = kept.lent
            if self._frozen:
                kept.freeze()
        else:
            lent = Lent(borrowed(model, frozen=self._frozen), structure_of(model))
            kept = _Kept.of(model, lent)
            vars(lent.network)[STRUCTURE] = lent.structure
        yield lent
        if kept is not None and kept.is_as_it_was():
            self._kept.append(kept)

    def _taken(self, model: nn.Module) -> _Kept | None:
        while self._kept:
            try:
                kept = self._kept.pop()
            except IndexError:  # another thread was faster
                return None
            if kept.fits(model):
                return kept
        return None


class _Record(NamedTuple):
    """Names in a dictionary, in order, and the very objects that it held."""

    names: tuple[str, ...]
    values: tuple[Any, ...]

    @classmethod
    def of(cls, held: Mapping[str, Any]) -> _Record:
        return cls(tuple(held), tuple(held.values()))

    def holds_for(self, held: Mapping[str, Any]) -> bool:
        return tuple(held) == self.names and all(map(is_, held.values(), self.values))


class _Own(NamedTuple):
    """A module as it was, one that may write to its attributes."""

    module: nn.Module
    kind: type
    attributes: _Record
    children: _Record

    @classmethod
    def of(cls, module: nn.Module) -> _Own:
        attributes, children = _Record.of(own_attributes(module)), _Record.of(module._modules)
        return cls(module, type(module), attributes, children)

    def is_as_it_was(self) -> bool:
        return (
            type(self.module) is self.kind
            and not any(map(vars(self.module).get, HOOKS))
            and self.attributes.holds_for(own_attributes(self.module))
            and self.children.holds_for(self.module._modules)
        )


class _PyTorchs(NamedTuple):
    """A module of PyTorch's own as it was, of which the attributes are numbers and the like."""

    module: nn.Module
    kind: type
    state: dict[str, Any]
    """Without hooks."""
    children: list[str]

    @classmethod
    def of(cls, module: nn.Module) -> _PyTorchs:
        children = module._modules
        state = vars(module) | {"_modules": children.copy()} | {name: {} for name in HOOKS}
        return cls(module, type(module), state, list(children))


class _Kept(NamedTuple):
    """A copy and all that it was made of."""

    model: nn.Module
    lent: Lent
    pytorchs: list[_PyTorchs]
    own: list[_Own]
    copies: list[_Own]
    loose: list[Any]
    """Attributes that could come to hold modules."""
    states: list[tuple[dict[str, Any], dict[str, Any]]]
    """What each module of the copy holds, and what its original does."""

    @classmethod
    def of(cls, model: nn.Module, lent: Lent) -> _Kept | None:
        """``None``: the copy is of use for one call only."""
        modules, of_copy = modules_of(model), modules_of(lent.network)
        own: list[_Own] = []
        copies: list[_Own] = []
        for module, copy in zip(modules, of_copy, strict=True):
            hooked = any(map(vars(module).get, HOOKS))
            if hooked or module is copy or type(module) is not type(copy):
                return None
            if is_searched(module):
                own.append(_Own.of(module))
                copies.append(_Own.of(copy))
                if not own[-1].attributes.holds_for(own_attributes(copy)):  # they hold modules
                    return None
        pytorchs = [_PyTorchs.of(module) for module in modules if not is_searched(module)]
        loose = [x for one in own for x in one.attributes.values if may_hold_modules(x)]
        states = [(vars(a), vars(b)) for a, b in zip(of_copy, modules, strict=True)]
        return cls(model, lent, pytorchs, own, copies, loose, states)

    def freeze(self) -> None:
        """Let the copy's parameters require no grad."""
        for state, original in self.states:
            if original["_parameters"]:
                state["_parameters"] = without_grad(original["_parameters"])

    def fits(self, model: nn.Module) -> bool:
        """Tell whether another copy of the network would be the same."""
        if self.model is not model or not all([one.is_as_it_was() for one in self.own]):
            return False
        try:
            for module, kind, state, children in self.pytorchs:
                if type(module) is not kind or vars(module) != state:
                    return False
                if len(children) > 1 and list(module._modules) != children:
                    return False
        except (RuntimeError, ValueError):  # an array cannot be compared as a number is
            return False
        return not any(map(modules_behind, self.loose))

    def is_as_it_was(self) -> bool:
        """Tell whether the copy is: a forward may have written to its attributes.

        Its parameters become the original's, and hooks set on it are taken off.
        """
        for state, original in self.states:
            state["_parameters"] = original["_parameters"]
            if state["_forward_hooks"] is not original["_forward_hooks"]:
                state.update({name: hooks for name, hooks in original.items() if "_hooks" in name})
        return all([one.is_as_it_was() for one in self.copies])
