"""What has been measured of one network on a development set, and the file that holds it.

The file is a ``.npz`` of NumPy: a JSON text ``header``, and the two arrays of the reference map.
It needs no further package, opens in any NumPy, and is read without pickle, so it can hold no
code. For 112×112 pixels it takes about 100 kB.
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
from torch import nn

from captum_plq._base.fields import require_field_types
from captum_plq._base.whole_file import whole_file
from captum_plq.attribution import PixelQualityAttribution
from captum_plq.calibration.archive import LARGEST_HEADER, LARGEST_MAP, read_archive
from captum_plq.calibration.settings import MethodSettings, network_digest
from captum_plq.functional import QualityScaling
from captum_plq.functional.relative import GradientReference
from captum_plq.models import FaceModel
from captum_plq.quality.serfiq import Estimator

__all__ = ["Calibration"]

_FORMAT = "captum-plq calibration"
_VERSION = 1
_SHARES = ("low_quality", "high_quality", "centre_quality", "border_quality", "gamma_holds")
_LARGEST_LOG = 1000.0
"""No number of 64 bits has a logarithm as large."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """What has been measured of one network under one set of conditions.

    Args:

        network (str): Its name.
        input_size (tuple[int, int]): Height and width, in pixels.
        conditions (MethodSettings): What it holds for.
        scaling (QualityScaling): α and r of Eq. 2.
        gamma (float): γ of Eq. 6, for pixels in the unit the network takes: 0–255 for a
            :class:`~captum_plq.models.FaceModel`.
        reference (GradientReference, optional): What good faces show, without α and r; ``None``:
            not measured.
        network_digest (str, optional): Of weights and normalisation, from
            :func:`~captum_plq.calibration.settings.network_digest`. ``None``: the network is not
            checked.
        faces (int): How many faces were measured.
        left_out (int): How many images could not be used.
        good_faces (int): How many of them ``gamma`` and ``reference`` come from.
        low_quality (float, optional): 5th percentile of Q.
        high_quality (float, optional): 95th percentile of Q.
        centre_quality (float, optional): Pixel quality (Eq. 6) of the middle of a good face:
            median over the good faces of the median over the pixels.
        border_quality (float, optional): That of the border.
        gamma_holds (float, optional): Share of the good faces whose median is above ½ in the
            middle and below ½ at the border.
        estimator (str): How Q was estimated.
        source (str): Where the faces came from.
        date (str): When, as YYYY-MM-DD.
        versions (dict): Of the packages.
        note (str): What a reader must be told.
        networks (tuple[str, ...]): Names of the networks it is for, as their ``spec`` has them;
            of a preset, which has no ``network_digest``. Empty: not checked.

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

    def __post_init__(self) -> None:
        require_field_types(self)
        require_field_types(self.scaling)
        height, width = self.input_size
        if min(height, width) < 1 or height * width > LARGEST_MAP:
            raise ValueError(f"its images of {height}×{width} pixels are none, or too large")
        if not self.scaling.alpha > 0 or not 0 <= self.scaling.r <= 1:
            raise ValueError(f"it has α = {self.scaling.alpha:g} and r = {self.scaling.r:g}")
        if min(self.left_out, self.good_faces) < 0 or self.good_faces > self.faces:
            raise ValueError(
                f"{self.good_faces} good ones of {self.faces} faces, {self.left_out} left out, "
                "are no numbers of faces"
            )
        for name in _SHARES:
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} is {value:g}, not between 0 and 1")
        low, high = self.low_quality, self.high_quality
        if low is not None and high is not None and low > high:
            raise ValueError(f"its 5th percentile of Q, {low:g}, is above its 95th, {high:g}")
        if self.reference is not None:
            _require_reference(self.reference, self.input_size)

    def header(self) -> dict[str, Any]:
        """Everything but the arrays, ready for JSON."""
        names = [f.name for f in fields(self) if f.name != "reference"]
        header = {name: getattr(self, name) for name in names}
        header["conditions"] = asdict(self.conditions)
        header["scaling"] = self.scaling._asdict()
        header["input_size"] = list(self.input_size)
        header["networks"] = list(self.networks)
        if self.reference is not None:
            header["pool"] = self.reference.pool_size
            header["pooled_spread"] = self.reference.pooled_spread
            header["smoothed"] = self.reference.blur_size
        return header

    def save(self, path: str | PathLike[str]) -> None:
        """Writes it to one file.

        Args:

            path (str or PathLike): By custom ``NAME.npz``. Missing folders are made. What is
                there is replaced once the new file is whole.

        Raises:
            OSError: if it cannot be written.
            ValueError: if its texts are too long, or ``path`` is no regular file.
        """
        header = json.dumps({"format": _FORMAT, "version": _VERSION, **self.header()})
        if len(header) > LARGEST_HEADER:
            raise ValueError(f"The texts of a calibration take at most {LARGEST_HEADER} letters.")
        arrays = {"header": np.array(header)}
        if self.reference is not None:
            arrays["mean"] = self.reference.mean.float().cpu().numpy()
            arrays["spread"] = self.reference.spread.float().cpu().numpy()
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Calibration:
        """Reads a file that :meth:`save` wrote.

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
            header, maps = read_archive(path)
            if header.get("format") != _FORMAT:
                raise ValueError("its header is of something else")
            version = header.get("version")
            if version == _VERSION and not isinstance(version, bool):
                return _from_parts(header, maps)
        except (ValueError, TypeError, KeyError, OSError, MemoryError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(
                f"{path} is not a calibration file, or is damaged ({reason.splitlines()[0]}): "
                "make one with `captum-plq calibrate`."
            ) from error
        raise ValueError(
            f"{path} is a calibration file of version {str(version)[:20]}, and this program reads "
            f"version {_VERSION}: update captum-plq, or make one with `captum-plq calibrate`."
        )

    def check(self, method: PixelQualityAttribution) -> None:
        """Refuses to be used on another network, or under other conditions.

        Args:

            method (PixelQualityAttribution): What it is to be used with.

        Raises:
            ValueError: if anything differs; names all that does.
        """
        model = method.quality_model.serfiq.model
        self._require_network(model)
        here, there = asdict(MethodSettings.of(method)), asdict(self.conditions)
        wrong = [f"{k} = {there[k]!r}, not {here[k]!r}" for k in there if there[k] != here[k]]
        if isinstance(model, FaceModel) and tuple(model.spec.input_size) != self.input_size:
            sizes = ["×".join(map(str, size)) for size in (self.input_size, model.spec.input_size)]
            wrong.append(f"images of {sizes[0]} pixels, not {sizes[1]}")
        if self.network_digest is not None and self.network_digest != network_digest(model):
            name = model.spec.name if isinstance(model, FaceModel) else type(model).__name__
            same = name == self.network
            this = "one of that name with other weights or another input" if same else repr(name)
            wrong.append(f"the network {self.network!r}, not {this}")
        if wrong:
            raise ValueError(
                f"This calibration does not hold here. It was measured with {'; '.join(wrong)}. "
                "Calibrate this network with these options, or use those it was measured with."
            )

    def _require_network(self, model: nn.Module) -> None:
        """Refuses a network whose name is not among those a preset is for."""
        name = model.spec.name if isinstance(model, FaceModel) else None
        if not self.networks or name in self.networks:
            return
        this = (
            f"this one is a {type(model).__name__} without a ModelSpec"
            if name is None
            else f"this one is called {name!r}"
        )
        known = " or ".join(map(repr, self.networks))
        raise ValueError(
            f"This calibration does not hold here: it is for the network {self.network}, known as "
            f"{known}, and {this}. Measure this network's own with `captum-plq calibrate`; if it "
            "really is that network, say so by the name in its ModelSpec."
        )


def _from_parts(header: dict[str, Any], maps: dict[str, NDArray[np.float32]]) -> Calibration:
    later = {"networks": [], "smoothed": 1}  # what the first files did not have
    header = {**later, **header}
    values = {f.name: header[f.name] for f in fields(Calibration) if f.name != "reference"}
    for name, kind in (("conditions", MethodSettings), ("scaling", QualityScaling)):
        if not isinstance(values[name], dict):
            raise ValueError(f"its {name} are no numbers by their names")
        values[name] = kind(**values[name])
    for name in ("input_size", "networks"):
        values[name] = tuple(values[name]) if isinstance(values[name], list) else None
    reference = None
    if maps:
        mean, spread = (torch.from_numpy(maps[name]) for name in ("mean", "spread"))
        named = (header[name] for name in ("pool", "pooled_spread", "smoothed"))
        reference = GradientReference(mean, spread, *named)
    return Calibration(reference=reference, **values)


def _require_reference(reference: GradientReference, size: tuple[int, int]) -> None:
    require_field_types(reference)
    if any(tuple(x.shape) != size for x in (reference.mean, reference.spread)):
        raise ValueError(f"its maps are not {size[0]}×{size[1]} pixels, as its header says")
    known = ~reference.mean.isnan()
    mean, spread = reference.mean[known], reference.spread[known]
    if bool((mean.abs() > _LARGEST_LOG).any()):
        raise ValueError("its means are not logarithms of gradients")
    if not bool(((spread >= 0) & (spread <= _LARGEST_LOG)).all()):
        raise ValueError("its spreads are not numbers of 0 or more")
    if reference.pool_size < 1 or reference.pool_size % 2 == 0 or not reference.pooled_spread > 0:
        raise ValueError("its pooling is not by an odd number of pixels, or has no spread")
    if reference.blur_size < 1 or reference.blur_size % 2 == 0:
        raise ValueError("its smoothing is not by an odd number of pixels")
