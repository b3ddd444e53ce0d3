"""The face networks that can be loaded by name, and how to load one from a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from os import PathLike
from pathlib import Path

from captum_plq.models.architecture import Architecture, known_fits
from captum_plq.models.architectures.adaface import ADAFACES
from captum_plq.models.architectures.crfiqa import CRFIQAS
from captum_plq.models.architectures.dlib_resnet import DLIB
from captum_plq.models.architectures.dropout_mobilefacenet import DROPOUT_MOBILEFACENETS
from captum_plq.models.architectures.edgeface import EDGEFACES
from captum_plq.models.architectures.inception_resnet import FACENET
from captum_plq.models.architectures.iresnet import IRESNETS
from captum_plq.models.architectures.magface import MAGFACES
from captum_plq.models.architectures.mobilefacenet import MOBILEFACENETS
from captum_plq.models.onnx.load import load_onnx
from captum_plq.models.spec import FaceModel, ModelSpec
from captum_plq.models.timm_models import TIMM, TRAINED_PREFIXES, timm_architecture, timm_model
from captum_plq.models.user_file import load_user_file
from captum_plq.models.weight_files.read import read_weights

__all__ = [
    "ARCHITECTURES",
    "DEFAULT_MODEL",
    "ModelInfo",
    "available_models",
    "did_you_mean",
    "load_model",
]

ARCHITECTURES: tuple[Architecture, ...] = (
    *DROPOUT_MOBILEFACENETS,
    DLIB,
    *IRESNETS,
    FACENET,
    *ADAFACES,
    *MAGFACES,
    *CRFIQAS,
    *MOBILEFACENETS,
    *EDGEFACES,
)
"""The networks that are known by name; one more is one more entry here."""

DEFAULT_MODEL = DROPOUT_MOBILEFACENETS[0].spec.name
"""A network that this package ships, trained with dropout."""

_LOADERS: dict[str, Callable[[Path], FaceModel]] = {
    ".dat": DLIB.load,
    ".py": load_user_file,
    ".onnx": load_onnx,
}
_WEIGHTS_ONLY = {".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".tar"}
_NO_HOOKS = {".pt2", ".ts", ".torchscript", ".ptl"}

_WRITE_A_FILE = (
    "Write a .py file that builds the network, and give that one:\n\n"
    "    import torch\n"
    "    from captum_plq.models import FaceModel, ModelSpec\n"
    "    def load_model():\n"
    "        net = ...  # build the architecture\n"
    "        net.load_state_dict(torch.load({weights!r}, weights_only=True))\n"
    "        return FaceModel(net, ModelSpec('mine', (112, 112), mean=..., std=...))\n"
)


@dataclass(frozen=True)
class ModelInfo:
    """A network that can be loaded by name.

    Args:

        spec (ModelSpec): What is known about it; ``spec.name`` is its name.
        weights (Path, optional): Its weight file, or ``None`` if that is not installed.
        install (str): How to get the weights: the command that installs them, or, where
            ``needs_file``, which file of ``spec.source`` it is.
        needs_file (bool): Whether the weights are a file that the user has to bring.
    """

    spec: ModelSpec
    weights: Path | None
    install: str
    needs_file: bool = False

    @property
    def weights_present(self) -> bool:
        """Whether :func:`load_model` can load it now, by its name alone."""
        return self.weights is not None


def available_models() -> list[ModelInfo]:
    """List the networks that :func:`load_model` knows by name.

    Loads no weights; it only looks for the files.

    Returns:
        *list[ModelInfo]*: those whose weights can be installed, installed or not, then those
        that need a file.

    Examples::

        >>> [info.spec.name for info in available_models() if info.needs_file]
        ['iresnet18', 'iresnet34', ...]
    """
    return [
        ModelInfo(a.spec, None, a.weights, needs_file=True)
        if a.installed is None
        else ModelInfo(a.spec, a.installed.find(), a.installed.command)
        for a in ARCHITECTURES
    ]


def load_model(
    name_or_file: str | PathLike[str],
    weights: str | PathLike[str] | None = None,
    spec: ModelSpec | None = None,
) -> FaceModel:
    """Load a face network by name, or from a file.

    Args:

        name_or_file (str or PathLike): One of

            - a name of :func:`available_models`;
            - a ``.py`` file of your own that defines ``load_model()``: it is run, so only
              give one you trust. See
              :func:`~captum_plq.models.user_file.load_user_file` for a complete example;
            - ``timm:NAME``, any network of timm, with ``weights``;
              ``hf_hub:OWNER/NAME``, one on the hub, downloaded if it is not in the hub's
              cache; ``local-dir:FOLDER``, a folder in the hub's layout. See
              :func:`~captum_plq.models.timm_models.timm_model`;
            - an ``.onnx`` file, see :func:`~captum_plq.models.onnx.load.load_onnx`;
            - a ``.dat`` file: dlib's ``face_recognition_resnet_model_v1``.

            A string that is a name is never taken for a file.
        weights (str or PathLike, optional): The weight file of a named network, as published
            (see ``captum-plq models``): ``.safetensors``, or what ``torch.save`` wrote.
            Everything in it must fit. It is read without running code.
        spec (ModelSpec, optional): Instead of the network's own, e.g. for weights that were
            trained with another normalisation. Its ``embedding_layer``, ``output`` and
            ``quality`` may be left out: those are the network's.

    Returns:
        *FaceModel*: in eval mode, on the CPU; takes (B, 3, H, W), RGB, 0–255, and returns the
        embedding. The global random state is left alone.

    Raises:
        ImportError: if the weights of a named network are not installed.
        FileNotFoundError: if there is no such file.
        ValueError: if the name is unknown or lacks its weights, the weights do not fit, the
            file is of a kind that cannot be explained (weights without an architecture;
            TorchScript and exported programs, in which hooks do not run), or it is not what
            its name promises.
        OSError: if the hub cannot be reached.

    Examples::

        >>> model = load_model("dlib")
        >>> model = load_model("iresnet50", weights="backbone.pth")
        >>> model = load_model("my_network.py")
    """
    model = _load(name_or_file, weights)
    if spec is None:
        return model
    own = model.spec
    spec = replace(
        spec,
        embedding_layer=spec.embedding_layer or own.embedding_layer,
        output=own.output if spec.output is None else spec.output,
        quality=own.quality if spec.quality is None else spec.quality,
    )
    return FaceModel(model.backbone, spec, model.unused_weights).eval()


def _load(name_or_file: str | PathLike[str], weights: str | PathLike[str] | None) -> FaceModel:
    text = os.fspath(name_or_file)
    if isinstance(name_or_file, str):
        for architecture in ARCHITECTURES:
            if architecture.spec.name == text:
                return architecture.load(weights, ARCHITECTURES)
        if text.startswith(TIMM):
            return timm_architecture(text).load(weights, ARCHITECTURES)
        if text.startswith(TRAINED_PREFIXES):
            return timm_model(text, weights=weights)
    if weights is not None:
        raise ValueError(
            f"weights= goes with the name of a network, and {text!r} is none."
            f"{did_you_mean(text)} Known: {_names()}."
        )
    return _load_file(Path(text).expanduser(), text)


def _load_file(path: Path, text: str) -> FaceModel:
    suffix = path.suffix.lower()
    if suffix in _WEIGHTS_ONLY:
        raise ValueError(
            f"{path} holds weights, which do not tell the architecture they belong to "
            "(and a TorchScript file, which does, cannot be explained: hooks do not run in "
            f"it). {_names_that_fit(path)}{_WRITE_A_FILE.format(weights=str(path))}"
        )
    if suffix in _NO_HOOKS:
        raise ValueError(
            f"{path} is a scripted or exported network, in which the hooks that find the "
            "embedding do not run. Load the original network instead. "
            f"{_WRITE_A_FILE.format(weights='weights.pt')}"
        )
    if not suffix and not path.exists():
        raise ValueError(
            f"There is no network {text!r}.{did_you_mean(text)} Known: {_names()}, timm:NAME, "
            "hf_hub:OWNER/NAME, or a .py, .onnx or .dat file."
        )
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    if suffix not in _LOADERS:
        raise ValueError(f"{path} is no .py, .onnx or .dat file, so no network can be loaded.")
    return _LOADERS[suffix](path)


def did_you_mean(name: str) -> str:
    """Return a question that names the network whose name is most like an unknown one.

    Args:

        name (str): What was asked for.

    Returns:
        *str*: begins with a space; empty if none is like it.

    Examples::

        >>> did_you_mean("iresnet-50")
        " Did you mean 'iresnet50'?"
    """
    known = [architecture.spec.name for architecture in ARCHITECTURES]
    like = get_close_matches(name.lower(), known, n=1)
    return f" Did you mean {like[0]!r}?" if like else ""


def _names() -> str:
    return ", ".join(repr(architecture.spec.name) for architecture in ARCHITECTURES)


def _names_that_fit(path: Path) -> str:
    """Return the calls with which weights could be given, if the file is there and fits one."""
    if not path.exists():
        return ""
    names = known_fits(read_weights(path), ARCHITECTURES)
    calls = " or ".join(f"load_model({name!r}, weights={str(path)!r})" for name in names)
    return f"They fit {calls}. Otherwise: " if names else ""
