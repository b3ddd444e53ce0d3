"""Scores compared on planted networks whose answer is known."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from captum_plq import SERFIQ
from captum_plq.quality.scores import SCORES
from captum_plq.quality.scores.embedding_norm import EmbeddingNorm
from captum_plq.suitability import compare_scores, verdict_on
from captum_plq.suitability.separation import auroc, auroc_gain, separation
from tests.conftest import assert_untouched, small_face_net, snapshot

pytest.importorskip("PIL", reason="needs the extra [faces]")

from captum_plq.faces import add_noise, blur

TWO = {
    "noise": lambda chip, seed: add_noise(chip, 40.0, seed=seed),
    "blur": lambda chip, _: blur(chip, 2.0),
}


def chips(count=24):
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (count, 20, 20, 3)).astype(np.uint8)


class Contrast(nn.Module):
    """The embedding's length is the contrast of the image; its direction is always the same."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 2, bias=False)
        self.fc.weight.data = torch.tensor([[1.0, 0.0], [0.01, 1e-4]])

    def forward(self, x):
        return self.fc(torch.stack([x.flatten(1).std(1), x.flatten(1).mean(1)], 1))


def test_a_norm_that_knows_and_one_that_does_not():
    paler = {"blur": TWO["blur"], "faded": lambda chip, _: chip // 2}
    found = compare_scores(
        Contrast().eval(), chips(), scores=("serfiq", "embedding-norm"), degradations=paler
    )
    assert next(iter(found.readings)) == "embedding-norm"
    assert found.readings["embedding-norm"].auroc == 1
    assert found.readings["embedding-norm"].verdict == "informative"
    assert found.readings["embedding-norm"].gain.low > 0
    assert found.readings["serfiq"].gain is None
    assert found.readings["serfiq"].verdict == "not informative"


def test_every_figure_computed_anew():
    net, images = small_face_net().float(), chips()
    before = snapshot(net)
    scores = {"serfiq": SERFIQ(net, passes=10), "norm": EmbeddingNorm(net)}
    said = []
    found = compare_scores(
        net, images, scores=scores, degradations=TWO, seed=3, resamples=200, batch_size=5,
        progress=said.append,
    )  # fmt: skip
    assert_untouched(before, net)
    assert said[-1] == "24 of 24 images"
    sets = [images, *(np.stack([f(x, 3 + i) for i, x in enumerate(images)]) for f in TWO.values())]
    values = {
        name: torch.stack([score(torch.from_numpy(x).permute(0, 3, 1, 2).float()) for x in sets])
        for name, score in scores.items()
    }
    options = {"confidence": 0.95, "resamples": 200, "seed": 3}
    for name, reading in found.readings.items():
        clean, *degraded = values[name].detach().double()
        each = [separation(clean, x, **options) for x in degraded]
        for got, want in zip(reading.degradations.values(), each, strict=True):
            assert got.auroc.value == pytest.approx(want.auroc.value, abs=0.01)
        assert reading.auroc == pytest.approx(
            np.mean([auroc(clean, x) for x in degraded]), abs=0.01
        )
        assert reading.verdict == verdict_on(list(reading.degradations.values()))
    gain = auroc_gain(values["norm"].detach(), values["serfiq"].detach(), **options)
    assert found.readings["norm"].gain.value == pytest.approx(gain.value, abs=0.01)
    means = [x.auroc for x in found.readings.values()]
    assert means == sorted(means, reverse=True)


def test_what_a_network_lacks_is_told_and_the_rest_goes_on():
    found = compare_scores(small_face_net().float(), chips(20), degradations=TWO, resamples=20)
    assert set(found.failed) == {"native", "vitnt-style", "attn-fiqa-style"}
    assert set(found.readings) == set(SCORES) - set(found.failed)
    table = str(found)
    assert all(name in table for name in SCORES)
    assert "Nothing says which part" in table
    assert max(map(len, table.splitlines())) < 250
    record = json.loads(json.dumps(found.to_json()))
    assert record["readings"]["serfiq"]["verdict"] == found.readings["serfiq"].verdict


def test_what_cannot_be_compared():
    net = small_face_net().float()
    with pytest.raises(ValueError, match="no score 'fiqa'"):
        compare_scores(net, chips(), scores=("fiqa",))
    with pytest.raises(ValueError, match=r"none of these scores\. native: Nothing says"):
        compare_scores(net, chips(), scores=("native",))
    with pytest.raises(ValueError, match="at least 20 images"):
        compare_scores(net, chips(19))
