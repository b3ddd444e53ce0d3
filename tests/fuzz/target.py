"""What the fuzzer tries: cases, each made from a seed and a number, and what must come of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch


@dataclass(frozen=True)
class Case:
    """How it was made, what is tried (bytes of a file, or arguments), and its file's suffix."""

    kind: str
    content: Any
    suffix: str = ".pt"


class Finding(Exception):
    """A property that does not hold. The message begins with its group, and a comma or colon."""


class Target:
    """A place where the package takes what others made; ``folder`` is for files of the moment.

    Subclasses have ``case(rng)``, and ``outcome(case)``, which runs and checks it.
    """

    documented: tuple[type[Exception], ...] = (ValueError, TypeError)

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def numbered(self, seed: int, index: int) -> Case:
        """The same case for the same seed and number."""
        return self.case(Random(f"{type(self).__name__}:{seed}:{index}"))

    def attempt(self, case: Case) -> str:
        try:
            return self.outcome(case)
        except Finding as finding:
            raise Finding(f"{case.kind}: {finding}") from finding

    def save(self, case: Case, path: Path) -> None:
        torch.save({"kind": case.kind, "content": case.content}, path)


class FileTarget(Target):
    """A reader of files, ``load(path, case)``; its errors name the file."""

    documented = (ValueError,)

    def attempt(self, case: Case) -> str:
        path = self.folder / f"case{case.suffix}"
        path.write_bytes(case.content)
        try:
            return self.load(path, case)
        except self.documented as error:
            if not any(path.name in str(e) for e in reported(error)):
                raise Finding(f"message without the file's name, {error}") from error
            raise

    def save(self, case: Case, path: Path) -> None:
        path.write_bytes(case.content)


def reported(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
