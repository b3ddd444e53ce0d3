"""A network of four layers, its images, folders of small faces, and one measured record."""

import dataclasses

import numpy as np
import pytest
import torch

from benchmarks.protocols.speed import Speed
from benchmarks.subjects.attributions import METHODS, select_methods
from benchmarks.subjects.models import load_benchmark_model
from benchmarks.subjects.network import ExplainedNetwork
from captum_plq.models import ModelSpec

SPEC = ModelSpec("small", (24, 20), mean=(127.5,) * 3, std=(127.5,) * 3)


@pytest.fixture
def tiny():
    return load_benchmark_model("tiny")


@pytest.fixture
def subject(tiny):
    """In float64, that results may be compared."""
    return ExplainedNetwork(tiny.network.double(), tiny.low, tiny.high, passes=20, rows=8)


@pytest.fixture
def images(tiny):
    return tiny.images(3, seed=1).double()


def save(path, colour, size=SPEC.input_size):
    """Write an image of one colour; its folder is made."""
    image = pytest.importorskip("PIL.Image", reason="needs the extra [faces]")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.fromarray(np.full((*size, 3), colour, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    """Eight people with three shots each, and three that are one loose image each."""
    for person in range(8):
        for shot in range(3):
            save(tmp_path / f"person{person}" / f"{shot}.png", (person, shot, 7))
    for image in range(3):
        save(tmp_path / f"loose{image}.png", (100 + image, 0, 7))
    return tmp_path


def broken(network):
    raise LookupError("no such thing\nin this network")


def not_a_number(network):
    return lambda images: images * torch.nan


@pytest.fixture(scope="session")
def record():
    """Two rounds of a few methods at batch 2, one of them slow, two of them broken."""
    chosen = select_methods(["plq", "naive-plq", "official-serfiq"])
    bad = [
        dataclasses.replace(METHODS["plq"], name="broken", build=broken),
        dataclasses.replace(METHODS["plq"], name="nan", build=not_a_number),
    ]
    protocol = Speed(model=("tiny",), rounds=2, slow_rounds=1, seed=3)
    return protocol.cost(load_benchmark_model("tiny"), 2, 7, [*chosen, *bad])
