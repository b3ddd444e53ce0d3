"""Explaining aligned faces with one network and one set of choices."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_plq._base.device import device_name
from captum_plq._base.versions import package_versions
from captum_plq._base.whole_file import json_bytes
from captum_plq.attribution import scaling_factor
from captum_plq.calibration.file import Calibration
from captum_plq.calibration.known import shipped_calibration
from captum_plq.calibration.sample_gamma import GAMMA_RULE, gamma_of_sample
from captum_plq.calibration.settings import network_digest
from captum_plq.errors import refuse_images
from captum_plq.explanation.local import LocalExplainer
from captum_plq.explanation.result import Explanation
from captum_plq.explanation.settings import Settings
from captum_plq.functional import (
    QualityScaling,
    merge_channels,
    pixel_quality,
    scale_quality,
)
from captum_plq.functional.relative import relative_pixel_quality
from captum_plq.models import FaceModel, ModelSpec
from captum_plq.network.state import weights_state

__all__ = ["Explainer", "matching_calibration"]


class Explainer:
    """Explains aligned faces with one network and one set of choices.

    Args:

        model (FaceModel): Takes 0–255 RGB.
        settings (Settings): Default: the paper's.
        calibration (Calibration, optional): Its α, r and γ replace the network's own (a γ in
            ``settings`` still wins). If it has a reference map, maps relative to the reference
            faces are computed too; if it has a local reference, local quality.

    Raises:
        ValueError: for a bad parameter, an unusable device, or a calibration of another network
            or other parameters.

    Examples::

        >>> explainer = Explainer(load_model("dlib"))
        >>> explanation = explainer(chips)  # (n, 150, 150, 3), uint8
        >>> explanation.save(Path("out"), "faces")
        >>> explainer = Explainer(model, calibration=load_calibration("mine.npz"))
    """

    def __init__(
        self,
        model: FaceModel,
        settings: Settings | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.spec = model.spec
        self.calibration = calibration
        self.plq = self.settings.attribution(model)
        self.scaling, self.scaling_source = _scaling(self.spec, self.settings, calibration)
        self._gamma, self.gamma_source = _gamma(self.spec, self.settings, calibration)
        if calibration is not None:
            calibration.check(self.plq)
        self._local = LocalExplainer(self.plq.quality_model.serfiq, self.spec, calibration)
        self._weights = weights_state(model)

    def __call__(self, chips: NDArray[np.uint8]) -> Explanation:
        """Explain a batch of aligned faces.

        Args:

            chips (ndarray): (n, H, W, 3), uint8, RGB, aligned as the network expects.

        Returns:
            *Explanation*: of the n faces.

        Raises:
            ValueError: if the network takes images of another size, or has other weights than
                the calibration was measured with; as
                :class:`~captum_plq.errors.UnusableImagesError`, for faces whose quality or map
                is uninformative, where ``attribute`` only warns.
        """
        self._heed_new_weights()
        gamma, images = self.gamma, self._images(chips)
        attributions, quality, error = self.plq.attribute(
            images, return_quality=True, return_standard_error=True
        )
        merged = merge_channels(attributions)
        _refuse_uninformative(merged, quality)
        reference = None if self.calibration is None else self.calibration.reference
        relative = None if reference is None else relative_pixel_quality(merged, reference)
        attributions = self._scaled(attributions, quality)
        scaled = None if self.scaling is None else scale_quality(quality, self.scaling)
        local, without_local = self._local(images)
        return Explanation(
            images=chips,
            attributions=attributions.float().cpu().numpy(),
            maps=pixel_quality(merge_channels(attributions), gamma).cpu().numpy(),
            quality=quality.tolist(),
            quality_standard_error=error.tolist(),
            scaled_quality=None if scaled is None else scaled.tolist(),
            record=self._record(),
            relative_maps=None if relative is None else relative.cpu().numpy(),
            local=local,
            without_local=without_local,
            thresholds=None if self.calibration is None else self.calibration.thresholds,
        )

    @property
    def gamma(self) -> float:
        """γ of Eq. 6, measured on the package's sample face when first needed if none is known.

        Raises:
            ValueError: if none is known and the network has no γ there.
        """
        if self._gamma is None:

            def merged(images: Tensor) -> Tensor:
                found, q = self.plq.attribute(images.to(self.settings.device), return_quality=True)
                return merge_channels(self._scaled(found, q))

            self._gamma = gamma_of_sample(self.spec.name, self.spec.input_size, merged)
        return self._gamma

    def identity(self) -> dict[str, Any]:
        """Return which network and calibration this is, ready for JSON.

        Returns:
            *dict*: ``model``: name and a digest of the weights; ``calibration``: where it comes
            from and a digest of all in it, or ``None``.
        """
        model = self.plq.quality_model.serfiq.model
        return {
            "model": {"name": self.spec.name, "digest": network_digest(model)},
            "calibration": None if self.calibration is None else _identity_of(self.calibration),
        }

    def _images(self, chips: NDArray[np.uint8]) -> Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(chips)).permute(0, 3, 1, 2)
        return pixels.float().to(self.settings.device)

    def _heed_new_weights(self) -> None:
        """Drop what was found of the network if it was trained further since."""
        weights = weights_state(self.plq.quality_model.serfiq.model)
        if weights == self._weights:
            return
        if self.calibration is not None:
            self.calibration.check(self.plq)
        if self.gamma_source == GAMMA_RULE:
            self._gamma = None
        self._weights = weights

    def _scaled(self, attributions: Tensor, quality: Tensor) -> Tensor:
        """Return attributions with Q̂ in place of Q, if α and r are known."""
        if self.scaling is None:
            return attributions
        factor = scaling_factor(quality, self.scaling, self.settings.target_scalar)
        return attributions * factor.view(-1, 1, 1, 1)

    def _record(self) -> dict[str, Any]:
        serfiq = self.plq.quality_model.serfiq
        parameters = {
            **{k: v for k, v in asdict(self.settings).items() if k not in ("gamma", "device")},
            "estimator_fallback": serfiq.fallback_reason,
            "pair_average": serfiq.average,
            "normalize_stochastic_embeddings": serfiq.normalize,
            "normalize_embedding": self.plq.quality_model.normalize,
            "alpha": None if self.scaling is None else self.scaling.alpha,
            "r": None if self.scaling is None else self.scaling.r,
            "scaling_source": self.scaling_source,
            "gamma": self.gamma,
            "gamma_source": self.gamma_source,
            "embedding_layer": serfiq.tap.layer_name,
        }
        selectors = {"output": self.spec.output, "quality": self.spec.quality}
        named = {  # functions by their names, so that JSON can hold them
            key: getattr(x, "__qualname__", repr(x)) if callable(x) else x
            for key, x in selectors.items()
        }
        return {
            "parameters": parameters,
            "model": {**asdict(self.spec), **named},
            "calibration": None if self.calibration is None else self.calibration.header(),
            "device": device_name(torch.device(self.settings.device)),
            "versions": package_versions(),
        }


def matching_calibration(model: FaceModel, settings: Settings | None = None) -> Calibration | None:
    """Return the calibration shipped with a network, if it holds for these weights and settings.

    Args:

        model (FaceModel): The network.
        settings (Settings, optional): Default: the paper's.

    Returns:
        *Calibration or None*: ``None`` if none is shipped, or it was measured otherwise.

    Examples::

        >>> model = load_model(DEFAULT_MODEL)
        >>> explainer = Explainer(model, calibration=matching_calibration(model))
    """
    found = shipped_calibration(model.spec.name)
    if found is not None:
        try:
            found.check((settings or Settings()).attribution(model))
        except ValueError:
            return None
    return found


def _identity_of(calibration: Calibration) -> dict[str, Any]:
    """Its origin, and a digest of everything in it."""
    known = calibration.thresholds
    texts = [calibration.header(), None if known is None else known.in_file()]
    digest = hashlib.sha256(json_bytes(texts))
    for value in (*(calibration.reference or ()), *(calibration.local or ())):
        if isinstance(value, Tensor):
            digest.update(value.float().cpu().numpy().tobytes())
    return {
        "network": calibration.network,
        "date": calibration.date,
        "source": calibration.source,
        "failures_of": "" if known is None else known.measured_on(),
        "digest": digest.hexdigest()[:16],
    }


def _refuse_uninformative(merged: Tensor, quality: Tensor) -> None:
    """Raise for faces whose gradients (n, H, W) or quality (n,) are uninformative."""
    gradients = merged.flatten(1)
    refuse_images(
        ~gradients.isfinite().all(1) | (gradients.amax(1) == 0),
        "The gradient of the quality is zero everywhere, or not finite, so there is no map",
        "Does the network divide by 0, or has a step of it, such as rounding, no slope?",
    )
    refuse_images(
        quality >= 1,
        "Dropout does not move the embedding at all, so its quality tells nothing",
        "Look at the image (is it blank?) and at the network's weights.",
    )


def _scaling(
    spec: ModelSpec, settings: Settings, calibration: Calibration | None
) -> tuple[QualityScaling | None, str]:
    """Return α and r where they hold, and their source: Q depends on both m and p."""
    if calibration is not None:
        return calibration.scaling, _source(calibration)
    if spec.scaling is None:
        return None, f"none is known for {spec.name}"
    if (settings.passes, settings.dropout) != (100, 0.5):
        return None, f"none: that of {spec.name} holds for 100 passes at dropout 0.5"
    return spec.scaling, f"of {spec.name}"


def _gamma(
    spec: ModelSpec, settings: Settings, calibration: Calibration | None
) -> tuple[float | None, str]:
    """Return γ where one is known, and its source: other nodes have gradients of another size."""
    if settings.gamma is not None:
        return settings.gamma, "given"
    if calibration is not None:
        return calibration.gamma, _source(calibration)
    asked = (settings.weights, settings.target_scalar, settings.directions)
    if spec.gamma is not None and asked == ("l1", "node", None):
        return spec.gamma, f"of {spec.name}"
    return None, GAMMA_RULE


def _source(calibration: Calibration) -> str:
    made = f" of {calibration.date}" if calibration.date else ""
    return f"calibration of {calibration.network}{made}"
