"""Puts the stand-ins into Captum, loads its tests, and corrects what they expect of Saliency."""

import functools
import importlib.util
import sys
import unittest
from contextlib import contextmanager
from unittest import mock

import captum.attr
import torch
from captum.testing.attr.helpers.test_config import config
from torch import nn

from tests.captum_suite.stand_ins import LayerStandIn, StandIn

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


def load(checkout):
    """Captum's test files as modules, with the stand-ins in the place of its classes."""
    names = {captum.attr.Saliency: StandIn, captum.attr.LayerGradientXActivation: LayerStandIn}
    for case in config:
        case["algorithms"] = [names[a] for a in case["algorithms"] if a in names]
    for original, ours in names.items():
        for module in (captum.attr, sys.modules[original.__module__]):
            setattr(module, original.__name__, ours)
    return [_module(checkout / "tests" / name) for name in FILES]


def _module(path):
    spec = importlib.util.spec_from_file_location(f"captum_tests.{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # replaces the numbers that are Saliency's by those of the definition
    test = getattr(module, "Test", None)
    if path.stem == "test_saliency":
        module.assertTensorAlmostEqual = _of_definition(module.assertTensorAlmostEqual)
    elif path.stem == "test_layer_gradient_x_activation":
        test._layer_activation_test_assert = _layer_numbers(test._layer_activation_test_assert)
    elif path.stem == "test_sensitivity":
        test.sensitivity_max_assert = _sensitivity(module, test.sensitivity_max_assert)
    return module


def _of_definition(compare):
    @functools.wraps(compare)
    def compared(test, actual, expected, *more, **named):
        (of_definition,) = StandIn.latest.expected
        compare(test, actual, of_definition, *more, **named)

    return compared


def _layer_numbers(check):
    @functools.wraps(check)
    def checked(self, model, layer, inputs, expected, additional_input=None):
        method = LayerStandIn(model, layer)
        method.attribute(inputs, target=0, additional_forward_args=additional_input)
        of_definition = tuple(x.detach().tolist() for x in method.expected)
        numbers = of_definition if len(of_definition) > 1 else of_definition[0]
        check(self, model, layer, inputs, numbers, additional_input)

    return checked


def _sensitivity(module, check):
    """The sensitivity of the definition, measured first with the same random numbers."""

    @functools.wraps(check)
    def checked(self, explain, inputs, expected, **named):
        method = getattr(explain, "__self__", None)
        if isinstance(method, StandIn):
            self.setUp()
            with mock.patch.object(module, "assertTensorAlmostEqual"):
                expected = check(self, method.by_definition, inputs, expected, **named)
            self.setUp()
        return check(self, explain, inputs, expected, **named)

    return checked


class _OnCpu(nn.parallel.DistributedDataParallel):
    def __init__(self, model, **_):
        super().__init__(model)


@contextmanager
def in_gpus_place(said):
    """Lets tests that ask for a GPU run on the CPU, where there is none.

    ``.cuda()`` leaves things where they are, and DistributedDataParallel, which takes no device
    numbers on a CPU, is given none. DataParallel needs no help. Some tests are only made if there
    is ``said`` to be a GPU.
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


def cases(modules):
    """Every test of these files."""
    waiting = [unittest.defaultTestLoader.loadTestsFromModule(module) for module in modules]
    while waiting:
        test = waiting.pop(0)
        if isinstance(test, unittest.TestSuite):
            waiting[:0] = test
        else:
            yield test
