"""What a target of the fuzzer is, and what is wrong with a case."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

__all__ = ["Case", "FileTarget", "Finding", "Target", "reported"]


@dataclass(frozen=True)
class Case:
    """One thing to try.

    Args:

        kind (str): How it was made; cases are counted by it.
        content (Any): What is tried: bytes of a file, or arguments.
        suffix (str): Of the file it is saved in.
    """

    kind: str
    content: Any
    suffix: str


class Finding(Exception):
    """A property that does not hold. The message begins with its group, and a colon."""


class Target(Protocol):
    """A place where the package takes what others made."""

    documented: tuple[type[Exception], ...]

    def cases(self, seed: int, first: int, count: int, do: Callable[[int, Case], None]) -> None:
        """Makes the cases from ``first`` on, always the same for a seed, and hands them over."""
        ...

    def attempt(self, case: Case) -> str:
        """Runs a case; says in a word or two how it went, or raises."""
        ...

    def save(self, case: Case, path: Path) -> None:
        """Writes a case down."""
        ...

    def read(self, path: Path) -> Case:
        """Reads what :meth:`save` wrote."""
        ...


class FileTarget:
    """A reader of files.

    Args:

        folder (Path): Where the file of the moment is written.
    """

    documented: tuple[type[Exception], ...] = (ValueError,)

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def case(self, rng: random.Random) -> Case:
        """Makes one case."""
        raise NotImplementedError

    def load(self, path: Path, case: Case) -> str:
        """Reads the file and checks what came of it."""
        raise NotImplementedError

    def cases(self, seed: int, first: int, count: int, do: Callable[[int, Case], None]) -> None:
        for index in range(first, first + count):
            do(index, self.case(random.Random(f"{type(self).__name__}:{seed}:{index}")))

    def attempt(self, case: Case) -> str:
        path = self.folder / f"case{case.suffix}"
        path.write_bytes(case.content)
        try:
            return self.load(path, case)
        except self.documented as error:
            if not any(path.name in str(e) for e in reported(error)):
                raise Finding(f"message without the file's name, {error}") from error
            raise
        finally:
            path.unlink()

    def save(self, case: Case, path: Path) -> None:
        path.write_bytes(case.content)

    def read(self, path: Path) -> Case:
        return Case("from a file", path.read_bytes(), path.suffix)


def reported(error: BaseException) -> Iterator[BaseException]:
    """An error and those it came from."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
