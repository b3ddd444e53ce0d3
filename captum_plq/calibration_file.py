"""What has been measured of one network on a development set, and the file that holds it.

The file is a ``.npz`` of NumPy: a JSON text ``header``, and the two arrays of the reference map.
It needs no further package, opens in any NumPy, and is read without pickle, so it can hold no
code. For 112×112 pixels it takes about 100 kB.
"""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from dataclasses import asdict, dataclass, field, fields
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import torch

from captum_plq.attribution import PixelQualityAttribution
from captum_plq.conditions import Conditions, network_digest
from captum_plq.functional import QualityScaling
from captum_plq.models import DEFAULT_MODEL, FaceModel
from captum_plq.models.dropout_mobilefacenet import find_shipped_weights
from captum_plq.reference_quality import GradientReference

__all__ = ["PRESETS", "Calibration", "load_calibration", "shipped_calibration"]

_FORMAT = "captum-plq calibration"
_VERSION = 1


@dataclass(frozen=True, eq=False)
class Calibration:
    """What has been measured of one network under one set of conditions.

    Args:

        network (str): Its name.
        input_size (tuple[int, int]): Height and width, in pixels.
        conditions (Conditions): What it holds for.
        scaling (QualityScaling): α and r of Eq. 2.
        gamma (float): γ of Eq. 6, for pixels in the unit the network takes: 0–255 for a
            :class:`~captum_plq.models.FaceModel`.
        reference (GradientReference, optional): What good faces show, without α and r; ``None``:
            not measured.
        network_digest (str, optional): Of weights and normalisation, from
            :func:`~captum_plq.conditions.network_digest`. ``None``: the network is not checked.
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
    """

    network: str
    input_size: tuple[int, int]
    conditions: Conditions
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
    estimator: str = "sampling"
    source: str = ""
    date: str = ""
    versions: dict[str, str | None] = field(default_factory=dict, repr=False)
    note: str = ""

    def header(self) -> dict[str, Any]:
        """Everything but the arrays, ready for JSON."""
        names = [f.name for f in fields(self) if f.name != "reference"]
        header = {name: getattr(self, name) for name in names}
        header["conditions"] = asdict(self.conditions)
        header["scaling"] = self.scaling._asdict()
        header["input_size"] = list(self.input_size)
        if self.reference is not None:
            header["pool"] = self.reference.pool
            header["pooled_spread"] = self.reference.pooled_spread
            header["smoothed"] = self.reference.smoothed
        return header

    def save(self, path: str | PathLike[str]) -> None:
        """Writes it to one file.

        Args:

            path (str or PathLike): By custom ``NAME.npz``. Missing folders are made.
        """
        header = {"format": _FORMAT, "version": _VERSION, **self.header()}
        arrays = {"header": np.array(json.dumps(header, ensure_ascii=False, allow_nan=False))}
        if self.reference is not None:
            arrays["mean"] = self.reference.mean.cpu().numpy()
            arrays["spread"] = self.reference.spread.cpu().numpy()
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:  # a handle, since NumPy would change the name
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
        if not path.is_file():
            raise FileNotFoundError(f"There is no calibration file {path}.")
        try:
            header, arrays = _read(path)
            if header.get("format") != _FORMAT:
                raise ValueError("its header is of something else")
            if header.get("version") != _VERSION:
                raise ValueError(
                    f"it is of version {header.get('version')!r}, and this program reads {_VERSION}"
                )
            return _from_parts(header, arrays)
        except (
            ValueError, TypeError, KeyError, OSError, EOFError, RecursionError,
            zipfile.BadZipFile, zlib.error, NotImplementedError, MemoryError,
        ) as error:  # fmt: skip
            reason = f"no {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
            raise ValueError(
                f"{path} is not a calibration file, or is damaged ({reason}): make one with "
                "`captum-plq calibrate`."
            ) from error

    def check(self, method: PixelQualityAttribution) -> None:
        """Refuses to be used on another network, or under other conditions.

        Args:

            method (PixelQualityAttribution): What it is to be used with.

        Raises:
            ValueError: if anything differs; names all that does.
        """
        here, there = asdict(Conditions.of(method)), asdict(self.conditions)
        wrong = [f"{k} = {there[k]!r}, not {here[k]!r}" for k in there if there[k] != here[k]]
        model = method.quality_model.serfiq.model
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


_PAPER = (
    "From the paper (Terhörst et al., IEEE T-BIOM 2023, Sec. IV-B), for its own {network}, with "
    "{size} aligned crops and gradients with respect to 0–255 pixels. On another network, or "
    "other weights of this architecture, α, r and γ mean nothing. The paper does not state how it "
    "averages pairs or normalises the embedding."
)

PRESETS: dict[str, Calibration] = {
    "arcface": Calibration(
        network="ArcFace, ResNet-100",
        input_size=(112, 112),
        conditions=Conditions(),
        scaling=QualityScaling(130.0, 0.88),
        gamma=7.5,
        source="the paper; α and r from the quality values of Adience",
        note=_PAPER.format(network="ArcFace ResNet-100, trained on MS1M", size="112×112"),
    ),
    "facenet": Calibration(
        network="FaceNet",
        input_size=(160, 160),
        conditions=Conditions(),
        scaling=QualityScaling(450.0, 0.93),
        gamma=5.5,
        source="the paper; α and r from the quality values of Adience",
        note=_PAPER.format(network="FaceNet, trained on MS1M", size="160×160"),
    ),
}
"""The paper's values, by name. They hold no reference map, and no digest of the network, which
therefore is not checked: the image size and the conditions are."""


def load_calibration(name_or_file: str | PathLike[str]) -> Calibration:
    """Finds a calibration: a preset by its name, or else a file.

    Args:

        name_or_file (str or PathLike): A name of ``PRESETS``, or of a network that this package
            ships, neither of which is ever taken for a file; or a file of
            :meth:`Calibration.save`.

    Returns:
        *Calibration*: ready for :class:`~captum_plq.explanation.Explainer`.

    Raises:
        FileNotFoundError: if it is neither; names the presets.
        ValueError: as :meth:`Calibration.load`.
    """
    if isinstance(name_or_file, str):
        preset = PRESETS.get(name_or_file) or shipped_calibration(name_or_file)
        if preset is not None:
            return preset
    try:
        return Calibration.load(name_or_file)
    except FileNotFoundError as error:
        known = ", ".join(map(repr, (*PRESETS, DEFAULT_MODEL)))
        raise FileNotFoundError(
            f"There is no calibration file {fspath(name_or_file)}, and the presets are {known}."
        ) from error


def shipped_calibration(network: str) -> Calibration | None:
    """The calibration that lies beside the weights of a network that this package ships.

    Args:

        network (str): Its name, such as ``captum_plq.models.DEFAULT_MODEL``.

    Returns:
        *Calibration or None*: ``None`` for any other network.
    """
    if network != DEFAULT_MODEL:
        return None
    weights = find_shipped_weights()
    path = None if weights is None else weights.with_suffix(".npz")
    return Calibration.load(path) if path is not None and path.is_file() else None


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError("it is no .npz file")
        file.seek(0)
        with np.load(file, allow_pickle=False) as archive:
            header = json.loads(str(archive["header"]))
            if not isinstance(header, dict):
                raise ValueError("its header is of something else")
            return header, {name: archive[name] for name in archive.files if name != "header"}


def _from_parts(header: dict[str, Any], arrays: dict[str, Any]) -> Calibration:
    known = {f.name for f in fields(Calibration)} - {"reference"}
    values = {name: header[name] for name in known}
    values["conditions"] = Conditions(**header["conditions"])
    values["scaling"] = QualityScaling(**{k: _number(v) for k, v in header["scaling"].items()})
    values["gamma"] = _number(header["gamma"])
    height, width = header["input_size"]
    values["input_size"] = (height, width)
    if not arrays:
        return Calibration(**values)
    maps = {name: torch.from_numpy(arrays[name].astype(np.float32)) for name in ("mean", "spread")}
    if any(tuple(x.shape) != (height, width) for x in maps.values()):
        raise ValueError(f"its maps are not {height}×{width} pixels, as its header says")
    finite = maps["mean"].isfinite()
    if bool((maps["spread"][finite] < 0).any() or not maps["spread"][finite].isfinite().all()):
        raise ValueError("its spreads are not numbers of 0 or more")
    pool, pooled_spread = header["pool"], _number(header["pooled_spread"])
    if not (isinstance(pool, int) and pool % 2 == 1 and pool > 0 and pooled_spread > 0):
        raise ValueError("its pooling is not by an odd number of pixels, or has no spread")
    smoothed = header.get("smoothed", 1)  # files from before there was such a thing lack it
    if not (isinstance(smoothed, int) and smoothed % 2 == 1 and smoothed > 0):
        raise ValueError("its smoothing is not by an odd number of pixels")
    reference = GradientReference(maps["mean"], maps["spread"], pool, pooled_spread, smoothed)
    return Calibration(reference=reference, **values)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{value!r} stands where a number should")
    return float(value)
