"""Types of command-line options, and the options that protocols share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter, Token, convert
from cyclopts.types import PositiveInt

__all__ = ["Counts", "Device", "Names", "Output", "PositiveInt", "some_of"]


def some_of(choices: Iterable[str] = ()) -> Parameter:
    """Return the parameter of a tuple that is written with commas, ``--imputers mean,road``.

    Args:

        choices (iterable of str): What may stand in it. None: anything of its type.

    Examples::

        >>> imputers: Annotated[tuple[str, ...], some_of(("black", "mean"))] = ("mean",)
    """
    known = tuple(choices)
    hint: Any = Literal.__getitem__(known) if known else None

    def between_commas(type_: Any, tokens: Sequence[Token]) -> Any:
        words = [(token, word.strip()) for token in tokens for word in token.value.split(",")]
        found = [token.evolve(value=word) for token, word in words if word]
        if not found:
            raise ValueError("Give at least one.")
        return convert(tuple[hint, ...] if known else type_, found)

    def shown(values: Iterable[object]) -> str:
        text = ",".join(map(str, values))
        return f"{text}; of {', '.join(known)}" if known else text

    return Parameter(
        converter=between_commas,
        n_tokens=1,
        accepts_keys=False,
        negative=(),
        metavar="X[,X...]",
        show_default=shown,
    )


Names = Annotated[tuple[str, ...], some_of()]
Counts = Annotated[tuple[PositiveInt, ...], some_of()]
Device = Literal["cpu", "cuda"]
Output = Annotated[Path, Parameter(alias="-o")]
