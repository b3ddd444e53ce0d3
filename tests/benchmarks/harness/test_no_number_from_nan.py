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
FOUR = ["a", "b", "c", "d"]
SCORES = torch.tensor([0.1, 0.2, 0.6, 0.7, 0.8])


def against(plq, other):
    rows = [(name,) for name in FOUR]
    values = {k: dict(zip(rows, own, strict=True)) for k, own in (("plq", plq), ("other", other))}
    return statistics.compare(values, "plq")


TABLE = {
    "compare": (against, {"plq": [0.1, 0.2, 0.3, 0.4], "other": [0.5, 0.1, 0.9, 0.8]}),
    "holm": (lambda p: statistics.holm(p), {"p": [0.01, 0.2, 0.03]}),
    "over_images": (
        lambda values: statistics.over_images(values, ["a", "a", "b"]),
        {"values": [0.1, 0.2, 0.3]},
    ),
    **{
        name: (partial(getattr(mask_scores, name), masks=MASKS), {"maps": MAPS})
        for name in mask_scores.__all__
        if name != "mass_accuracy"
    },
    "mass_accuracy": (partial(mask_scores.mass_accuracy, masks=MASKS), {"qualities": MAPS}),
    "best_threshold": (
        lambda scores: best_threshold(scores.numpy(), np.array([False, False, True, True, True])),
        {"scores": SCORES},
    ),
    "discarded": (
        lambda **given: discarded(
            given["scores"],
            {"serfiq": (given["first"], SCORES), "other": (SCORES, given["second"])},
            list("abcde"),
            given["threshold"],
            against="serfiq",
        ),
        {"scores": SCORES, "first": SCORES, "second": SCORES.flip(0), "threshold": 0.5},
    ),
    "unit_embeddings": (
        lambda embeddings: unit_embeddings(embeddings, ["a", "b"]),
        {"embeddings": torch.rand(2, 3, generator=torch.Generator().manual_seed(0))},
    ),
}


def test_the_table_is_complete():
    others = {"ALL", "Row", "rounded", "summarise"}
    assert {*statistics.__all__, *mask_scores.__all__} <= {*TABLE, *others}


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
