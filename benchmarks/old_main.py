"""``python -m benchmarks``: from the command line to a protocol."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # the profiler's chatter on stderr

import torch

from benchmarks.harness.tables import write_json
from benchmarks.protocols.estimators import EstimatorSettings, study_estimators
from benchmarks.protocols.estimators_report import write_estimators_report
from benchmarks.protocols.scaling import measure_scaling
from benchmarks.protocols.scaling_report import write_scaling_report
from benchmarks.protocols.speed import SpeedSettings, measure_speed
from benchmarks.protocols.speed_report import write_report, write_result
from benchmarks.protocols.verification import measure_verification
from benchmarks.protocols.verification_report import write_verification_report
from benchmarks.report.faithfulness_cli import add_faithfulness
from benchmarks.report.run_all import add_everything
from benchmarks.subjects.attributions import METHODS, select_methods
from benchmarks.subjects.face_sets import load_faces
from benchmarks.subjects.models import available_models, load_benchmark_model
from captum_plq.models import load_model

__all__ = ["main"]

_DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a protocol.

    Args:

        arguments (sequence of str, optional): Without the program's name. ``None``: those
            of the command line.

    Returns:
        *int*: 0; 1 if a run was void; 2 if nothing could be run.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    protocols = parser.add_subparsers(required=True, metavar="PROTOCOL")
    _add_speed(protocols.add_parser("speed", help="time, memory and FLOPs as ratios to Saliency"))
    _add_scaling(protocols.add_parser("scaling", help="how these grow with the batch and with m"))
    _add_estimators(
        protocols.add_parser("estimators", help="SER-FIQ's estimators against very many passes")
    )
    _add_verification(protocols.add_parser("verification", help="same person? accuracy on pairs"))
    add_faithfulness(protocols)
    add_everything(protocols, main)
    try:
        given = parser.parse_args(arguments)
        code: int = given.run(given)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return code


def _add_speed(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--batch", default=[1], type=_numbers, metavar="N[,N...]")
    _add_measuring(parser, methods=["all"], rounds=9)
    add("--passes", default=100, type=_positive, help="m of SER-FIQ (default: 100)")
    parser.set_defaults(run=_speed)


def _add_scaling(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--batches", default=[1, 2, 4, 8, 16, 32], type=_numbers, metavar="N[,N...]")
    add("--m", default=[12, 32, 100, 320, 1000, 3200], type=_numbers, metavar="N[,N...]")
    add("--batch", default=8, type=_positive, help="of the series over m (default: 8)")
    _add_measuring(parser, methods=["plq", "plq-balanced", "plq-closed-form"], rounds=5)
    parser.set_defaults(run=_scaling)


def _add_estimators(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", required=True, type=_words, help="names or .py files of face networks")
    add("--device", default="cpu", choices=["cpu", "cuda"])
    add("--images", required=True, type=Path, metavar="DIR", help="faces; subfolders are people")
    add("--about", help="where the images are from, in words (default: the folder's name)")
    add("--faces", default=200, type=_positive, help="how many (default: 200)")
    add("--m", default=[32, 100, 320, 1000], type=_numbers, metavar="N[,N...]")
    add("--repeats", default=20, type=_positive, help="seeds each (default: 20)")
    add("--limit", default=10_000, type=_positive, help="m of the limit (default: 10000)")
    add("--limit-by", default="sampling", choices=["sampling", "balanced"])
    add("--dropout", default=0.5, type=float, help="p of SER-FIQ (default: 0.5)")
    add("--threads", type=_positive, help="of the CPU (default: torch's own choice)")
    add("--seed", default=0, type=int)
    _add_output(parser)
    parser.set_defaults(run=_estimators)


def _add_verification(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", required=True, type=_words, help="names or .py files of face networks")
    add("--device", default="cpu", choices=["cpu", "cuda"])
    add("--images", required=True, type=Path, metavar="DIR", help="a folder laid out like LFW")
    add("--pairs", required=True, type=Path, metavar="FILE", help="CSV: fold,first,second,mated")
    add("--batch", default=16, type=_positive, help="images at a time (default: 16)")
    add("--threads", type=_positive, help="of the CPU (default: torch's own choice)")
    _add_output(parser)
    parser.set_defaults(run=_verification)


def _add_measuring(parser: argparse.ArgumentParser, methods: list[str], rounds: int) -> None:
    add = parser.add_argument
    known = ", ".join(available_models())
    add("--model", required=True, type=_words, help=f"of {known}, or a .py file")
    add("--device", default="cpu", choices=["cpu", "cuda"])
    add(
        "--methods",
        default=methods,
        type=_words,
        help=f"all, fast (all but the slow ones), or of {', '.join(METHODS)}",
    )
    add("--rounds", default=rounds, type=_positive, help=f"interleaved (default: {rounds})")
    add("--slow-rounds", default=3, type=_positive, help="of these, for slow methods (default: 3)")
    add("--dtype", default="float32", choices=list(_DTYPES))
    add("--tf32", action="store_true", help="let CUDA use TF32 for float32 (default: it may not)")
    add("--channels-last", action="store_true", help="weights and images in this memory format")
    add("--threads", type=_positive, help="of the CPU (default: torch's own choice)")
    add("--dropout", default=0.5, type=float, help="p of SER-FIQ (default: 0.5)")
    add("--seed", default=0, type=int)
    add("--rows", type=_positive, help="images at a time in methods with many forwards")
    _add_output(parser)


def _add_output(parser: argparse.ArgumentParser) -> None:
    results = Path("benchmarks/results")
    parser.add_argument("-o", "--output", default=results, type=Path, metavar="DIR")


def _settings(given: argparse.Namespace, passes: int) -> SpeedSettings:
    return SpeedSettings(
        device=given.device,
        dtype=_DTYPES[given.dtype],
        tf32=given.tf32,
        channels_last=given.channels_last,
        threads=given.threads,
        rounds=given.rounds,
        slow_rounds=given.slow_rounds,
        passes=passes,
        dropout=given.dropout,
        seed=given.seed,
        rows=given.rows,
    )


def _speed(given: argparse.Namespace) -> int:
    methods, settings = select_methods(given.methods), _settings(given, given.passes)
    void = False
    for name in given.model:
        model = load_benchmark_model(name, given.seed)
        for batch in given.batch:
            result = measure_speed(model, batch, methods, settings)
            void = void or result.void
            print(write_result(result, given.output), "(void)" if result.void else "", flush=True)
    _print_all(write_report(given.output))
    return int(void)


def _scaling(given: argparse.Namespace) -> int:
    methods, settings = select_methods(given.methods), _settings(given, 100)
    void = False
    for name in given.model:
        model = load_benchmark_model(name, given.seed)
        result = measure_scaling(
            model, given.batches, given.m, given.batch, methods, settings, _progress(name)
        )
        void = void or any(x.void for x in (*result.by_batch, *result.by_passes))
        print(write_json(result.to_json(), given.output / f"{result.stem}.json"), flush=True)
    _print_all(write_scaling_report(given.output))
    return int(void)


def _estimators(given: argparse.Namespace) -> int:
    settings = EstimatorSettings(
        device=given.device,
        dropout=given.dropout,
        passes=tuple(given.m),
        repeats=given.repeats,
        reference_passes=given.limit,
        reference_estimator=given.limit_by,
        threads=given.threads,
        seed=given.seed,
    )
    about = given.about or given.images.name
    for name in given.model:
        model = load_model(name)
        faces = load_faces(given.images, model.spec, given.faces, given.seed)
        study = study_estimators(model, faces, about, settings, _progress(name))
        print(write_json(study.to_json(), given.output / f"{study.stem}.json"), flush=True)
    _print_all(write_estimators_report(given.output))
    return 0


def _verification(given: argparse.Namespace) -> int:
    for name in given.model:
        result = measure_verification(
            load_model(name),
            given.images,
            given.pairs,
            device=given.device,
            threads=given.threads,
            batch=given.batch,
            progress=_progress(name),
        )
        print(write_json(result.to_json(), given.output / f"{result.stem}.json"), flush=True)
    print(write_verification_report(given.output))
    return 0


def _progress(name: str) -> Callable[[str], None]:
    return lambda text: print(f"{name}: {text}", file=sys.stderr, flush=True)


def _print_all(paths: Sequence[Path]) -> None:
    for path in paths:
        print(path)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str) -> list[int]:
    return [_positive(word) for word in _words(text)]


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(f"must be at least 1, but got {number}")
    return number


if __name__ == "__main__":
    sys.exit(main())
