"""What a protocol is given: a network, its maps, and which of them failed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from benchmarks.subjects.methods import Attribute, Method, check_maps
from benchmarks.subjects.network import ExplainedNetwork
from captum_plq.functional import gamma_for_median, pixel_quality
from captum_plq.models import FaceModel
from captum_plq.network.state import untouched_rng

__all__ = ["StudyContext"]

_FOR_GAMMA = 16


class StudyContext:
    """A network and its maps, made ready once; a map that fails is left out from then on.

    Args:

        model (FaceModel): The network, on its device, in evaluation mode.
        subject (ExplainedNetwork): The same with its parameters and the reference faces.
        methods (sequence of Method): What is compared.
        failed (dict[str, str]): Method → why it failed before: these are not tried again.
    """

    def __init__(
        self,
        model: FaceModel,
        subject: ExplainedNetwork,
        methods: Sequence[Method],
        failed: dict[str, str] | None = None,
    ) -> None:
        self.model, self.subject = model, subject
        self.methods = tuple(methods)
        self.failed = dict(failed or {})
        self._explain: dict[str, Attribute] = {}
        self._gamma: dict[str, float] = {}

    def network_for(self, method: Method) -> ExplainedNetwork:
        """The network that a method explains: this one, or itself with random weights."""
        return self.subject.random if method.random_weights else self.subject

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        """The score maps of all methods that work, by name.

        Methods that draw are given the same random state each time, so an image and a disturbed
        copy of it at the same place of the batch are explained with the same draws.

        Args:

            images (Tensor): (B, 3, H, W), 0–255.

        Returns:
            *dict[str, Tensor]*: (B, H, W) each, ≥ 0, finite and not constant; high for useful
            pixels.
        """
        found = {}
        for method in self.methods:
            if method.name in self.failed:
                continue
            try:
                found[method.name] = self._map(method, images)
            except Exception as error:
                reason = (str(error).strip().splitlines() or [""])[0]
                self.failed[method.name] = f"{type(error).__name__}: {reason}"
        return found

    def explain(self, method: Method) -> Attribute:
        """One of the maps, made ready; draws as its caller has seeded them.

        Args:

            method (Method): Of this context, or another.

        Raises:
            Exception: whatever speaks against it on this network.
        """
        if method.name not in self._explain:
            self._prepare(method)
        return self._explain[method.name]

    def pixel_qualities(self, name: str, maps: Tensor) -> Tensor:
        """Maps of a method as qualities in [0, 1].

        Bounded maps are such. Others are put through Eq. 6, with the γ that gives the median
        pixel of the reference faces quality ½; one γ for all images.

        Args:

            name (str): Of the method that made them.
            maps (Tensor): (B, H, W).

        Returns:
            *Tensor*: (B, H, W).
        """
        return pixel_quality(maps, self._gamma[name]) if name in self._gamma else maps

    def _map(self, method: Method, images: Tensor) -> Tensor:
        with untouched_rng((images,)), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _seeded(self.subject.seed):
                explain = self.explain(method)
            with _seeded(self.subject.seed):
                maps = explain(images).detach()
        return check_maps(maps, (len(images), *images.shape[-2:]))

    def _prepare(self, method: Method) -> None:
        explain = method.build(self.subject)
        if not method.bounded:
            parameter = next(self.model.parameters())
            if self.subject.reference is None:
                raise ValueError("needs reference faces for its γ of Eq. 6, but there are none")
            some = self.subject.reference[:_FOR_GAMMA].to(parameter)
            self._gamma[method.name] = gamma_for_median(explain(some))
        self._explain[method.name] = explain


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Torch's global random state, and NumPy's, from which Captum's GradientShap also draws.

    Torch's is restored by the caller, NumPy's here.
    """
    torch.manual_seed(seed)
    state = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(state)
