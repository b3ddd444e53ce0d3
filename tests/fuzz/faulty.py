"""A target with every fault that the runner must live through."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from random import Random

from tests.fuzz.target import Case, FileTarget, Finding

_FAULTS = ("none", "error", "crash", "hang", "memory", "swallowed memory", "property", "refusal")


class Faulty(FileTarget):
    """The case's number decides its fault."""

    def cases(self, seed, first, count, do):
        for index in range(first, first + count):
            do(index, Case(_FAULTS[index % len(_FAULTS)], Random(index).randbytes(8), ".bin"))

    def load(self, path: Path, case: Case) -> str:
        if case.kind == "error":
            raise KeyError("x")
        if case.kind == "crash":
            ctypes.string_at(0)
        if case.kind == "hang":
            time.sleep(60)
        if case.kind == "memory":
            return str(len(bytearray(3 << 30)))
        if case.kind == "swallowed memory":
            try:
                bytearray(3 << 30)
            except MemoryError as error:
                raise ValueError(f"{path.name} is damaged") from error
        if case.kind == "property":
            raise Finding("wrong: a value")
        if case.kind == "refusal":
            raise ValueError(f"{path.name} is damaged")
        return "read"


TARGET = Faulty
