"""A network of four layers, its images, and one measured record."""

import dataclasses

import pytest
import torch

from benchmarks.protocols.costs.speed import Speed
from benchmarks.subjects.attributions import METHODS, select_methods
from benchmarks.subjects.models import load_benchmark_model
from benchmarks.subjects.network import ExplainedNetwork


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


def broken(network):
    raise LookupError("no such thing\nin this network")


@pytest.fixture(scope="session")
def record():
    """Two rounds of a few methods at batch 2, one of them slow, two of them broken."""
    bad = {"broken": broken, "nan": lambda network: lambda images: images * torch.nan}
    methods = [
        *select_methods(["plq", "naive-plq", "official-serfiq"]),
        *(dataclasses.replace(METHODS["plq"], name=n, build=build) for n, build in bad.items()),
    ]
    protocol = Speed(model=("tiny",), rounds=2, slow_rounds=1, seed=3)
    return protocol.cost(load_benchmark_model("tiny"), 2, 7, methods)
