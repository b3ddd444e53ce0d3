"""From a trained network to what is shipped: weights, calibration, and how it fares on others."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from safetensors.torch import save_file

from benchmarks.harness.environment import current_environment, reproducible_settings
from benchmarks.harness.protocol import write_record
from benchmarks.protocols.verification import verify
from benchmarks.subjects.pairs import read_pairs
from benchmarks.training.augment import augment
from benchmarks.training.data import Split, as_batch, first_of_each, read_chips
from captum_plq.calibration import calibrate
from captum_plq.models import FaceModel
from captum_plq.models.architectures.dropout_mobilefacenet import dropout_mobilefacenet
from captum_plq.suitability import assess_suitability

_JUDGED = 400
"""Test people for the suitability, one image each; half of them are reported on."""

_SEED = 1_000_000
"""Of the degradations the calibration sees: away from those of the epochs."""


def release(
    trained: FaceModel,
    split: Split,
    images: Path,
    pairs_file: Path,
    directory: Path,
    name: str,
    *,
    device: torch.device,
    record: dict[str, Any],
) -> dict[str, Any]:
    """Write weights in float16 and their calibration, and measure them as they were written.

    The calibration is made on the validation people, who were not trained on, each once as they
    are and once degraded, for a scale that has room below high-quality faces; verification and
    suitability on the test folds.

    Args:

        trained (FaceModel): The network.
        split (Split): Whose faces were used for what.
        images (Path): Folder of the images.
        pairs_file (Path): The list of pairs.
        directory (Path): Where the files go.
        name (str): Of the network.
        device (torch.device): Where it computes.
        record (dict): What else ``metrics.json`` is to hold.

    Returns:
        *dict*: what ``metrics.json`` holds.
    """
    file = directory / f"{name}.safetensors"
    state = trained.backbone.state_dict()
    save_file({key: _half(value) for key, value in state.items()}, file)
    model = dropout_mobilefacenet(file, name).to(device)
    size = model.spec.input_size

    clean = read_chips(images, first_of_each(split.validation), size)
    chips = np.concatenate([clean, _degraded(clean)])
    batches = [as_batch(some).to(device) for some in np.array_split(chips, len(clean) // 8 or 1)]
    source = (
        f"{len(clean)} people of {images.name}, aligned, of training folds but not trained on; "
        "each once as they are and once degraded as in training"
    )
    calibration = calibrate(model, batches, source=source)
    calibration.save(directory / f"{name}.npz")

    test_pairs = directory / "test-pairs.csv"
    test = set(split.test)
    with test_pairs.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["fold", "first", "second", "mated"])
        for pair in read_pairs(pairs_file):
            if {pair.first, pair.second} <= test:
                writer.writerow([pair.fold, pair.first, pair.second, int(pair.mated)])
    with reproducible_settings(None, False, 0):
        verification = verify(model, images, test_pairs)

    people = first_of_each(split.test)
    chosen = np.random.default_rng(0).permutation(len(people))[:_JUDGED]
    faces = read_chips(images, [people[i] for i in sorted(chosen)], size)
    suitability = assess_suitability(model, faces, embedding_layer=model.embedding_layer)
    print(suitability)

    reading = suitability.usual
    tested = {key: verification[key] for key in ("mated", "non_mated")}
    tested |= {key: getattr(reading, key) for key in ("quality", "spread", "standard_error")}
    metrics = {
        **record,
        "bytes": file.stat().st_size,
        "test": {
            **tested,
            "verification": verification["accuracy"],
            "pairs": sum(fold["pairs"] for fold in verification["folds"]),
            "faces": suitability.images_judging,
            "degradations": {
                key: {"auroc": asdict(found.auroc), "falls": asdict(found.share)}
                for key, found in reading.degradations.items()
            },
        },
        "calibration": {**calibration.scaling._asdict(), "gamma": calibration.gamma},
        "conditions": current_environment(
            device, torch.float32, passes=0, dropout=0.0, seed=0, rows=16
        ),
    }
    write_record(directory / "metrics.json", metrics)
    return metrics


def plot_history(history: list[dict[str, Any]], path: Path) -> None:
    """Draw the curves of a run: loss, cosine to the teacher, AUROC of Q, and Q's spread."""
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    epochs = [record["epoch"] for record in history]
    panels = {
        "training loss": ["loss"],
        "validation: cosine to the teacher": [k for k in history[0] if "cosine" in k],
        "validation: AUROC of Q": [k for k in history[0] if k.startswith("auroc")],
        "validation: Q": ["spread", "error of Q"],
    }
    for axis, (title, keys) in zip(figure.subplots(1, 4), panels.items(), strict=True):
        for key in keys:
            label = key.removeprefix("cosine ").removeprefix("auroc ")
            axis.plot(epochs, [record[key] for record in history], label=label)
        axis.set(title=title, xlabel="epoch")
        axis.title.set_fontsize(8)
        if len(keys) > 1:
            axis.legend(fontsize=6)
    figure.savefig(path, dpi=110)


def _degraded(chips: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Every chip degraded as in training, with a neighbour to be covered by."""
    pairs = zip(chips, np.roll(chips, 1, axis=0), strict=True)
    return np.stack(
        [
            augment(chip, other, np.random.default_rng((_SEED, index)), 1.0)[1]
            for index, (chip, other) in enumerate(pairs)
        ]
    )


def _half(value: torch.Tensor) -> torch.Tensor:
    tensor = value.detach().cpu().contiguous()
    return tensor.half() if tensor.is_floating_point() else tensor
