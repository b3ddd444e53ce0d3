"""What differs between two runs, in words."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["differences"]


def differences(there: dict[str, Any], here: dict[str, Any]) -> str:
    """Return in which values the identity of a run differs from that of another.

    Args:

        there (dict): Of the one that was begun, from JSON; more than ``here`` names is passed over.
        here (dict): Of the other, as JSON would give it back.

    Returns:
        *str*: such as ``"passes 100, not 50; source images 3, not 4"``; empty if they are equal.

    Examples::

        >>> differences({"parameters": {"passes": 100}}, {"parameters": {"passes": 50}})
        'passes 100, not 50'
    """
    old = _flat({key: _beside(there.get(key), value) for key, value in here.items()})
    new = _flat({key: _beside(value, there.get(key)) for key, value in here.items()})
    return "; ".join(
        f"{key.replace('_', ' ')} {_word(old.get(key))}, not {_word(new.get(key))}"
        for key in {**old, **new}
        if old.get(key) != new.get(key)
    )


def _beside(value: Any, other: Any) -> Any:
    """A value, or what stands for the whole of it if the other run has nothing there."""
    return value.get("digest", "another") if isinstance(value, dict) and other is None else value


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = key if prefix in ("", "parameters") else f"{prefix} {key}"
        flat |= (
            _flat(value, name if prefix or key != "parameters" else key)
            if isinstance(value, dict)
            else {name: value}
        )
    return flat


def _word(value: object) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value)
