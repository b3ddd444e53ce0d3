"""The calibration on disk: round trips, and files that are refused."""

import dataclasses
import io
import json
import os
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch

from captum_plq.calibration import PRESETS, Calibration, load_calibration


def test_round_trip(calibration, tmp_path):
    calibration = dataclasses.replace(
        calibration,
        reference=calibration.reference._replace(blur_size=7),
        source=os.fsdecode(b"photos-\xff"),  # a name that is not UTF-8
    )
    path = tmp_path / "new" / "toy.calibration"
    calibration.save(path)
    assert [p.name for p in path.parent.iterdir()] == ["toy.calibration"]
    again = Calibration.load(path)
    for field in dataclasses.fields(Calibration):
        if field.name not in ("reference", "local"):
            assert getattr(again, field.name) == getattr(calibration, field.name), field.name
    assert again.reference[2:] == calibration.reference[2:]
    for old, new in zip(calibration.reference[:2], again.reference[:2], strict=True):
        torch.testing.assert_close(new, old.float(), rtol=0, atol=0, equal_nan=True)
    assert again.local.snr == calibration.local.snr
    for old, new in zip(calibration.local[1:4], again.local[1:4], strict=True):
        assert torch.equal(new, old)
    assert again.local.centres == calibration.local.centres is not None
    assert again.header() == calibration.header()
    with np.load(path, allow_pickle=False) as archive:  # the file's own words
        header = json.loads(str(archive["header"]))
        assert archive["mean"].dtype == archive["spread"].dtype == np.float32
        assert archive["local_center"].dtype == archive["local_spread"].dtype == np.float32
    assert (header["gamma"], header["pool"], header["smoothed"]) == (10.7, 5, 7)
    assert (header["version"], header["snr"]) == (2, 4.5)
    assert header["scaling"] == {"alpha": 120.0, "r": 0.61}


@pytest.mark.parametrize("name", PRESETS)
def test_round_trip_without_a_reference(name, tmp_path):
    PRESETS[name].save(tmp_path / "file")
    again = load_calibration(tmp_path / "file")
    assert again.reference is None
    assert again.header() == PRESETS[name].header()


FIRST = {"version": 1, **dict.fromkeys(("local_layer", "without_local", "snr"), "left out")}
NO_LOCAL = {"local_center": None, "local_spread": None, "local_smoothed": None}


def test_a_file_from_before_there_was_smoothing_and_one_of_big_endian_columns(
    calibration, tmp_path
):
    old = {**FIRST, "smoothed": "left out", "networks": "left out"}
    maps = {
        name: np.asfortranarray(getattr(calibration.reference, name).numpy().astype(">f4"))
        for name in ("mean", "spread")
    }
    path = rewritten(calibration, tmp_path / "old", header=old, **maps, **NO_LOCAL)
    again = Calibration.load(path)
    assert again.reference.blur_size == 1
    assert (again.local, again.local_layer) == (None, None)
    assert "before there was a local reference: calibrate again" in again.without_local
    before = dataclasses.replace(
        calibration, local=None, local_layer=None, without_local=again.without_local
    )
    assert again.header() == before.header()
    np.testing.assert_array_equal(again.reference.mean, calibration.reference.mean)


FLOATS = np.ones((6, 8), np.float32)


def rewritten(calibration, path, *, header=None, **arrays):
    """A file of it with some parts changed; ``None`` leaves one out."""
    calibration.save(path)
    with np.load(path) as archive:
        parts = dict(archive)
    text = json.loads(str(parts["header"]))
    text.update(header or {})
    parts["header"] = np.array(json.dumps({k: v for k, v in text.items() if v != "left out"}))
    parts.update(arrays)
    with path.open("wb") as file:
        np.savez(file, **{k: v for k, v in parts.items() if v is not None})
    return path


@pytest.mark.parametrize(
    ("header", "arrays", "reason"),
    [
        ({"format": "something"}, {}, "of something else"),
        ({"gamma": "left out"}, {}, "no 'gamma'"),
        ({"gamma": "high"}, {}, "gamma: expected a finite number, got 'high'"),
        ({"gamma": 10**400}, {}, "gamma: expected"),
        ({"gamma": float("inf")}, {}, "got inf"),
        ({"scaling": {"alpha": 1.0}}, {}, "'r'"),
        ({"scaling": {"alpha": -3.0, "r": 0.5}}, {}, "α = -3"),
        ({"scaling": [130, 0.5]}, {}, "scaling: expected"),
        ({"conditions": {"speed": 3}}, {}, "speed"),
        ({"conditions": {"average": "\0"}}, {}, "average: expected 'paper' or 'pairs'"),
        ({"conditions": {"passes": 1}}, {}, "1 passes"),
        ({"input_size": [8, 6]}, {}, "not 8×6 pixels"),
        ({"input_size": 6}, {}, "input_size: expected"),
        ({"input_size": [10**6, 10**6]}, {}, "too large"),
        ({"faces": -1, "good_faces": -1}, {}, "-1 high-quality ones of -1 faces"),
        ({"good_faces": 151}, {}, "151 high-quality ones of 150 faces"),
        ({"good_faces": 1.0}, {}, "good_faces: expected an integer, got 1.0"),
        ({"left_out": -1}, {}, "-1 images left out"),
        ({"gamma_holds": 1.5}, {}, "gamma_holds is 1.5"),
        ({"high_quality": 0.1}, {}, "5th percentile"),
        ({"estimator": "guess"}, {}, "estimator: expected"),
        ({"versions": {"torch": 2}}, {}, "versions: expected"),
        ({"networks": "iresnet100"}, {}, "networks: expected"),
        ({"network": "x" * 70_000}, {}, "more than it may"),
        ({"pool": 4}, {}, "a box of 4 pixels"),
        ({"pooled_spread": 0}, {}, "a pooled spread of 0"),
        ({}, {"mean": None, "spread": None}, "no 'mean'"),
        ({}, {"spread": -FLOATS}, "0 or more"),
        ({}, {"spread": FLOATS * np.inf}, "0 or more"),
        ({}, {"mean": FLOATS * np.inf}, "no logarithms"),
        ({}, {"mean": np.ones((2, 6, 8), np.float32)}, "not 6×8 pixels"),
        ({}, {"mean": np.ones((6, 8), np.int32)}, "not float32"),
        ({}, {"mean": np.array([[None]])}, "is no array"),
        ({}, {"other": FLOATS}, "'other.npy', which is no part"),
        ({"networks": "left out"}, {}, "no 'networks'"),
        ({"without_local": 3}, {}, "without_local: expected a string"),
        ({"local_layer": None}, {}, "a local reference of no layer"),
        ({"snr": "left out"}, {}, "no 'snr'"),
        ({"snr": 0.0}, {}, "a ρ₀ of 0"),
        ({"snr": True}, {}, "snr: expected a finite number"),
        ({"place_centres": [0.1, 0.2]}, {}, "place_centres: expected pairs by name"),
        ({"place_centres": {"first": [0, 0]}}, {}, "step"),
        ({"place_centres": {"first": [0, 0], "step": [0.1, 0]}}, {}, "far outside the image"),
        ({"place_centres": {"first": [0], "step": [1, 1]}}, {}, "first: expected"),
        ({}, NO_LOCAL, "no 'local_center'"),
        ({}, {"local_spread": None}, "no 'local_spread'"),
        ({}, {"local_center": FLOATS}, "maps of (2, 3) and (6, 8) places"),
        ({}, {"local_center": FLOATS[:0], "local_spread": FLOATS[:0]}, "(0, 8)"),
        ({}, {**NO_LOCAL, "local_center": FLOATS[0], "local_spread": FLOATS[0]}, "maps of (8,)"),
        ({}, {"local_smoothed": FLOATS[:2, :3]}, "maps of (2, 3) and (3,)"),
        ({}, {"local_smoothed": FLOATS[:3]}, "a median and a spread of smoothed"),
        ({}, {"local_smoothed": np.zeros((2, 2, 3), np.float32)}, "without a median or spread"),
        ({}, {"local_center": FLOATS[:2, :3].astype(np.float64)}, "not float32"),
        ({}, {"local_center": FLOATS[:2, :3] * np.nan}, "without a median or spread"),
        ({}, {"local_spread": FLOATS[:2, :3] * 0}, "without a median or spread"),
        ({}, {"local_spread": FLOATS[:2, :3] * np.inf}, "without a median or spread"),
    ],
)
def test_a_changed_file_is_refused(calibration, tmp_path, header, arrays, reason):
    path = rewritten(calibration, tmp_path / "c.npz", header=header, **arrays)
    with pytest.raises(ValueError, match="is not a calibration file, or is damaged") as info:
        Calibration.load(path)
    assert reason in str(info.value)
    assert str(path) in str(info.value)
    assert "captum-plq calibrate" in str(info.value)


def test_a_later_version_is_told_from_a_damaged_file(calibration, tmp_path):
    path = rewritten(calibration, tmp_path / "c.npz", header={"version": 3})
    with pytest.raises(ValueError, match=r"version 3, and this program reads versions up to 2: up"):
        Calibration.load(path)


@pytest.mark.parametrize(("name", "size"), [("mean", 64_000_000), ("local_center", 1_000_000)])
def test_a_map_larger_than_any_is_not_unpacked(calibration, tmp_path, name, size):
    path = rewritten(calibration, tmp_path / "c.npz", **{name: None})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.npy", bytes(size))
    tracemalloc.start()
    with pytest.raises(ValueError, match=f"unpacks to {size:,} bytes, more than it may"):
        Calibration.load(path)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


_POINTERS = (
    b"\x93NUMPY\1\0\x76\0"
    + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117)
    + b"\n"
    + b"\1" * 8
)


@pytest.mark.filterwarnings("ignore:Duplicate")
@pytest.mark.parametrize(
    ("names", "packing", "reason"),
    [
        (("header", "mean", "spread", "mean"), zipfile.ZIP_STORED, "twice"),
        (("header", "mean", "spread"), zipfile.ZIP_BZIP2, "packed in a way that is not read"),
        (("header", "pointers"), zipfile.ZIP_STORED, r"'mean\.npy' is no array"),
        (("mean",), zipfile.ZIP_STORED, "no 'header'"),
    ],
)
def test_members_twice_packed_in_another_way_pointers_or_absent(
    calibration, tmp_path, names, packing, reason
):
    path = tmp_path / "c.npz"
    calibration.save(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name.removesuffix(".npy"): archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name in names:
            stored = name.replace("pointers", "mean")
            archive.writestr(f"{stored}.npy", {**parts, "pointers": _POINTERS}[name])
    with pytest.raises(ValueError, match=reason):
        Calibration.load(path)


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "link.npz").symlink_to(os.devnull)
    for name in ("pipe.npz", "link.npz"):
        with pytest.raises(ValueError, match="no regular file"):
            Calibration.load(tmp_path / name)


def test_a_file_that_cannot_be_written_leaves_the_old_one(calibration, tmp_path, monkeypatch):
    path = tmp_path / "c.npz"
    calibration.save(path)

    def full(file, **_):
        file.write(b"PK")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space"):
        dataclasses.replace(calibration, gamma=1.0).save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["c.npz"]
    assert Calibration.load(path).gamma == calibration.gamma


class Bomb:
    def __reduce__(self):
        return (print, ("a pickle was run",))


def as_npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        "α = 130".encode(),
        pickle.dumps(Bomb()),
        as_npz(maps=np.ones(3)),
        as_npz(header=np.array("[1, 2]")),
        as_npz(header=np.array("[" * 100_000)),
        as_npz(header=np.array([Bomb()], dtype=object)),
        lambda whole: whole[:-200],
        lambda whole: whole[:300] + b"\0" * 50 + whole[350:],
    ],
    ids=range(9),
)
def test_other_files_are_refused_with_one_error(calibration, tmp_path, capsys, content):
    path = tmp_path / "c.npz"
    calibration.save(path)
    path.write_bytes(content(path.read_bytes()) if callable(content) else content)
    with pytest.raises(ValueError, match="is not a calibration file") as info:
        Calibration.load(path)
    assert "\n" not in str(info.value)
    assert capsys.readouterr().out == ""


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no calibration file"):
        Calibration.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="presets are 'arcface', 'facenet'"):
        load_calibration("arcfase")
