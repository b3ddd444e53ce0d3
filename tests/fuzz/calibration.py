"""``Calibration.load``, on files of calibrations, spoilt or made to mislead."""

from __future__ import annotations

import io
import json
import math
import struct
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from captum_plq.calibration.file import Calibration
from captum_plq.calibration.settings import MethodSettings
from captum_plq.functional import QualityScaling
from captum_plq.functional.relative import GradientReference
from tests.fuzz.mutations import Member, archive, deflated_zeros, flip, spoil
from tests.fuzz.target import Case, FileTarget, Finding

_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 3, 5, 1e308, -1e308, 1e-320, 10**400, "", "x", "NaN", "1e5", [],
    [1], [1, 2], {}, {"a": 1}, [[]], "\ud800", "\0", math.inf, math.nan, 2**63, -(2**63), 112.0,
    [112, 112], ["112", "112"], [10**9, 10**9], [-1, -1], [0, 0],
)  # fmt: skip
_DESCRIPTIONS = (
    "'<f4'", "'|O'", "'<U3'", "'<c16'", "'>f8'", "'|b1'", "'<i8'", "'|V8'", "'<M8[s]'",
    "[('a','<f4')]", "'|S0'", "'<f2'", "'zz'", "12", "'<f4", "'<U300000000'",
)  # fmt: skip
_SHAPES = (
    "()", "(20, 20)", "(0, 0)", "(20, 20, 3)", "(-1, -1)", "(1000000000,)", "(2**62, 4)", "(3,)",
    "99999999999999999999", "None", "((", "(True,)", "(1.0,)", "(20000, 20000)",
)  # fmt: skip


class CalibrationFiles(FileTarget):
    """Any file: a ``ValueError`` that names it, or a calibration whose every field makes sense."""

    documented = (ValueError,)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        generator = torch.Generator().manual_seed(0)
        mean = -7 + torch.randn(20, 20, generator=generator)
        mean[-1] = torch.nan
        reference = GradientReference(mean, mean.exp().sqrt(), 5, 0.6, 3)
        common = ("net", (20, 20), MethodSettings(), QualityScaling(130.0, 0.88), 7.5)
        files = {
            "with maps": Calibration(
                *common, reference, "0123456789abcdef", 300, 2, 75, 0.85, 0.9, 0.7, 0.3, 0.9,
                date="2026-01-01", versions={"torch": "2.6", "dlib": None}, note="α",
            ),
            "without": Calibration(*common),
        }  # fmt: skip
        path = folder / "whole.npz"
        self.files: dict[str, bytes] = {}
        self.parts: dict[str, dict[str, bytes]] = {}
        self.header: dict[str, Any] = {}
        for name, calibration in files.items():
            calibration.save(path)
            self.files[name] = path.read_bytes()
            with np.load(path) as opened:
                self.parts[name] = {n: _npy(opened[n]) for n in opened.files}
                self.header[name] = json.loads(str(opened["header"]))
        self.whole = files["with maps"].header()

    def case(self, rng: Random) -> Case:
        name = rng.choice(("with maps", "with maps", "without"))
        way = rng.choice(("bytes", "values", "members", "arrays", "descriptions"))
        if way == "bytes":
            way, data = spoil(rng, self.files[name], tuple(self.files.values()))
        elif way == "values":
            data = self._values(rng, name)
        else:
            parts = dict(self.parts[name])
            chosen = rng.choice(tuple(parts))
            if way == "arrays":
                last = rng.choice((128, len(parts[chosen])))
                parts[chosen] = flip(rng, parts[chosen], 0, last)
            elif way == "descriptions":
                parts[chosen] = _described(rng)
            members = [Member.of(f"{n}.npy", part, True) for n, part in parts.items()]
            data = archive(_spoilt(rng, members) if way == "members" else members)
        return Case(f"{name}: {way}", data, ".npz")

    def load(self, path: Path, case: Case) -> str:
        calibration = Calibration.load(path)
        wrong = list(_senseless(calibration))
        if wrong:
            raise Finding(f"senseless {wrong[0][0]}, {wrong[0][1]!r}")
        header = calibration.header()
        json.dumps(header, allow_nan=False)
        again = path.with_name("again.npz")
        calibration.save(again)
        if Calibration.load(again).header() != header:
            raise Finding("not the same after saving and loading")
        return "loaded, the same" if header == self.whole else "loaded, another"

    def _values(self, rng: Random, name: str) -> bytes:
        """A header with other values, or keys too many or too few."""
        header = json.loads(json.dumps(self.header[name]))
        for _ in range(rng.choice((1, 1, 2, 3))):
            key = rng.choice((*header, "x"))
            if rng.random() < 0.15:
                header.pop(key, None)
            elif isinstance(header.get(key), dict) and header[key] and rng.random() < 0.6:
                header[key][rng.choice(tuple(header[key]))] = deepcopy(rng.choice(_VALUES))
            else:
                header[key] = deepcopy(rng.choice(_VALUES))  # a dictionary may be changed next
        text = json.dumps(header)
        if rng.random() < 0.05:
            text = "[" * 100_000 + text
        parts = {**self.parts[name], "header": _npy(np.array(text))}
        return archive([Member.of(f"{n}.npy", part, True) for n, part in parts.items()])


def _spoilt(rng: Random, members: list[Member]) -> list[Member]:
    i = rng.randrange(len(members))
    way = rng.choice(("lie", "drop", "double", "name", "more", "contents", "zeros"))
    if way == "lie":
        members[i] = members[i].lying(rng)
    elif way == "drop":
        members.pop(i)
    elif way == "double":
        members.append(members[i])
    elif way == "name":
        name = rng.choice(("x.npy", "header", "mean", "../x.npy", "HEADER.NPY", "a\0.npy"))
        members[i] = Member.of(name, members[i].stored)
    elif way == "more":
        members.append(Member.of(rng.choice(("x.npy", "x", "pool.npy")), rng.randbytes(100), True))
    elif way == "contents":
        data = rng.choice(
            (b"", b"x", b"\x93NUMPY", b"\x93NUMPY\4\0\0\0", b"\x80\4.", rng.randbytes(99))
        )
        members[i] = Member.of(members[i].name.decode(), data)
    elif rng.random() < 0.05:
        packed, checksum = deflated_zeros(1200)
        name = rng.choice((b"x.npy", members[i].name))
        members.append(Member(name, packed, 1200 << 20, checksum, 8))
    return members


def _npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array)
    return file.getvalue()


def _described(rng: Random) -> bytes:
    """An array whose description is not of what follows."""
    text = (
        f"{{'descr': {rng.choice(_DESCRIPTIONS)}, 'fortran_order': "
        f"{rng.choice(('False', 'True', '0', 'None'))}, 'shape': {rng.choice(_SHAPES)}, }}"
    ).encode()
    text += b" " * (63 - (10 + len(text)) % 64) + b"\n"
    body = bytes(rng.choice((0, 10, 1600)))
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + body


def _senseless(c: Calibration) -> list[tuple[str, Any]]:
    """Fields that no measurement can have given."""

    def number(value: Any, low: float = -math.inf, high: float = math.inf) -> bool:
        plain = isinstance(value, (int, float)) and not isinstance(value, bool)
        return plain and math.isfinite(value) and low <= value <= high

    def whole(value: Any, low: int = 0) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= low

    n = c.conditions
    sound = {
        "network": isinstance(c.network, str),
        "input_size": len(c.input_size) == 2 and all(whole(side, 1) for side in c.input_size),
        "alpha": number(c.scaling.alpha),
        "r": number(c.scaling.r),
        "gamma": number(c.gamma),
        "network_digest": c.network_digest is None or isinstance(c.network_digest, str),
        **{name: whole(getattr(c, name)) for name in ("faces", "left_out", "good_faces")},
        **{
            name: getattr(c, name) is None or number(getattr(c, name), 0, 1)
            for name in (
                "low_quality", "high_quality", "centre_quality", "border_quality", "gamma_holds",
            )
        },
        **{
            name: isinstance(getattr(c, name), str)
            for name in ("estimator", "source", "date", "note")
        },
        "versions": isinstance(c.versions, dict)
        and all(isinstance(v, (str, type(None))) for v in c.versions.values()),
        "passes": whole(n.passes, 2),
        "dropout": number(n.dropout) and 0 < n.dropout < 1,
        "weights": n.weights in ("l1", "sum", "signed", "l2"),
        "target_scalar": n.target_scalar in ("node", "serfiq"),
        "average": n.average in ("paper", "pairs"),
        "normalize": isinstance(n.normalize, bool),
        "normalize_embedding": isinstance(n.normalize_embedding, bool),
        "directions": n.directions is None or whole(n.directions, 1),
    }  # fmt: skip
    if c.reference is not None:
        mean, spread = c.reference.mean, c.reference.spread
        known = mean.isfinite()
        sound["maps"] = (
            tuple(mean.shape) == tuple(spread.shape) == c.input_size
            and not bool(mean.isinf().any())
            and bool((spread[known] >= 0).all() and spread[known].isfinite().all())
        )
        sound["pool"] = whole(c.reference.pool_size, 1) and c.reference.pool_size % 2 == 1
        sound["smoothed"] = whole(c.reference.blur_size, 1) and c.reference.blur_size % 2 == 1
        sound["pooled_spread"] = number(c.reference.pooled_spread) and c.reference.pooled_spread > 0
    return [(name, getattr(c, name, None)) for name, good in sound.items() if not good]


TARGET = CalibrationFiles
