"""Values with the modules in them replaced by others: lists, methods, closures, objects."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterable, MutableMapping
from functools import partial
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, device, dtype, nn

__all__ = ["Rebinder", "modules_behind"]

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
        if type(value) in _PLAIN or isinstance(value, (type, ModuleType, Tensor)):
            return None
        if isinstance(value, nn.Module):
            return self._replace(value)
        if id(value) in self._seen:
            return self._seen[id(value)][1]
        if depth == 0:
            return None
        self._seen[id(value)] = (value, None)  # a value within itself is left alone

        def anew(part: Any) -> Any:
            return self._anew(part, depth - 1)

        def put(part: Any) -> Any:
            new = anew(part)
            return part if new is None else new

        new = None
        if any(anew(part) is not None for part in _parts(value)):
            new = _made_anew(value, put)
        self._seen[id(value)] = (value, new)  # the value too, so that its id stays its own
        return new


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


def _parts(value: Any) -> Iterable[Any]:
    """What lies directly within a value."""
    if isinstance(value, MethodType):
        return [value.__self__]
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, FunctionType):
        cells = [c.cell_contents for c in value.__closure__ or () if _is_filled(c)]
        named = [value.__globals__[n] for n in _global_names(value.__code__, value.__globals__)]
        defaults = (value.__defaults__ or (), (value.__kwdefaults__ or {}).values())
        return [*cells, *defaults[0], *defaults[1], *named, *vars(value).values()]
    if isinstance(value, MutableMapping):
        return list(value.values()) if len(value) <= _LONGEST else []
    if isinstance(value, (list, tuple, deque, set, frozenset)):
        return value if len(value) <= _LONGEST else []
    return list(getattr(value, "__dict__", {}).values())


def _made_anew(value: Any, put: Callable[[Any], Any]) -> Any:
    if isinstance(value, MethodType):
        return MethodType(value.__func__, put(value.__self__))
    if isinstance(value, partial):
        keywords = {k: put(v) for k, v in value.keywords.items()}
        return partial(put(value.func), *map(put, value.args), **keywords)
    if isinstance(value, FunctionType):
        return _function(value, put)
    if isinstance(value, tuple):
        items = [put(part) for part in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, (set, frozenset)):
        return type(value)(put(part) for part in value)
    new = copy.copy(value)
    if isinstance(value, MutableMapping):
        for key, part in value.items():
            new[key] = put(part)
    elif isinstance(value, (list, deque)):
        for i, part in enumerate(value):
            new[i] = put(part)
    else:
        vars(new).update({name: put(part) for name, part in vars(value).items()})
    return new


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
