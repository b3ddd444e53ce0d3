"""Finds and reads dlib's weight file of ``face_recognition_resnet_model_v1``.

dlib serialises a network as one flat stream of bytes. Every layer first writes the network
below it, then its own tag, then its tensor and its settings; so the layers with parameters
stand in the file in the order in which an image passes them. A string is its length as an
integer, then its characters. An integer is a control byte (sign in the top bit, number of
bytes in the low four) and little-endian bytes. A tensor is five integers (version 2, and its
four sizes), then float32 values. The layers that matter here:

=============  ====================================================  ===========================
tag            between tag and tensor                                after the tensor
=============  ====================================================  ===========================
``con_4``      nothing; the tensor holds the kernels, then the bias  filters, kernel, stride, pad
``affine_``    nothing; the tensor holds the factors, then the sums  (not needed)
``fc_2``       outputs, inputs; the tensor is (inputs, outputs)      (not needed)
=============  ====================================================  ===========================

Everything that is read is compared with the network it is read for, so a file of another
network ends in an error, not in a network of wrong weights.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from captum_plq._base.dlib_files import find_dlib_file
from captum_plq.models.weight_files.regular_file import regular_file

__all__ = ["Affine", "find_dlib_weights", "read_dlib_weights"]

_FILE = "dlib_face_recognition_resnet_model_v1.dat"
_TAG = re.compile(rb"\x01(?:\x05con_4|\x07affine_|\x04fc_2|\x07bn_con2|\x06bn_fc2)")


class Affine(nn.Module):
    """Multiplies each channel by one number and adds another (dlib's ``affine``).

    It stands where batch normalisation stood during training.

    Args:

        channels (int): C.

    Shape:

        - Input: (B, C, H, W).
        - Output: the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``weight * x + bias``, by channel."""
        return torch.addcmul(self.bias.view(-1, 1, 1), x, self.weight.view(-1, 1, 1))


def find_dlib_weights() -> Path | None:
    """Find the weight file in the installed package ``face_recognition_models``.

    Returns:
        *Path or None*: the file, or ``None`` if it is not installed.
    """
    return find_dlib_file(_FILE)


def read_dlib_weights(path: str | PathLike[str], network: nn.Module) -> dict[str, Tensor]:
    """Read the parameters of ``network`` from a file that dlib wrote.

    Args:

        path (str or PathLike): The file.
        network (nn.Module): Its ``Conv2d``, :class:`Affine` and ``Linear`` modules must be
            registered in the order in which an image passes them. It is only looked at, and
            may be on the meta device.

    Returns:
        *dict[str, Tensor]*: what ``network.load_state_dict(..., strict=True)`` takes:
        float32, on the CPU, no two sharing memory.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file ends early, or holds other layers than ``network``.
    """
    path = regular_file(path)
    stream = _Stream(path)
    state: dict[str, Tensor] = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            parameters = _read_conv(stream, name, module)
        elif isinstance(module, Affine):
            parameters = _read_affine(stream, name, module)
        elif isinstance(module, nn.Linear):
            parameters = _read_linear(stream, name, module)
        else:
            continue
        state.update((f"{name}.{key}", value) for key, value in parameters)
    stream.end()
    return state


class _Stream:
    """A dlib file, read from its beginning to its end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._data = path.read_bytes()
        self._at = 0

    def error(self, problem: str) -> ValueError:
        return ValueError(
            f"{self._path} is not dlib's face_recognition_resnet_model_v1: {problem}."
        )

    def layer(self, tag: str, name: str) -> None:
        """Go to the next layer that has parameters; it must be of this kind."""
        found = _TAG.search(self._data, self._at)
        if found is None:
            where = f"in bytes {self._at} to {len(self._data)}"
            raise self.error(f"there is no layer {tag!r} for {name!r} {where}")
        if found[0][2:] != tag.encode():
            other = found[0][2:].decode()
            raise self.error(f"for {name!r} it has {other!r} where {tag!r} is expected")
        self._at = found.end()

    def expect(self, name: str, what: str, expected: tuple[int, ...]) -> None:
        got = tuple(self._integer() for _ in expected)
        if got != expected:
            raise self.error(f"{what} of {name!r} are {got}, not {expected}")

    def tensor(self, name: str, count: int) -> npt.NDArray[np.float32]:
        """Return a view of ``count`` float32 values, at an address that may be unaligned."""
        version, *sizes = (self._integer() for _ in range(5))
        if version != 2:
            raise self.error(f"the tensor of {name!r} has version {version}, not 2")
        if math.prod(sizes) != count:
            raise self.error(f"the tensor of {name!r} has sizes {sizes}, not {count} values")
        start, self._at = self._at, self._at + 4 * count
        if self._at > len(self._data):
            raise self.error(f"it is truncated within {name!r}, after {len(self._data)} bytes")
        return np.frombuffer(self._data, "<f4", count, start)

    def end(self) -> None:
        found = _TAG.search(self._data, self._at)
        if found is not None:
            raise self.error(f"after its last layer there is another, {found[0][2:].decode()!r}")

    def _integer(self) -> int:
        control = self._data[self._at : self._at + 1]
        size = control[0] & 0x0F if control else 0
        start, self._at = self._at + 1, self._at + 1 + size
        if not control or self._at > len(self._data):
            raise self.error(f"it is truncated, after {len(self._data)} bytes")
        value = int.from_bytes(self._data[start : self._at], "little")
        return -value if control[0] & 0x80 else value


_Parameters = Iterator[tuple[str, Tensor]]


def _read_conv(stream: _Stream, name: str, conv: nn.Conv2d) -> _Parameters:
    stream.layer("con_4", name)
    kernels = conv.weight.numel()
    values = stream.tensor(name, kernels + conv.out_channels)
    padding = tuple(int(p) for p in conv.padding)
    settings = (conv.out_channels, *conv.kernel_size, *conv.stride, *padding)
    stream.expect(name, "filters, kernel, stride and padding", settings)
    yield "weight", _copy(values[:kernels]).view_as(conv.weight)
    yield "bias", _copy(values[kernels:])


def _read_affine(stream: _Stream, name: str, affine: Affine) -> _Parameters:
    stream.layer("affine_", name)
    channels = affine.weight.numel()
    values = stream.tensor(name, 2 * channels)
    yield "weight", _copy(values[:channels])
    yield "bias", _copy(values[channels:])


def _read_linear(stream: _Stream, name: str, linear: nn.Linear) -> _Parameters:
    stream.layer("fc_2", name)
    stream.expect(name, "outputs and inputs", (linear.out_features, linear.in_features))
    values = stream.tensor(name, linear.weight.numel())
    yield "weight", _copy(values.reshape(linear.in_features, linear.out_features).T)


def _copy(values: npt.NDArray[np.float32]) -> Tensor:
    """Copy to aligned memory, in the byte order of this machine."""
    return torch.from_numpy(np.array(values, dtype=np.float32, order="C"))
