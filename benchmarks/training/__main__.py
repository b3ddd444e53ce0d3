"""``python -m benchmarks.training``: from aligned faces and a teacher to a small face network."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from cyclopts import App

from benchmarks.harness.options import Device, Output, PositiveInt
from benchmarks.training.data import first_of_each, read_chips, split_people, teach
from benchmarks.training.release import plot_history, release
from benchmarks.training.student import new_student
from benchmarks.training.train import DEFAULT_CONFIG, Faces, read_config, train
from captum_plq.models import load_model
from captum_plq.models.architectures.dropout_mobilefacenet import dropout_mobilefacenet


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command of :func:`_train`; ``None``: with the arguments of the command line."""
    app = App("python -m benchmarks.training", default_command=_train, result_action="return_value")
    app(sys.argv[1:] if arguments is None else arguments)
    return 0


def _train(
    *,
    images: Path,
    pairs: Path,
    output: Output,
    teacher: str = "mobilefacenet-foamliu",
    teacher_checkpoint: Path | None = None,
    start: Path | None = None,
    name: str = "mobilefacenet-dropout",
    config: Path = DEFAULT_CONFIG,
    epochs: PositiveInt | None = None,
    faces: PositiveInt | None = None,
    device: Device | None = None,
    threads: PositiveInt | None = None,
    workers: int = 0,
) -> None:
    """Train a face network, or go on training one; see the README of this folder.

    Args:

        images (Path): Folder of aligned 112×112 faces by person.
        pairs (Path): CSV: fold, first, second, mated.
        output (Path): Folder of what a run leaves; with a checkpoint, training goes on from it.
        teacher (str): Name or file of a network.
        teacher_checkpoint (Path, optional): Weights of a named teacher.
        start (Path, optional): Weights of the student to start from; without it, those nearest to
            the teacher.
        name (str): What the files are called: mobilefacenet-dropout or mobilefacenet-places.
        config (Path): Configuration.
        epochs (int, optional): In place of the configuration's.
        faces (int, optional): Train on this many images only, to try it out.
        device (str, optional): Where to train (default: cuda where there is one).
        threads (int, optional): Of the CPU.
        workers (int): Processes that augment.
    """
    given = read_config(config)
    given = replace(given, epochs=epochs or given.epochs)
    if threads is not None:
        torch.set_num_threads(threads)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    output.mkdir(parents=True, exist_ok=True)

    network = load_model(teacher, teacher_checkpoint)
    split = split_people(pairs, given.train_folds, given.validation_share, given.seed)

    def taught(names: Sequence[str]) -> Faces:
        chips = read_chips(images, names, network.spec.input_size)
        return Faces(chips, teach(network.to(place), chips, place))

    training, validation = taught(split.train[:faces]), taught(first_of_each(split.validation))
    if start is None:
        student = new_student(network, training.chips, place)
    else:
        student = dropout_mobilefacenet(start).to(place).requires_grad_(True)
    print(f"{len(split.train)} images to train on, {len(split.validation)} to validate")
    history = train(
        student, training, validation, given, output, device=place, workers=workers,
        progress=lambda line: print(line, flush=True),
    )  # fmt: skip
    plot_history(history, output / "curves.png")
    record = {
        "config": asdict(given),
        "teacher": network.spec.name,
        "start": None if start is None else start.name,
        "images": {"train": len(training.chips), "validation": len(split.validation)},
        "seconds": round(sum(epoch["seconds"] for epoch in history)),
        "epochs": len(history),
    }
    release(student, split, images, pairs, output, name, device=place, record=record)


if __name__ == "__main__":
    raise SystemExit(main())
