"""The calibration on disk, the presets, and what they are refused for."""

import contextlib
import dataclasses
import json
import os
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from captum_plq import SERFIQ, PixelQualityAttribution, QualityScaling
from captum_plq.calibration import PRESETS, Calibration, load_calibration
from captum_plq.calibration.settings import MethodSettings, network_digest
from captum_plq.functional.relative import GradientReference
from captum_plq.models import FaceModel, ModelSpec, available_models


def network(seed=0, name="toy", **changes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 6 * 8, 5))
    facts = {"mean": (127.5,) * 3, "std": (128.0,) * 3, **changes}
    return FaceModel(net, ModelSpec(name, (6, 8), **facts)).eval()


def method(model=None, **choices):
    return PixelQualityAttribution(SERFIQ(model or network(), passes=20), **choices)


@pytest.fixture
def calibration():
    mean = torch.linspace(-15, -9, 48).view(6, 8)
    spread = torch.linspace(0.5, 1, 48).view(6, 8)
    mean[5] = spread[5] = torch.nan
    return Calibration(
        network="toy",
        input_size=(6, 8),
        conditions=MethodSettings(passes=20),
        scaling=QualityScaling(120.0, 0.61),
        gamma=10.7,
        reference=GradientReference(mean, spread, 5, 0.65),
        network_digest=network_digest(network()),
        faces=150,
        good_faces=75,
        low_quality=0.58,
        high_quality=0.62,
        centre_quality=0.9,
        border_quality=0.1,
        gamma_holds=0.99,
        source="Gesichter, größtenteils gut",
        date="2026-01-02",
        versions={"torch": "2.6", "dlib-bin": None},
        note="a note",
    )


# --- round trip ---------------------------------------------------------------------------


def test_round_trip(calibration, tmp_path):
    path = tmp_path / "new" / "toy.calibration"
    calibration.save(path)
    assert [p.name for p in path.parent.iterdir()] == ["toy.calibration"]
    again = Calibration.load(path)
    for field in dataclasses.fields(Calibration):
        if field.name != "reference":
            assert getattr(again, field.name) == getattr(calibration, field.name), field.name
    for old, new in zip(calibration.reference, again.reference, strict=True):
        if isinstance(old, torch.Tensor):
            assert new.dtype == torch.float32
            np.testing.assert_array_equal(new, old)
        else:
            assert new == old
    assert again.header() == calibration.header()


@pytest.mark.parametrize("name", PRESETS)
def test_round_trip_without_a_reference(name, tmp_path):
    PRESETS[name].save(tmp_path / "file")
    again = load_calibration(tmp_path / "file")
    assert again.reference is None
    assert again.header() == PRESETS[name].header()


def test_opens_without_pickle_in_plain_numpy(calibration, tmp_path):
    calibration.save(tmp_path / "toy.npz")
    with np.load(tmp_path / "toy.npz", allow_pickle=False) as archive:
        header = json.loads(str(archive["header"]))
        assert archive["mean"].dtype == archive["spread"].dtype == np.float32
    assert header["gamma"] == 10.7
    assert header["scaling"] == {"alpha": 120.0, "r": 0.61}


def test_a_file_from_before_there_was_smoothing(calibration, tmp_path):
    path = rewritten(calibration, tmp_path / "old", header={"smoothed": "left out"})
    assert Calibration.load(path).reference.blur_size == 1


def test_smoothing_is_kept(calibration, tmp_path):
    smooth = calibration.reference._replace(blur_size=7)
    dataclasses.replace(calibration, reference=smooth).save(tmp_path / "smooth")
    assert Calibration.load(tmp_path / "smooth").reference.blur_size == 7


FLOATS = np.ones((6, 8), np.float32)

# --- files that are not one ---------------------------------------------------------------


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
        ({"gamma": "high"}, {}, "gamma must be a finite number, but is 'high'"),
        ({"gamma": True}, {}, "gamma must be"),
        ({"gamma": 10**400}, {}, "gamma must be"),
        ({"gamma": float("inf")}, {}, "Infinity"),
        ({"scaling": {"alpha": 1.0}}, {}, "'r'"),
        ({"scaling": {"alpha": float("nan"), "r": 0.5}}, {}, "NaN"),
        ({"scaling": {"alpha": -3.0, "r": 0.5}}, {}, "α = -3"),
        ({"scaling": [130, 0.5]}, {}, "scaling"),
        ({"conditions": {"speed": 3}}, {}, "speed"),
        ({"conditions": {"average": "\0"}}, {}, "average must be 'paper' or 'pairs'"),
        ({"conditions": {"passes": 1}}, {}, "1 passes"),
        ({"conditions": {"directions": 0}}, {}, "0 directions"),
        ({"conditions": 7}, {}, "conditions"),
        ({"input_size": [8, 6]}, {}, "not 8×6 pixels"),
        ({"input_size": 6}, {}, "input_size"),
        ({"input_size": [10**6, 10**6]}, {}, "input_size"),
        ({"faces": -1, "good_faces": -1}, {}, "no numbers of faces"),
        ({"good_faces": "x"}, {}, "good_faces must be a whole number, but is 'x'"),
        ({"good_faces": 1.0}, {}, "good_faces"),
        ({"left_out": True}, {}, "left_out"),
        ({"gamma_holds": 1.5}, {}, "gamma_holds is 1.5"),
        ({"high_quality": 0.1}, {}, "5th percentile"),
        ({"estimator": "guess"}, {}, "estimator"),
        ({"versions": {"torch": 2}}, {}, "versions"),
        ({"networks": "iresnet100"}, {}, "networks"),
        ({"network": "x" * 70_000}, {}, "more than it may"),
        ({"pool": 4}, {}, "odd number"),
        ({"pooled_spread": 0}, {}, "no spread"),
        ({"smoothed": 2}, {}, "smoothing is not by an odd"),
        ({"pooled_spread": "left out"}, {}, "no 'pooled_spread'"),
        ({}, {"mean": None}, "no 'mean'"),
        ({}, {"mean": None, "spread": None}, "no 'mean'"),
        ({}, {"spread": -FLOATS}, "0 or more"),
        ({}, {"spread": FLOATS * np.inf}, "0 or more"),
        ({}, {"mean": FLOATS * np.inf}, "not logarithms"),
        ({}, {"mean": np.ones((2, 6, 8), np.float32)}, "more than it may"),
        ({}, {"mean": np.ones((6, 8))}, "more than it may"),
        ({}, {"mean": np.ones((6, 8), np.int32)}, "not float32"),
        ({}, {"mean": np.full((6, 8), "x")}, "not float32"),
        ({}, {"other": FLOATS}, "'other.npy', which is no part"),
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
    path = rewritten(calibration, tmp_path / "c.npz", header={"version": 2})
    with pytest.raises(ValueError, match=r"of version 2, and this program reads version 1: update"):
        Calibration.load(path)


def test_a_map_larger_than_the_header_says_is_not_unpacked(calibration, tmp_path):
    """2 MB that unpack to 2 GB: the shape is compared before the data are read."""
    path = rewritten(calibration, tmp_path / "c.npz", mean=None, spread=None)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for name in ("mean.npy", "spread.npy"):
            with archive.open(name, "w") as file:
                np.lib.format.write_array_header_1_0(
                    file, {"descr": "<f4", "fortran_order": False, "shape": (4000, 4000)}
                )
                for _ in range(64):
                    file.write(bytes(1_000_000))
    tracemalloc.start()
    with pytest.raises(ValueError, match="unpacks to 64,000,128 bytes, more than it may"):
        Calibration.load(path)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_the_same_member_twice_is_refused(calibration, tmp_path):
    calibration.save(tmp_path / "c.npz")
    with zipfile.ZipFile(tmp_path / "c.npz") as archive:
        mean = archive.read("mean.npy")
    with (
        pytest.warns(UserWarning, match="Duplicate"),
        zipfile.ZipFile(tmp_path / "c.npz", "a") as archive,
    ):
        archive.writestr("mean.npy", mean)
    with pytest.raises(ValueError, match="twice"):
        Calibration.load(tmp_path / "c.npz")


@pytest.mark.parametrize("seed", range(3))
def test_damage_anywhere_is_refused_or_changes_nothing(calibration, tmp_path, seed):
    """Flipped bits and lost ends; zip's checksum covers all the values."""
    calibration.save(tmp_path / "whole.npz")
    whole = (tmp_path / "whole.npz").read_bytes()
    generator = np.random.default_rng(seed)
    for _ in range(150):
        damaged = bytearray(whole)
        for place in generator.integers(len(whole), size=generator.integers(1, 4)):
            damaged[place] ^= 1 << generator.integers(8)
        if generator.random() < 0.2:
            damaged = damaged[: generator.integers(len(whole))]
        (tmp_path / "c.npz").write_bytes(damaged)
        with contextlib.suppress(ValueError):
            found = Calibration.load(tmp_path / "c.npz")
            assert found.header() == calibration.header()
            for old, new in zip(calibration.reference[:2], found.reference[:2], strict=True):
                np.testing.assert_array_equal(new, old)


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "link.npz").symlink_to(os.devnull)
    for name in ("pipe.npz", "link.npz"):
        with pytest.raises(ValueError, match="no regular file"):
            Calibration.load(tmp_path / name)


def test_a_name_that_is_not_utf8_survives(calibration, tmp_path):
    source = os.fsdecode(b"photos-\xff")
    dataclasses.replace(calibration, source=source).save(tmp_path / "c.npz")
    assert os.fsencode(Calibration.load(tmp_path / "c.npz").source) == b"photos-\xff"


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


def test_an_unchanged_rewritten_file_is_taken(calibration, tmp_path):
    """The one above fails for the change alone."""
    path = rewritten(calibration, tmp_path / "c.npz")
    assert Calibration.load(path).header() == calibration.header()


class Bomb:
    def __reduce__(self):
        return (print, ("a pickle was run",))


def other_files(folder, calibration):
    calibration.save(folder / "whole.npz")
    whole = (folder / "whole.npz").read_bytes()
    (folder / "empty.npz").write_bytes(b"")
    (folder / "text.npz").write_text("α = 130")
    (folder / "short.npz").write_bytes(whole[:-200])
    (folder / "flipped.npz").write_bytes(whole[:300] + b"\0" * 50 + whole[350:])
    (folder / "pickle.npz").write_bytes(pickle.dumps(Bomb()))
    np.save(folder / "array.npy", np.ones(3))
    np.savez(folder / "arrays.npz", maps=np.ones(3))
    np.savez(folder / "list.npz", header=np.array("[1, 2]"))
    np.savez(folder / "nested.npz", header=np.array("[" * 100_000))
    np.savez(folder / "object.npz", header=np.array([Bomb()], dtype=object))
    torch.save({"header": 1}, folder / "torch.pt")
    with zipfile.ZipFile(folder / "zip.npz", "w") as archive:
        archive.writestr("header", "{}")
    (folder / "whole.npz").unlink()
    return sorted(folder.iterdir())


def test_other_files_are_refused_with_one_error(calibration, tmp_path, capsys):
    paths = other_files(tmp_path, calibration)
    assert len(paths) == 12
    for path in paths:
        with pytest.raises(ValueError, match="is not a calibration file") as info:
            Calibration.load(path)
        assert "\n" not in str(info.value), path
    assert capsys.readouterr().out == ""


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no calibration file"):
        Calibration.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="presets are 'arcface', 'facenet'"):
        load_calibration("arcfase")


# --- what it holds for --------------------------------------------------------------------


def test_fits_the_network_it_was_made_for(calibration):
    calibration.check(method())
    calibration.check(PixelQualityAttribution(SERFIQ(network(), passes=20, estimator="balanced")))
    calibration.check(PixelQualityAttribution(SERFIQ(network(), passes=20, seed=7)))


def test_other_conditions_are_all_named_in_one_error(calibration):
    other = PixelQualityAttribution(
        SERFIQ(network(), passes=50, dropout=0.3, average="pairs", normalize=False),
        weights="l2",
        target_scalar="serfiq",
    )
    with pytest.raises(ValueError, match="does not hold here") as info:
        calibration.check(other)
    for part in (
        "passes = 20, not 50",
        "dropout = 0.5, not 0.3",
        "weights = 'l1', not 'l2'",
        "target_scalar = 'node', not 'serfiq'",
        "average = 'paper', not 'pairs'",
        "normalize = True, not False",
        "normalize_embedding = True, not False",
    ):
        assert part in str(info.value)


def test_another_network_is_refused(calibration):
    with pytest.raises(ValueError, match="the network 'toy', not one of that name with other"):
        calibration.check(method(network(seed=1)))
    with pytest.raises(ValueError, match="the network 'toy', not 'other'"):
        calibration.check(method(network(seed=1, name="other")))
    larger = FaceModel(nn.Flatten(), ModelSpec("toy", (9, 9), (0.0,) * 3, (1.0,) * 3))
    with pytest.raises(ValueError, match="6×8 pixels, not 9×9"):
        calibration.check(method(larger))


def test_the_name_alone_does_not_matter(calibration):
    calibration.check(method(network(name="renamed")))


@pytest.mark.parametrize(
    "change",
    [
        {"mean": (0.0, 127.5, 127.5)},
        {"std": (127.5,) * 3},
        {"channel_order": "BGR"},
        {"alignment": "dlib"},
        {"embedding_layer": "1"},
    ],
)
def test_the_digest_covers_how_the_network_is_fed(change):
    assert network_digest(network(**change)) != network_digest(network())


def test_the_digest_covers_every_weight():
    reference = network_digest(network())
    for position in (0, 17, -1):
        model = network()
        with torch.no_grad():
            weight = model.backbone[1].weight.view(-1)
            weight[position] = torch.nextafter(weight[position], torch.tensor(9.0))
        assert network_digest(model) != reference
    assert network_digest(network()) == reference
    assert network_digest(network().bfloat16()) != reference


# --- presets ------------------------------------------------------------------------------


def test_presets_hold_the_papers_values():
    arcface, facenet = PRESETS["arcface"], PRESETS["facenet"]
    assert (arcface.scaling, arcface.gamma) == ((130.0, 0.88), 7.5)
    assert (facenet.scaling, facenet.gamma) == ((450.0, 0.93), 5.5)
    for preset in PRESETS.values():
        assert preset.conditions == MethodSettings(100, 0.5, "l1")
        for part in ("0–255", "MS1M", "mean nothing"):
            assert part in preset.note


def test_a_preset_is_found_by_name_even_beside_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "arcface").write_text("a file")
    assert load_calibration("arcface") is PRESETS["arcface"]
    with pytest.raises(ValueError, match="not a calibration file"):
        load_calibration(tmp_path / "arcface")


def test_a_preset_is_refused_for_other_conditions_and_sizes():
    model = network(name="iresnet100")
    with pytest.raises(ValueError, match=r"passes = 100, not 20.*112×112 pixels, not 6×8"):
        load_calibration("arcface").check(method(model))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_for_its_own_networks(name):
    preset = PRESETS[name]
    by_name = {info.spec.name: info.spec for info in available_models()}
    meant = [by_name[known] for known in preset.networks if known in by_name]
    assert meant
    assert {spec.input_size for spec in meant} == {preset.input_size}

    def tried(spec):
        size = 3 * spec.input_size[0] * spec.input_size[1]
        backbone = nn.Sequential(nn.Flatten(), nn.Linear(size, 4))
        preset.check(PixelQualityAttribution(FaceModel(backbone, spec)))

    tried(dataclasses.replace(meant[0], embedding_layer="1"))
    other = dataclasses.replace(meant[0], name="mine", embedding_layer="1")
    with pytest.raises(ValueError, match=f"for the network .*{known_as(preset)}.* called 'mine'"):
        tried(other)
    with pytest.raises(ValueError, match="a Sequential without a ModelSpec"):
        preset.check(PixelQualityAttribution(nn.Sequential(nn.Flatten(), nn.Linear(48, 4))))


def known_as(preset):
    return " or ".join(map(repr, preset.networks))
