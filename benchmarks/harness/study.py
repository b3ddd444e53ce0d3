"""Protocols that measure score maps, face by face: ``MapStudy``, and the options they share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar

from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.harness.context import StudyContext
from benchmarks.harness.options import Names, PositiveInt, some_of
from benchmarks.harness.pages import Shown, about, by_method, comparisons
from benchmarks.harness.protocol import Cell, Protocol, Record
from benchmarks.harness.resume import Study, run_rows
from benchmarks.harness.statistics import ALL, Row, summarise
from benchmarks.subjects.face_sets import FaceSets, face_sets, quick_face_sets
from benchmarks.subjects.maps import MAPS, select_maps
from benchmarks.subjects.methods import Method, on_random_weights
from benchmarks.subjects.network import ExplainedNetwork
from captum_plq.calibration.settings import network_digest
from captum_plq.models import DEFAULT_MODEL, ModelSpec, load_model

__all__ = [
    "MapOptions",
    "MapStudy",
    "Row",
    "Study",
    "StudyContext",
    "estimate_of",
    "rows_of",
]

_MAPS = some_of(("all", "fast", *MAPS))
_QUICK_MAPS = (
    "plq,plq-signed,plq-serfiq,plq-directions-4,plq-relative,saliency-sum,input-x-gradient,"
    "input-x-gradient-relative,local,local-z,random,centre,eigenface"
)


@dataclass(frozen=True, kw_only=True)
class MapOptions(Protocol):
    """What every protocol that explains faces is asked.

    Args:

        images (Path, optional): Folder of faces; subfolders are people (default: variants of the
            one sample face).
        faces (int, optional): How many, one per person (default: 100; without images 8).
        reference (int, optional): People that maps are relative to, not evaluated (default: 150;
            without images 16).
        methods (tuple[str, ...]): Maps; all, fast (all but the slow ones), or names.
        random_weights (tuple[str, ...]): Methods of these that also run on random weights; all,
            fast, none.
        random_networks (int): On how many networks with random weights, of seeds of their own.
        null_faces (int, optional): On how many faces, rounded up to whole batches (default: all).
        label (str, optional): Added to the network's name in titles and file names, so that results
            on other faces stand beside those that there are, e.g. ``fold5``.
        batch (int): Faces at a time.
        passes (int): m of SER-FIQ.
        dropout (float): p of SER-FIQ.
    """

    quick: ClassVar[dict[str, str]] = {
        "model": DEFAULT_MODEL,
        "faces": "6",
        "reference": "12",
        "batch": "6",
        "methods": _QUICK_MAPS,
        "random-weights": "plq,plq-relative",
    }

    images: Path | None = None
    faces: PositiveInt | None = None
    reference: PositiveInt | None = None
    methods: Annotated[tuple[str, ...], _MAPS] = ("fast",)
    random_weights: Names = ("plq", "plq-relative", "saliency-sum", "saliency-sum-relative")
    random_networks: PositiveInt = 1
    null_faces: PositiveInt | None = None
    label: str | None = None
    batch: PositiveInt = 16
    passes: PositiveInt = 100
    dropout: float = 0.5

    def draw(self, spec: ModelSpec) -> FaceSets:
        """Return one face each of different people, or without images what the package ships."""
        faces, reference = self.how_many()
        if self.images is None:
            return quick_face_sets(spec, faces, reference, self.seed)
        return face_sets(self.images, spec, faces, reference, self.seed)

    def how_many(self) -> tuple[int, int]:
        """Return how many faces to evaluate, and how many for the reference."""
        faces, reference = (8, 16) if self.images is None else (100, 150)
        return self.faces or faces, self.reference or reference

    @contextmanager
    def context(self, name: str) -> Iterator[StudyContext]:
        """Make a network ready; threads and random states are put back after.

        Args:

            name (str): Of the network, or its file.

        Raises:
            RuntimeError: if CUDA is asked for and not there.
        """
        methods = self.chosen()
        model = load_model(name).eval()
        faces = self.draw(model.spec)
        if faces.warning:
            print(faces.warning, flush=True)
        rows = 256 if self.device == "cuda" else 32
        given = self.environment(passes=self.passes, dropout=self.dropout, rows=rows)
        with given as (device, environment):
            subject = ExplainedNetwork(
                model.to(device),
                passes=self.passes,
                dropout=self.dropout,
                seed=self.seed,
                rows=rows,
                reference=faces.reference,
                batch=self.batch,
            )
            yield StudyContext(model, subject, methods, faces, environment)

    def chosen(self) -> tuple[Method, ...]:
        """Return the methods, and those of them that also run on random weights."""
        chosen = select_maps(self.methods)
        if self.random_weights == ("none",):
            return chosen
        nulls = set(select_maps(self.random_weights)) & set(chosen)
        return (
            *chosen,
            *(on_random_weights(method, number)
              for number in range(self.random_networks) for method in chosen if method in nulls),
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MapStudy(MapOptions):
    """A protocol that is declared: rows of each face, columns, conditions, comparisons.

    The names under ``Columns:`` in the docstring of its class, each with what it means and which
    way is better, are keys of its rows. Tables show their means over faces.

    Running it writes ``raw/NAME-MODEL.jsonl`` batch by batch, from which a run that was cut off
    goes on; ``NAME-MODEL.json`` with means, bootstrap intervals and paired comparisons;
    ``NAME-MODEL.png``, an example on the sample face, if there is one; and page and figures.
    See :mod:`benchmarks.protocols.curves`.
    """

    forms: ClassVar[Mapping[str, str]] = {}
    """How columns are written, if not with three decimals."""
    conditions: ClassVar[tuple[str, ...]] = ()
    """Keys of a row by whose values means are also taken, e.g. size and fill."""
    compared: ClassVar[tuple[str, ...]] = ()
    """Columns in which every method is compared with ``plq``."""
    difference: ClassVar[str] = ".3f"
    """How differences are written."""
    controls: ClassVar[tuple[Method, ...]] = ()
    """What has rows beside the maps."""

    @abstractmethod
    def rows(self, context: StudyContext, images: Tensor, names: Sequence[str]) -> list[Row]:
        """Return the rows of some faces, (B, 3, H, W), 0–255; they may depend on nothing else."""

    def settings(self) -> dict[str, Any]:
        """Return what the rows depend on but network, faces and methods; ready for JSON."""
        shared = {field.name for field in fields(MapOptions)}
        own = [field.name for field in fields(self) if field.name not in shared]
        return {name: getattr(self, name) for name in [*own, "seed"]}

    def summary(self, study: Study, context: StudyContext) -> Record:
        """Return what is kept of a study; protocols add to it."""
        methods = [*self.controls, *(own for own in context.methods if not own.null)]
        return {
            **study.header,
            "sessions": study.sessions,
            "methods": {
                m.name: {"kind": m.kind, "description": m.description, "slow": m.slow}
                for m in methods
            },
            "failed": study.failed,
            **summarise(
                study.rows,
                [method.name for method in methods],
                list(self.words()[2]),
                self.conditions,
                compared=self.compared,
                seed=self.seed,
            ),
        }

    def example(self, context: StudyContext) -> Figure | None:
        """Return a figure of what is done to the sample face, if there is one."""
        return None

    @classmethod
    def shown(cls, group: str = ALL) -> list[Shown]:
        """Return all columns over a group of rows, for a table."""
        return [Shown(name, name, group, cls.forms.get(name, ".3f")) for name in cls.words()[2]]

    @classmethod
    def tables(cls, record: Record) -> list[str]:
        """Return the tables of one network: all columns, by group if it names some."""
        lines: list[str] = []
        for group in record.get("groups", [ALL]):
            lines += [] if group == ALL else [f"### {group.replace('=', ' ')}", ""]
            lines += by_method(record, cls.shown(group))
        return [*lines, *comparisons(record, cls.difference)]

    def measure(self, model: str) -> Iterator[tuple[str, Record]]:
        """Yield the summary of a network; an example is drawn beside it."""
        with self.context(model) as context:
            stem = f"{self.name}-{context.model.spec.name}" + f"-{self.label}" * bool(self.label)
            path = self.output / "raw" / f"{stem}.jsonl"
            header = self._header(context)
            study = run_rows(self.rows, context, header, path, self.batch, self.null_faces)
            yield stem, self.summary(study, context)
            if (figure := self.example(context)) is not None:
                figure.savefig(picture := self.output / f"{stem}.png")
                print(picture)
        for method, reason in study.failed.items():
            print(f"{context.model.spec.name}: {method} failed: {reason}", flush=True)

    @classmethod
    def section(cls, record: Record) -> list[str]:
        """Return tables and environment of a network."""
        lines = [f"## {record['model']}", ""]
        if record["faces"]["warning"]:
            lines += [f"**{record['faces']['warning']}**", ""]
        lines += cls.tables(record)
        lines += [f"- `{name}` failed here: {why}" for name, why in record["failed"].items()]
        return [*lines, "", about(record), ""]

    def _header(self, context: StudyContext) -> Record:
        faces, parameter = context.faces, next(context.model.parameters())
        return {
            "protocol": self.name,
            "model": context.model.spec.name + f", {self.label}" * bool(self.label),
            "source": context.model.spec.source,
            "network": network_digest(context.model),
            "settings": {
                **self.settings(),
                "methods": [method.name for method in context.methods],
                "passes": self.passes,
                "dropout": self.dropout,
                "method seed": self.seed,
                "batch": self.batch,
                **({} if self.null_faces is None else {"null faces": self.null_faces}),
                "device": parameter.device.type,
                "dtype": str(parameter.dtype).removeprefix("torch."),
            },
            "faces": {
                "about": faces.about,
                "warning": faces.warning,
                "evaluated": len(faces.names),
                "reference": len(faces.reference_names),
                "digest": faces.digest,
                **({"unusable": faces.unusable} if faces.unusable else {}),
            },
        }


def estimate_of(metric: str, group: str = ALL) -> Any:
    """Return a :class:`~benchmarks.harness.protocol.Headline`'s reader of a metric's mean."""

    def read(record: Record, method: str) -> Cell | None:
        found = record["estimates"].get(metric, {}).get(method, {}).get(group)
        if found is None or found["mean"] is None:
            return None
        return Cell(found["mean"], found["low"], found["high"])

    return read


def rows_of(names: Sequence[str], numbers: Mapping[str, Any], **given: Any) -> list[Row]:
    """Return a row for each face, with what is given for all and what is each one's own.

    Args:

        names (sequence of str): Of the faces.
        numbers (mapping): Key → a tensor, an array or a sequence, one entry for each face.
        given: ``method`` and conditions.
    """
    own = {key: x.tolist() if hasattr(x, "tolist") else x for key, x in numbers.items()}
    return [
        {"image": name, **given, **{key: values[i] for key, values in own.items()}}
        for i, name in enumerate(names)
    ]
