"""``python -m benchmarks``: from the command line to a protocol."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # the profiler's chatter on stderr

import torch

from benchmarks.methods import METHODS, select_methods
from benchmarks.models import available_models, load_benchmark_model
from benchmarks.report import write_report, write_result
from benchmarks.speed import SpeedSettings, measure_speed

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
    protocols = parser.add_subparsers(dest="protocol", required=True)
    _add_speed(protocols.add_parser("speed", help="time, memory and FLOPs as ratios to Saliency"))
    given = parser.parse_args(arguments)
    try:
        return _speed(given)
    except (ImportError, RuntimeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _add_speed(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", required=True, type=_words, help=f"of {', '.join(available_models())}")
    add("--device", default="cpu", choices=["cpu", "cuda"])
    add("--batch", default=[1], type=_numbers, metavar="N[,N...]")
    add(
        "--methods",
        default=["all"],
        type=_words,
        help=f"all, fast (all but the slow ones), or of {', '.join(METHODS)}",
    )
    add("--rounds", default=9, type=_positive, help="interleaved rounds (default: 9)")
    add("--slow-rounds", default=3, type=_positive, help="of these, for slow methods (default: 3)")
    add("--dtype", default="float32", choices=list(_DTYPES))
    add("--tf32", action="store_true", help="let CUDA use TF32 for float32 (default: it may not)")
    add("--threads", type=_positive, help="of the CPU (default: torch's own choice)")
    add("--passes", default=100, type=_positive, help="m of SER-FIQ (default: 100)")
    add("--dropout", default=0.5, type=float, help="p of SER-FIQ (default: 0.5)")
    add("--seed", default=0, type=int)
    add("--rows", type=_positive, help="images at a time in methods with many forwards")
    add("-o", "--output", default=Path("benchmarks/results"), type=Path, metavar="DIR")


def _speed(given: argparse.Namespace) -> int:
    methods = select_methods(given.methods)
    settings = SpeedSettings(
        device=given.device,
        dtype=_DTYPES[given.dtype],
        tf32=given.tf32,
        threads=given.threads,
        rounds=given.rounds,
        slow_rounds=given.slow_rounds,
        passes=given.passes,
        dropout=given.dropout,
        seed=given.seed,
        rows=given.rows,
    )
    void = False
    for name in given.model:
        model = load_benchmark_model(name, given.seed)
        for batch in given.batch:
            result = measure_speed(model, batch, methods, settings)
            void = void or result.void
            print(write_result(result, given.output), "(void)" if result.void else "")
    for path in write_report(given.output):
        print(path)
    return int(void)


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
