"""Face networks in ONNX files, through onnx2torch."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_plq.errors import extra
from captum_plq.models.onnx.converted import dense_layers, take_normalisation_off
from captum_plq.models.onnx.graph import (
    follow_the_batch,
    inputs_of,
    last_operation,
    leading_scale,
    lift_constants,
    name_apart,
    refuse_unsound_values,
    shape_of,
)
from captum_plq.models.onnx.opsets import NEWEST, in_known_operations
from captum_plq.models.spec import FaceModel, ModelSpec
from captum_plq.models.weight_files.regular_file import regular_file

if TYPE_CHECKING:
    import onnx
    from typing_extensions import Self

__all__ = ["ONNX_SPEC", "OnnxNetwork", "load_onnx"]

ONNX_SPEC = ModelSpec(
    name="onnx",
    input_size=(112, 112),
    mean=(127.5, 127.5, 127.5),
    std=(127.5, 127.5, 127.5),
    channel_order="RGB",
    alignment="arcface",
    embedding_layer=None,
    trained_with_dropout=None,
    licence_code="as the file's",
    licence_weights="as the file's; InsightFace's packs: non-commercial research only",
    source="an ONNX file; InsightFace's packs hold w600k_r50.onnx, w600k_mbf.onnx, glintr100.onnx",
    note="It has not been measured how informative SER-FIQ is on this network.",
)
"""What InsightFace's packs take where the graph does not normalise: 112×112 RGB, (x − 127.5)/127.5.

The embedding layer is found by watching the converted graph run.
"""

_NARROWEST = 32
_PROBABILITIES = ("Softmax", "LogSoftmax", "Sigmoid", "ArgMax", "TopK", "Hardmax")
_EXPORT = (
    "Export the network up to its embedding, without what comes after, by "
    "torch.onnx.export(..., opset_version=17, dynamo=False); opsets 11 to 17 are known best. Or "
    "give the network itself, in a .py file."
)
_PACKS = (
    "InsightFace's packs hold detectors, landmarks, age and sex beside the recognition network, "
    "which is w600k_*.onnx or glintr100.onnx."
)


class OnnxNetwork(nn.Module):
    """A converted graph, which stays in evaluation mode.

    In training mode, what an ONNX file calls BatchNormalization would normalise with the
    batch it sees: a converted network is not one to train.

    Args:

        graph (nn.Module): The converted graph.
        unit_length (bool): Whether each embedding is then divided by its length, as the file
            does at its end.
    """

    def __init__(self, graph: nn.Module, unit_length: bool = False) -> None:
        super().__init__()
        self.graph = graph
        self.unit_length = unit_length
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Leave the network in evaluation mode, whatever ``mode`` is."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """Embed a batch of images, (B, 3, H, W), as the file has it."""
        embedding: Tensor = self.graph(images)
        return F.normalize(embedding) if self.unit_length else embedding


def load_onnx(
    path: str | PathLike[str], spec: ModelSpec | None = None, *, output: str | None = None
) -> FaceModel:
    """Load a face network from an ONNX file.

    The weights and operations are converted to torch modules with onnx2torch, so that
    gradients and hooks work. Where the graph itself normalises its pixels (leading Sub, Mul,
    Add or Div of constants, as in some of InsightFace's packs), the model passes them on as
    they are, 0–255 or 0–1, whichever the graph takes. Where it ends by dividing the embedding by
    its length, in whatever operations, that is done by torch instead. A graph of an opset after
    17 is written in opset 17, which onnx2torch knows, where that can say the same.

    Args:

        path (str or PathLike): An ``.onnx`` file with one image input, (B, 3, H, W).
        spec (ModelSpec, optional): How its input is normalised outside the graph.
            ``None``: not at all if the graph does it, otherwise as :data:`ONNX_SPEC`.
        output (str, optional): Name of the output that is the embedding, for a graph that
            has several.

    Returns:
        *FaceModel*: in eval mode; ``backbone`` is an :class:`OnnxNetwork`.

    Raises:
        ImportError: if onnx2torch is not installed.
        FileNotFoundError: if there is no such file.
        ValueError: if it is not an ONNX file, is damaged, holds NaN or a layer of zeros, cannot
            be converted, is not an embedder of RGB images, or normalises what ``spec`` has
            normalised already.

    Examples::

        >>> model = load_onnx("w600k_r50.onnx")
        >>> embedding = model(images)  # images: (B, 3, 112, 112), 0–255, RGB
    """
    model = _read(path := Path(path).expanduser())
    lift_constants(model)
    refuse_unsound_values(str(path), model)
    rows, size = _image_shape(path, model)
    _choose_output(path, model, output)
    spec = _completed(path, spec, size, leading_scale(model))
    follow_the_batch(model)
    graph = _converted(path, model)
    images = torch.rand(rows or 3, 3, *spec.input_size, generator=torch.Generator().manual_seed(0))
    unit_length = take_normalisation_off(graph, images)
    dense_layers(graph)
    network = OnnxNetwork(graph, unit_length)
    _try(path, network, spec.input_size)
    return FaceModel(network, spec).eval()


def _read(path: Path) -> onnx.ModelProto:
    with extra("onnx"):
        import onnx
        import onnx2torch  # noqa: F401
        from google.protobuf.message import DecodeError
    with regular_file(path).open("rb") as file:
        start = file.read(2)
    if start.startswith(b"PK"):
        raise ValueError(f"{path} is a zip archive: unpack it, and give an .onnx file. {_PACKS}")
    try:
        model = onnx.load_model(str(path), format="protobuf")
    except DecodeError as error:
        if start.startswith(b"\x08"):  # where an ONNX file gives its version
            raise ValueError(f"{path} is truncated or damaged: download it again.") from error
        raise ValueError(f"{path} is not an ONNX file.") from error
    except Exception as error:  # the weights that it says are in other files
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not model.graph.node:
        raise ValueError(f"{path} is not an ONNX file: there is no graph in it.")
    return model


def _image_shape(path: Path, model: onnx.ModelProto) -> tuple[int | None, tuple[int, int] | None]:
    """Return the rows, and the height and width, of the only input; ``None`` if not fixed."""
    inputs = inputs_of(model)
    shapes = [shape_of(value) for value in inputs]
    if len(inputs) != 1 or len(shapes[0]) != 4 or shapes[0][1] not in (3, None):
        shown = ", ".join(f"{v.name} {s}" for v, s in zip(inputs, shapes, strict=True))
        raise ValueError(
            f"{path} takes {shown or 'nothing'}, not one batch of images of the shape "
            "(B, 3, height, width)."
        )
    if inputs[0].type.tensor_type.elem_type != 1:  # TensorProto.FLOAT
        raise ValueError(f"{path} does not take float32 images: export it in float32.")
    rows, _, height, width = shapes[0]
    return rows, None if height is None or width is None else (height, width)


def _choose_output(path: Path, model: onnx.ModelProto, name: str | None) -> None:
    """Leave one output in the graph, and check that it is not a class probability."""
    outputs = {value.name: value for value in model.graph.output}
    if name is None and len(outputs) != 1:
        raise ValueError(
            f"{path} has {len(outputs)} outputs, {', '.join(outputs)}: say which is the "
            f"embedding with output=. {_PACKS}"
        )
    if name is not None and name not in outputs:
        raise ValueError(f"{path} has no output {name!r}. It has {', '.join(outputs)}.")
    chosen = outputs[next(iter(outputs)) if name is None else name]
    del model.graph.output[:]
    model.graph.output.append(chosen)
    operation = last_operation(model)
    if operation in _PROBABILITIES:
        raise ValueError(
            f"{path} is a classifier, not an embedder: its output {chosen.name} is a {operation}."
        )


def _completed(
    path: Path,
    spec: ModelSpec | None,
    size: tuple[int, int] | None,
    scale: tuple[Any, Any] | None,
) -> ModelSpec:
    """Return the spec, given or not, in accordance with the graph."""
    if spec is None:
        spec = replace(ONNX_SPEC, name=path.stem, input_size=size or ONNX_SPEC.input_size)
        if scale is not None:
            spec = replace(spec, mean=(0.0,) * 3, std=(_largest_pixel(path, *scale),) * 3)
    elif size is not None and spec.input_size != size:
        raise ValueError(f"{path} takes images of {size}, but the spec says {spec.input_size}.")
    elif scale is not None:
        std = torch.tensor(spec.std).numpy()
        span = abs(255 / std * scale[0]).max()
        if not 0.1 <= span <= 1000:
            raise ValueError(
                f"{path} normalises its pixels itself (times {_shown(scale[0])}, plus "
                f"{_shown(scale[1])}), and so does the spec: 0 to 255 would become a range of "
                f"{span:.2g}. Give one with mean 0 and std 1, or none."
            )
    return spec


def _largest_pixel(path: Path, scale: Any, shift: Any) -> float:
    """Return what pixels are divided by: 1 for a graph that takes 0–255, 255 for 0–1."""
    for std in (1.0, 255.0):
        lightest = scale * 255 / std + shift
        if abs(lightest - shift).max() > 0.5 and max(abs(lightest).max(), abs(shift).max()) < 6:
            return std
    raise ValueError(
        f"{path} starts with x times {_shown(scale)} plus {_shown(shift)}, which tells neither "
        "that it takes 0–255 nor 0–1: give a spec that says."
    )


def _shown(numbers: Any) -> str:
    return ", ".join(f"{number:.6g}" for number in dict.fromkeys(numbers.tolist()))


def _converted(path: Path, model: onnx.ModelProto) -> Any:
    import onnx2torch

    try:
        in_known_operations(model)
    except ValueError as error:
        raise ValueError(
            f"{path} is of an opset after {NEWEST}, which onnx2torch does not know, and opset "
            f"{NEWEST} cannot say the same: {error} {_EXPORT}"
        ) from error
    name_apart(model)
    try:
        with torch.random.fork_rng(devices=[]):  # layers draw weights before they get these
            return onnx2torch.convert(model).eval()
    except NotImplementedError as error:
        raise ValueError(
            f"{path} has an operation that onnx2torch lacks: {error}. {_EXPORT}"
        ) from error
    except Exception as error:  # of whatever onnx and onnx2torch find inconsistent
        raise ValueError(f"{path} cannot be converted: {error}") from error


def _try(path: Path, network: nn.Module, size: tuple[int, int]) -> None:
    """Run two images together and apart: an embedder gives each a row of its own."""
    images = torch.stack([torch.zeros(3, *size), torch.linspace(0, 1, size[1]).expand(3, *size)])
    try:
        with torch.no_grad():
            together, apart = network(images), network(images[1:])
    except Exception as error:  # of whatever does not fit
        raise ValueError(
            f"{path} does not take a batch of two images of {size}: {error} Export it with a "
            "batch size that is not fixed."
        ) from error
    if together.ndim != 2 or len(together) != 2 or together.shape[1] < _NARROWEST:
        raise ValueError(
            f"{path} gives {tuple(together.shape)} numbers for two images, which is no "
            f"embedding. {_PACKS}"
        )
    if not torch.allclose(together[1:], apart, rtol=1e-3, atol=1e-3 * float(apart.abs().max())):
        raise ValueError(
            f"{path} gives an image another embedding in a batch than alone: export it with a "
            "batch size that is not fixed."
        )
