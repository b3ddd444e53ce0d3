"""The configuration of a training run, read from one JSON file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

__all__ = ["DEFAULT_CONFIG", "TrainingConfig", "read_config"]

DEFAULT_CONFIG = Path(__file__).parent / "config.json"
"""Of the weights that are shipped."""


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides the result but the images and the teacher.

    Args:

        train_folds (tuple of str): Folds of the list of pairs whose images are trained on.
        validation_share (float): Of the *people* of these folds, kept for the curves.
        seed (int): Of initial weights, order, augmentation and dropout.
        epochs (int): In all.
        head_epochs (int): The first of them, in which neck and head alone are trained.
        batch (int): Images per step.
        head_rate (float), trunk_rate (float): AdamW's highest learning rates.
        weight_decay (float): AdamW's.
        warmup (float): Share of the steps over which the rates rise; then they fall as a cosine.
        spread_weight (float): Of the second part of the loss, see
            :func:`~benchmarks.training.train.train`.
        degraded_share (float): Probability that an image is degraded once; half as likely as
            that, twice.
    """

    train_folds: tuple[str, ...]
    validation_share: float
    seed: int
    epochs: int
    head_epochs: int
    batch: int
    head_rate: float
    trunk_rate: float
    weight_decay: float
    warmup: float
    spread_weight: float
    degraded_share: float

    def to_json(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return {**asdict(self), "train_folds": list(self.train_folds)}


def read_config(path: Path = DEFAULT_CONFIG) -> TrainingConfig:
    """Read a configuration; every field must be there, and no other.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a field is missing or unknown.
    """
    record = json.loads(path.read_text(encoding="utf-8"))
    expected = {field.name for field in fields(TrainingConfig)}
    if record.keys() != expected:
        raise ValueError(
            f"{path}: missing {sorted(expected - record.keys())}, "
            f"unknown {sorted(record.keys() - expected)}."
        )
    return TrainingConfig(**{**record, "train_folds": tuple(record["train_folds"])})
