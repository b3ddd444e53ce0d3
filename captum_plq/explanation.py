"""From aligned faces to an explanation on disk: qualities, attributions, maps, a figure."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from captum_plq._device import device_name, usable_device
from captum_plq._versions import package_versions
from captum_plq.attribution import PixelQualityAttribution, TargetScalar, scaling_factor
from captum_plq.calibration_file import Calibration
from captum_plq.functional import (
    NodeWeights,
    QualityScaling,
    half_quality_gamma,
    merge_channels,
    pixel_quality,
    scale_quality,
)
from captum_plq.known_calibrations import shipped_calibration
from captum_plq.models import FaceModel, ModelSpec
from captum_plq.reference_quality import relative_pixel_quality
from captum_plq.serfiq import SERFIQ, Estimator
from captum_plq.visualization import plot_quality_map, plot_quality_maps

__all__ = ["Explainer", "Explanation", "Settings", "calibration_that_holds", "write_json"]


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
        gamma (float, optional): γ of Eq. 6. ``None``: the network's own; where none is
            known for these weights, the one that gives the median pixel of the first batch
            quality ½. Maps then compare within this run only.
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


@dataclass(frozen=True)
class Explanation:
    """What is known about a batch of n faces.

    Args:

        images (ndarray): (n, H, W, 3), uint8, RGB.
        attributions (ndarray): (n, 3, H, W), float32, S(I) of Eq. 4 with respect to 0–255
            pixels.
        maps (ndarray): (n, H, W), float32, P(I) in [0, 1].
        quality (list[float]): Q (Eq. 1).
        quality_standard_error (list[float]): of Q, from the finite number of passes.
        scaled_quality (list[float] or None): Q̂ (Eq. 2), if α and r are known.
        record (dict): Parameters, model, calibration and versions, ready for JSON.
        relative_maps (ndarray or None): (n, H, W), float32, in [0, 1]: pixel quality relative
            to good faces, ½ where a pixel is as in those; if the calibration has a reference.
    """

    images: NDArray[np.uint8]
    attributions: NDArray[np.float32]
    maps: NDArray[np.float32]
    quality: list[float]
    quality_standard_error: list[float]
    scaled_quality: list[float] | None
    record: dict[str, Any] = field(repr=False)
    relative_maps: NDArray[np.float32] | None = None

    def titles(self, names: Sequence[str] | None = None) -> list[str]:
        """One title per face: its name, if given, and its quality."""
        titles = []
        for i, q in enumerate(self.quality):
            text = f"Q = {q:.3f} ± {self.quality_standard_error[i]:.3f}"
            if self.scaled_quality is not None:
                text += f", Q̂ = {self.scaled_quality[i]:.2f}"
            titles.append(text if names is None else f"{names[i]}\n{text}")
        return titles

    @property
    def caption(self) -> str:
        """Network and parameters in one line, and what a reader must be told."""
        p, model = self.record["parameters"], self.record["model"]
        line = (
            f"{model['name']}; m = {p['passes']}, p = {p['dropout']:g}, weights {p['weights']}, "
            f"γ = {p['gamma']:.2f} ({p['gamma_source']})"
        )
        calibration = self.record["calibration"] or {"note": ""}
        notes = " ".join(filter(None, (model["note"], calibration["note"])))
        return "\n".join([line, *textwrap.wrap(notes, 50 * max(2, len(self.images)))])

    def save(
        self,
        directory: Path,
        stem: str,
        *,
        names: Sequence[str] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> list[Path]:
        """Writes the figure, the arrays and the record.

        Args:

            directory (Path): Made if it is missing.
            stem (str): File name without its ending.
            names (sequence of str, optional): One per face, for the figure's titles.
            extra (dict, optional): More for the JSON.

        Returns:
            *list[Path]*: ``stem.png``, ``stem.npz`` (``images``, ``attributions``, ``maps``,
            and ``relative_maps`` if there are any) and ``stem.json``.
        """
        directory.mkdir(parents=True, exist_ok=True)
        figure_path, array_path, record_path = (
            directory / f"{stem}{ending}" for ending in (".png", ".npz", ".json")
        )
        self._figure(self.titles(names)).savefig(figure_path, dpi=150)
        arrays = {"images": self.images, "attributions": self.attributions, "maps": self.maps}
        if self.relative_maps is not None:
            arrays["relative_maps"] = self.relative_maps
        np.savez_compressed(array_path, **arrays)  # type: ignore[arg-type]
        relative = self.relative_maps
        faces = [
            {
                **({} if names is None else {"name": names[i]}),
                "quality": self.quality[i],
                "quality_standard_error": self.quality_standard_error[i],
                "scaled_quality": None if self.scaled_quality is None else self.scaled_quality[i],
                "mean_pixel_quality": float(self.maps[i].mean()),
                **(
                    {} if relative is None else {"mean_relative_quality": float(relative[i].mean())}
                ),
            }
            for i in range(len(self.quality))
        ]
        files = {"figure": figure_path.name, "arrays": array_path.name}
        record = {"faces": faces, **(extra or {}), **self.record, "files": files}
        write_json(record_path, record)
        return [figure_path, array_path, record_path]

    def _figure(self, titles: list[str]) -> Figure:
        images, maps, relative = list(self.images), list(self.maps), self.relative_maps
        if len(images) > 1:
            below = None if relative is None else list(relative)
            return plot_quality_maps(images, maps, titles, below, caption=self.caption)[0]
        beside = None if relative is None else relative[0]
        return plot_quality_map(images[0], maps[0], beside, title=titles[0], caption=self.caption)[
            0
        ]


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
        self.gamma, self.gamma_source = _gamma(self.spec, self.settings, calibration)
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

    def __call__(self, chips: NDArray[np.uint8]) -> Explanation:
        """Explains a batch of aligned faces.

        Args:

            chips (ndarray): (n, H, W, 3), uint8, RGB, aligned as the network expects.

        Returns:
            *Explanation*: of the n faces.

        Raises:
            ValueError: if the network takes images of another size.
        """
        pixels = torch.from_numpy(np.ascontiguousarray(chips)).permute(0, 3, 1, 2)
        images = pixels.float().to(self.device)
        attributions, quality, error = self.plq.attribute(
            images, return_quality=True, return_standard_error=True
        )
        reference = None if self.calibration is None else self.calibration.reference
        relative = None
        if reference is not None:
            relative = relative_pixel_quality(merge_channels(attributions), reference)
        if self.scaling is not None:
            factor = scaling_factor(quality, self.scaling, self.settings.target_scalar)
            attributions = attributions * factor.view(-1, 1, 1, 1)
        merged = merge_channels(attributions)
        if self.gamma is None:
            self.gamma = half_quality_gamma(merged)
        scaled = None if self.scaling is None else scale_quality(quality, self.scaling)
        return Explanation(
            images=chips,
            attributions=attributions.float().cpu().numpy(),
            maps=pixel_quality(merged, self.gamma).cpu().numpy(),
            quality=quality.tolist(),
            quality_standard_error=error.tolist(),
            scaled_quality=None if scaled is None else scaled.tolist(),
            record=self._record(),
            relative_maps=None if relative is None else relative.cpu().numpy(),
        )

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


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Writes a record for people and programs: indented, in UTF-8."""
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", "utf-8")


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
    return None, "median pixel of this run's first image at 0.5"


def _source(calibration: Calibration) -> str:
    made = f" of {calibration.date}" if calibration.date else ""
    return f"calibration of {calibration.network}{made}"
