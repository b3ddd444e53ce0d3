"""Explaining aligned faces with one network and one set of choices."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_plq._base.device import device_name, usable_device
from captum_plq._base.versions import package_versions
from captum_plq.attribution import PixelQualityAttribution, TargetScalar, scaling_factor
from captum_plq.calibration.file import Calibration
from captum_plq.calibration.known import shipped_calibration
from captum_plq.calibration.sample_gamma import GAMMA_RULE, gamma_of_sample
from captum_plq.errors import refuse_images
from captum_plq.explanation.result import Explanation
from captum_plq.functional import (
    NodeWeights,
    QualityScaling,
    merge_channels,
    pixel_quality,
    scale_quality,
)
from captum_plq.functional.relative import relative_pixel_quality
from captum_plq.models import FaceModel, ModelSpec
from captum_plq.network.state import weights_state
from captum_plq.quality.serfiq import SERFIQ, Estimator

__all__ = ["Explainer", "Explanation", "Settings", "calibration_that_holds"]


@dataclass(frozen=True)
class Settings:
    """The choices of a run, all with the paper's values as defaults.

    Args:

        passes (int): m of SER-FIQ.
        dropout (float): p of SER-FIQ.
        seed (int): Seed of the dropout masks.
        estimator (str): ``"sampling"``, ``"balanced"`` or ``"closed-form"``.
        weights (str): ``"l1"``, ``"sum"``, ``"signed"`` or ``"l2"``.
        target_scalar (str): ``"node"`` or ``"serfiq"``.
        directions (int, optional): Of the attribution. ``None``, the paper's: one gradient.
        gamma (float, optional): γ of Eq. 6. ``None``: the calibration's, or the network's own;
            where none is known for these settings, the one at which the median pixel of the
            package's sample face (:func:`~captum_plq.faces.sample_face`, in the size that the
            network takes) has quality ½. So it depends on the network and the settings alone,
            and maps compare between runs.
        device (str): Where to compute, e.g. ``"cpu"`` or ``"cuda"``.
    """

    passes: int = 100
    dropout: float = 0.5
    seed: int = 0
    estimator: Estimator = "sampling"
    weights: NodeWeights = "l1"
    target_scalar: TargetScalar = "node"
    directions: int | None = None
    gamma: float | None = None
    device: str = "cpu"


class Explainer:
    """Explains aligned faces with one network and one set of choices.

    Args:

        model (FaceModel): Takes 0–255 RGB.
        settings (Settings): Default: the paper's.
        calibration (Calibration, optional): Its α, r and γ are used in place of the network's
            own (a γ in ``settings`` still wins), and with its reference map the maps relative
            to good faces are computed too.

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
        self.device = usable_device(self.settings.device)
        self.calibration = calibration
        self.scaling, self.scaling_source = _scaling(self.spec, self.settings, calibration)
        self._gamma, self.gamma_source = _gamma(self.spec, self.settings, calibration)
        self.serfiq = SERFIQ(
            model.to(self.device),
            passes=self.settings.passes,
            dropout=self.settings.dropout,
            seed=self.settings.seed,
            estimator=self.settings.estimator,
        )
        self.plq = PixelQualityAttribution(
            self.serfiq,
            weights=self.settings.weights,
            target_scalar=self.settings.target_scalar,
            directions=self.settings.directions,
        )
        if calibration is not None:
            calibration.check(self.plq)
        self._weights = weights_state(self.serfiq.model)

    def __call__(self, chips: NDArray[np.uint8]) -> Explanation:
        """Explains a batch of aligned faces.

        Args:

            chips (ndarray): (n, H, W, 3), uint8, RGB, aligned as the network expects.

        Returns:
            *Explanation*: of the n faces.

        Raises:
            ValueError: if the network takes images of another size, or has other weights than
                the calibration was measured with; as
                :class:`~captum_plq.errors.UnusableImagesError`, for faces whose quality or map
                tells nothing, also where ``attribute`` only warns.
        """
        self._heed_new_weights()
        gamma = self.gamma
        pixels = torch.from_numpy(np.ascontiguousarray(chips)).permute(0, 3, 1, 2)
        attributions, quality, error = self.plq.attribute(
            pixels.float().to(self.device), return_quality=True, return_standard_error=True
        )
        merged = merge_channels(attributions)
        _refuse_uninformative(merged, quality)
        reference = None if self.calibration is None else self.calibration.reference
        relative = None if reference is None else relative_pixel_quality(merged, reference)
        attributions = self._scaled(attributions, quality)
        scaled = None if self.scaling is None else scale_quality(quality, self.scaling)
        return Explanation(
            images=chips,
            attributions=attributions.float().cpu().numpy(),
            maps=pixel_quality(merge_channels(attributions), gamma).cpu().numpy(),
            quality=quality.tolist(),
            quality_standard_error=error.tolist(),
            scaled_quality=None if scaled is None else scaled.tolist(),
            record=self._record(),
            relative_maps=None if relative is None else relative.cpu().numpy(),
        )

    def _heed_new_weights(self) -> None:
        """What was found of the network holds no longer when it was trained further."""
        weights = weights_state(self.serfiq.model)
        if weights == self._weights:
            return
        if self.calibration is not None:
            self.calibration.check(self.plq)
        if self.gamma_source == GAMMA_RULE:
            self._gamma = None
        self._weights = weights

    @property
    def gamma(self) -> float:
        """γ of Eq. 6, measured on the package's sample face when first asked for if none is known.

        Raises:
            ValueError: if none is known and the network has no γ there.
        """
        if self._gamma is None:

            def merged(images: Tensor) -> Tensor:
                found, q = self.plq.attribute(images.to(self.device), return_quality=True)
                return merge_channels(self._scaled(found, q))

            self._gamma = gamma_of_sample(self.spec.name, self.spec.input_size, merged)
        return self._gamma

    def _scaled(self, attributions: Tensor, quality: Tensor) -> Tensor:
        """With Q̂ in place of Q, if α and r are known."""
        if self.scaling is None:
            return attributions
        factor = scaling_factor(quality, self.scaling, self.settings.target_scalar)
        return attributions * factor.view(-1, 1, 1, 1)

    def _record(self) -> dict[str, Any]:
        parameters = {
            **{k: v for k, v in asdict(self.settings).items() if k not in ("gamma", "device")},
            "estimator_fallback": self.serfiq.fallback_reason,
            "pair_average": self.serfiq.average,
            "normalize_stochastic_embeddings": self.serfiq.normalize,
            "normalize_embedding": self.plq.quality_model.normalize,
            "alpha": None if self.scaling is None else self.scaling.alpha,
            "r": None if self.scaling is None else self.scaling.r,
            "scaling_source": self.scaling_source,
            "gamma": self.gamma,
            "gamma_source": self.gamma_source,
            "embedding_layer": self.serfiq.tap.layer_name,
        }
        return {
            "parameters": parameters,
            "model": {**asdict(self.spec), "output": _selector_name(self.spec)},
            "calibration": None if self.calibration is None else self.calibration.header(),
            "device": device_name(self.device),
            "versions": package_versions(),
        }


def calibration_that_holds(
    model: FaceModel, settings: Settings | None = None
) -> Calibration | None:
    """The calibration shipped with a network, if it holds for these weights and settings.

    Args:

        model (FaceModel): The network.
        settings (Settings, optional): Default: the paper's.

    Returns:
        *Calibration or None*: ``None`` if none is shipped, or it was measured otherwise.

    Examples::

        >>> model = load_model(DEFAULT_MODEL)
        >>> explainer = Explainer(model, calibration=calibration_that_holds(model))
    """
    found = shipped_calibration(model.spec.name)
    if found is None:
        return None
    try:
        found.check(Explainer(model, settings).plq)
    except ValueError:
        return None
    return found


def _refuse_uninformative(merged: Tensor, quality: Tensor) -> None:
    """Raises for faces whose gradients (n, H, W) or quality (n,) tell nothing."""
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


def _selector_name(spec: ModelSpec) -> int | str | None:
    """The spec's ``output``, a function by its name, so that JSON can hold it."""
    return (
        getattr(spec.output, "__qualname__", repr(spec.output))
        if callable(spec.output)
        else spec.output
    )


def _scaling(
    spec: ModelSpec, settings: Settings, calibration: Calibration | None
) -> tuple[QualityScaling | None, str]:
    """α and r, where they hold: Q depends on both m and p."""
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
    """γ, where one is known; the gradients of another node have another size."""
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
