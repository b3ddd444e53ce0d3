"""ONNX files against the torch networks that they were written from."""

import contextlib
import importlib

import pytest
import torch
from torch import nn

from captum_plq import SERFIQ, PixelQualityAttribution
from captum_plq.models import FaceModel, ModelSpec
from captum_plq.models.onnx.load import ONNX_SPEC, OnnxNetwork, load_onnx
from tests.support.onnx_graphs import (
    ENDS,
    FEATURES,
    HEIGHT,
    WIDTH,
    Graph,
    Modern,
    Original,
    exported,
    onnx,
    pixels,
    with_a_bias_of_one_row,
    with_gemm,
    with_matmul,
)

SPEC = ModelSpec("original", (HEIGHT, WIDTH), (127.5,) * 3, (127.5,) * 3)
AS_IT_IS = ModelSpec("mine", (HEIGHT, WIDTH), (0.0,) * 3, (1.0,) * 3)


@pytest.fixture(scope="module")
def original():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Original().eval()


def normalised(x):
    return (x - 127.5) / 127.5


def assert_same(model, net, normalise=normalised):
    with torch.no_grad():
        expected = net(normalise(pixels()))
        torch.testing.assert_close(model(pixels()), expected, rtol=1e-5, atol=1e-5)
    assert expected.std(dim=0).max() > 0.1
    return expected


def test_equals_the_original_in_any_mode(tmp_path, original):
    before = torch.get_rng_state()
    model = load_onnx(with_gemm(original).save(tmp_path / "face.onnx"))
    assert torch.equal(torch.get_rng_state(), before)
    expected = assert_same(model, original)
    assert isinstance(model.backbone, OnnxNetwork)
    assert (model.spec.name, model.spec.input_size) == ("face", (HEIGHT, WIDTH))
    assert (model.spec.mean, model.spec.std) == (ONNX_SPEC.mean, ONNX_SPEC.std)
    model.train()
    model.backbone.train()
    assert_same(model, original)
    for module in model.modules():
        module.training = True
    assert (model(pixels()) - expected).abs().max() > 0.1  # what is kept from happening


PER_CHANNEL = torch.tensor([120.0, 110.0, 100.0]).view(1, 3, 1, 1)


@pytest.mark.parametrize(
    ("operations", "normalise"),
    [
        ([("Sub", 127.5), ("Mul", 0.0078125)], lambda x: (x - 127.5) / 128),
        ([("Mul", 0.0078125), ("Add", -1.0)], lambda x: x / 128 - 1),
        ([("Identity",), ("Sub", PER_CHANNEL), ("Div", 60.0)], lambda x: (x - PER_CHANNEL) / 60),
        ([("Sub", 0.5), ("Div", 0.5)], lambda x: (x / 255 - 0.5) / 0.5),
        ([("from", 127.5), ("Div", 128.0)], lambda x: (127.5 - x) / 128),
    ],
)
@pytest.mark.parametrize("constants_as_nodes", [False, True])
def test_normalisation_in_the_graph(tmp_path, original, operations, normalise, constants_as_nodes):
    graph = Graph(constants_as_nodes)
    for kind, *numbers in operations:
        numbers = [torch.as_tensor(number) for number in numbers]
        graph.add("Sub", *numbers, first=True) if kind == "from" else graph.add(kind, *numbers)
    model = load_onnx(with_gemm(original, graph).save(tmp_path / "face.onnx"))
    assert_same(model, original, normalise)


def test_normalised_twice_or_not_enough(tmp_path, original):
    graph = Graph().add("Sub", torch.tensor(127.5)).add("Mul", torch.tensor(0.0078125))
    file = with_gemm(original, graph).save(tmp_path / "face.onnx")
    problem = r"normalises its pixels itself \(times 0\.0078125, plus -0\.99.*\), and so does the"
    with pytest.raises(ValueError, match=problem):
        load_onnx(file, SPEC)
    assert_same(load_onnx(file, AS_IT_IS), original, lambda x: (x - 127.5) / 128)

    file = with_gemm(original, Graph().add("Sub", torch.tensor(127.5))).save(tmp_path / "x.onnx")
    with pytest.raises(ValueError, match=r"x times 1 plus -127\.5, which tells neither"):
        load_onnx(file)
    assert_same(load_onnx(file, AS_IT_IS), original, lambda x: x - 127.5)


@pytest.mark.parametrize("write", [with_gemm, with_matmul, with_a_bias_of_one_row])
def test_serfiq_finds_the_embedding_layer_and_plq_runs(tmp_path, original, write):
    model = load_onnx(write(original).save(tmp_path / "face.onnx"))
    assert_same(model, original)
    serfiq, of_torch = SERFIQ(model, passes=4), SERFIQ(FaceModel(original, SPEC), passes=4)
    (found, quality), (expected, of_original) = (
        PixelQualityAttribution(each).attribute(pixels(), return_quality=True)
        for each in (serfiq, of_torch)
    )
    layer = model.get_submodule(serfiq.tap.layer_name)
    assert isinstance(layer, nn.Linear)
    assert (layer.in_features, layer.out_features) == (240, FEATURES)
    assert of_torch.tap.layer_name == "backbone.fc"
    torch.testing.assert_close(quality, of_original, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.max())


def test_a_graph_for_one_image_takes_a_batch(tmp_path, original):
    graph = Graph().trunk(original).add("Reshape", torch.tensor([1, -1]))
    graph.add("Gemm", original.fc.weight, original.fc.bias, transB=1).norm(original.bn3)
    model = load_onnx(graph.save(tmp_path / "one.onnx", shape=(1, 3, HEIGHT, WIDTH)))
    assert_same(model, original)


def test_a_graph_without_a_size_and_a_spec_of_another(tmp_path, original):
    file = with_gemm(original).save(tmp_path / "face.onnx", shape=("n", 3, "h", "w"))
    with pytest.raises(ValueError, match=r"does not take a batch of two images of \(112, 112\)"):
        load_onnx(file)
    assert_same(load_onnx(file, SPEC), original)
    file = with_gemm(original).save(tmp_path / "fixed.onnx")
    with pytest.raises(ValueError, match=r"takes images of \(24, 20\), but the spec says \(112"):
        load_onnx(file, ModelSpec("mine", (112, 112), (127.5,) * 3, (127.5,) * 3))


def test_one_of_several_outputs(tmp_path, original):
    graph = with_gemm(original)
    embedding, norm = graph.last, "norm"
    graph.nodes.append(onnx.helper.make_node("ReduceL2", [embedding], [norm], axes=[1]))
    file = graph.save(tmp_path / "face.onnx", extra_outputs=[norm])
    assert_same(load_onnx(file, output=embedding), original)
    with pytest.raises(ValueError, match=rf"has 2 outputs, {embedding}, norm: say which"):
        load_onnx(file)
    with pytest.raises(ValueError, match=r"has no output 'x'\. It has .*, norm"):
        load_onnx(file, output="x")


def test_nodes_without_names_beside_nodes_that_are_called_so(tmp_path, original):
    graph = Graph().add("Relu").add("Relu").add("Relu")
    for node, name in zip(graph.nodes, ("", "/Relu_1", ""), strict=True):
        node.name = name
    graph.add("Relu").add("Identity")
    path = with_gemm(original, graph).save(tmp_path / "face.onnx")
    assert_same(load_onnx(path), original, lambda x: normalised(x).relu())


def test_a_default_that_a_later_opset_names(tmp_path, original):
    graph = Graph().add("AveragePool", kernel_shape=[1, 1], dilations=[1, 1])
    model = with_gemm(original, graph).model()
    model.opset_import[0].version = 19
    (tmp_path / "face.onnx").write_bytes(model.SerializeToString())
    assert_same(load_onnx(tmp_path / "face.onnx"), original)


def assert_as_in_torch(model, net, path):
    """And as in ONNX's own runtime, where that is installed."""
    images = normalised(pixels())
    with torch.no_grad():
        found, expected = model(pixels()), net(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert (expected[0] - expected[1]).norm() > 1e-3 * expected[0].norm()
    with contextlib.suppress(ImportError):
        session = importlib.import_module("onnxruntime").InferenceSession(str(path))
        (of_onnx,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        torch.testing.assert_close(torch.from_numpy(of_onnx), found, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "end", "opset", "dynamo"),
    [
        (Modern, "F.normalize", 11, False),
        (Modern, None, 17, False),
        (Modern, "F.normalize", 20, False),
        (Modern, None, 18, True),
        (Modern, "F.normalize", 22, True),
        (Modern, None, 24, True),
        (Original, "F.normalize", 18, False),
        (Original, "norm", 13, False),
        (Original, "sqrt", 18, False),
        (Original, "sum of sizes", 17, False),
        (Original, "64 times the unit", 17, False),
        (Original, "square", 17, False),
    ],
)
def test_opsets_exporters_and_ends(tmp_path, make, end, opset, dynamo):
    if dynamo:
        pytest.importorskip("onnxscript", reason="the new exporter needs it")
    torch.manual_seed(0)
    net = make().eval()
    if end:
        net.forward = lambda x: ENDS[end](make.forward(net, x))
    model = load_onnx(path := exported(tmp_path / "face.onnx", net, opset, dynamo))
    assert model.backbone.unit_length == (end in ("F.normalize", "norm", "sqrt"))
    assert_as_in_torch(model, net, path)
    if make is Original and model.backbone.unit_length:
        serfiq, of_torch = SERFIQ(model, passes=4), SERFIQ(FaceModel(net, SPEC), passes=4)
        torch.testing.assert_close(serfiq(pixels()), of_torch(pixels()), rtol=1e-4, atol=1e-5)
        layer = model.get_submodule(serfiq.tap.layer_name)
        assert (layer.in_features, layer.out_features) == (240, FEATURES)
        graph = model.backbone.graph
        constants = {name for name, _ in graph.named_buffers() if name.startswith("initializers")}
        assert constants <= {node.target for node in graph.graph.nodes}  # none of what is gone


@pytest.mark.parametrize(("p", "unit"), [(2, True), (1, False)])
def test_the_operation_that_normalises(tmp_path, original, p, unit):
    graph = with_gemm(original).add("LpNormalization", axis=1, p=p).add("Identity")
    model = load_onnx(graph.save(tmp_path / "face.onnx"))
    assert model.backbone.unit_length is unit
    expected = torch.nn.functional.normalize(original(normalised(pixels())), p=p)
    torch.testing.assert_close(model(pixels()), expected, rtol=1e-4, atol=1e-5)
