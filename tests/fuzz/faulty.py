"""A target with every fault that the runner must live through."""

import ctypes

from tests.fuzz.target import Case, FileTarget, Finding

FAULTS = ("none", "error", "crash", "hang", "memory", "swallowed memory", "property", "refusal")


class Faulty(FileTarget):
    """The case's number decides its fault."""

    def numbered(self, seed, index):
        return Case(FAULTS[index % len(FAULTS)], bytes(8), ".bin")

    def load(self, path, case):
        match case.kind:
            case "error":
                raise KeyError("x")
            case "crash":
                ctypes.string_at(0)
            case "hang":
                while True:
                    pass
            case "memory":
                return str(len(bytearray(3 << 30)))
            case "swallowed memory":
                try:
                    bytearray(3 << 30)
                except MemoryError as error:
                    raise ValueError(f"{path.name} is damaged") from error
            case "property":
                raise Finding("wrong: a value")
            case "refusal":
                raise ValueError(f"{path.name} is damaged")
        return "read"


TARGET = Faulty
