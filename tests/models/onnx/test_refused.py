"""ONNX files that are damaged, or no face network, and operations that cannot be said."""

import os
import pickle
import sys

import pytest
import torch

from captum_plq.models import load_onnx
from tests.support.onnx_graphs import FEATURES, HEIGHT, WIDTH, Graph, Original, onnx, with_gemm


@pytest.fixture(scope="module")
def original():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Original().eval()


def without_head(net, *weights):
    graph = Graph().trunk(net)
    return graph.add("Flatten").add("Gemm", *weights, transB=1) if weights else graph


def later(model):
    model.opset_import[0].version = 18
    return model


def an_antialiased_resize(net):
    graph = without_head(net)
    inputs = [graph.last, "", graph.weight(torch.tensor([1.0, 1, 2, 2]))]
    graph.nodes.append(onnx.helper.make_node("Resize", inputs, ["r"], mode="linear", antialias=1))
    graph.last = "r"
    return later(graph.add("Flatten").model())


REFUSED = {
    "is a classifier, not an embedder: its output .* is a Softmax": lambda net: (
        with_gemm(net).add("Softmax", axis=1).add("Identity").model()
    ),
    r"gives \(2, 3\) numbers for two images, which is no embedding\. InsightFace": lambda net: (
        without_head(net, net.fc.weight[:3], net.fc.bias[:3]).model()
    ),
    r"gives \(2, 8, 6, 5\) numbers for two images": lambda net: without_head(net).model(),
    r"takes input\.1 \[None, 24, 20, 3\], not one batch of images": lambda net: with_gemm(
        net
    ).model(shape=("n", HEIGHT, WIDTH, 3)),
    "does not take float32 images": lambda net: with_gemm(net).model(kind=onnx.TensorProto.FLOAT16),
    "has an operation that onnx2torch lacks: .*NoSuchThing": lambda net: (
        with_gemm(net).add("NoSuchThing").model()
    ),
    r"does not take a batch of two images of \(24, 20\)": lambda net: (
        with_gemm(net).add("Reshape", torch.tensor([-1, 2 * FEATURES])).model()
    ),
    "gives an image another embedding in a batch than alone": lambda net: (
        with_gemm(net)
        .add("ReduceMean", axes=[0], keepdims=1)
        .add("Expand", torch.tensor([2, FEATURES]))
        .model()
    ),
    "opset 17 cannot say the same: Mish .* opset_version=17": lambda net: later(
        with_gemm(net).add("Mish").model()
    ),
    "opset 17 cannot say the same: Resize has antialias": an_antialiased_resize,
}


@pytest.mark.parametrize("problem", REFUSED)
def test_other_networks(tmp_path, original, problem):
    file = tmp_path / "other.onnx"
    file.write_bytes(REFUSED[problem](original).SerializeToString())
    with pytest.raises(ValueError, match=rf"other\.onnx .*{problem}"):
        load_onnx(file)


@pytest.mark.parametrize(
    ("index", "value", "words"),
    [
        ("conv1.weight", float("nan"), "NaN or infinite"),
        ("bn2.running_var", -1.0, "negative, but variances"),
        ("fc.weight", 0.0, "zero throughout"),
    ],
)
@pytest.mark.parametrize("constants_as_nodes", [False, True])
def test_unsound_numbers_are_refused_by_name(tmp_path, index, value, words, constants_as_nodes):
    torch.manual_seed(0)
    net = Original()
    with torch.no_grad():
        net.state_dict()[index].fill_(value)
    file = with_gemm(net, Graph(constants_as_nodes)).save(tmp_path / "face.onnx")
    with pytest.raises(ValueError, match=rf"face\.onnx holds weights that are {words} \(1: 'w\."):
        load_onnx(file)


def outside(data):
    model = onnx.load_model_from_string(data)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda data: b"", "is not an ONNX file"),
        (lambda data: b"hello, this is a text\n" * 10, "is not an ONNX file"),
        (lambda data: pickle.dumps({"a": 1}), "is not an ONNX file"),
        (lambda data: data[: len(data) // 2], "is truncated or damaged"),
        (lambda data: data[:-1], "is truncated or damaged"),
        (lambda data: b"PK\x03\x04" + data, r"is a zip archive: .* w600k_\*\.onnx"),
        (lambda data: b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (outside, r"cannot be read: .*weights\.bin"),
    ],
)
def test_damaged_files(tmp_path, original, damage, problem):
    file = tmp_path / "damaged.onnx"
    file.write_bytes(damage(with_gemm(original).model().SerializeToString()))
    with pytest.raises(ValueError, match=rf"damaged\.onnx {problem}"):
        load_onnx(file)


def test_a_pipe_an_absent_file_and_an_absent_package(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "face.onnx")
    with pytest.raises(ValueError, match="is a pipe"):
        load_onnx(tmp_path / "face.onnx")
    with pytest.raises(FileNotFoundError, match=r"no file .*nowhere\.onnx"):
        load_onnx(tmp_path / "nowhere.onnx")
    monkeypatch.setitem(sys.modules, "onnx2torch", None)
    with pytest.raises(ImportError, match=r"pip install 'captum-plq\[onnx\]'"):
        load_onnx(tmp_path / "nowhere.onnx")
