"""One check, and one wording, for arguments that are one of a few words."""

from __future__ import annotations

from typing import Any, get_args

__all__ = ["require_choice"]


def require_choice(name: str, value: str, choices: Any) -> None:
    """Refuses a word that is none of those a ``Literal`` lists.

    Args:

        name (str): Of the argument.
        value (str): What was given.
        choices (Literal): What may be given.

    Raises:
        ValueError: if ``value`` is none of them; names them all.
    """
    words = get_args(choices)
    if value not in words:
        *first, last = map(repr, words)
        raise ValueError(f"{name} must be {', '.join(first)} or {last}, but got {value!r}.")
