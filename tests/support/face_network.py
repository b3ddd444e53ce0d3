"""What protocols are tested with: a network in a file of the user's, contexts, lists of pairs."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.harness.environment import current_environment
from benchmarks.harness.study import StudyContext
from benchmarks.subjects.face_sets import FaceSets
from benchmarks.subjects.network import ExplainedNetwork

NETWORK = """
from types import SimpleNamespace

import torch
from torch import nn
from captum_plq.models import FaceModel, ModelSpec

def load_model():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 5, 4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(4 * 27 * 27, 8)
    )
    return FaceModel(network, ModelSpec("mine", (112, 112), mean=(127.5,) * 3, std=(127.5,) * 3))
"""


def study_context(model, methods, images, reference, passes=5, batch=6):
    """Some maps of a network on faces that are named a, b, c, …"""
    names, others = (tuple("abcdefghijkl"[: len(x)]) for x in (images, reference))
    faces = FaceSets(images.byte(), names, reference.byte(), others, "noise")
    environment = current_environment(
        torch.device("cpu"), torch.float32, passes=passes, dropout=0.5, seed=0, rows=8
    )
    network = ExplainedNetwork(
        model, passes=passes, rows=8, reference=reference.byte(), batch=batch
    )
    return StudyContext(model, network, methods, faces, environment)


def planted_context(maps, quality, **given):
    """Return a context whose maps (or a function of the images) and qualities a test gives."""
    subject = SimpleNamespace(quality=quality, rows=7)
    given = {"subject": subject, "network_for": lambda _: subject, **given}
    return SimpleNamespace(maps=maps if callable(maps) else lambda images: maps, **given)


def write_pairs(folder, people, size, *, coloured=False):
    """Write two noisy shots of each person, and a list of mated and other pairs in two folds.

    Returns folder and list; of three coloured people one is red, one green, one blue.
    """
    image = pytest.importorskip("PIL.Image", reason="needs the extra [faces]")
    generator = np.random.default_rng(0)
    lines = ["fold,first,second,mated"]
    for i in range(people):
        (folder / "faces" / f"p{i}").mkdir(parents=True)
        for k in (1, 2):
            pixels = generator.integers(0, 256, (size, size, 3))
            if coloured:
                pixels = pixels // 4 + 60 + 120 * np.eye(3, dtype=int)[i]
            image.fromarray(pixels.astype(np.uint8)).save(folder / "faces" / f"p{i}" / f"{k}.png")
        mated, other = f"p{i}/1.png,p{i}/2.png,1", f"p{i}/1.png,p{(i + 1) % people}/2.png,0"
        lines += [f"{fold},{pair}" for fold in (1, 2) for pair in (mated, other)]
    (folder / "pairs.csv").write_text("\n".join(lines))
    return folder / "faces", folder / "pairs.csv"
