"""The calibration of one network on a development set, and the file that holds it.

The file is a ``.npz`` of NumPy: a JSON text ``header``, the two arrays of the reference map, and
those of the local reference. It needs no further package, opens in any NumPy, and is read without
pickle, so it can hold no code. For 112×112 pixels it takes about 100 kB.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_plq._base.fields import require_field_types
from captum_plq._base.whole_file import whole_file
from captum_plq.attribution import PixelQualityAttribution
from captum_plq.calibration.archive import LARGEST_HEADER, LARGEST_MAP, read_archive
from captum_plq.calibration.local import require_local_reference
from captum_plq.calibration.regions import RegionLosses, require_region_losses
from captum_plq.calibration.settings import MethodSettings, network_digest, network_name
from captum_plq.calibration.thresholds import QualityThresholds
from captum_plq.functional import QualityScaling
from captum_plq.functional.enlargement import PlaceCentres
from captum_plq.functional.local import LocalReference
from captum_plq.functional.relative import GradientReference
from captum_plq.models import FaceModel
from captum_plq.quality.serfiq import Estimator

__all__ = ["Calibration"]

_FORMAT = "captum-plq calibration"
_VERSION = 2
_BEFORE_LOCAL = 1
_OLD = "The calibration file was written before there was a local reference: calibrate again."
_SHARES = ("low_quality", "high_quality", "centre_quality", "border_quality", "gamma_holds")
_OWN_FORM = ("reference", "local", "region_losses", "thresholds")
_LARGEST_LOG = 1000.0
"""No number of 64 bits has a logarithm as large."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was measured of one network under one set of method settings.

    Args:

        network (str): Its name.
        input_size (tuple[int, int]): Height and width, in pixels.
        conditions (MethodSettings): The settings it holds for.
        scaling (QualityScaling): α and r of Eq. 2.
        gamma (float): γ of Eq. 6, for pixels in the unit the network takes: 0–255 for a
            :class:`~captum_plq.models.FaceModel`.
        reference (GradientReference, optional): Reference statistics of high-quality faces, without
            α and r; ``None``: not measured.
        network_digest (str, optional): Of weights and normalisation, from
            :func:`~captum_plq.calibration.settings.network_digest`. ``None``: the network is not
            checked.
        faces (int): How many faces were measured.
        left_out (int): How many images could not be used.
        good_faces (int): How many of the faces are of high quality: those that ``gamma`` and
            ``reference`` come from.
        low_quality (float, optional): 5th percentile of Q.
        high_quality (float, optional): 95th percentile of Q.
        centre_quality (float, optional): Pixel quality (Eq. 6) of the middle of a face: median
            over the high-quality faces of the median over the pixels.
        border_quality (float, optional): That of the border.
        gamma_holds (float, optional): Share of the high-quality faces whose median is above ½
            in the middle and below ½ at the border.
        estimator (str): How Q was estimated.
        source (str): Where the faces came from.
        date (str): When, as YYYY-MM-DD.
        versions (dict): Of the packages.
        note (str): For readers.
        networks (tuple[str, ...]): Names of the networks it is for, as their ``spec`` has them;
            of a preset, which has no ``network_digest``. Empty: not checked.
        local (LocalReference, optional): What high-quality faces show at each place of the last
            spatial map, with dropout of that map at the rate of ``conditions``; for
            :class:`~captum_plq.LocalQuality`. ``None``: not measured, or not to be had.
        local_layer (str, optional): Name of the module that gives, or takes, that map.
        without_local (str): Why there is no ``local``.
        region_losses (RegionLosses, optional): What high-quality faces lose in each region of the
            face, against ``local``. ``None``: not measured.
        thresholds (QualityThresholds, optional): Which Q high-quality faces have, and how often
            images fail by their Q. ``None``: not measured.

    Raises:
        ValueError: for values of other types, or that no measurement gives.
    """

    network: str
    input_size: tuple[int, int]
    conditions: MethodSettings
    scaling: QualityScaling
    gamma: float
    reference: GradientReference | None = field(default=None, repr=False)
    network_digest: str | None = None
    faces: int = 0
    left_out: int = 0
    good_faces: int = 0
    low_quality: float | None = None
    high_quality: float | None = None
    centre_quality: float | None = None
    border_quality: float | None = None
    gamma_holds: float | None = None
    estimator: Estimator = "sampling"
    source: str = ""
    date: str = ""
    versions: dict[str, str | None] = field(default_factory=dict, repr=False)
    note: str = ""
    networks: tuple[str, ...] = ()
    local: LocalReference | None = field(default=None, repr=False)
    local_layer: str | None = None
    without_local: str = ""
    region_losses: RegionLosses | None = field(default=None, repr=False)
    thresholds: QualityThresholds | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        require_field_types(self)
        require_field_types(self.scaling)
        (height, width), (alpha, r) = self.input_size, self.scaling
        low, high, good = self.low_quality, self.high_quality, self.good_faces
        _require(min(height, width) >= 1, f"images of {height}×{width} pixels")
        _require(height * width <= LARGEST_MAP, f"images of {height}×{width} pixels, too large")
        _require(alpha > 0 and 0 <= r <= 1, f"α = {alpha:g} and r = {r:g}")
        _require(0 <= good <= self.faces, f"{good} high-quality ones of {self.faces} faces")
        _require(self.left_out >= 0, f"{self.left_out} images left out")
        for name in _SHARES:
            value = getattr(self, name)
            _require(value is None or 0 <= value <= 1, f"{name} is {value}, not between 0 and 1")
        _require(
            low is None or high is None or low <= high,
            f"the 5th percentile of Q, {low}, above the 95th, {high}",
        )
        if self.reference is not None:
            _require_reference(self.reference, self.input_size)
        if self.local is not None:
            require_local_reference(self.local)
            _require(self.local_layer is not None, "a local reference of no layer")
        if self.region_losses is not None:
            _require(self.local is not None, "losses of regions without a local reference")
            require_region_losses(self.region_losses)

    def header(self) -> dict[str, Any]:
        """Return everything but the arrays and ``thresholds``, ready for JSON."""
        header = {name: getattr(self, name) for name in _fields()}
        header["conditions"] = asdict(self.conditions)
        header["scaling"] = self.scaling._asdict()
        header["input_size"] = list(self.input_size)
        header["networks"] = list(self.networks)
        if self.reference is not None:  # the file's own names
            header["pool"] = self.reference.pool_size
            header["pooled_spread"] = self.reference.pooled_spread
            header["smoothed"] = self.reference.blur_size
        if self.local is not None:
            header["snr"] = self.local.snr
            if (centres := self.local.centres) is not None:
                header["place_centres"] = {x: list(getattr(centres, x)) for x in centres._fields}
        if self.region_losses is not None:
            header["region_losses"] = self.region_losses.in_file()
        return header

    def save(self, path: str | PathLike[str]) -> None:
        """Write it to one file.

        Args:

            path (str or PathLike): By custom ``NAME.npz``. Missing folders are made. What is
                there is replaced once the new file is whole.

        Raises:
            OSError: if it cannot be written.
            ValueError: if its texts are too long, or ``path`` is no regular file.
        """
        content = {"format": _FORMAT, "version": _VERSION, **self.header()}
        if self.thresholds is not None:
            content["thresholds"] = self.thresholds.in_file()
        header = json.dumps(content)
        if len(header) > LARGEST_HEADER:
            raise ValueError(f"The texts of a calibration take at most {LARGEST_HEADER} letters.")
        arrays = {"header": np.array(header)}
        if self.reference is not None:
            arrays["mean"] = self.reference.mean.float().cpu().numpy()
            arrays["spread"] = self.reference.spread.float().cpu().numpy()
        if self.local is not None:
            arrays["local_center"] = self.local.center.float().cpu().numpy()
            arrays["local_spread"] = self.local.spread.float().cpu().numpy()
            if self.local.smoothed is not None:
                arrays["local_smoothed"] = self.local.smoothed.float().cpu().numpy()
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Calibration:
        """Read a file that :meth:`save` wrote.

        Args:

            path (str or PathLike): The file.

        Returns:
            *Calibration*: on the CPU.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is something else, damaged, or written by a later version.

        Examples::

            >>> calibration = Calibration.load("mine.npz")
            >>> Explainer(model, calibration=calibration)
        """
        path = Path(path)
        if path.is_dir() or not path.exists():
            raise FileNotFoundError(f"There is no calibration file {path}.")
        try:
            arrays = read_archive(path)
            header = _header(arrays)
            version = header.get("version")
            if version in (_BEFORE_LOCAL, _VERSION) and not isinstance(version, bool):
                return _from_parts(header, arrays)
        except (ValueError, TypeError, KeyError, OSError, MemoryError, RecursionError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(
                f"{path} is not a calibration file, or is damaged ({reason.splitlines()[0]}): "
                "make one with `captum-plq calibrate`."
            ) from error
        raise ValueError(
            f"{path} is a calibration file of version {str(version)[:20]}, and this program reads "
            f"versions up to {_VERSION}: update it, or make one with `captum-plq calibrate`."
        )

    def check(self, method: PixelQualityAttribution) -> None:
        """Raise unless it holds for a method: the same network and the same settings.

        Args:

            method (PixelQualityAttribution): What it is to be used with.

        Raises:
            ValueError: if anything differs; names all that does.
        """
        model = method.quality_model.serfiq.model
        spec, name = model.spec if isinstance(model, FaceModel) else None, network_name(model)
        here, there = asdict(MethodSettings.of(method)), asdict(self.conditions)
        wrong = [f"{k} = {there[k]!r}, not {here[k]!r}" for k in there if there[k] != here[k]]
        if spec is not None and tuple(spec.input_size) != self.input_size:
            sizes = ["×".join(map(str, size)) for size in (self.input_size, spec.input_size)]
            wrong.append(f"images of {sizes[0]} pixels, not {sizes[1]}")
        if self.networks and (spec is None or name not in self.networks):
            known, this = " or ".join(map(repr, self.networks)), f"this {name} without one"
            wrong.append(
                f"the network {self.network}, known as {known} by its ModelSpec, not "
                f"{this if spec is None else repr(name)}"
            )
        if self.network_digest is not None and self.network_digest != network_digest(model):
            same = "one of that name with other weights or another input"
            wrong.append(
                f"the network {self.network!r}, not {same if name == self.network else repr(name)}"
            )
        if wrong:
            raise ValueError(
                f"This calibration does not hold here. It was measured with {'; '.join(wrong)}. "
                "Calibrate this network with these options, or use those it was measured with."
            )


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(f"a calibration cannot have {otherwise}")


def _fields() -> list[str]:
    """Those in the header under their own names."""
    return [f.name for f in fields(Calibration) if f.name not in _OWN_FORM]


def _header(arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """The header of a file, of whatever version."""
    text = arrays["header"]
    header = json.loads(text.item()) if text.dtype.kind == "U" and text.shape == () else None
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise ValueError("its header is of something else")
    return header


def _from_parts(header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Calibration:
    if header["version"] == _BEFORE_LOCAL:
        since = {"networks": [], "smoothed": 1, "local_layer": None, "without_local": _OLD}
        header = {**since, **header}
    values = {name: header[name] for name in _fields()}
    for name, kind in (("conditions", MethodSettings), ("scaling", QualityScaling)):
        if not isinstance(values[name], dict):
            raise ValueError(f"{name}: expected values by name")
        values[name] = kind(**values[name])
    for name in ("input_size", "networks"):
        values[name] = tuple(values[name]) if isinstance(values[name], list) else None
    reference = None
    if {"mean", "spread"} & set(arrays) or "pool" in header:
        mean, spread = (_floats(arrays, name) for name in ("mean", "spread"))
        boxes = (header[name] for name in ("pool", "pooled_spread", "smoothed"))
        reference = GradientReference(mean, spread, *boxes)
    local = None
    if any(name.startswith("local_") for name in arrays) or "snr" in header:
        center, spread = (_floats(arrays, name) for name in ("local_center", "local_spread"))
        smoothed = _floats(arrays, "local_smoothed") if "local_smoothed" in arrays else None
        places = header.get("place_centres")  # files of before have none: equal cells
        centres = None if places is None else _centres(places)
        local = LocalReference(header["snr"], center, spread, smoothed, centres)
    losses = header.get("region_losses")  # files of before have none
    if losses is not None:
        values["region_losses"] = RegionLosses.from_file(losses)
    if header.get("thresholds") is not None:
        values["thresholds"] = QualityThresholds.from_file(header["thresholds"])
    return Calibration(reference=reference, local=local, **values)


def _centres(found: object) -> PlaceCentres:
    if not isinstance(found, dict) or not all(isinstance(x, list) for x in found.values()):
        raise ValueError("place_centres: expected pairs by name")
    return PlaceCentres(**{name: tuple(pair) for name, pair in found.items()})


def _floats(arrays: dict[str, NDArray[Any]], name: str) -> Tensor:
    if arrays[name].dtype.newbyteorder("=") != np.float32:
        raise ValueError(f"{name!r} holds {arrays[name].dtype}, not float32")
    return torch.from_numpy(arrays[name].astype(np.float32))


def _require_reference(reference: GradientReference, size: tuple[int, int]) -> None:
    require_field_types(reference)
    for x in (reference.mean, reference.spread):
        _require(tuple(x.shape) == size, f"maps that are not {size[0]}×{size[1]} pixels")
    known = ~reference.mean.isnan()
    mean, spread = reference.mean[known], reference.spread[known]
    _require(bool((mean.abs() <= _LARGEST_LOG).all()), "means that are no logarithms of gradients")
    _require(
        bool(((spread >= 0) & (spread <= _LARGEST_LOG)).all()), "spreads that are not 0 or more"
    )
    for side in (reference.pool_size, reference.blur_size):
        _require(side >= 1 and side % 2 == 1, f"a box of {side} pixels, no odd number")
    _require(reference.pooled_spread > 0, f"a pooled spread of {reference.pooled_spread}")
