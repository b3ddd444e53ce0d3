"""A small face network in a file of the user's, and contexts for the protocols that score maps."""

import torch

from benchmarks.harness.environment import current_environment
from benchmarks.harness.study import StudyContext
from benchmarks.subjects.face_sets import FaceSets
from benchmarks.subjects.network import ExplainedNetwork

NETWORK = """
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
