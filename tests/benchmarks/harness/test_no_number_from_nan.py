"""NaN and infinity in what a benchmark averages, ranks or holds against a threshold."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from benchmarks.harness import statistics
from benchmarks.harness.pages import about
from benchmarks.protocols.parts import mask_scores
from benchmarks.protocols.parts.discard_areas import discarded
from benchmarks.protocols.verification import best_threshold
from benchmarks.subjects.faces import unit_embeddings
from tests.support.poisoned import POISONS, cases, check, numbers

MAPS = torch.rand(2, 5, 5, generator=torch.Generator().manual_seed(0))
MASKS = torch.zeros(2, 5, 5, dtype=torch.bool)
MASKS[:, :2] = True
SCORES = torch.tensor([0.1, 0.2, 0.6, 0.7, 0.8])
MATED = np.array([False, False, True, True, True])


def against(plq, other):
    own = {"plq": plq, "other": other}
    rows = {name: {(i,): x for i, x in enumerate(values)} for name, values in own.items()}
    return statistics.compare(rows, "plq")


def areas(scores, first, second, threshold):
    qualities = {"serfiq": (first, SCORES), "other": (SCORES, second)}
    return discarded(scores, qualities, list("abcde"), threshold, against="serfiq")


TABLE = {
    "compare": (against, {"plq": [0.1, 0.2, 0.3, 0.4], "other": [0.5, 0.1, 0.9, 0.8]}),
    "holm": (lambda p: statistics.holm(p), {"p": [0.01, 0.2, 0.03]}),
    "over_images": (partial(statistics.over_images, images="aab"), {"values": [0.1, 0.2, 0.3]}),
    **{
        name: (
            partial(getattr(mask_scores, name), masks=MASKS),
            {"qualities" if name == "mass_accuracy" else "maps": MAPS},
        )
        for name in mask_scores.__all__
    },
    "best_threshold": (lambda x: best_threshold(x.numpy(), MATED), {"x": SCORES}),
    "discarded": (
        areas,
        {"scores": SCORES, "first": SCORES, "second": SCORES.flip(0), "threshold": 0.5},
    ),
    "unit_embeddings": (partial(unit_embeddings, names="ab"), {"embeddings": MAPS[0, :2, :3]}),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_valid_call_gives_numbers(name):
    call, given = TABLE[name]
    assert all(math.isfinite(x) for x in numbers(call(**given)))


@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize(
    ("name", "path"), [pytest.param(*case, id=f"{case[0]}-{case[1]}") for case in cases(TABLE)]
)
def test_no_number_from_nan_or_infinity(name, path, poison):
    check(*TABLE[name], path, poison)


def test_an_embedding_of_length_0_is_named():
    with pytest.raises(ValueError, match=r"0 for second\."):
        unit_embeddings(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), ["first", "second"])


def test_what_a_mean_leaves_out_is_said():
    record = {
        "source": "",
        "network": "",
        "sessions": [],
        "faces": {"evaluated": 3, "reference": 1, "about": "", "digest": "", "unusable": 4},
        "estimates": {"score": {"plq": {"all": {"rows": 2, "undefined": 1}}}},
        "comparisons": {"score": {"other": {"images": 2}}},
    }
    for text in ("`score` does not exist: `plq` 1 of 3", "4 images that were", "`other` 2"):
        assert text in about(record)
