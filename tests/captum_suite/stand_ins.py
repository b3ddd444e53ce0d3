"""What stands in Captum's tests for Saliency and LayerGradientXActivation.

Each attribution made in a test is compared with :mod:`tests.captum_suite.oracle`, so that a test
asks for more than in Captum and never for less. What the package refuses by its documentation is
left out by :class:`unittest.SkipTest`, but only after it has been refused.
"""

import inspect
import unittest

import torch
from captum.attr import LayerActivation
from captum.log import log_usage
from torch import nn

from captum_plq import LayerPixelQuality, PixelQualityAttribution
from captum_plq.network.embedding_layer import EmbeddingLayerError
from tests.captum_suite.oracle import inputs_gradient, layer_gradient

used = set()
"""Tests in which a stand-in was called: the others are of other methods."""


def _note_use():
    for frame in inspect.stack():
        test = frame.frame.f_locals.get("self")
        if isinstance(test, unittest.TestCase):
            used.add(test.id())
            return


def _skipped(error, forward, inputs):
    """The reason why a case is left out; if there is none, the error is a failure."""
    modules = list(forward.modules()) if isinstance(forward, nn.Module) else []
    linear = any(isinstance(module, (nn.Linear, nn.Conv2d)) for module in modules)
    scripted = any(isinstance(module, torch.jit.ScriptModule) for module in modules)
    integers = isinstance(error, TypeError) and not all(x.is_floating_point() for x in inputs)
    for holds, why in (
        (isinstance(error, EmbeddingLayerError) and not linear, "no linear layer, so no embedding"),
        (scripted, "a scripted network, in which hooks do not fire"),
        (integers, "integer inputs have no gradient"),
    ):
        if holds:
            return unittest.SkipTest(f"{why}: refused")
    return error


def _as_tuple(x):
    return x if isinstance(x, tuple) else (x,)


def _assert_close(actual, expected):
    for a, b in zip(_as_tuple(actual), expected, strict=True):
        torch.testing.assert_close(a, b.to(a), rtol=1e-3, atol=1e-5)


class StandIn(PixelQualityAttribution):
    """For Saliency. ``abs``, of Saliency, has no meaning here and is not taken."""

    def __init__(self, forward_func):
        _note_use()
        StandIn.latest = self
        self.given = forward_func
        try:
            super().__init__(forward_func)
        except (TypeError, ValueError) as error:
            raise _skipped(error, forward_func, ()) from error

    @log_usage()
    def attribute(self, inputs, target=None, additional_forward_args=None):
        """Attributes, and compares with the definition."""
        arguments = (target, additional_forward_args)
        try:
            result, quality = super().attribute(inputs, *arguments, return_quality=True)
        except (TypeError, ValueError) as error:
            raise _skipped(error, self.given, _as_tuple(inputs)) from error
        assert bool(((quality > 0) & (quality <= 1)).all()), quality
        model = self.quality_model.serfiq.model
        self.expected = inputs_gradient(model, _as_tuple(inputs), quality, *arguments)
        _assert_close(result, self.expected)
        return result

    def by_definition(self, inputs, target=None, additional_forward_args=None):
        """The oracle's attributions, for a measure to be taken of them."""
        self.attribute(inputs, target, additional_forward_args)
        return self.expected if isinstance(inputs, tuple) else self.expected[0]


class LayerStandIn(LayerPixelQuality):
    """For LayerGradientXActivation; where that multiplies by the activation, so does this."""

    def __init__(self, forward_func, layer, device_ids=None, multiply_by_inputs=True):
        _note_use()
        self.given, self.multiplies = forward_func, multiply_by_inputs
        more = {} if device_ids is None else {"device_ids": device_ids}
        try:
            super().__init__(forward_func, layer, **more)
        except TypeError as error:
            if isinstance(layer, list):
                raise unittest.SkipTest("several layers at once: refused") from error
            raise

    @property
    def multiplies_by_inputs(self):
        """As the test asked for."""
        return self.multiplies

    @log_usage()
    def attribute(
        self, inputs, target=None, additional_forward_args=None, attribute_to_layer_input=False
    ):
        """Attributes, and compares with the definition."""
        arguments = (target, additional_forward_args)
        try:
            result, quality = super().attribute(
                inputs, *arguments, attribute_to_layer_input, return_quality=True
            )
        except (TypeError, ValueError) as error:
            raise _skipped(error, self.given, _as_tuple(inputs)) from error
        expected = layer_gradient(
            self.quality_model.serfiq.model,
            self.layer,
            _as_tuple(inputs),
            quality,
            *arguments,
            attribute_to_layer_input,
        )
        _assert_close(result, expected)
        if not self.multiplies:
            self.expected = expected
            return result
        values = _as_tuple(
            LayerActivation(self.given, self.layer).attribute(
                inputs, additional_forward_args, attribute_to_layer_input
            )
        )
        self.expected = tuple(a * b for a, b in zip(values, expected, strict=True))
        product = tuple(a * b for a, b in zip(values, _as_tuple(result), strict=True))
        return product if isinstance(result, tuple) else product[0]
