"""ONNX files of small face networks, written node by node or by torch's exporters."""

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.support import checkpoints

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


def with_matmul(net):
    graph = Graph().trunk(net).add("Flatten").add("MatMul", net.fc.weight.T)
    return graph.add("Add", net.fc.bias).norm(net.bn3)


def with_a_bias_of_one_row(net):
    graph = Graph().trunk(net).add("Flatten")
    return graph.add("Gemm", net.fc.weight.T, net.fc.bias[None]).norm(net.bn3)


class Modern(Original):
    """With operations that are written otherwise since opset 18."""

    def forward(self, x):
        x = self.prelu(self.bn1(self.conv1(x)))
        a, b = (F.gelu(x) + x.mean((2, 3), keepdim=True)).chunk(2, 1)
        x = F.gelu(torch.cat([a * b.sigmoid(), F.hardswish(b)], 1), approximate="tanh")
        x = F.avg_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 1) + F.interpolate(
            x[..., ::2, ::2], x.shape[2:]
        )
        return self.bn3(self.fc(F.relu6(self.bn2(self.conv2(x))).flatten(1)))


ENDS = {
    "F.normalize": F.normalize,
    "norm": lambda y: y / y.norm(dim=1, keepdim=True),
    "sqrt": lambda y: y * torch.rsqrt(y.pow(2).sum(1, keepdim=True) + 1e-10),
    # and what is not the unit length
    "sum of sizes": lambda y: y / y.abs().sum(1, keepdim=True),
    "64 times the unit": lambda y: 64 * y / y.norm(dim=1, keepdim=True),
    "square": lambda y: y * y,
}


def exported(path, net, opset, dynamo=False, size=(HEIGHT, WIDTH)):
    if dynamo:
        options = {"dynamic_shapes": ({0: torch.export.Dim("batch")},)}
    else:
        options = {"input_names": ["images"], "dynamic_axes": {"images": {0: "batch"}}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter itself
        images = torch.rand(2, 3, *size)
        torch.onnx.export(net, (images,), path, opset_version=opset, dynamo=dynamo, **options)
    return path


def pixels(count=3):
    return checkpoints.pixels(count, HEIGHT)[..., :WIDTH]
