"""A call of a method reads its device once, after everything has been queued."""

import contextlib
import io
import pickle

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from captum_plq import SERFIQ, LayerPixelQuality, LocalQuality, PixelQualityAttribution
from captum_plq._base import late
from captum_plq.quality.scores.embedding_norm import EmbeddingNorm
from captum_plq.quality.spatial import SpatialSERFIQ

READS = {"_local_scalar_dense", "equal", "is_nonzero", "item", "masked_select", "nonzero"}
BACKWARD = "convolution_backward"


class Net(nn.Module):
    pixel_range = (0, 255)

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.bn, self.relu = nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU()
        self.fc, self.tail = nn.Linear(8 * 81, 16), nn.BatchNorm1d(16)
        nn.init.uniform_(self.tail.running_var, 0.5, 2)

    def forward(self, x):
        return self.tail(self.fc(self.relu(self.bn(self.conv(x / 255))).flatten(1)))


def closed_form(net):
    return SERFIQ(net, estimator="closed-form")


def balanced(net):
    return SERFIQ(net, estimator="balanced")


CASES = {
    "plq": lambda net: PixelQualityAttribution(net).attribute,
    "plq-balanced": lambda net: PixelQualityAttribution(balanced(net)).attribute,
    "plq-closed-form": lambda net: PixelQualityAttribution(closed_form(net)).attribute,
    "plq-serfiq": lambda net: (
        PixelQualityAttribution(closed_form(net), target_scalar="serfiq").attribute
    ),
    "plq-directions": lambda net: PixelQualityAttribution(net, directions=2).attribute,
    "plq-l2": lambda net: PixelQualityAttribution(net, weights="l2").attribute,
    "plq-norm": lambda net: (
        PixelQualityAttribution(net, target_scalar=EmbeddingNorm(net)).attribute
    ),
    "layer": lambda net: LayerPixelQuality(net, net.bn).attribute,
    "local": lambda net: LocalQuality(net, reference=1.0).attribute,
    "local-own": lambda net: LocalQuality(net).attribute,
    "serfiq": SERFIQ,
    "serfiq-assess": lambda net: closed_form(net).assess,
    "spatial": SpatialSERFIQ,
    "norm": EmbeddingNorm,
}
WITH_BACKWARD = {"plq", "plq-balanced", "plq-closed-form", "plq-directions", "plq-l2"}


@pytest.fixture
def images():
    return 255 * torch.rand(3, 3, 20, 20, generator=torch.Generator().manual_seed(0))


class Operators(TorchDispatchMode):
    """Notes what runs, and what copies from one device to another or from Python."""

    def __init__(self):
        super().__init__()
        self.ran, self.copies = [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output, name = func(*args, **(kwargs or {})), func._overloadpacket.__name__
        masks = [x for x in tree_leaves(args[1:]) if getattr(x, "dtype", None) is torch.bool]
        self.ran.append("nonzero" if name.startswith("index") and masks else name)
        devices = {x.device for x in tree_leaves((args, kwargs, output)) if hasattr(x, "device")}
        if name == "lift_fresh" or len(devices) > 1:
            self.copies.append(name)
        return output


class Methods(TorchFunctionMode):
    """Notes the reads that no operator shows."""

    def __init__(self, operators):
        super().__init__()
        self.operators = operators

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") in ("tolist", "numpy", "cpu"):
            self.operators.ran.append("item")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("case", CASES)
def test_one_read_at_the_end(case, images):
    call = CASES[case](Net().eval())
    call(images)
    with Operators() as operators, Methods(operators):
        call(images)
    reads = [place for place, name in enumerate(operators.ran) if name in READS]
    assert reads == [len(operators.ran) - 1]
    if case in WITH_BACKWARD:
        assert BACKWARD in operators.ran


class _Writer(pickle.Pickler):
    def __init__(self, file):
        super().__init__(file)
        self.tensors = []

    def persistent_id(self, value):
        if isinstance(value, torch.device):
            return -1
        if isinstance(value, torch.Tensor):
            self.tensors.append(value)
            return len(self.tensors) - 1
        return None


class _Reader(pickle.Unpickler):
    tensors = ()

    def persistent_load(self, place):
        if place == -1:
            return torch.device("meta")
        there = self.tensors[place].detach().to("meta")
        return nn.Parameter(there) if isinstance(self.tensors[place], nn.Parameter) else there


def elsewhere(value):
    """A copy on the device where tensors have no values, so that nothing can be read."""
    file = io.BytesIO()
    writer = _Writer(file)
    writer.dump(value)
    file.seek(0)
    reader = _Reader(file)
    reader.tensors = writer.tensors
    return reader.load()


@pytest.mark.parametrize("case", [case for case in CASES if "norm" not in case])
def test_nothing_is_read_or_copied_on_the_way(case, images, monkeypatch):
    call = CASES[case](Net().eval())
    call(images)
    call = elsewhere(call)
    autocast, settled = torch.autocast, []
    monkeypatch.setattr(
        torch,
        "autocast",
        lambda device, **options: (
            contextlib.nullcontext() if device == "meta" else autocast(device, **options)
        ),
    )
    monkeypatch.setattr(late._Call, "settle", lambda call: settled.append(len(call.looks)))
    for module in ("quality.serfiq", "quality.spatial", "attribution.quality_gradient"):
        monkeypatch.setattr(f"captum_plq.{module}.check_images", lambda *_: None)
    call(images.to("meta"))  # constants are copied there
    with Operators() as operators:
        call(images.to("meta"))
    assert settled == [settled[0]] * 2
    assert settled[0] >= 1
    assert set(operators.copies) <= {"_to_copy"}
    assert operators.copies.count("_to_copy") == 1  # the images, by this test


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("case", CASES)
def test_cuda_waits_for_nothing_on_the_way(case, images, monkeypatch):
    call, x = CASES[case](Net().eval().cuda()), images.cuda()
    call(x)
    read, found = late._read, []

    def allowed(parts):
        torch.cuda.set_sync_debug_mode("default")
        found.append(len(parts))
        return read(parts)

    monkeypatch.setattr(late, "_read", allowed)
    torch.cuda.set_sync_debug_mode("error")
    try:
        call(x)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(found) == 1


@pytest.mark.parametrize("estimator", ["closed-form", "sampling"])
@pytest.mark.parametrize("layer", ["fc", "tail", "conv"])
def test_weights_that_change_behind_its_back_are_met_by_the_very_next_call(
    layer, estimator, images
):
    net = Net().eval()
    plq, local = PixelQualityAttribution(SERFIQ(net, estimator=estimator)), LocalQuality(net)
    plq.attribute(images)
    local.attribute(images)
    weight = getattr(net, layer).weight.data
    weight.mul_(torch.linspace(-1, 2, weight.numel()).view_as(weight))
    new = PixelQualityAttribution(SERFIQ(net, estimator=estimator))
    for got, want in zip(
        plq.attribute(images, return_quality=True),
        new.attribute(images, return_quality=True),
        strict=True,
    ):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=0)
    torch.testing.assert_close(local.attribute(images), LocalQuality(net).attribute(images))
