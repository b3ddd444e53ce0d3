"""What a study is given: a network, its faces, its maps, and which of them failed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.subjects.face_sets import FaceSets
from benchmarks.subjects.methods import Attribute, Method, check_maps, trained_name
from benchmarks.subjects.network import ExplainedNetwork
from captum_plq.functional import gamma_for_median, pixel_quality
from captum_plq.metrics.checks import seeded
from captum_plq.models import FaceModel

_FOR_GAMMA = 16
_NORMAL = 1.702
"""Slope at which the logistic function comes closest to the normal distribution function."""


@dataclass
class StudyContext:
    """A network and its maps, made ready once; a map that fails is left out from then on.

    Args:

        model (FaceModel): The network, on its device, in evaluation mode.
        subject (ExplainedNetwork): The same with its parameters and the reference faces.
        methods (sequence of Method): What is compared.
        faces (FaceSets): Of whom.
        environment (dict): What is measured under.
        failed (dict): Method → why it is left out.
    """

    model: FaceModel
    subject: ExplainedNetwork
    methods: Sequence[Method]
    faces: FaceSets
    environment: dict[str, Any]
    failed: dict[str, str] = field(default_factory=dict)
    _explain: dict[str, Attribute] = field(default_factory=dict, init=False)
    _gamma: dict[str, float] = field(default_factory=dict, init=False)
    _scale: dict[str, tuple[float, float]] = field(default_factory=dict, init=False)
    _others: dict[str, StudyContext] = field(default_factory=dict, init=False)

    def network_for(self, method: str) -> ExplainedNetwork:
        """Return the network that a method explains: this one, or itself with random weights."""
        _, null = trained_name(method)
        return self.subject if null is None else self.subject.untrained(null)

    @property
    def nulls(self) -> list[int]:
        """The numbers of the random weights that some method explains."""
        return sorted({method.null for method in self.methods if method.null is not None})

    @cached_property
    def trained(self) -> StudyContext:
        """The same without the methods on random weights; what is made is made for both."""
        other = replace(self, methods=[method for method in self.methods if method.null is None])
        other._explain, other._gamma, other._scale = self._explain, self._gamma, self._scale
        return other

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        """Return the score maps of all methods that work, by name.

        Methods that draw are given the same random state each time, so an image and a disturbed
        copy of it at the same place of the batch are explained with the same draws.

        Args:

            images (Tensor): (B, 3, H, W), 0–255.

        Returns:
            *dict[str, Tensor]*: (B, H, W) each, finite, not constant, and ≥ 0 but for signed maps;
            high for useful pixels.
        """
        found = {}
        for method in self.methods:
            if method.name not in self.failed:
                try:
                    found[method.name] = self._map(method, images)
                except Exception as error:
                    self.fail(method, error)
        return found

    def fail(self, method: Method, error: Exception) -> None:
        """Leave a method out from now on, for the first line of an error."""
        reason = (str(error).strip().splitlines() or [""])[0]
        self.failed[method.name] = f"{type(error).__name__}: {reason}"

    def explain(self, method: Method) -> Attribute:
        """Return one of the maps, made ready once; draws as its caller has seeded them.

        Args:

            method (Method): Of this context, or another.

        Raises:
            Exception: the reason it cannot run on this network.
        """
        if method.name not in self._explain:
            explain = method.build(self.subject)
            if not method.bounded:
                if self.subject.reference is None:
                    raise ValueError("needs reference faces for its γ of Eq. 6, but there are none")
                some = self.subject.reference[:_FOR_GAMMA].to(next(self.model.parameters()))
                maps = explain(some)
                if method.signed:
                    self._scale[method.name] = (float(maps.median()), float(maps.std()))
                else:
                    self._gamma[method.name] = gamma_for_median(maps)
            self._explain[method.name] = explain
        return self._explain[method.name]

    def pixel_qualities(self, name: str, maps: Tensor) -> Tensor:
        """Return maps of a method as qualities in [0, 1].

        Bounded maps are such. Others are put through Eq. 6, with the γ that gives the median
        pixel of the reference faces quality ½; one γ for all images. So are signed ones through a
        logistic function, whose slope is that of the normal distribution of these pixels.

        Args:

            name (str): Of the method that made them.
            maps (Tensor): (B, H, W).

        Returns:
            *Tensor*: (B, H, W).
        """
        if name in self._scale:
            median, spread = self._scale[name]
            return torch.sigmoid(_NORMAL * (maps - median) / spread)
        return pixel_quality(maps, self._gamma[name]) if name in self._gamma else maps

    def positive(self, name: str, maps: Tensor) -> Tensor:
        """Return maps of a method that are ≥ 0: signed ones as qualities, others as they are."""
        return self.pixel_qualities(name, maps) if name in self._scale else maps

    def with_reference(self, name: str, change: Callable[[Tensor], Tensor]) -> StudyContext:
        """Return the same network and maps with another reference; the random weights stay.

        Args:

            name (str): Of the other reference; it is made once.
            change (Callable): Reference faces (r, 3, H, W) → others.
        """
        if name not in self._others:
            reference = change(torch.cat(self.subject.reference_batches()))
            other = self.subject.with_reference(reference, self.nulls)
            self._others[name] = replace(self, subject=other)
        return self._others[name]

    def _map(self, method: Method, images: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _seeded(images, self.subject.seed):
                explain = self.explain(method)
            with _seeded(images, self.subject.seed):
                maps = explain(images).detach()
        return check_maps(maps, (len(images), *images.shape[-2:]))


@contextmanager
def _seeded(images: Tensor, seed: int) -> Iterator[None]:
    """Seed torch's random state for a while, and NumPy's, from which GradientShap draws."""
    state = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        with seeded(images, seed):
            yield
    finally:
        np.random.set_state(state)
