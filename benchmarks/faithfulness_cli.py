"""The command line of the protocols that score maps of faces: shared options, one entry each."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.conditions import conditions_set, current_conditions
from benchmarks.curves_cli import add_curves
from benchmarks.face_sets import FaceSets, face_sets, quick_face_sets
from benchmarks.inpainting_cli import add_inpainting
from benchmarks.map_subject import MapSubject
from benchmarks.maps import MAPS, MapMethod, on_random_weights, select_maps
from benchmarks.random_mask import METRICS, RandomMask
from benchmarks.random_mask_example import example_figure
from benchmarks.random_mask_report import distributions, write_random_mask_report
from benchmarks.random_squares import FILLS
from benchmarks.standards_cli import add_standards
from benchmarks.study import Study, StudyProtocol, run_study
from benchmarks.study_context import StudyContext
from benchmarks.summary import summarise
from benchmarks.tables import write_json
from captum_plq.models import load_model

__all__ = ["add_faithfulness"]

_QUICK_FACES, _QUICK_REFERENCE = 8, 16


def add_faithfulness(protocols: Any) -> None:
    """Adds every protocol of this kind to the subparsers of the command line."""
    _add_random_mask(protocols.add_parser("random-mask", help="do maps see a square on a face?"))
    add_inpainting(protocols, _add_study, _run)
    add_curves(protocols, _add_study, _run)
    add_standards(protocols, _add_study, _run)


def _add_random_mask(parser: argparse.ArgumentParser) -> None:
    _add_study(parser)
    add = parser.add_argument
    add("--sizes", default=[10, 20, 30, 40, 50], type=_numbers, metavar="N[,N...]", help="pixels")
    add("--fills", default=list(FILLS), type=_words, help=f"of {', '.join(FILLS)} (default: all)")
    add(
        "--per-face",
        type=_positive,
        metavar="K",
        help="size × fill combinations per face, in balanced rotation (default: all)",
    )
    parser.set_defaults(run=_random_mask)


def _random_mask(given: argparse.Namespace) -> int:
    def protocol(faces: FaceSets) -> RandomMask:
        return RandomMask(
            faces.names,
            faces.reference,
            tuple(given.sizes),
            tuple(given.fills),
            given.per_face,
            given.seed,
        )

    def finish(study: Study, context: StudyContext) -> None:
        record = summarise(
            study,
            context.methods,
            list(METRICS),
            ("size", "fill"),
            compared=("auroc", "auroc_gain", "pixel_contrast"),
            seed=given.seed,
        )
        record["distributions"] = distributions(study, given.sizes)
        print(write_json(record, given.output / f"{study.stem}.json"), flush=True)
        picture = given.output / f"{study.stem}.png"
        example_figure(context, given.sizes, given.fills[0], given.seed).savefig(picture, dpi=120)
        print(picture)

    _run(given, protocol, finish)
    for path in write_random_mask_report(given.output):
        print(path)
    return 0


def _add_study(parser: argparse.ArgumentParser) -> None:
    """The options that every protocol of this kind has."""
    add = parser.add_argument
    add("--model", required=True, type=_words, help="names or .py files of face networks")
    add("--device", default="cpu", choices=["cpu", "cuda"])
    add(
        "--images",
        type=Path,
        metavar="DIR",
        help="faces; subfolders are people (default: variants of the one sample face)",
    )
    add("--faces", type=_positive, help="how many, one per person (default: 100; without images 8)")
    add(
        "--reference",
        type=_positive,
        help="people that maps are relative to, not evaluated (default: 150; without images 16)",
    )
    add(
        "--methods",
        default=["fast"],
        type=_words,
        help=f"all, fast (default: all but the slow ones), or of {', '.join(MAPS)}",
    )
    add(
        "--random-weights",
        default=["plq", "plq-relative", "saliency-sum", "saliency-sum-relative"],
        type=_words,
        metavar="NAMES",
        help="methods of these that also run on random weights; all, fast, none (default: four)",
    )
    add("--batch", default=16, type=_positive, help="faces at a time (default: 16)")
    add("--threads", type=_positive, help="of the CPU (default: torch's own choice)")
    add("--passes", default=100, type=_positive, help="m of SER-FIQ (default: 100)")
    add("--dropout", default=0.5, type=float, help="p of SER-FIQ (default: 0.5)")
    add("--seed", default=0, type=int)
    output = Path("benchmarks/results")
    add("-o", "--output", default=output, type=Path, metavar="DIR")


def _run(
    given: argparse.Namespace,
    protocol: Callable[[FaceSets], StudyProtocol],
    finish: Callable[[Study, StudyContext], None],
) -> None:
    """Runs a protocol on every network and hands each study on."""
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("There is no CUDA device here: run with --device cpu.")
    methods = _methods(given.methods, given.random_weights)
    for name in given.model:
        model = load_model(name).eval().to(device)
        if given.images is None:
            faces = quick_face_sets(
                model.spec,
                given.faces or _QUICK_FACES,
                given.reference or _QUICK_REFERENCE,
                given.seed,
            )
            print(faces.warning, flush=True)
        else:
            faces = face_sets(
                given.images, model.spec, given.faces or 100, given.reference or 150, given.seed
            )
        rows = 256 if device.type == "cuda" else 32
        subject = MapSubject(
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
        with conditions_set(given.threads, False, given.seed):
            conditions = current_conditions(
                device,
                torch.float32,
                passes=given.passes,
                dropout=given.dropout,
                seed=given.seed,
                rows=rows,
            )
            context = StudyContext(model, subject, methods)
            study = run_study(
                protocol(faces), context, faces, given.output, conditions, batch=given.batch
            )
            finish(study, context)
        for method, reason in study.failed.items():
            print(f"{model.spec.name}: {method} failed: {reason}", flush=True)


def _methods(names: Sequence[str], random_weights: Sequence[str]) -> tuple[MapMethod, ...]:
    chosen = select_maps(names)
    if list(random_weights) == ["none"]:
        return chosen
    nulls = set(select_maps(random_weights)) & set(chosen)
    return (*chosen, *(on_random_weights(method) for method in chosen if method in nulls))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str) -> list[int]:
    return [_positive(word) for word in _words(text)]


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, but got {number}")
    return number
