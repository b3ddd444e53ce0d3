"""``python -m benchmarks.training``: from aligned faces and a teacher to a small face network."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.training.config import DEFAULT_CONFIG, read_config
from benchmarks.training.data import first_of_each, read_chips, split_people, teach
from benchmarks.training.release import plot_history, release
from benchmarks.training.student import new_student
from benchmarks.training.train import Faces, train
from captum_plq.models import load_model

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains, or goes on training; see the README of this folder."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    add = parser.add_argument
    add("--images", type=Path, required=True, help="folder of aligned 112x112 faces by person")
    add("--pairs", type=Path, required=True, help="CSV: fold, first, second, mated")
    add("--teacher", default="mobilefacenet-foamliu", metavar="NAME|FILE", help="network")
    add("--teacher-checkpoint", type=Path, metavar="FILE", help="weights of a named teacher")
    add("--config", type=Path, default=DEFAULT_CONFIG)
    add("--epochs", type=int, help="in place of the configuration's")
    add("--faces", type=int, help="train on this many images only, to try it out")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--threads", type=int, help="of the CPU")
    add("--workers", type=int, default=0, help="processes that augment")
    add("-o", "--output", type=Path, required=True, metavar="DIR")
    given = parser.parse_args(arguments)
    config = read_config(given.config)
    if given.epochs is not None:
        config = replace(config, epochs=given.epochs)
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    given.output.mkdir(parents=True, exist_ok=True)

    teacher = load_model(given.teacher, given.teacher_checkpoint)
    split = split_people(given.pairs, config.train_folds, config.validation_share, config.seed)
    size = teacher.spec.input_size
    of: list[Faces] = []
    for names in (split.train[: given.faces], first_of_each(split.validation)):
        chips = read_chips(given.images, names, size)
        of.append(Faces(chips, teach(teacher.to(device), chips, device)))
    student = new_student(teacher, of[0].chips, device)
    print(f"{len(split.train)} images to train on, {len(split.validation)} to validate")
    history = train(
        student, of[0], of[1], config, given.output, device=device, workers=given.workers,
        progress=lambda line: print(line, flush=True),
    )  # fmt: skip
    plot_history(history, given.output / "curves.png")
    record = {
        "config": config.to_json(),
        "teacher": teacher.spec.name,
        "images": {"train": len(of[0].chips), "validation": len(split.validation)},
        "seconds": round(sum(epoch["seconds"] for epoch in history)),
        "epochs": len(history),
    }
    release(
        student, split, given.images, given.pairs, given.output, device=given.device,
        record=record,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
