"""Checks a dataclass's values against the types it states, for what comes out of a file."""

from __future__ import annotations

import math
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

__all__ = ["require_field_types"]

_LARGEST = 2**53
"""Beyond, whole numbers are no longer exact in JSON's other readers."""


def require_field_types(instance: object) -> None:
    """Raise unless the values of a dataclass are of the types its fields state.

    ``int`` and ``float`` are finite and no ``bool``; ``float`` takes an ``int``. Of ``tuple``,
    ``dict``, ``Literal`` and unions, the parts are checked too.

    Args:

        instance (object): Of a dataclass.

    Raises:
        ValueError: for the first field whose value does not fit; names it.
    """
    for name, hint in get_type_hints(type(instance)).items():
        value = getattr(instance, name)
        if not _fits(value, hint):
            raise ValueError(f"{name}: expected {_words(hint)}, got {_shown(value)}")


def _fits(value: object, hint: Any) -> bool:
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return any(type(value) is type(part) and value == part for part in parts)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if parts[1:] == (Ellipsis,):
            parts = parts[:1] * len(value)
        return len(value) == len(parts) and all(map(_fits, value, parts))
    if origin is dict:
        return isinstance(value, dict) and all(
            _fits(k, parts[0]) and _fits(v, parts[1]) for k, v in value.items()
        )
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST
    if hint is float:
        return _fits(value, int) or (isinstance(value, float) and math.isfinite(value))
    return isinstance(value, hint)


def _words(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(map(_words, get_args(hint)))
    known = {int: "an integer", float: "a finite number", str: "a string", NoneType: "None"}
    return known.get(hint) or getattr(hint, "__name__", "") or str(hint)


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # a number of more digits than Python prints
        return f"a {type(value).__name__} too long to print"
    return text if len(text) <= 60 else f"{text[:57]}..."
