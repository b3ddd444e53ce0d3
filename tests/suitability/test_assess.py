"""Suitability: planted networks whose answer is known, and each figure computed anew."""

import importlib.util
import json
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from captum_plq import SERFIQ, SpatialSERFIQ
from captum_plq.models import FaceModel, ModelSpec
from captum_plq.suitability import assess_suitability, verdict_on
from captum_plq.suitability.separation import Estimate, Separation, auroc, auroc_gain, separation
from tests.conftest import SHARED_DATA, assert_untouched, small_face_net, snapshot

pytest.importorskip("PIL", reason="needs the extra [faces]")

from captum_plq.faces import STANDARD_DEGRADATIONS, add_noise, blur

NOISE = {"noise": lambda chip, seed: add_noise(chip, 40.0, seed=seed)}
BLUR = {"blur": lambda chip, _: blur(chip, 2.0)}
FAST = {"passes": 20, "resamples": 300}


def smooth_chips(count, side=20):
    """Slopes of grey between random brightnesses: nothing fine in them, no two alike."""
    generator = np.random.default_rng(4)
    yy, xx = np.mgrid[0:side, 0:side] / side
    slopes = generator.uniform(-60, 60, (count, 2, 1, 1, 1))
    level = generator.uniform(90, 160, (count, 1, 1, 1))
    images = level + slopes[:, 0] * yy[..., None] + slopes[:, 1] * xx[..., None]
    return np.rint(np.broadcast_to(images, (count, side, side, 3))).astype(np.uint8)


class Planted(nn.Module):
    """A linear map, of features computed by a function."""

    def __init__(self, features, columns):
        super().__init__()
        self.features = features
        self.fc = nn.Linear(columns.shape[1], columns.shape[0], bias=False)
        self.fc.weight.data = columns
        self.eval()

    def forward(self, x):
        return self.fc(self.features(x))


def falls_under_noise():
    """Brightness pulls one way from every feature; what is fine pulls all ways.

    So dropout turns the embedding of an image with fine structure, and leaves others alone.
    """
    generator = torch.Generator().manual_seed(0)
    one_way = torch.zeros(16, 64)
    one_way[0] = 1.0
    all_ways = torch.randn(16, 64, generator=generator)

    def features(x):
        level, fine = x.mean((1, 2, 3)), (x[..., 1:] - x[..., :-1]).abs().mean((1, 2, 3))
        return torch.cat([level[:, None].expand(-1, 64), fine[:, None].expand(-1, 64)], dim=1)

    return Planted(features, torch.cat([one_way, all_ways], dim=1))


def random_quality():
    """Any change of a pixel draws new features."""
    generator = torch.Generator().manual_seed(0)
    projection = torch.randn(1200, 40, generator=generator, dtype=torch.float64)
    columns = torch.randn(8, 40, generator=generator)

    def features(x):
        return (100 * x.double().flatten(1) @ projection).sin().square().float()

    return Planted(features, columns)


def test_a_network_whose_quality_falls_under_noise_is_informative():
    result = assess_suitability(falls_under_noise(), smooth_chips(40), degradations=NOISE, **FAST)
    assert result.verdict == result.best.verdict == "informative"
    assert result.usual.degradations["noise"] == Separation(*[Estimate(1.0, 1.0, 1.0)] * 2)
    assert (result.images_choosing, result.images_judging) == (20, 20)
    noisy = np.stack([add_noise(chip, 40.0, seed=i) for i, chip in enumerate(smooth_chips(40))])
    blurred = assess_suitability(falls_under_noise(), noisy, degradations=BLUR, **FAST)
    assert blurred.usual.degradations["blur"].auroc.high < 0.2  # of noisy images its quality rises
    assert blurred.verdict == "not informative"


def test_a_network_whose_quality_is_random_is_not_informative():
    """And another setting must be significantly better: the highest is only the luckiest."""
    chips = np.random.default_rng(1).integers(0, 256, (60, 20, 20, 3), np.uint8)
    result = assess_suitability(random_quality(), chips, **FAST)
    assert result.verdict == "not informative"
    assert max(result.trials, key=lambda t: t.auroc).dropout != 0.5
    assert result.best == result.usual
    assert set(result.usual.degradations) == set(STANDARD_DEGRADATIONS)
    for found in result.usual.degradations.values():
        assert found.auroc.value == pytest.approx(0.5, abs=0.15)
        assert found.auroc.low < 0.6
        assert found.auroc.high > 0.4


@pytest.fixture(scope="module")
def two_sites():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        layers = {
            "trunk": nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.PReLU(8)),
            "pool": nn.AdaptiveAvgPool2d(1),
            "flat": nn.Flatten(),
            "fc": nn.Linear(8, 6),
        }
        return nn.Sequential(OrderedDict(layers)).double().eval()


def test_every_figure_is_that_of_serfiq_on_its_half(two_sites):
    chips = smooth_chips(23)
    degradations = {**NOISE, **BLUR}
    result = assess_suitability(
        two_sites, chips, dropouts=(0.2,), degradations=degradations, seed=3, **FAST
    )
    shown = {"clean": chips} | {
        name: np.stack([apply(chip, 3 + i) for i, chip in enumerate(chips)])
        for name, apply in degradations.items()
    }
    as_tensor = {n: torch.from_numpy(x).permute(0, 3, 1, 2).double() for n, x in shown.items()}
    tried = {}
    for layer in ("fc", "pool"):
        for p in (0.2, 0.5):
            serfiq = SERFIQ(two_sites, passes=20, dropout=p, seed=3, embedding_layer=layer)
            with torch.no_grad():
                tried[layer, p] = {
                    name: serfiq.assess(x, standard_error=True) for name, x in as_tensor.items()
                }

    assert [(t.site.layer, t.dropout) for t in result.trials] == list(tried)
    for trial, found in zip(result.trials, tried.values(), strict=True):
        clean = found["clean"].quality[:11]
        areas = [auroc(clean, found[name].quality[:11]) for name in degradations]
        assert trial.auroc == pytest.approx(np.mean(areas), abs=1e-12)
    best = max(result.trials, key=lambda t: t.auroc)
    assert best.site.layer != "fc" or best.dropout != 0.5
    first_half = [
        torch.stack([found[name].quality[:11] for name in as_tensor])
        for found in (tried[best.site.layer, best.dropout], tried["fc", 0.5])
    ]
    assert auroc_gain(*first_half, resamples=300, seed=3).low > 0  # else the usual is kept
    assert (result.best.site, result.best.dropout) == (best.site, best.dropout)
    assert (result.usual.site.layer, result.usual.dropout) == ("fc", 0.5)
    for reading in (result.usual, result.best):
        found = tried[reading.site.layer, reading.dropout]
        clean = found["clean"].quality[11:]
        assert reading.quality == pytest.approx(float(clean.mean()))
        assert reading.spread == pytest.approx(float(np.std(clean.numpy(), ddof=1)))
        errors = found["clean"].standard_error[11:]
        assert reading.standard_error == pytest.approx(float(errors.square().mean().sqrt()))
        for name in degradations:
            expected = separation(clean, found[name].quality[11:], resamples=300, seed=3)
            assert reading.degradations[name] == expected


def test_the_judging_half_batches_and_order_have_no_say_in_the_choice(two_sites):
    chips = smooth_chips(41)
    told = []
    one = assess_suitability(two_sites, chips, degradations=NOISE, progress=told.append, **FAST)
    assert (len(told), told[-1]) == (11, "41 of 41 images")
    whole = assess_suitability(two_sites, chips, degradations=NOISE, batch_size=41, **FAST)
    assert [t.auroc for t in whole.trials] == [t.auroc for t in one.trials]
    assert whole.usual.quality == pytest.approx(one.usual.quality, rel=1e-9)
    chips[20:] = chips[20:][::-1] // 2 + 40
    other = assess_suitability(two_sites, chips, degradations=NOISE, **FAST)
    assert other.trials == one.trials
    assert (other.best.site, other.best.dropout) == (one.best.site, one.best.dropout)
    assert other.best.quality != one.best.quality


def test_nothing_is_left_behind():
    model = small_face_net()
    model.train()
    before = snapshot(model)
    chips = smooth_chips(20)
    copy = chips.copy()
    result = assess_suitability(model, chips, dropouts=(), **FAST)
    assert_untouched(before, model)
    np.testing.assert_array_equal(chips, copy)
    assert result.best == result.usual
    assert "best   the usual setting" in result.table()


def bounds(auroc_low, share_low=0.9):
    return Separation(Estimate(0.95, share_low, 1.0), Estimate(0.95, auroc_low, 1.0))


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ([bounds(0.76)] * 5, "informative"),
        ([bounds(0.76)] * 4 + [bounds(0.75)], "weakly informative"),
        ([bounds(0.51)] * 3 + [bounds(0.4)] * 2, "weakly informative"),
        ([bounds(0.51)] * 2 + [bounds(0.5)] * 3, "not informative"),
        ([bounds(0.51)] * 2 + [bounds(0.51, share_low=0.5)] * 3, "not informative"),
        ([bounds(0.9), bounds(0.4)], "not informative"),  # half is not more than half
    ],
)
def test_the_rule(found, verdict):
    assert verdict_on(found) == verdict


def test_table_and_json_say_the_same(two_sites):
    result = assess_suitability(two_sites, smooth_chips(20), **FAST)
    text = result.table()
    assert str(result) == text
    assert max(map(len, text.splitlines())) <= 102
    record = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert text.splitlines()[0].endswith(f": {record['verdict']}")
    for name, numbers in record["usual"]["degradations"].items():
        (line,) = (x for x in text.splitlines() if x.startswith(name))
        for x in (numbers["share"], numbers["auroc"]):
            assert f"{x['value']:.2f} [{x['low']:.2f}, {x['high']:.2f}]" in line
    for trial in record["trials"]:
        (line,) = (x for x in text.splitlines() if x.startswith(f"{trial['site']['layer']} ("))
        assert f"{trial['auroc']:.3f}" in line
    assert f"Rule: {record['rule']}." in " ".join(text.splitlines())


def test_the_place_of_local_quality_is_judged_by_its_own_score(two_sites):
    chips, degradations = smooth_chips(23), {**NOISE, **BLUR}
    spatial = SpatialSERFIQ(two_sites, dropout=0.3)
    arguments = {"degradations": degradations, "seed": 3, **FAST}
    result = assess_suitability(spatial, chips, **arguments)
    site = result.usual.site
    assert (site.layer, site.kind, site.features) == ("pool", "last spatial map", (8, 9, 9))
    assert (result.usual.dropout, result.passes, result.best) == (0.3, 0, result.usual)
    shown = {"clean": chips} | {
        name: np.stack([apply(chip, 3 + i) for i, chip in enumerate(chips)])
        for name, apply in degradations.items()
    }
    found = {
        name: spatial(torch.from_numpy(x).permute(0, 3, 1, 2).double()) for name, x in shown.items()
    }
    assert result.usual.quality == pytest.approx(float(found["clean"][11:].mean()))
    for name in degradations:
        expected = separation(found["clean"][11:], found[name][11:], resamples=300, seed=3)
        assert result.usual.degradations[name] == expected
    other = assess_suitability(SpatialSERFIQ(two_sites, dropout=0.6), chips, **arguments)
    assert other.usual.degradations == result.usual.degradations
    assert other.usual.quality < result.usual.quality
    text = result.table()
    assert "p = 0.3 at pool (last spatial map)" in text
    assert "sampling" not in text
    assert "before" not in text
    with pytest.raises(ValueError, match="give neither"):
        assess_suitability(spatial, chips, embedding_layer="fc", **FAST)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": smooth_chips(19)}, "at least 20 images .* but got 19"),
        ({"images": smooth_chips(20).astype(np.float32)}, "type float32"),
        ({"images": smooth_chips(20)[0]}, r"shape \(20, 20, 3\)"),
        ({"dropouts": (0.5, 1.0)}, "strictly between 0 and 1"),
        ({"passes": 2}, "3"),
        ({"degradations": {}}, "at least one degradation"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"confidence": 95}, "strictly between 0 and 1"),
        ({"model": small_face_net().half()}, "float32 or float64, but is torch.float16"),
        ({"embedding_layer": "head"}, "no module named 'head'"),
    ],
)
def test_bad_input_is_refused(change, message):
    arguments = {"model": small_face_net(), "images": smooth_chips(20), **FAST, **change}
    with pytest.raises(ValueError, match=message):
        assess_suitability(arguments.pop("model"), arguments.pop("images"), **arguments)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("mobilefacenet_y1", "informative"),
        ("mobilefacenet_foamliu", "informative"),
        ("edgeface_xs", "not informative"),
    ],
)
def test_trained_networks(name, verdict):
    path, lfw = SHARED_DATA / "weights" / "reference_nets.py", SHARED_DATA / "faces" / "lfw"
    if not path.is_file() or not lfw.is_dir():
        pytest.skip("needs the weights and LFW in ../shared/data, which are absent")
    from captum_plq.faces import load_image

    spec = importlib.util.spec_from_file_location("reference_nets", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    people = sorted(folder for folder in lfw.iterdir() if folder.is_dir())[3::26][:80]
    chips = np.stack([load_image(min(folder.iterdir())) for folder in people])
    raw = ModelSpec(name, (112, 112), mean=(0.0,) * 3, std=(1.0,) * 3)
    result = assess_suitability(FaceModel(module.load(name), raw), chips, dropouts=())
    assert result.verdict == verdict, str(result)
