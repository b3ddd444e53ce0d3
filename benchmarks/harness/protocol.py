r"""A protocol: its options, what it measures of one network, its page and its figures.

Adding a protocol is one file in ``benchmarks/protocols`` and one line in its registry::

    @dataclass(frozen=True, kw_only=True)
    class Brightness(Protocol):
        \"\"\"Brightness.

        How bright a network likes its images.

Args:

            steps (int): How many levels of grey are tried.
        \"\"\"

        name: ClassVar[str] = "brightness"

        steps: PositiveInt = 10          # --steps 10, with the help from the docstring

        def measure(self, model: str) -> Iterator[tuple[str, Record]]:
            with self.environment() as (device, environment):
                network = load_model(model).eval().to(device)
                ...
            yield f"brightness-{model}", {"model": model, ..., "conditions": environment}

        @classmethod
        def section(cls, record: Record) -> list[str]:
            return [f"## {record['model']}", "", *table(["level", "Q"], ...), ""]

The first line of its docstring is the title of its page, the paragraphs after it the introduction.
:class:`~benchmarks.harness.study.MapStudy` is a protocol that measures score maps face by face: it
resumes after a kill, summarises, compares and writes its page from what a protocol declares.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from matplotlib.figure import Figure

from benchmarks.harness.environment import current_environment, reproducible_settings
from benchmarks.harness.options import Device, Names, Output, PositiveInt
from captum_plq._base.whole_file import whole_file

Record = dict[str, Any]
"""What a protocol found on one network, ready for JSON."""

RESULTS = Path("benchmarks/results")


@dataclass(frozen=True)
class Cell:
    """A number of one method, its interval if it has one, and a word to show in its place."""

    value: float
    low: float | None = None
    high: float | None = None
    word: str = ""


@dataclass(frozen=True)
class Headline:
    """A column that a protocol gives to the table over all protocols.

    Args:

        title (str): Its head.
        meaning (str): What it is.
        read (Callable): Record and method → its cell, or ``None``.
        form (str): How numbers are written.
        better (str, optional): Which way is better. ``None``: it only judges.
        first (bool): Whether it stands in the first table, of where and how much quality is lost,
            with what the method says on random weights beside it.
    """

    title: str
    meaning: str
    read: Callable[[Record, str], Cell | None]
    form: str = ".3f"
    better: Literal["higher", "lower"] | None = "higher"
    first: bool = False


@dataclass(frozen=True, kw_only=True)
class Protocol(ABC):
    """What every protocol is. Its fields are the options of its command.

    The docstring of its class is what its page says: title, introduction, and under ``Columns:``
    what is compared, and what it means.

    Args:

        model (tuple[str, ...]): Names or .py files of face networks.
        device (str): Where to measure.
        threads (int, optional): Of the CPU (default: torch's own choice).
        seed (int): Of all that is drawn.
        output (Path): Folder of the results.
    """

    name: ClassVar[str]
    """As on the command line; results are in ``NAME-*.json``, the page in ``NAME.md``."""
    headlines: ClassVar[tuple[Headline, ...]] = ()
    quick: ClassVar[dict[str, str]] = {}
    """Option → value of its command in ``all --quick``; none: it needs files of the user's."""

    model: Names
    device: Device = "cpu"
    threads: PositiveInt | None = None
    seed: int = 0
    output: Output = RESULTS

    @abstractmethod
    def measure(self, model: str) -> Iterator[tuple[str, Record]]:
        """Yield what was found on a network, each record after the name of its file.

        A record whose ``"void"`` is true says nothing: the command exits with 1.
        """

    def records(self) -> Iterator[tuple[str, Record]]:
        """Yield what :meth:`measure` does of every network; one that comes again has grown."""
        for model in self.model:
            yield from self.measure(model)

    @classmethod
    def words(cls) -> tuple[str, str, dict[str, str]]:
        """Return title, introduction and the meanings of the columns, from the docstring."""
        text, _, _ = inspect.cleandoc(cls.__doc__ or "").partition("\nArgs:\n")
        text, _, columns = text.partition("\nColumns:\n")
        title, *paragraphs = text.strip().split("\n\n")
        found = re.findall(r"^ {4}([\w -]+): (.+(?:\n {8}.+)*)", columns, re.MULTILINE)
        return (
            title.removesuffix("."),
            "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs),
            {name: " ".join(meaning.split()) for name, meaning in found},
        )

    @classmethod
    def page(cls, records: Sequence[Record]) -> str:
        """Return the Markdown page over all records in a folder, at least one."""
        title, introduction, meanings = cls.words()
        lines = [f"# {title}", "", introduction, ""]
        if meanings:
            lines += [*(f"- `{name}`: {meaning}" for name, meaning in meanings.items()), ""]
        return "\n".join([*lines, *cls.body(records)])

    @classmethod
    def body(cls, records: Sequence[Record]) -> list[str]:
        """Return the lines of the page below its introduction, the last of them empty."""
        return [line for record in records for line in cls.section(record)]

    @classmethod
    def section(cls, record: Record) -> list[str]:
        """Return the lines of one record, the last of them empty."""
        return []

    @classmethod
    def figures(cls, records: Sequence[Record]) -> dict[str, Figure]:
        """Return the figures over all records, by the stems of their files."""
        return {}

    @classmethod
    def write(cls, directory: Path) -> list[Path]:
        """Write page and figures from the records in a folder, and return their paths.

        Raises:
            FileNotFoundError: if there are no records.
        """
        records = read_records(directory, f"{cls.name}-*.json")
        written = [directory / f"{cls.name}.md"]
        written[0].write_text(cls.page(records), encoding="utf-8")
        for stem, figure in cls.figures(records).items():
            written.append(directory / f"{stem}.png")
            figure.savefig(written[-1], dpi=120)
        return written

    def run(self) -> int:
        """Measure every network, write what was found, and the page over all records.

        Returns:
            *int*: 1 if a record is void, otherwise 0.
        """
        void: dict[str, bool] = {}
        for stem, record in self.records():
            path = write_record(self.output / f"{stem}.json", record)
            print(path, *(["(void)"] if record.get("void") else []), flush=True)
            void[stem] = bool(record.get("void"))
        for path in self.write(self.output):
            print(path)
        return int(any(void.values()))

    @contextmanager
    def environment(
        self, *, dtype: torch.dtype = torch.float32, tf32: bool = False, **given: Any
    ) -> Iterator[tuple[torch.device, Record]]:
        """Set threads and random states for a while, and describe what is measured under.

        Args:

            dtype (torch.dtype): Of weights and images.
            tf32 (bool): Whether CUDA may use TF32.
            given: ``passes``, ``dropout``, ``rows`` and ``channels_last`` of
                :func:`~benchmarks.harness.environment.current_environment`, where they play a part.

        Yields:
            *tuple*: the device, and the environment as it is now.

        Raises:
            RuntimeError: if CUDA is asked for and not there.
        """
        device = torch.device(self.device)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise RuntimeError("There is no CUDA device here: run with --device cpu.")
        with reproducible_settings(self.threads, tf32, self.seed):
            given = {"passes": 0, "dropout": 0.0, "rows": 1, "seed": self.seed} | given
            yield device, current_environment(device, dtype, **given)

    def progress(self, model: str, text: str) -> None:
        """Tell the user what is being done."""
        print(f"{model}: {text}", file=sys.stderr, flush=True)


def read_records(directory: Path, pattern: str) -> list[Record]:
    """Return all records in a folder whose file names match, by name.

    Raises:
        FileNotFoundError: if there are none.
    """
    paths = sorted(directory.glob(pattern))
    if not paths:
        raise FileNotFoundError(f"There are no {pattern} in {directory}.")
    return [read_record(path) for path in paths]


def read_record(path: Path) -> Record:
    """Return the record in a file."""
    record: Record = json.loads(path.read_text(encoding="utf-8"))
    return record


def write_record(path: Path, record: Record) -> Path:
    """Write a record whole or not at all, and return its path; its folder is made.

    Raises:
        ValueError: if it holds NaN or infinity, which JSON does not have.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    with whole_file(path) as file:
        file.write(f"{text}\n".encode())
    return path
