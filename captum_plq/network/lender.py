"""Copies of a network that are kept from one call to the next, while the network stays the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from operator import is_, itemgetter
from typing import Any, NamedTuple

from torch import nn

from captum_plq.network.borrowed import (
    HOOKS,
    STRUCTURE,
    borrowed,
    is_searched,
    modules_of,
    own_attributes,
    unhook,
    without_grad,
)
from captum_plq.network.exploration import structure_of
from captum_plq.network.rebinding import is_settled, modules_behind

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
        else:
            lent = Lent(borrowed(model, frozen=self._frozen), structure_of(model))
            vars(lent.network)[STRUCTURE] = lent.structure
            kept = _Kept.of(model, lent)
        if self._frozen and kept is not None:
            kept.freeze()
        yield lent
        if kept is not None and kept.is_as_it_was(frozen=self._frozen):
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


class _Own(NamedTuple):
    """Modules that may write to their attributes, and the very objects that they hold."""

    modules: list[nn.Module]
    names: list[str]
    values: list[Any]

    @classmethod
    def of(cls, modules: list[nn.Module]) -> _Own:
        names, values = _held(modules)
        return cls(modules, list(names), list(values))

    def is_as_it_was(self) -> bool:
        names, values = _held(self.modules)
        return list(names) == self.names and all(map(is_, values, self.values))


def _held(modules: list[nn.Module]) -> tuple[Iterable[str], Iterable[Any]]:
    """Return the names and the values of all attributes and children, module by module."""
    states = list(map(vars, modules))
    both = states + list(map(itemgetter("_modules"), states))
    return chain.from_iterable(both), chain.from_iterable(map(dict.values, both))


def _contents(modules: list[nn.Module], parents: list[nn.Module]) -> list[Any]:
    """Return the attributes of modules, then the names of children, then these."""
    children = [vars(module)["_modules"] for module in parents]
    return [
        *map(vars, modules),
        *chain.from_iterable(children),
        *chain.from_iterable(map(dict.values, children)),
    ]


class _Kept(NamedTuple):
    """A copy and all that it was made of.

    Thousands of attributes are compared at each call, so without a step of Python for each.
    """

    model: nn.Module
    lent: Lent
    modules: list[nn.Module]
    kinds: list[type]
    empty: list[dict[Any, Any]]
    """The dictionaries of their hooks, and of the children of those that have none."""
    own: _Own
    pytorchs: list[nn.Module]
    """Modules of PyTorch's own, of which the attributes are numbers and the like."""
    parents: list[nn.Module]
    """Those of these that have children."""
    contents: list[Any]
    """What both hold, see :func:`_contents`."""
    copies: _Own
    loose: list[Any]
    """Attributes that could come to hold modules."""
    states: list[tuple[dict[str, Any], dict[str, Any]]]
    """What each module of the copy holds, and what its original does."""

    @classmethod
    def of(cls, model: nn.Module, lent: Lent) -> _Kept | None:
        """``None``: the copy is of use for one call only."""
        modules, of_copy = modules_of(model), modules_of(lent.network)
        own: list[nn.Module] = []
        copies: list[nn.Module] = []
        for module, copy in zip(modules, of_copy, strict=True):
            hooked = any(map(vars(module).get, HOOKS))
            if hooked or module is copy or type(module) is not type(copy):
                return None
            if is_searched(module):
                own.append(module)
                copies.append(copy)
                held, of_the_copy = own_attributes(module), own_attributes(copy)
                if list(held) != list(of_the_copy) or not all(
                    map(is_, held.values(), of_the_copy.values())
                ):  # they hold modules
                    return None
        pytorchs = [module for module in modules if not is_searched(module)]
        parents = [module for module in pytorchs if module._modules]
        states = [(vars(a), vars(b)) for a, b in zip(of_copy, modules, strict=True)]
        _thaw(states)
        hooks = [vars(module)[name] for module in modules for name in HOOKS]
        return cls(
            model,
            lent,
            modules,
            kinds=[type(module) for module in modules],
            empty=hooks + [x._modules for x in modules if not x._modules],
            own=_Own.of(own),
            pytorchs=pytorchs,
            parents=parents,
            contents=[x.copy() if type(x) is dict else x for x in _contents(pytorchs, parents)],
            copies=_Own.of(copies),
            loose=[
                x for module in own for x in own_attributes(module).values() if not is_settled(x)
            ],
            states=states,
        )

    def freeze(self) -> None:
        """Let the copy's parameters require no grad."""
        for state, original in self.states:
            if original["_parameters"]:
                state["_parameters"] = without_grad(original["_parameters"])

    def fits(self, model: nn.Module) -> bool:
        """Tell whether another copy of the network would be the same."""
        if self.model is not model or list(map(type, self.modules)) != self.kinds:
            return False
        try:
            if _contents(self.pytorchs, self.parents) != self.contents:
                return False
        except (RuntimeError, ValueError):  # an array cannot be compared as a number is
            return False
        return (
            not any(self.empty)
            and self.own.is_as_it_was()
            and not any(map(modules_behind, self.loose))
        )

    def is_as_it_was(self, frozen: bool) -> bool:
        """Tell whether the copy is: a forward may have written to its attributes.

        Its parameters become the original's, and hooks set on it are taken off.
        """
        unhook(self.lent.network)
        if frozen:
            _thaw(self.states)
        return self.copies.is_as_it_was()


def _thaw(states: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    """Give copies the parameters of the originals."""
    for state, original in states:
        state["_parameters"] = original["_parameters"]
