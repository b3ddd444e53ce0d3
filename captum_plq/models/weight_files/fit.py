"""Fits the weights of a file to a network, strictly, and says what is wrong where they do not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from captum_plq.models.architecture import Architecture
from captum_plq.models.weight_files.layout_guess import guess_layout
from captum_plq.models.weight_files.sets import AVERAGED
from captum_plq.models.weight_files.sound import refuse_unsound_network

__all__ = ["WeightFit", "fit_weights", "known_fits", "load_weights"]

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


def fit_weights(
    expected: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    wrappers: Sequence[str] = (),
    training_only: Sequence[str] = (),
) -> WeightFit:
    """Compares the weights of a file with what a network expects.

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
        training_only (sequence of str): see :class:`Architecture`.

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


def load_weights(
    network: nn.Module,
    state: Mapping[str, Tensor],
    architecture: Architecture,
    known: Sequence[Architecture] = (),
    source: str = "The state dict",
) -> tuple[str, ...]:
    """Gives a network the weights of a file; everything must fit.

    Args:

        network (nn.Module): Filled in place, in its own precision.
        state (Mapping[str, Tensor]): The weights.
        architecture (Architecture): What ``network`` is.
        known (sequence of Architecture): Where the weights do not fit, these are tried, to
            name the one they do fit.
        source (str): Where the weights are from, for the error.

    Returns:
        *tuple[str, ...]*: names in ``state`` that were left out, all of them known to serve in
        training only.

    Raises:
        ValueError: if anything is missing, unexpected, or of another shape; names the first of
            each, and says what the weights look like. If they cannot be those of a trained
            network (see :mod:`captum_plq.models.weight_files.sound`).

    Examples::

        >>> load_weights(network, read_weights("vggface2.pt"), architecture)
        ('logits.bias', 'logits.weight')
    """
    fit = fit_weights(
        network.state_dict(), state, architecture.wrappers, architecture.training_only
    )
    if not fit.exact:
        problems = [
            _counted(fit.missing, "missing"),
            _counted(fit.unexpected, "not expected"),
            _counted(fit.unlike, "unlike", quoted=False),
        ]
        raise ValueError(
            f"{source} does not fit {architecture.spec.name!r}: "
            f"{'; '.join(filter(None, problems))}. {_computed(fit) or _resemblance(state, known)}"
        )
    refuse_unsound_network(source, network, fit.weights)
    network.load_state_dict(fit.weights, strict=True)
    return fit.unused


def known_fits(state: Mapping[str, Tensor], known: Sequence[Architecture]) -> list[str]:
    """Names of the architectures that weights fit in every name and shape.

    Args:

        state (Mapping[str, Tensor]): The weights.
        known (sequence of Architecture): What to try.

    Returns:
        *list[str]*: none, one, or several that differ in their preprocessing only.
    """
    names = []
    for architecture in known:
        try:
            with torch.device("meta"):
                expected = architecture.build().state_dict()
        except ImportError:  # its extra is not installed
            continue
        fit = fit_weights(expected, state, architecture.wrappers, architecture.training_only)
        if fit.exact:
            names.append(architecture.spec.name)
    return names


def _resemblance(state: Mapping[str, Tensor], known: Sequence[Architecture]) -> str:
    names = known_fits(state, known)
    if names:
        return f"It fits {' and '.join(map(repr, names))}: load it as such."
    bare = _without_marks(state)
    guess = guess_layout({key: tuple(value.shape) for key, value in bare.items()})
    return f"It looks like {guess}." if guess else "It resembles no network that is known here."


def _without_marks(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The weights by the names that they had before torch wrapped parts of the network."""
    bare = {_ANYWHERE.sub("", key): value for key, value in state.items()}
    return bare if len(bare) == len(state) else state


def _computed(fit: WeightFit) -> str:
    """What to do about weights that a normalisation or pruning computes from others."""
    for mark, remove in _COMPUTED.items():
        if any(mark in key for key in fit.unexpected):
            return (
                "Some of its weights are computed from others (weight_norm, spectral_norm, pruning "
                f"or the like): before saving, call {remove} for each such layer."
            )
    return ""


def _prefix(
    expected: Mapping[str, Tensor], state: Mapping[str, Tensor], words: frozenset[str]
) -> str:
    """The wrapper's prefix under which most of the expected names stand."""
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


def _counted(names: Sequence[str], what: str, quoted: bool = True) -> str:
    if not names:
        return ""
    shown = [repr(name) if quoted else name for name in names[:3]]
    return f"{len(names)} {what} ({', '.join(shown)}{', …' if len(names) > 3 else ''})"
