"""Values with the modules in them replaced by others: lists, methods, closures, objects."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Collection, MutableMapping
from dataclasses import fields, is_dataclass
from functools import partial
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, device, dtype, nn

__all__ = ["Rebinder", "is_settled", "may_hold_modules", "modules_behind"]

_PLAIN = frozenset(
    [bool, bytes, complex, device, dtype, float, int, str, type, type(None), Tensor, nn.Parameter]
)
_DEPTH = 6
"""How many holders of modules may lie within each other."""
_LONGEST = 10_000
"""Containers of more items are data, and left alone."""


class Rebinder:
    """Replace modules within values, each value once.

    Args:

        replace (Callable): A module → its replacement, or ``None`` to leave it.
    """

    def __init__(self, replace: Callable[[nn.Module], nn.Module | None]) -> None:
        self._replace = replace
        self._seen: dict[int, tuple[object, Any]] = {}

    def __call__(self, value: Any) -> Any:
        """Return the value with its modules replaced; the very same if it holds none.

        Args:

            value (object): A list, tuple, dictionary or set, of any kind; a function, bound method
                or ``partial``; an object with attributes; or anything else, which is left alone.
        """
        new = self._anew(value, _DEPTH)
        return value if new is None else new

    def _anew(self, value: Any, depth: int) -> Any:
        """Return a new value; ``None`` if nothing in it is to be replaced."""
        if not may_hold_modules(value):
            return None
        if isinstance(value, nn.Module):
            return self._replace(value)
        if id(value) in self._seen:
            return self._seen[id(value)][1]
        if depth == 0:
            return None
        self._seen[id(value)] = (value, None)  # a value within itself is left alone

        changed = False

        def put(part: Any) -> Any:
            nonlocal changed
            new = self._anew(part, depth - 1)
            changed = changed or new is not None
            return part if new is None else new

        make = _maker_of(value, put)
        new = make() if changed else None
        self._seen[id(value)] = (value, new)  # the value too, so that its id stays its own
        return new


def may_hold_modules(value: object) -> bool:
    """Tell whether a value, by its kind, is or could come to hold a module."""
    return type(value) not in _PLAIN and not isinstance(value, (type, ModuleType, Tensor))


def is_settled(value: object) -> bool:
    """Tell whether a value holds no module, and is of a kind that is not written to."""
    if isinstance(value, (tuple, frozenset)) and not hasattr(value, "__dict__"):
        return all(map(is_settled, value))
    if is_dataclass(value) and not isinstance(value, type):
        frozen = value.__dataclass_params__.frozen  # type: ignore[attr-defined]
        return frozen and all(is_settled(getattr(value, one.name)) for one in fields(value))
    return not may_hold_modules(value)


def modules_behind(function: object) -> list[nn.Module]:
    """Return the modules that a callable is bound to, closes over, or names as globals.

    Args:

        function (object): As for :class:`Rebinder`.

    Returns:
        *list[nn.Module]*: each once, those found first in front.
    """
    found: dict[nn.Module, None] = {}

    def note(module: nn.Module) -> None:
        found[module] = None

    Rebinder(note)(function)
    return list(found)


def _maker_of(value: Any, put: Callable[[Any], Any]) -> Callable[[], Any]:
    """Replace what lies directly within a value; return what makes another value of it."""
    if isinstance(value, MethodType):
        return partial(MethodType, value.__func__, put(value.__self__))
    if isinstance(value, partial):
        keywords = {k: put(v) for k, v in value.keywords.items()}
        return partial(partial, put(value.func), *map(put, value.args), **keywords)
    if isinstance(value, FunctionType):
        function = _function(value, put)
        return lambda: function
    if isinstance(value, (tuple, set, frozenset)):
        items = [put(part) for part in _short(value)]
        if hasattr(value, "_fields"):
            return partial(type(value), *items)
        return partial(tuple if isinstance(value, tuple) else type(value), items)
    if isinstance(value, MutableMapping):
        parts = {k: put(part) for k, part in _short(value.items())}
    elif isinstance(value, (list, deque)):
        parts = {i: put(part) for i, part in enumerate(_short(value))}
    else:
        parts = {name: put(part) for name, part in getattr(value, "__dict__", {}).items()}

    def filled() -> Any:
        new = copy.copy(value)
        held = new if isinstance(value, (MutableMapping, list, deque)) else vars(new)
        for key, part in parts.items():
            held[key] = part
        return new

    return filled


def _short(value: Collection[Any]) -> Collection[Any]:
    return value if len(value) <= _LONGEST else ()


def _function(function: FunctionType, put: Callable[[Any], Any]) -> FunctionType:
    cells = tuple(
        CellType(put(c.cell_contents)) if _is_filled(c) else c for c in function.__closure__ or ()
    )
    named = _global_names(function.__code__, function.__globals__)
    replaced = {name: put(function.__globals__[name]) for name in named}
    known = {**function.__globals__, **replaced} if replaced else function.__globals__
    defaults = function.__defaults__ and tuple(map(put, function.__defaults__))
    new = FunctionType(function.__code__, known, function.__name__, defaults, cells or None)
    new.__kwdefaults__ = function.__kwdefaults__ and {
        k: put(v) for k, v in function.__kwdefaults__.items()
    }
    vars(new).update({k: put(v) for k, v in vars(function).items()})
    return new


def _is_filled(cell: CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - raises where the variable is not yet set
    except ValueError:
        return False
    return True


def _global_names(code: CodeType, known: dict[str, Any]) -> list[str]:
    """Globals that hold a network, and that a function, or one within it, refers to."""
    kinds = (nn.Module, partial, MethodType)
    names = [name for name in code.co_names if isinstance(known.get(name), kinds)]
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names += _global_names(constant, known)
    return names
