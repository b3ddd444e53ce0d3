"""Fits the weights of a file to a network, strictly, and tells what differs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_plq.models.weight_files.checkpoint import AVERAGED

__all__ = ["WeightFit", "fit_weights", "foreign_network"]

_WRAPPERS = frozenset(["module", "model", "backbone", "net", "network", "online_model", *AVERAGED])

# What torch puts into names wherever it wraps a part of a network.
_ANYWHERE = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)

# What is counted beside a running average of weights; one number each.
_COUNTS = ("n_averaged", "num_updates", "decay", "initted", "step")

# How the names end of a weight that is computed from others, and what does so.
_COMPUTED = {
    "parametrizations.": "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')",
    ".weight_g": "torch.nn.utils.remove_weight_norm(layer)",
    ".weight_orig": "torch.nn.utils.remove_spectral_norm(layer), or prune.remove(layer, 'weight'),",
}

# Names that only networks have which are not built here; the first that is found tells which.
_FOREIGN = {
    r"\.se(_block)?\.|res_layer\.5\.fc": "a network with squeeze-and-excitation, not built here",
    r"^blocks\.0\.attn\.qkv\.weight$": "a vision transformer of timm",
    r"\.xca\.qkv\.": "an EdgeNeXt of timm, the trunk of EdgeFace",
    r"^stages\.0\.blocks\.0\.conv_dw\.weight$": "a ConvNeXt of timm",
    r"^layer1\.0\.prelu\.weight$": "",  # an IResNet; its other names are torchvision's
    r"^layer1\.0\.bn1\.weight$": "a ResNet of torchvision, not a face network",
}
_CLASSES = (1000, 21841, 21843)  # of ImageNet
_PEOPLE = 5000  # more rows than an embedding has numbers


@dataclass(frozen=True)
class WeightFit:
    """How the weights of a file meet the names and shapes of a network.

    Args:

        weights (dict[str, Tensor]): By the network's names.
        missing (tuple[str, ...]): Names of the network that the file lacks.
        unexpected (tuple[str, ...]): Names of the file that the network lacks.
        unlike (tuple[str, ...]): What is of another shape or kind, in words.
        unused (tuple[str, ...]): Names of the file that only training needs.
    """

    weights: dict[str, Tensor]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    unlike: tuple[str, ...]
    unused: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """Whether nothing is missing, unexpected or unlike."""
        return not (self.missing or self.unexpected or self.unlike)

    @property
    def share(self) -> float:
        """The share of names, in the network or the file, that are in both with one shape."""
        both = len(self.weights) - len(self.unlike)
        return both / max(1, len(self.weights) + len(self.missing) + len(self.unexpected))

    def describe(self) -> str:
        """Return what differs, the first three of each kind by name."""
        kinds = {
            "missing": [repr(name) for name in self.missing],
            "not expected": [repr(name) for name in self.unexpected],
            "unlike": list(self.unlike),
        }
        shown = (
            f"{len(names)} {what} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
            for what, names in kinds.items()
            if names
        )
        return f"{'; '.join(shown)}."

    @property
    def computed(self) -> str:
        """What to do about weights that a normalisation or pruning computes from others."""
        for mark, remove in _COMPUTED.items():
            if any(mark in key for key in self.unexpected):
                return (
                    "Some of its weights are computed from others (weight_norm, spectral_norm, "
                    f"pruning or the like): before saving, call {remove} for each such layer."
                )
        return ""


def fit_weights(
    expected: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    wrappers: Sequence[str] = (),
    training_only: Sequence[str] = (),
) -> WeightFit:
    """Compare the weights of a file with what a network expects.

    A prefix such as ``module.`` or ``model.``, which a wrapper around the network left on its
    names, is taken off: that under which most of the expected names are found, none if there is
    a tie. What does not stand under it is unexpected, unless it is ``training_only``. A missing
    ``num_batches_tracked``, which old files lack and evaluation does not use, is set to zero.
    What ``torch.compile`` and the like put into names (``_orig_mod.``) is taken out wherever it
    stands, and the counts of a running average (``n_averaged``) are left out.

    Args:

        expected (Mapping[str, Tensor]): The network's ``state_dict()``; may be on the meta
            device.
        state (Mapping[str, Tensor]): The weights of the file.
        wrappers (sequence of str): Parts of a prefix, besides ``module``, ``model``,
            ``backbone``, ``net``, ``network`` and what a running average goes by (``ema``).
        training_only (sequence of str): see :class:`~captum_plq.models.Architecture`.

    Returns:
        *WeightFit*: the weights by the network's names, and all that does not fit.
    """
    state = _without_marks(state)
    prefix = _prefix(expected, state, _WRAPPERS.union(wrappers))
    inside = {key.removeprefix(prefix): key for key in state if key.startswith(prefix)}
    extra = [key for key in state if inside.get(key.removeprefix(prefix)) != key]
    extra += [key for name, key in inside.items() if name not in expected]
    unused = [
        key
        for key in extra
        if _listed(key, prefix, training_only)
        or (key.rpartition(".")[2] in _COUNTS and state[key].numel() == 1)
    ]
    weights = {name: state[key] for name, key in inside.items() if name in expected}
    for name, value in expected.items():
        if name.endswith("num_batches_tracked") and name not in weights:
            weights[name] = torch.zeros(value.shape, dtype=value.dtype)
    return WeightFit(
        weights=weights,
        missing=tuple(name for name in expected if name not in weights),
        unexpected=tuple(key for key in extra if key not in unused),
        unlike=tuple(
            difference
            for name, value in expected.items()
            if name in weights and (difference := _difference(name, weights[name], value))
        ),
        unused=tuple(sorted(unused)),
    )


def foreign_network(state: Mapping[str, Tensor]) -> str:
    """Return what network weights are of that is not built here, to follow "It looks like".

    Args:

        state (Mapping[str, Tensor]): The weights. Prefixes of the usual wrappers do not matter.

    Returns:
        *str*: in words; ``""`` if their names do not tell.

    Examples::

        >>> foreign_network({"layer1.0.bn1.weight": torch.ones(64)})
        'a ResNet of torchvision, not a face network'
    """
    bare: dict[str, Tensor] = {}
    for key, value in _without_marks(state).items():
        parts = key.split(".")
        while len(parts) > 1 and parts[0] in {*_WRAPPERS, "features"}:
            parts = parts[1:]
        bare[".".join(parts)] = value
    words = next((w for p, w in _FOREIGN.items() if any(re.search(p, key) for key in bare)), None)
    if words is None:
        flat = len(bare) <= 5 and all(value.ndim <= 2 for value in bare.values())
        people = max((n for value in bare.values() for n in value.shape), default=0)
        return "the class centres of a training, without the network" * (flat and people > _PEOPLE)
    rows = [len(bare[key]) for key in ("head.fc.weight", "head.weight", "fc.weight") if key in bare]
    classes = f"a classifier into {rows[0]} classes" if rows and rows[0] in _CLASSES else ""
    return ", ".join(filter(None, (words, classes)))


def _without_marks(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the weights by the names that they had before torch wrapped parts of the network."""
    bare = {_ANYWHERE.sub("", key): value for key, value in state.items()}
    return bare if len(bare) == len(state) else state


def _prefix(
    expected: Mapping[str, Tensor], state: Mapping[str, Tensor], words: frozenset[str]
) -> str:
    """Return the wrapper's prefix under which most of the expected names stand."""
    prefixes = {""}
    for key in state:
        prefix = ""
        for part in key.split(".")[:-1]:
            if part not in words:
                break
            prefix += f"{part}."
            prefixes.add(prefix)
    found = {p: sum(f"{p}{name}" in state for name in expected) for p in prefixes}
    return max(sorted(prefixes, key=len), key=lambda p: found[p])


def _listed(key: str, prefix: str, patterns: Sequence[str]) -> bool:
    names = (key, key.removeprefix(prefix))
    return any(
        name.startswith(pattern) if pattern.endswith(".") else name == pattern
        for pattern in patterns
        for name in names
    )


def _difference(name: str, value: Tensor, expected: Tensor) -> str | None:
    if value.shape != expected.shape:
        return f"{name} is {tuple(value.shape)}, not {tuple(expected.shape)}"
    if value.is_floating_point() != expected.is_floating_point() or value.is_quantized:
        return f"{name} is of type {value.dtype}, not {expected.dtype}"
    return None
