"""ONNX files against the torch networks that they were written from, and broken files."""

import contextlib
import importlib
import os
import pickle
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_plq import SERFIQ, PixelQualityAttribution
from captum_plq.models import FaceModel, ModelSpec
from captum_plq.models.architectures.mobilefacenet import MOBILEFACENET_SPECS, mobilefacenet
from captum_plq.models.onnx.models import ONNX_SPEC, OnnxNetwork, load_onnx
from tests.models.architectures.test_iresnet import random_images
from tests.models.architectures.test_mobilefacenet import WEIGHTS, needs_weights, read_lfw, renamed

onnx = pytest.importorskip("onnx", reason="needs the extra [onnx]")
pytest.importorskip("onnx2torch", reason="needs the extra [onnx]")

HEIGHT, WIDTH, FEATURES = 24, 20, 64


class Original(nn.Module):
    """Convolutions, then the head of ArcFace, with statistics that are not the trivial ones."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.prelu = nn.PReLU(8)
        self.conv2 = nn.Conv2d(8, 8, 3, 2, 1, groups=8)
        self.bn2 = nn.BatchNorm2d(8, eps=1e-3)
        self.fc = nn.Linear(8 * 6 * 5, FEATURES)
        self.bn3 = nn.BatchNorm1d(FEATURES, eps=2e-5)
        for parameter in self.parameters():
            nn.init.normal_(parameter, 0.2, 0.3)
        for norm in (self.bn1, self.bn2, self.bn3):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2.0)

    def forward(self, x):
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x)).relu()
        return self.bn3(self.fc(x.flatten(1)))


@pytest.fixture(scope="module")
def original():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Original().eval()


class Graph:
    """Writes nodes one by one; each takes what the last one gave."""

    def __init__(self, constants_as_nodes=False):
        self.nodes, self.weights, self.last = [], [], "input.1"
        self.constants_as_nodes = constants_as_nodes

    def weight(self, value):
        name = f"w.{len(self.weights) + len(self.nodes)}.{len(self.weights)}"
        array = np.ascontiguousarray(torch.as_tensor(value).detach().numpy())
        tensor = onnx.numpy_helper.from_array(array, name)
        if self.constants_as_nodes:
            self.nodes.append(onnx.helper.make_node("Constant", [], [name], value=tensor))
        else:
            self.weights.append(tensor)
        return name

    def add(self, kind, *weights, first=False, **attributes):
        names = [self.weight(value) for value in weights]
        inputs = [*names, self.last] if first else [self.last, *names]
        self.last = f"{kind}.{len(self.nodes)}"
        node = onnx.helper.make_node(kind, inputs, [self.last], self.last, **attributes)
        self.nodes.append(node)
        return self

    def norm(self, norm):
        numbers = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
        return self.add("BatchNormalization", *numbers, epsilon=norm.eps)

    def trunk(self, net):
        window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
        self.add("Conv", net.conv1.weight, **window).norm(net.bn1)
        self.add("PRelu", net.prelu.weight.view(8, 1, 1))
        self.add("Conv", net.conv2.weight, net.conv2.bias, group=8, **window).norm(net.bn2)
        return self.add("Relu")

    def module(self, module):
        """Whatever a MobileFaceNet is made of."""
        if isinstance(module, nn.Conv2d):
            (top, left), weights = module.padding, [module.weight]
            weights += [] if module.bias is None else [module.bias]
            window = {"strides": module.stride, "pads": [top, left, top, left]}
            return self.add("Conv", *weights, group=module.groups, **window)
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            return self.norm(module)
        if isinstance(module, nn.PReLU):
            return self.add("PRelu", module.weight.view(-1, 1, 1))
        if isinstance(module, nn.Flatten):
            return self.add("Flatten")
        if isinstance(module, nn.Linear):
            return self.add("Gemm", module.weight, module.bias, transB=1)
        assert isinstance(module, nn.Sequential)
        start = self.last
        for child in module:
            self.module(child)
        if type(module).__name__ == "_Residual":
            name = f"Add.{len(self.nodes)}"
            self.nodes.append(onnx.helper.make_node("Add", [start, self.last], [name], name))
            self.last = name
        return self

    def model(self, shape=("batch", 3, HEIGHT, WIDTH), extra_outputs=(), kind=None):
        make, kind = onnx.helper.make_tensor_value_info, kind or onnx.TensorProto.FLOAT
        graph = onnx.helper.make_graph(
            self.nodes,
            "face",
            [make("input.1", kind, shape)],
            [make(name, kind, None) for name in (self.last, *extra_outputs)],
            self.weights,
        )
        opsets = [onnx.helper.make_opsetid("", 13)]
        return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def save(self, path, **options):
        path.write_bytes(self.model(**options).SerializeToString())
        return path


def with_gemm(net, graph=None):
    graph = (graph or Graph()).trunk(net).add("Flatten")
    return graph.add("Gemm", net.fc.weight, net.fc.bias, transB=1).norm(net.bn3)


def pixels(count=3):
    return 127.5 + 127.5 * random_images(count, HEIGHT, torch.float32)[..., :WIDTH]


def assert_same(model, net, normalised):
    with torch.no_grad():
        expected = net(normalised)
        torch.testing.assert_close(model(pixels()), expected, rtol=1e-5, atol=1e-5)
    assert expected.std(dim=0).max() > 0.1
    return expected


def test_equals_the_original(tmp_path, original):
    before = torch.get_rng_state()
    model = load_onnx(with_gemm(original).save(tmp_path / "face.onnx"))
    assert torch.equal(torch.get_rng_state(), before)
    expected = assert_same(model, original, (pixels() - 127.5) / 127.5)
    assert isinstance(model, FaceModel)
    assert isinstance(model.backbone, OnnxNetwork)
    assert model.spec.name == "face"
    assert model.spec.input_size == (HEIGHT, WIDTH)
    assert (model.spec.mean, model.spec.std) == (ONNX_SPEC.mean, ONNX_SPEC.std)
    for wrong in (model(pixels().flip(1)), model.backbone((pixels() - 127.5) / 100)):
        assert (wrong - expected).abs().max() > 0.01


def test_the_spec_says_how_to_normalise(tmp_path, original):
    spec = ModelSpec("mine", (HEIGHT, WIDTH), (10, 20, 30), (40, 50, 60), channel_order="BGR")
    model = load_onnx(with_gemm(original).save(tmp_path / "face.onnx"), spec)
    assert model.spec is spec
    mean, std = torch.tensor(spec.mean).view(3, 1, 1), torch.tensor(spec.std).view(3, 1, 1)
    assert_same(model, original, (pixels().flip(1) - mean) / std)


PER_CHANNEL = torch.tensor([120.0, 110.0, 100.0]).view(1, 3, 1, 1)


@pytest.mark.parametrize(
    ("operations", "normalise"),
    [
        ([("Sub", 127.5), ("Mul", 0.0078125)], lambda x: (x - 127.5) / 128),
        ([("Sub", 127.5), ("Div", 128.0)], lambda x: (x - 127.5) / 128),
        ([("Mul", 0.0078125), ("Add", -1.0)], lambda x: x / 128 - 1),
        ([("Identity",), ("Sub", PER_CHANNEL), ("Div", 60.0)], lambda x: (x - PER_CHANNEL) / 60),
        ([("Sub", 0.5), ("Div", 0.5)], lambda x: (x / 255 - 0.5) / 0.5),
    ],
)
@pytest.mark.parametrize("constants_as_nodes", [False, True])
def test_normalisation_in_the_graph(tmp_path, original, operations, normalise, constants_as_nodes):
    graph = Graph(constants_as_nodes)
    for kind, *numbers in operations:
        graph.add(kind, *[torch.as_tensor(number) for number in numbers])
    model = load_onnx(with_gemm(original, graph).save(tmp_path / "face.onnx"))
    assert_same(model, original, normalise(pixels()))


def test_subtracted_from_a_constant(tmp_path, original):
    graph = Graph().add("Sub", torch.tensor(127.5), first=True).add("Div", torch.tensor(128.0))
    model = load_onnx(with_gemm(original, graph).save(tmp_path / "negative.onnx"))
    assert_same(model, original, (127.5 - pixels()) / 128)


def test_normalised_twice(tmp_path, original):
    graph = Graph().add("Sub", torch.tensor(127.5)).add("Mul", torch.tensor(0.0078125))
    file = with_gemm(original, graph).save(tmp_path / "face.onnx")
    spec = ModelSpec("mine", (HEIGHT, WIDTH), (127.5,) * 3, (128.0,) * 3)
    problem = r"normalises its pixels itself \(times 0\.0078125, plus -0\.99.*\), and so does the"
    with pytest.raises(ValueError, match=problem):
        load_onnx(file, spec)
    spec = ModelSpec("mine", (HEIGHT, WIDTH), (0.0,) * 3, (1.0,) * 3, channel_order="BGR")
    assert_same(load_onnx(file, spec), original, (pixels().flip(1) - 127.5) / 128)


def test_a_start_that_tells_nothing(tmp_path, original):
    graph = Graph().add("Sub", torch.tensor(127.5))
    file = with_gemm(original, graph).save(tmp_path / "face.onnx")
    with pytest.raises(ValueError, match=r"x times 1 plus -127\.5, which tells neither"):
        load_onnx(file)
    spec = ModelSpec("mine", (HEIGHT, WIDTH), (0.0,) * 3, (1.0,) * 3)
    assert_same(load_onnx(file, spec), original, pixels() - 127.5)


def with_matmul(net):
    graph = Graph().trunk(net).add("Flatten").add("MatMul", net.fc.weight.T)
    return graph.add("Add", net.fc.bias).norm(net.bn3)


def with_a_bias_of_one_row(net):
    graph = Graph().trunk(net).add("Flatten")
    return graph.add("Gemm", net.fc.weight.T, net.fc.bias[None]).norm(net.bn3)


def with_weights_in_nodes(net):
    return with_gemm(net, Graph(constants_as_nodes=True))


def with_normalisation(net):
    return with_gemm(
        net, Graph().add("Sub", torch.tensor(127.5)).add("Mul", torch.tensor(1 / 127.5))
    )


@pytest.mark.parametrize(
    "write",
    [with_gemm, with_matmul, with_a_bias_of_one_row, with_weights_in_nodes, with_normalisation],
)
def test_serfiq_finds_the_embedding_layer_and_plq_runs(tmp_path, original, write):
    model = load_onnx(write(original).save(tmp_path / "face.onnx"))
    assert_same(model, original, (pixels() - 127.5) / 127.5)
    serfiq = SERFIQ(model, passes=4)
    attributions, quality = PixelQualityAttribution(serfiq).attribute(pixels(), return_quality=True)
    layer = model.get_submodule(serfiq.tap.layer_name)
    assert isinstance(layer, nn.Linear)
    assert (layer.in_features, layer.out_features) == (240, FEATURES)

    spec = ModelSpec("original", (HEIGHT, WIDTH), (127.5,) * 3, (127.5,) * 3)
    reference = SERFIQ(FaceModel(original, spec), passes=4)
    expected, of_original = PixelQualityAttribution(reference).attribute(
        pixels(), return_quality=True
    )
    assert reference.tap.layer_name == "backbone.fc"
    torch.testing.assert_close(quality, of_original, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(attributions, expected, rtol=1e-3, atol=1e-4 * expected.max())


def test_training_mode_changes_nothing(tmp_path, original):
    model = load_onnx(with_gemm(original).save(tmp_path / "face.onnx"))
    assert not any(module.training for module in model.modules())
    with torch.no_grad():
        expected = model(pixels())
        model.train()
        assert torch.equal(model(pixels()), expected)
        model.backbone.train()
        assert torch.equal(model(pixels()), expected)
        # what is kept from happening:
        for module in model.modules():
            module.training = True
        assert (model(pixels()) - expected).abs().max() > 0.1


def test_a_graph_for_one_image_takes_a_batch(tmp_path, original):
    graph = Graph().trunk(original).add("Reshape", torch.tensor([1, -1]))
    graph.add("Gemm", original.fc.weight, original.fc.bias, transB=1).norm(original.bn3)
    model = load_onnx(graph.save(tmp_path / "one.onnx", shape=(1, 3, HEIGHT, WIDTH)))
    assert_same(model, original, (pixels() - 127.5) / 127.5)


def test_a_graph_without_a_size(tmp_path, original):
    file = with_gemm(original).save(tmp_path / "face.onnx", shape=("n", 3, "h", "w"))
    with pytest.raises(ValueError, match=r"does not take a batch of two images of \(112, 112\)"):
        load_onnx(file)
    spec = ModelSpec("mine", (HEIGHT, WIDTH), (127.5,) * 3, (127.5,) * 3)
    assert_same(load_onnx(file, spec), original, (pixels() - 127.5) / 127.5)


def test_one_of_several_outputs(tmp_path, original):
    graph = with_gemm(original)
    embedding, norm = graph.last, "norm"
    graph.nodes.append(onnx.helper.make_node("ReduceL2", [embedding], [norm], axes=[1]))
    file = graph.save(tmp_path / "face.onnx", extra_outputs=[norm])
    assert_same(load_onnx(file, output=embedding), original, (pixels() - 127.5) / 127.5)
    with pytest.raises(ValueError, match=rf"has 2 outputs, {embedding}, norm: say which"):
        load_onnx(file)
    with pytest.raises(ValueError, match=r"has no output 'x'\. It has .*, norm"):
        load_onnx(file, output="x")


# --- opsets, and what a graph ends with -----------------------------------------------------


class Modern(Original):
    """With operations that are written otherwise since opset 18."""

    def __init__(self, end=None):
        super().__init__()
        self.end = end

    def forward(self, x):
        x = self.prelu(self.bn1(self.conv1(x)))
        a, b = (F.gelu(x) + x.mean((2, 3), keepdim=True)).chunk(2, 1)
        x = F.gelu(torch.cat([a * b.sigmoid(), F.hardswish(b)], 1), approximate="tanh")
        x = F.avg_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 1) + F.interpolate(
            x[..., ::2, ::2], x.shape[2:]
        )
        y = self.bn3(self.fc(F.relu6(self.bn2(self.conv2(x))).flatten(1)))
        return y if self.end is None else self.end(y)


ENDS = {
    "F.normalize": F.normalize,
    "norm": lambda y: y / y.norm(dim=1, keepdim=True),
    "sqrt": lambda y: y * torch.rsqrt(y.pow(2).sum(1, keepdim=True) + 1e-10),
}


def exported(path, net, opset, dynamo=False):
    images = (torch.rand(2, 3, HEIGHT, WIDTH),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter itself
        if dynamo:
            batch = ({0: torch.export.Dim("batch")},)
            torch.onnx.export(net, images, path, opset_version=opset, dynamic_shapes=batch)
        else:
            torch.onnx.export(
                net,
                images,
                path,
                opset_version=opset,
                dynamo=False,
                input_names=["images"],
                dynamic_axes={"images": {0: "batch"}},
            )
    return path


def assert_as_in_torch(model, net, path):
    """And as in ONNX's own runtime, where that is installed."""
    images = (pixels() - 127.5) / 127.5
    with torch.no_grad():
        found, expected = model(pixels()), net(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert (expected[0] - expected[1]).norm() > 1e-3 * expected[0].norm()
    with contextlib.suppress(ImportError):
        session = importlib.import_module("onnxruntime").InferenceSession(str(path))
        (of_onnx,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        torch.testing.assert_close(torch.from_numpy(of_onnx), found, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("opset", [11, 17, 18, 20, 22])
@pytest.mark.parametrize("end", [None, "F.normalize"])
def test_opsets_and_exporters(tmp_path, opset, end, dynamo):
    if dynamo and opset < 18:
        pytest.skip("the new exporter starts at opset 18")
    if dynamo:
        pytest.importorskip("onnxscript", reason="the new exporter needs it")
    torch.manual_seed(0)
    net = Modern(ENDS.get(end)).eval()
    path = exported(tmp_path / "face.onnx", net, opset, dynamo)
    model = load_onnx(path)
    assert model.backbone.unit_length == (end is not None)
    assert_as_in_torch(model, net, path)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("opset", [13, 18])
def test_a_normalisation_at_the_end(tmp_path, end, opset):
    torch.manual_seed(0)
    net = Original().eval()
    net.end = ENDS[end]
    net.forward = lambda x: net.end(Original.forward(net, x))
    model = load_onnx(path := exported(tmp_path / "face.onnx", net, opset))
    assert model.backbone.unit_length
    assert_as_in_torch(model, net, path)
    serfiq = SERFIQ(model, passes=4)
    spec = ModelSpec("original", (HEIGHT, WIDTH), (127.5,) * 3, (127.5,) * 3)
    of_torch = SERFIQ(FaceModel(net, spec), passes=4)
    torch.testing.assert_close(serfiq(pixels()), of_torch(pixels()), rtol=1e-4, atol=1e-5)
    layer = model.get_submodule(serfiq.tap.layer_name)
    assert (layer.in_features, layer.out_features) == (240, FEATURES)


@pytest.mark.parametrize(
    "other",
    [
        lambda y: y / y.abs().sum(1, keepdim=True),
        lambda y: 64 * y / y.norm(dim=1, keepdim=True),
        lambda y: y * y,
    ],
)
def test_another_end_is_kept(tmp_path, other):
    torch.manual_seed(0)
    net = Modern(other).eval()
    model = load_onnx(path := exported(tmp_path / "face.onnx", net, 17))
    assert not model.backbone.unit_length
    assert_as_in_torch(model, net, path)


def test_nodes_without_names_beside_nodes_that_are_called_so(tmp_path, original):
    graph = Graph().add("Relu").add("Relu").add("Relu")
    for node, name in zip(graph.nodes, ("", "/Relu_1", ""), strict=True):
        node.name = name
    graph.add("Relu").add("Identity")
    path = with_gemm(original, graph).save(tmp_path / "face.onnx")
    with torch.no_grad():
        expected = original(((pixels() - 127.5) / 127.5).relu())
        torch.testing.assert_close(load_onnx(path)(pixels()), expected, rtol=1e-5, atol=1e-5)


def test_what_opset_17_cannot_say(tmp_path, original):
    model = with_gemm(original).add("Mish").model()
    model.opset_import[0].version = 18
    (tmp_path / "face.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(
        ValueError, match=r"opset 17 cannot say the same: .*Mish.* opset_version=17"
    ):
        load_onnx(tmp_path / "face.onnx")


# --- numbers that no trained network has


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


# --- files that are no face network ---------------------------------------------------------


def a_classifier(net):
    return with_gemm(net).add("Softmax", axis=1).add("Identity").model()


def narrow(net):
    graph = Graph().trunk(net).add("Flatten")
    return graph.add("Gemm", net.fc.weight[:3], net.fc.bias[:3], transB=1).model()


def a_map(net):
    return Graph().trunk(net).model()


def channels_last(net):
    return with_gemm(net).model(shape=("n", HEIGHT, WIDTH, 3))


def half_precision(net):
    return with_gemm(net).model(kind=onnx.TensorProto.FLOAT16)


def unknown_operation(net):
    return with_gemm(net).add("NoSuchThing").model()


def joined_rows(net):
    graph = with_gemm(net).add("Reshape", torch.tensor([-1, 2 * FEATURES]))
    return graph.model()


def mixed_rows(net):
    graph = with_gemm(net).add("ReduceMean", axes=[0], keepdims=1)
    return graph.add("Expand", torch.tensor([2, FEATURES])).model()


@pytest.mark.parametrize(
    ("write", "problem"),
    [
        (a_classifier, "is a classifier, not an embedder: its output .* is a Softmax"),
        (narrow, r"gives \(2, 3\) numbers for two images, which is no embedding\. InsightFace"),
        (a_map, r"gives \(2, 8, 6, 5\) numbers for two images"),
        (channels_last, r"takes input\.1 \[None, 24, 20, 3\], not one batch of images"),
        (half_precision, "does not take float32 images"),
        (unknown_operation, "has an operation that onnx2torch lacks: .*NoSuchThing"),
        (joined_rows, r"does not take a batch of two images of \(24, 20\)"),
        (mixed_rows, "gives an image another embedding in a batch than alone"),
    ],
)
def test_other_networks(tmp_path, original, write, problem):
    file = tmp_path / "other.onnx"
    file.write_bytes(write(original).SerializeToString())
    with pytest.raises(ValueError, match=problem) as caught:
        load_onnx(file)
    assert "other.onnx" in str(caught.value)


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


def test_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "face.onnx")
    with pytest.raises(ValueError, match="is a pipe"):
        load_onnx(tmp_path / "face.onnx")


def test_absent_file_and_absent_package(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"no file .*nowhere\.onnx"):
        load_onnx(tmp_path / "nowhere.onnx")
    monkeypatch.setitem(__import__("sys").modules, "onnx2torch", None)
    with pytest.raises(ImportError, match=r"pip install 'captum-plq\[onnx\]'"):
        load_onnx(tmp_path / "nowhere.onnx")


def test_a_spec_of_another_size(tmp_path, original):
    spec = ModelSpec("mine", (112, 112), (127.5,) * 3, (127.5,) * 3)
    file = with_gemm(original).save(tmp_path / "face.onnx")
    with pytest.raises(ValueError, match=r"takes images of \(24, 20\), but the spec says \(112"):
        load_onnx(file, spec)


@needs_weights
def test_real_weights_give_the_known_embeddings(tmp_path):
    network = mobilefacenet("y1")
    network.load_state_dict(renamed("y1"), strict=True)
    graph = Graph().add("Sub", torch.tensor(127.5)).add("Mul", torch.tensor(0.0078125))
    file = graph.module(network).save(tmp_path / "y1.onnx", shape=("n", 3, 112, 112))
    model = load_onnx(file)
    known = np.load(WEIGHTS / "reference_embeddings.npz")
    expected = torch.from_numpy(known["mobilefacenet_y1"])
    images = read_lfw(known["images"])
    with torch.no_grad():
        error = (model(images) - expected).abs().max() / expected.abs().max()
        swapped = (model(images.flip(1)) - expected).abs().max() / expected.abs().max()
        quality = SERFIQ(model, passes=4)(images[:2])
        of_torch = SERFIQ(FaceModel(network, MOBILEFACENET_SPECS["y1"]).eval(), passes=4)(
            images[:2]
        )
    assert error < 1e-5
    assert swapped > 0.05
    torch.testing.assert_close(quality, of_torch, rtol=1e-5, atol=1e-6)
