"""``Calibration.load``, on files of calibrations, damaged or made to mislead."""

import io
import json
import struct
from copy import deepcopy

import numpy as np
import torch

from captum_plq.calibration import Calibration, MethodSettings
from captum_plq.calibration.regions import RegionLosses
from captum_plq.faces import REGIONS
from captum_plq.functional import QualityScaling
from captum_plq.functional.enlargement import PlaceCentres
from captum_plq.functional.local import LocalReference
from captum_plq.functional.relative import GradientReference
from tests.fuzz.mutations import archive, damaged_archive, flip, spoil
from tests.fuzz.target import Case, FileTarget, Finding

_VALUES = (
    None, True, False, 0, -1, 1, 2, 3, 5, 1e308, -1e308, 1e-320, 10**400, "", "x", "NaN", "1e5", [],
    [1], [1, 2], {}, {"a": 1}, [[]], "\ud800", "\0", float("inf"), float("nan"), 2**63, -(2**63),
    112.0, [112, 112], ["112", "112"], [10**9, 10**9], [-1, -1], [0, 0],
)  # fmt: skip
_DESCRIPTIONS = (
    "'<f4'", "'|O'", "'<U3'", "'<c16'", "'>f8'", "'|b1'", "'<i8'", "'|V8'", "'<M8[s]'",
    "[('a','<f4')]", "'|S0'", "'<f2'", "'zz'", "12", "'<f4", "'<U300000000'",
)  # fmt: skip
_SHAPES = (
    "()", "(20, 20)", "(0, 0)", "(20, 20, 3)", "(-1, -1)", "(1000000000,)", "(2**62, 4)", "(3,)",
    "99999999999999999999", "None", "((", "(True,)", "(1.0,)", "(20000, 20000)",
)  # fmt: skip
_SHARES = ("low_quality", "high_quality", "centre_quality", "border_quality", "gamma_holds")
_OPTIONAL = {
    *_SHARES, "network_digest", "directions", "pool", "pooled_spread", "smoothed", "local_layer",
    "snr", "region_losses", "place_centres",
}  # fmt: skip


class CalibrationFiles(FileTarget):
    """Any file: a ``ValueError`` that names it, or a calibration whose every field makes sense."""

    def __init__(self, folder):
        super().__init__(folder)
        mean = -7 + torch.randn(20, 20, generator=torch.Generator().manual_seed(0))
        mean[-1] = torch.nan
        reference = GradientReference(mean, mean.exp().sqrt(), 5, 0.6, 3)
        settings = MethodSettings(directions=3)
        common = ("net", (20, 20), settings, QualityScaling(130.0, 0.88), 7.5)
        measured = ("0123456789abcdef", 300, 2, 75, 0.85, 0.9, 0.7, 0.3, 0.9)
        told = {"versions": {"torch": "2.6", "dlib": None}, "networks": ("net",), "note": "α"}
        centres = PlaceCentres((0.1, 0.1), (0.2, 0.2))
        told |= {"local": LocalReference(4.5, mean[:7, :7], mean[:7, :7].exp(), centres=centres)}
        told |= {"local_layer": "trunk"}
        lost = np.linspace(-0.1, 0.1, 90).reshape(10, 9)
        told |= {"region_losses": RegionLosses.of(lost)}
        with_maps = Calibration(*common, reference, *measured, **told)
        path, self.files, self.whole = folder / "whole.npz", {}, with_maps.header()
        for calibration in (with_maps, Calibration(*common)):
            calibration.save(path)
            with np.load(path) as opened:
                self.files[path.read_bytes()] = {n: _npy(opened[n]) for n in opened.files}

    def case(self, rng):
        data = rng.choice(tuple(self.files))
        parts = {f"{name}.npy": part for name, part in self.files[data].items()}
        chosen = rng.choice(tuple(parts))
        way = rng.choice(("bytes", "values", "members", "arrays", "descriptions"))
        if way == "bytes":
            return Case(*spoil(rng, data, tuple(self.files)), ".npz")
        if way == "values":
            parts["header.npy"] = _npy(np.array(_other_values(rng, parts["header.npy"])))
        elif way == "arrays":
            parts[chosen] = flip(rng, parts[chosen], 0, rng.choice((128, len(parts[chosen]))))
        elif way == "descriptions":
            parts[chosen] = _described(rng)
        make = archive if way != "members" else lambda *given: damaged_archive(rng, *given)
        return Case(way, make(parts.items(), True), ".npz")

    def load(self, path, case):
        calibration = Calibration.load(path)
        header = calibration.header()
        json.dumps(header, allow_nan=False)
        for name, example in _flat(self.whole).items():
            value = _flat(header).get(name)
            as_is = type(value) is type(example) or (value is None and name in _OPTIONAL)
            if not as_is and (type(value), type(example)) != (int, float):
                raise Finding(f"senseless {name}, {value!r}")
        s, n, c = calibration.scaling, calibration.conditions, calibration
        shares = [header[name] for name in _SHARES if header[name] is not None]
        if not (
            min(c.input_size) > 0
            and {*map(type, c.input_size)} == {int}
            and {*map(type, (*c.networks, *c.versions.values()))} <= {str, type(None)}
            and s.alpha > 0 <= s.r <= 1
            and n.passes > 1 > n.dropout > 0
            and (n.directions or 1) > 0 <= c.good_faces <= c.faces
            and c.left_out >= 0
            and all(0 <= share <= 1 for share in shares)
        ):
            raise Finding(f"numbers that no measurement gives, {header}")
        if c.reference is not None:
            mean, spread, pool, pooled_spread, blur = c.reference
            known = mean.isfinite()
            if not (
                tuple(mean.shape) == tuple(spread.shape) == c.input_size
                and not bool(mean.isinf().any())
                and bool((spread[known] >= 0).all() and spread[known].isfinite().all())
                and min(pool, blur, pooled_spread) > 0
                and pool % 2 == blur % 2 == 1
            ):
                raise Finding("senseless maps")
        if c.local is not None:
            center, spread = c.local.center, c.local.spread
            if not (
                c.local.snr > 0
                and center.shape == spread.shape
                and center.ndim == 2
                and bool(center.isfinite().all() and (spread > 0).all())
                and c.local_layer is not None
            ):
                raise Finding("a senseless local reference")
        if c.region_losses is not None:
            scores = c.region_losses.unusual(np.ones((1, len(REGIONS))))
            if c.local is None or not np.isfinite(scores).all():
                raise Finding("senseless losses of regions")
        again = path.with_name("again.npz")
        calibration.save(again)
        if Calibration.load(again).header() != header:
            raise Finding("not the same after saving and loading")
        return "loaded, the same" if header == self.whole else "loaded, another"


def _flat(header):
    return {**header, **header["conditions"], **header["scaling"]}


def _other_values(rng, header):
    """A header with other values, or keys too many or too few."""
    header = json.loads(str(np.load(io.BytesIO(header))))
    for _ in range(rng.choice((1, 1, 2, 3))):
        key, value = rng.choice((*header, "x")), deepcopy(rng.choice(_VALUES))
        inner = header.get(key)
        if rng.random() < 0.15:
            header.pop(key, None)
        elif isinstance(inner, dict) and inner and rng.random() < 0.6:
            inner[rng.choice(tuple(inner))] = value
        else:
            header[key] = value
    return "[" * 100_000 * (rng.random() < 0.05) + json.dumps(header)


def _npy(array):
    file = io.BytesIO()
    np.lib.format.write_array(file, array)
    return file.getvalue()


def _described(rng):
    """An array whose description is not of what follows."""
    order = rng.choice(("False", "True", "0", "None"))
    text = (
        f"{{'descr': {rng.choice(_DESCRIPTIONS)}, 'fortran_order': {order}, "
        f"'shape': {rng.choice(_SHAPES)}, }}"
    )
    text = text.encode() + b" " * (63 - (10 + len(text)) % 64) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + bytes(rng.choice((0, 1600)))


TARGET = CalibrationFiles
