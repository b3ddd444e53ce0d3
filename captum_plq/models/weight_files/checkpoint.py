"""Finds the weights among all that a checkpoint holds, and refuses what are no plain numbers."""

from __future__ import annotations

import reprlib
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

__all__ = ["AVERAGED", "find_weights"]

AVERAGED = (
    "state_dict_ema",
    "ema_state_dict",
    "model_ema",
    "model_ema_state_dict",
    "ema_model",
    "ema_model_state_dict",
    "params_ema",
    "net_ema",
    "ema_net",
    "ema",
    "averaged_model",
    "swa_model",
    "swa_state_dict",
)
"""Where a checkpoint keeps the running average of its weights."""

# Where it keeps any weights, beside an optimiser, a step count and the like.
_CONTAINERS = (
    "state_dict",
    "model_state_dict",
    "net_state_dict",
    "state_dict_backbone",
    "model",
    "backbone",
    "net",
    "network",
    "weights",
    "params",
    "module",
    "student",
    *AVERAGED,
)
_DEEPEST = 8  # containers in containers
_NUMBERS = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
)

_shown = reprlib.Repr()
_shown.maxstring = _shown.maxother = 80


def find_weights(path: Path, content: object, averaged: bool | None = None) -> dict[str, Tensor]:
    """Return the state dict in what a file held, or in the containers that it may be in.

    Args:

        path (Path): The file, for errors.
        content (object): What was in it.
        averaged (bool, optional): see :func:`~captum_plq.models.weight_files.read.read_weights`.

    Returns:
        *dict[str, Tensor]*: plain tensors on the CPU, by name.

    Raises:
        ValueError: if there is no state dict, there are several, or a tensor is no plain one.
    """
    found = False  # an average
    for _ in range(_DEEPEST):
        if not isinstance(content, Mapping):
            raise ValueError(
                f"{path} holds a {type(content).__name__}, not a state dict (weights by name): "
                "save network.state_dict()."
            )
        content = _apart(content)
        sets = [key for key in _CONTAINERS if _holds_tensors(content.get(key), set())]
        if not sets:
            break
        key = _choice(path, sets, None if found else averaged)
        found = found or key in AVERAGED
        content = content[key]
    assert isinstance(content, Mapping)
    _refuse_others(path, content)
    if averaged and not (found or any(map(_is_averaged, content))):
        raise ValueError(f"{path} holds no running average of its weights beside them.")
    memory: dict[int, int] = {}
    for key, value in content.items():
        if problem := _problem(value):
            raise ValueError(
                f"{path} cannot be used: {_shown.repr(key)} {problem}. Save plain tensors: "
                "torch.save({k: v.to_dense().float().contiguous() for k, v in "
                "network.state_dict().items()}, 'weights.pt')."
            )
        storage = value.untyped_storage()
        memory[storage.data_ptr()] = storage.nbytes()
    if sum(memory.values()) > path.stat().st_size:
        raise ValueError(
            f"{path} is refused: its tensors take {sum(memory.values()):,} bytes, more than the "
            "file has."
        )
    return {key: value.detach() for key, value in content.items()}


def _choice(path: Path, sets: list[str], averaged: bool | None) -> str:
    """Return which of several sets of weights is meant."""
    plain = [key for key in sets if key not in AVERAGED]
    means = [key for key in sets if key in AVERAGED]
    if plain and means and averaged is None:
        warnings.warn(
            f"{path} holds weights and their running average (EMA): the average is taken. For the "
            f"others: torch.save(read_weights({str(path)!r}, averaged=False), 'weights.pt').",
            stacklevel=4,
        )
    wanted = plain if averaged is False and plain else means or plain
    if len(wanted) > 1:
        raise ValueError(
            f"{path} holds several sets of weights, {', '.join(map(repr, wanted))}: save the one "
            "that is meant in a file of its own."
        )
    return wanted[0]


def _apart(content: Mapping[object, object]) -> Mapping[object, object]:
    """Tell weights and their average in one state dict apart, by how their names begin."""
    if not all(isinstance(value, Tensor) for value in content.values()):
        return content
    means = {key: value for key, value in content.items() if _is_averaged(key)}
    plain = {key: value for key, value in content.items() if key not in means}
    matrices = any(isinstance(value, Tensor) and value.ndim > 1 for value in plain.values())
    return {"ema": means, "weights": plain} if means and matrices else content


def _is_averaged(key: object) -> bool:
    return isinstance(key, str) and "." in key and key.partition(".")[0] in AVERAGED


def _holds_tensors(value: object, seen: set[int], depth: int = _DEEPEST) -> bool:
    """Return whether a value is a state dict, or a container that has one."""
    if not isinstance(value, Mapping) or not value or not depth or id(value) in seen:
        return False
    seen.add(id(value))
    return all(isinstance(part, Tensor) for part in value.values()) or any(
        _holds_tensors(value.get(key), seen, depth - 1) for key in _CONTAINERS
    )


def _refuse_others(path: Path, content: Mapping[object, object]) -> None:
    if not content:
        raise ValueError(f"{path} holds no tensor.")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            shown = ", ".join(map(_shown.repr, list(content)[:5]))
            deep = key in _CONTAINERS and isinstance(value, Mapping) and value
            where = f" that holds no weights down to {_DEEPEST} levels" if deep else ""
            raise ValueError(
                f"{path} holds no state dict (weights by name): {_shown.repr(key)} is a "
                f"{type(value).__name__}{where}. Its entries: {shown}."
            )


def _problem(value: Tensor) -> str | None:
    """Return what keeps a tensor from being a plain one, to follow its name."""
    if type(value) not in (Tensor, nn.Parameter):
        return f"is a {type(value).__name__}"
    if value.layout != torch.strided:
        return f"is sparse ({value.layout})"
    if value.device.type != "cpu":
        return f"has no numbers, only a shape (device {value.device})"
    if value.is_quantized:
        return f"is quantised ({value.dtype})"
    if value.is_complex() or (value.is_floating_point() and value.dtype not in _NUMBERS):
        return f"is of type {value.dtype}"
    steps = zip(value.shape, value.stride(), strict=True)
    if value.numel() > 1 + sum((size - 1) * step for size, step in steps):
        return f"repeats its numbers: its shape is {tuple(value.shape)}, expanded from fewer"
    return None
