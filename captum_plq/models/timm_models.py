"""Any network of timm as an embedder: untrained by its name, trained from the hub or a folder."""

from __future__ import annotations

import difflib
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from captum_plq.models.architecture import Architecture
from captum_plq.models.spec import FaceModel, ModelSpec
from captum_plq.models.weight_files.regular_file import regular_file
from captum_plq.models.weight_files.sound import refuse_unsound_network

__all__ = ["HUB_FACE_MODELS", "TIMM", "TRAINED_PREFIXES", "timm_architecture", "timm_model"]

HUB_FACE_MODELS = (
    "hf_hub:gaunernst/vit_tiny_patch8_112.arcface_ms1mv3",
    "hf_hub:gaunernst/vit_tiny_patch8_112.cosface_ms1mv3",
    "hf_hub:gaunernst/vit_tiny_patch8_112.adaface_ms1mv3",
    "hf_hub:gaunernst/vit_small_patch8_gap_112.cosface_ms1mv3",
    "hf_hub:gaunernst/convnext_atto.cosface_ms1mv3",
    "hf_hub:gaunernst/convnext_nano.cosface_ms1mv3",
)
"""timm's face networks on the Hugging Face hub: 112×112 RGB, (x − 127.5)/127.5, 512 numbers."""

_HUB = ("hf_hub:", "hf-hub:")
TRAINED_PREFIXES = (*_HUB, "local-dir:")
"""How the names of networks begin that come with their weights."""
TIMM = "timm:"
"""How the names of networks begin whose weights are given."""
_WEIGHTS = "model.safetensors"

# ImageNet-1k, and what is wider than any embedding.
_IMAGENET, _WIDEST = 1000, 2048


def timm_model(
    name: str,
    *,
    embedding_size: int | None = None,
    input_size: tuple[int, int] | None = None,
    weights: str | PathLike[str] | None = None,
) -> FaceModel:
    """Return a network of timm as a face model.

    A plain name gives an untrained network and downloads nothing. A hub name is a request
    for its weights: they are taken from the hub's cache, or downloaded into it.

    Args:

        name (str): What ``timm.create_model`` takes: a plain name such as
            ``"convnext_atto"``, one on the hub such as those of :data:`HUB_FACE_MODELS`, or
            ``"local-dir:FOLDER"``, a folder in the hub's layout (``config.json`` and
            ``model.safetensors``).
        embedding_size (int, optional): d. ``None``: 512 for a plain name, otherwise the
            trained head as it is. A number puts an untrained head there; 0 takes the pooled
            features, without a head.
        input_size (tuple[int, int], optional): Height and width, for a plain name.
            ``None``: timm's default for this network, for most (224, 224).
        weights (str or PathLike, optional): For a hub name: a folder in the hub's layout, or
            the weights in it, to be used instead of the hub.

    Returns:
        *FaceModel*: in eval mode. Its spec takes size, mean and standard deviation from
        timm's configuration; for others, build another one around ``backbone``.

    Raises:
        ValueError: if there is no such network, the folder does not hold one, its weights are
            NaN or a layer of zeros, or it is a classifier.
        FileNotFoundError: if the folder lacks a file.
        OSError: if it is not in the cache and the hub cannot be reached.

    Examples::

        >>> model = timm_model("hf_hub:gaunernst/vit_tiny_patch8_112.arcface_ms1mv3")
        >>> model = timm_model("convnext_atto", input_size=(112, 112))
        >>> model.backbone.load_state_dict(torch.load("mine.pt", weights_only=True))
    """
    trained = name.startswith(TRAINED_PREFIXES)
    if trained and input_size is not None:
        raise ValueError(f"input_size is for untrained networks; that of {name} is fixed.")
    if weights is not None and not name.startswith(_HUB):
        raise ValueError(
            f"weights= is for hub names, but got {name!r}. Load yours into the untrained "
            "network: timm_model(name).backbone.load_state_dict(...)."
        )
    if not trained:
        network = _untrained(name, 512 if embedding_size is None else embedding_size, input_size)
    else:
        source = name
        if weights is not None or not name.startswith(_HUB):
            folder = name.removeprefix("local-dir:") if weights is None else weights
            source = f"local-dir:{_folder(Path(folder).expanduser())}"
        with torch.random.fork_rng(devices=[]):  # timm draws weights before it loads others
            network = _trained(source, embedding_size)
    config: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    size = input_size or tuple(config["input_size"])[1:]
    model = FaceModel(network, _spec(name, network, config, size, trained)).eval()
    if trained:
        _refuse_unsound(model, config, embedding_size)
        if embedding_size is None:
            _refuse_classifier(name, config)
    return model


def timm_architecture(name: str) -> Architecture:
    """Return a network of timm that is to be filled from a file.

    Args:

        name (str): ``"timm:"`` and what ``timm.create_model`` calls it.

    Returns:
        *Architecture*: with a head of 512 numbers.

    Raises:
        ValueError: if there is no such network.

    Examples::

        >>> timm_architecture("timm:convnext_atto").spec.embedding_layer
        'head.fc'
    """
    plain = name.removeprefix(TIMM)
    model = timm_model(plain)
    return Architecture(
        spec=replace(model.spec, name=name),
        build=lambda: model.backbone,
        weights=f"a state dict of timm.create_model({plain!r}, num_classes=512)",
    )


def _untrained(name: str, embedding_size: int, size: tuple[int, int] | None) -> nn.Module:
    import timm  # takes a second

    options: dict[str, Any] = {}
    try:
        config = timm.get_pretrained_cfg(name)
        if size is not None and config is not None and config.fixed_input_size:
            options["img_size"] = size
        network = timm.create_model(name, pretrained=False, num_classes=embedding_size, **options)
    except (RuntimeError, ValueError) as error:
        close = difflib.get_close_matches(name, timm.list_models(), 3)
        raise ValueError(
            f"timm cannot build {name!r}: {_first_line(error)} "
            + (f"Did you mean {', '.join(close)}?" if close else "timm.list_models() names all.")
        ) from error
    return network


def _trained(source: str, embedding_size: int | None) -> nn.Module:
    import timm

    head: dict[str, Any] = {} if embedding_size is None else {"num_classes": embedding_size}
    try:
        network = timm.create_model(source, pretrained=True, **head)
    except Exception as error:  # whatever the hub, timm, torch, safetensors or json object to
        if source.startswith(_HUB) and isinstance(error, OSError):
            repository = source.partition(":")[2].partition("@")[0]
            raise OSError(
                f"{source} is not in the hub's cache, and could not be downloaded "
                f"({type(error).__name__}: {_first_line(error)}). Where there is a network, "
                f"`hf download {repository}` puts it into the cache. Or copy config.json and "
                f"{_WEIGHTS} of https://huggingface.co/{repository} into a folder and give "
                "that: weights=FOLDER."
            ) from error
        raise ValueError(
            f"{source} does not hold a network of timm in the hub's layout (config.json and "
            f"{_WEIGHTS}): {_first_line(error)}"
        ) from error
    return network


def _folder(path: Path) -> Path:
    """Return a folder in the hub's layout, given itself or by its weights."""
    folder = path.parent if path.is_file() else path
    if path.is_file() and path.name != _WEIGHTS:
        raise ValueError(f"{path} is not called {_WEIGHTS}, as the hub calls it.")
    for file in (folder / "config.json", folder / _WEIGHTS):
        try:
            regular_file(file)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"There is no file {file}. A network of timm in the hub's layout is a folder with "
                f"config.json and {_WEIGHTS}; pickled weights, which can run code, are not taken."
            ) from error
    return folder


def _refuse_unsound(model: FaceModel, config: dict[str, Any], embedding_size: int | None) -> None:
    """Raise for a trained network of NaN or zeros; a new head may begin with zeros."""
    new = f"{config.get('classifier')}." if embedding_size else None
    state = model.backbone.state_dict()
    weights = {k: v for k, v in state.items() if new is None or not k.startswith(new)}
    refuse_unsound_network(model.spec.name, model.backbone, model.spec, weights)


def _refuse_classifier(name: str, config: dict[str, Any]) -> None:
    classes = config.get("num_classes") or 0
    if config.get("label_names") or classes == _IMAGENET or classes > _WIDEST:
        raise ValueError(
            f"{name} is a classifier of {classes} classes, not an embedder. "
            "embedding_size=0 takes the features in front of its head."
        )


def _spec(
    name: str, network: nn.Module, config: dict[str, Any], size: tuple[int, int], trained: bool
) -> ModelSpec:
    mean, std = (tuple(255.0 * x for x in config[key]) for key in ("mean", "std"))
    return ModelSpec(
        name=name,
        input_size=(int(size[0]), int(size[1])),
        mean=cast(tuple[float, float, float], mean),
        std=cast(tuple[float, float, float], std),
        channel_order="RGB",
        alignment="arcface",
        embedding_layer=_classifier(network, config),
        licence_code="timm, Apache-2.0",
        licence_weights=(config.get("license") or "none stated") if trained else "no weights",
        source="timm " + (name if trained else str(config.get("architecture", name))),
        note=(
            "It has not been measured how informative SER-FIQ is on this network."
            if trained
            else "This network is untrained unless weights were loaded into it: until then, "
            "its qualities mean nothing."
        ),
    )


def _classifier(network: nn.Module, config: dict[str, Any]) -> str | None:
    """Return the name of the head's linear layer; ``None`` if it has none, or several."""
    name = config.get("classifier")
    if not isinstance(name, str):
        return None
    try:
        return name if isinstance(network.get_submodule(name), nn.Linear) else None
    except AttributeError:
        return None


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if len(lines) == 1 else " ".join(line.strip() for line in lines[:2])
