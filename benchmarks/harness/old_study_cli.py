"""What the commands of all protocols that score maps of faces share: options, and how they run."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.harness.environment import Environment, current_environment, reproducible_settings
from benchmarks.harness.old_context import StudyContext
from benchmarks.harness.old_study import Study, StudyProtocol, run_study
from benchmarks.subjects.face_sets import FaceSets, face_sets, quick_face_sets
from benchmarks.subjects.maps import MAPS, select_maps
from benchmarks.subjects.methods import Method, on_random_weights
from benchmarks.subjects.network import ExplainedNetwork
from captum_plq.models import ModelSpec, load_model

__all__ = [
    "DrawFaces",
    "Subject",
    "add_study_options",
    "draw_faces",
    "how_many",
    "numbers",
    "positive",
    "run_studies",
    "subjects",
    "words",
]

_QUICK_FACES, _QUICK_REFERENCE = 8, 16

DrawFaces = Callable[[argparse.Namespace, ModelSpec], FaceSets]
"""Draws the faces that the options ask for."""


@dataclass(frozen=True)
class Subject:
    """What a command measures: a network with its maps, on some faces, under some conditions."""

    context: StudyContext
    faces: FaceSets
    conditions: Environment


def add_study_options(parser: argparse.ArgumentParser) -> None:
    """The options that every protocol of this kind has."""
    add = parser.add_argument
    add("--model", required=True, type=words, help="names or .py files of face networks")
    add("--device", default="cpu", choices=["cpu", "cuda"])
    add(
        "--images",
        type=Path,
        metavar="DIR",
        help="faces; subfolders are people (default: variants of the one sample face)",
    )
    add("--faces", type=positive, help="how many, one per person (default: 100; without images 8)")
    add(
        "--reference",
        type=positive,
        help="people that maps are relative to, not evaluated (default: 150; without images 16)",
    )
    add(
        "--methods",
        default=["fast"],
        type=words,
        help=f"all, fast (default: all but the slow ones), or of {', '.join(MAPS)}",
    )
    add(
        "--random-weights",
        default=["plq", "plq-relative", "saliency-sum", "saliency-sum-relative"],
        type=words,
        metavar="NAMES",
        help="methods of these that also run on random weights; all, fast, none (default: four)",
    )
    add("--batch", default=16, type=positive, help="faces at a time (default: 16)")
    add("--threads", type=positive, help="of the CPU (default: torch's own choice)")
    add("--passes", default=100, type=positive, help="m of SER-FIQ (default: 100)")
    add("--dropout", default=0.5, type=float, help="p of SER-FIQ (default: 0.5)")
    add("--seed", default=0, type=int)
    output = Path("benchmarks/results")
    add("-o", "--output", default=output, type=Path, metavar="DIR")


def run_studies(
    given: argparse.Namespace,
    protocol: Callable[[FaceSets], StudyProtocol],
    finish: Callable[[Study, StudyContext], None],
    draw: DrawFaces | None = None,
) -> None:
    """Runs a protocol on every network and hands each study on.

    Args:

        given (Namespace): With the options of :func:`add_study_options`.
        protocol (Callable): Makes the protocol, once the faces are there.
        finish (Callable): Keeps what a study has found.
        draw (Callable, optional): Draws the faces. ``None``: as :func:`draw_faces`.
    """
    for name in given.model:
        with subjects(given, name, draw) as subject:
            study = run_study(
                protocol(subject.faces),
                subject.context,
                subject.faces,
                given.output,
                subject.conditions,
                batch=given.batch,
            )
            finish(study, subject.context)
        for method, reason in study.failed.items():
            print(f"{subject.context.model.spec.name}: {method} failed: {reason}", flush=True)


@contextmanager
def subjects(
    given: argparse.Namespace, name: str, draw: DrawFaces | None = None
) -> Iterator[Subject]:
    """One network as the options ask for it; threads and the random state are put back after.

    Args:

        given (Namespace): With the options of :func:`add_study_options`.
        name (str): Of the network, or its file.
        draw (Callable, optional): Draws the faces. ``None``: as :func:`draw_faces`.

    Raises:
        RuntimeError: if CUDA is asked for and not there.
    """
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("There is no CUDA device here: run with --device cpu.")
    methods = _methods(given.methods, given.random_weights)
    model = load_model(name).eval().to(device)
    faces = (draw or draw_faces)(given, model.spec)
    if faces.warning:
        print(faces.warning, flush=True)
    rows = 256 if device.type == "cuda" else 32
    subject = ExplainedNetwork(
        model,
        0.0,
        255.0,
        given.passes,
        given.dropout,
        given.seed,
        rows,
        faces.reference,
        given.batch,
    )
    with reproducible_settings(given.threads, False, given.seed):
        conditions = current_environment(
            device,
            torch.float32,
            passes=given.passes,
            dropout=given.dropout,
            seed=given.seed,
            rows=rows,
        )
        yield Subject(StudyContext(model, subject, methods), faces, conditions)


def draw_faces(given: argparse.Namespace, spec: ModelSpec) -> FaceSets:
    """One face each of different people, or without images what the package ships."""
    faces, reference = how_many(given)
    if given.images is None:
        return quick_face_sets(spec, faces, reference, given.seed)
    return face_sets(given.images, spec, faces, reference, given.seed)


def how_many(given: argparse.Namespace) -> tuple[int, int]:
    """Faces to evaluate, and reference faces: as asked for, or what the help says."""
    default = (_QUICK_FACES, _QUICK_REFERENCE) if given.images is None else (100, 150)
    return given.faces or default[0], given.reference or default[1]


def _methods(names: Sequence[str], random_weights: Sequence[str]) -> tuple[Method, ...]:
    chosen = select_maps(names)
    if list(random_weights) == ["none"]:
        return chosen
    nulls = set(select_maps(random_weights)) & set(chosen)
    return (*chosen, *(on_random_weights(method) for method in chosen if method in nulls))


def words(text: str) -> list[str]:
    """What is between the commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def numbers(text: str) -> list[int]:
    """Whole numbers of at least 1, between commas."""
    return [positive(word) for word in words(text)]


def positive(text: str) -> int:
    """A whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, but got {number}")
    return number
