"""A network of four layers, its images, and one measured result."""

import dataclasses

import pytest
import torch

from benchmarks.protocols.speed import SpeedSettings, measure_speed
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


def broken(subject):
    raise LookupError("no such thing\nin this network")


def not_a_number(subject):
    return lambda images: images * torch.nan


BROKEN = [
    dataclasses.replace(METHODS["plq"], name="broken", build=broken),
    dataclasses.replace(METHODS["plq"], name="nan", build=not_a_number),
]


@pytest.fixture(scope="session")
def result():
    """Two rounds of a few methods, one of them slow, two of them broken."""
    chosen = select_methods(["plq", "naive-plq", "official-serfiq"])
    settings = SpeedSettings(rounds=2, slow_rounds=1, passes=7, seed=3)
    return measure_speed(load_benchmark_model("tiny"), 2, [*chosen, *BROKEN], settings)
