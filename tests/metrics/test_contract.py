"""One table over everything public, and what holds for all of it."""

import copy
import math
from functools import partial

import pytest
import torch

import captum_plq.metrics as metrics
from captum_plq.metrics import Curve, DiscardCurve, FailureCurve, GaussianNoise, RemovedSquare
from captum_plq.suitability import separation
from captum_plq.suitability.result import verdict_on
from captum_plq.suitability.separation import Estimate, Separation
from tests.conftest import assert_untouched, in_mixed_state, small_face_net, snapshot
from tests.support.poisoned import POISONS, cases, check, numbers

pytestmark = pytest.mark.filterwarnings("ignore")
SIDE = 20
GENERATOR = torch.Generator().manual_seed(0)
draw = partial(torch.rand, dtype=torch.float64, generator=GENERATOR)
IMAGES, MAPS, OTHERS = draw(2, 3, SIDE, SIDE), draw(2, SIDE, SIDE), draw(2, SIDE, SIDE)
REMOVED = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
REMOVED[:, :4] = True
NET = in_mixed_state(small_face_net())
ONE, NODE = torch.ones(1, dtype=torch.float64), torch.ones(2, 1, dtype=torch.float64)
FRACTIONS = torch.linspace(0, 1, 4, dtype=torch.float64)
ALONG = {"images": IMAGES, "score_map": MAPS, "factor": ONE}


def explain(network, images):
    assert not any(module.training for module in network.modules())
    return network.trunk[0](images).abs().mean(1).repeat_interleave(2, 1).repeat_interleave(2, 2)


def along(function, **options):
    """With the mean of an image, times a factor, as its score."""

    def call(images, score_map, factor):
        score = lambda x: x.mean((1, 2, 3)) * factor  # noqa: E731
        found = function(score, images, score_map, impute=metrics.mean_colour, steps=2, **options)
        return found.values if isinstance(found, Curve) else found

    return call


def similarity_curve(factor, **given):
    options = {"way": "deletion", "order": "lowest-first", "impute": metrics.black, "steps": 2}
    embed = lambda x: x.mean((2, 3)) * factor  # noqa: E731
    return metrics.similarity_curve(embed, **options, **given).values


def target(factor):
    return lambda x, *_: x.square().mean((1, 2, 3)) * factor


def attribute(factor):
    return lambda x, node: x.square() * factor * node.sum(1)[:, None, None, None]


def infidelity(factor, **given):
    f = lambda x, node: target(factor)(x) * node.sum(1)  # noqa: E731
    return metrics.infidelity(f, samples=4, **given)


def mprt(images, factor, **given):
    scaled = lambda network, x: explain(network, x) * factor  # noqa: E731
    if "noise" in given:
        given |= {"samples": 2, "stages": 2}
        return metrics.smooth_mprt(NET, images, scaled, **given).similarity.T
    return metrics.efficient_mprt(NET, images, scaled, **given)


def changed(kind):
    return lambda images, share: kind(share)(images, torch.Generator().manual_seed(0))


PAIRS = {"quality_first": draw(6), "quality_second": draw(6), "threshold": 0.5}
M = metrics
TABLE = {
    "GaussianNoise": (changed(GaussianNoise), {"images": IMAGES, "share": 0.1}),
    "RemovedSquare": (changed(RemovedSquare), {"images": IMAGES, "share": 0.2}),
    "area_under_curve": (M.area_under_curve, {"curve": Curve(FRACTIONS, draw(2, 4))}),
    "batch_invariance": (lambda images, factor: M.batch_invariance(target(factor), images),
                         {"images": IMAGES, "factor": ONE}),
    "black": (M.black, {"images": IMAGES, "removed": REMOVED}),
    "blurred": (lambda sigma, **given: M.blurred(sigma)(**given),
                {"images": IMAGES, "removed": REMOVED, "sigma": 1.0}),
    "centre_gaussian": (lambda sigma: M.centre_gaussian(3, 3, sigma), {"sigma": 1.0}),
    "centre_similarity": (M.centre_similarity, {"maps": MAPS}),
    "complexity": (M.complexity, {"attributions": MAPS}),
    "constant": (lambda value, **given: M.constant(value)(**given),
                 {"images": IMAGES, "removed": REMOVED, "value": [0.1, 0.2, 0.3]}),
    "efficient_mprt": (mprt, {"images": IMAGES, "calibration": IMAGES, "factor": ONE}),
    "error_versus_discard": (M.error_versus_discard, {"comparison_scores": draw(6), **PAIRS}),
    "failure_curve": (partial(M.failure_curve, people=range(30), resamples=20),
                      {"mated_scores": draw(30), "quality": draw(30), "threshold": 0.5}),
    "false_non_match_curve": (M.false_non_match_curve,
                              {"similarities": Curve(FRACTIONS, draw(2, 4)), "threshold": 0.5}),
    "fnmr": (M.fnmr, {"mated_scores": draw(5), "threshold": 0.5}),
    "gini_index": (M.gini_index, {"attributions": MAPS}),
    "histogram_entropy": (M.histogram_entropy, {"maps": MAPS}),
    "infidelity": (infidelity,
                   {"images": IMAGES, "attributions": IMAGES, "factor": ONE, "node": NODE}),
    "insertion_curve": (along(M.insertion_curve, order="lowest-first"), ALONG),
    "lowest_region": (lambda score_map: M.lowest_region(score_map, 3), {"score_map": MAPS[0]}),
    "mean_colour": (M.mean_colour, {"images": IMAGES, "removed": REMOVED}),
    "partial_area": (M.partial_area, {
        "curve": DiscardCurve(torch.tensor([0.0, 0.25, 0.5]), draw(3)), "limit": 0.3}),
    "perturbation_curve": (along(M.perturbation_curve, order="lowest-first"), ALONG),
    "quality_at_failure": (lambda knots, rate: M.quality_at_failure(
        FailureCurve(*map(tuple, knots.tolist())), rate),
        {"knots": torch.tensor([[0.4, 0.6], [0.5, 0.1], [0.4, 0.0], [0.6, 0.2]]), "rate": 0.3}),
    "quality_outcome": (lambda **given: [float(len(w)) for w in M.quality_outcome(**given)],
                        {"before": draw(1), "after": draw(1), "sd": 0.1}),
    "quality_spread": (lambda quality: M.quality_spread(lambda seed: quality + seed),
                       {"quality": draw(1)}),
    "randomised": (lambda images: [net.fc.weight for _, net in M.randomised(NET, images=images)],
                   {"images": IMAGES}),
    "repeatability": (lambda maps, quality: M.repeatability(
        lambda m, seed: (maps + seed * OTHERS, quality + seed * OTHERS[:, 0, 0]), passes=[10]),
        {"maps": MAPS, "quality": draw(2)}),
    "road": (lambda images, removed, **options: M.road(**options)(images, removed),
             {"images": IMAGES, "removed": REMOVED, "noise": 0.01, "value_range": 1.0}),
    "sensitivity_max": (lambda factor, **given: M.sensitivity_max(
        attribute(factor), samples=2, **given),
        {"images": IMAGES, "node": NODE, "radius": 0.1, "factor": ONE}),
    "similarity_between_images": (M.similarity_between_images, {"maps": MAPS}),
    "similarity_curve": (similarity_curve, {
        "probes": IMAGES, "gallery": draw(2, 3), "score_map": MAPS, "factor": ONE}),
    "smooth_mprt": (mprt, {"images": IMAGES, "calibration": IMAGES, "noise": 0.1, "factor": ONE}),
    "spearman": (M.spearman, {"maps": MAPS, "others": OTHERS}),
    "srg": (along(M.srg), ALONG),
    "structural_similarity": (M.structural_similarity, {"maps": MAPS, "others": OTHERS}),
    "threshold_at_fmr": (M.threshold_at_fmr, {"impostor_scores": draw(20), "fmr": 0.1}),
    "with_random_weights": (
        lambda images: M.with_random_weights(NET, images=images).trunk[1].running_mean,
        {"images": IMAGES}),
}  # fmt: skip
NO_FLOATING_INPUT = {"Curve", "DiscardCurve", "FailureCurve", "Imputer", "random_map"}
OF_MANY_IMAGES = {
    "batch_invariance", "centre_gaussian", "error_versus_discard", "failure_curve",
    "false_non_match_curve", "fnmr", "quality_at_failure",
    "lowest_region", "partial_area", "quality_outcome", "quality_spread", "randomised",
    "repeatability", "similarity_between_images", "threshold_at_fmr", "with_random_weights",
    "area_under_curve",
}  # fmt: skip
IMAGES_OUT = {"GaussianNoise", "RemovedSquare"}
"""They return the image changed: what is not poisoned of it stays as it is."""

CLEAN, WORSE = draw(8) + 0.5, draw(8)
SEPARATION = {
    "auroc": (separation.auroc, {"clean": CLEAN, "degraded": WORSE}),
    "share_falling": (separation.share_falling, {"clean": CLEAN, "degraded": WORSE}),
    "separation": (
        separation.separation, {"clean": CLEAN, "degraded": WORSE, "confidence": 0.9}
    ),
    "auroc_gain": (
        separation.auroc_gain, {"scores": draw(3, 8), "over": draw(3, 8), "confidence": 0.9}
    ),
    "verdict_on": (
        lambda **of: [
            {"informative": 1.0, "weakly informative": 0.5, "not informative": 0.0}[
                verdict_on([Separation(Estimate(*of["share"]), Estimate(*of["auroc"]))])
            ]
        ],
        {"share": [0.9, 0.8, 1.0], "auroc": [0.9, 0.8, 1.0]},
    ),
}  # fmt: skip
EVERY = {**TABLE, **SEPARATION}


def test_the_table_is_complete():
    assert set(TABLE) | NO_FLOATING_INPUT == set(metrics.__all__)
    assert set(SEPARATION) | {"Estimate", "Separation"} == {*separation.__all__, "verdict_on"}


@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize(
    ("name", "path"), [pytest.param(*case, id=f"{case[0]}-{case[1]}") for case in cases(EVERY)]
)
def test_no_number_from_nan_or_infinity(name, path, poison):
    check(*EVERY[name], path, poison, parts=name in IMAGES_OUT)


@pytest.mark.parametrize("name", EVERY)
def test_a_call_gives_numbers_changes_nothing_and_is_deaf_to_the_global_seed(name):
    call, given = EVERY[name]
    kept, found = copy.deepcopy(given), []
    for seed in (3, 4):
        torch.manual_seed(seed)
        before = snapshot(NET)
        found.append(numbers(call(**given)))
        assert_untouched(before, NET)
    assert found[0]
    assert all(map(math.isfinite, found[0]))
    assert found[0] == found[1]
    torch.testing.assert_close(given, kept, rtol=0, atol=0)


@pytest.mark.parametrize("name", [n for n in TABLE if n not in OF_MANY_IMAGES])
def test_an_image_alone_or_in_a_batch_gets_the_same(name):
    call, given = TABLE[name]
    parts = {k: v[1:] for k, v in given.items() if torch.is_tensor(v) and len(v) == 2}
    second = {**given, **parts, **{k: v for k, v in given.items() if k == "calibration"}}
    torch.testing.assert_close(call(**given)[1:], call(**second))


class Chance:
    def __rmul__(self, values):
        return values * (1 + 0.1 * torch.rand(values.shape))


@pytest.mark.parametrize("name", ["infidelity", "sensitivity_max", "efficient_mprt", "smooth_mprt"])
def test_the_seed_is_also_that_of_methods_that_draw(name):
    call, given = TABLE[name]
    found = []
    for state, seed in ((3, 1), (4, 1), (4, 2)):
        torch.manual_seed(state)
        found.append(call(**{**given, "factor": Chance()}, seed=seed))
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[1], found[2])


@pytest.mark.parametrize("name", ["centre_similarity", "similarity_between_images", "spearman"])
def test_a_constant_map_correlates_with_nothing(name):
    call, given = TABLE[name]
    assert torch.as_tensor(call(**{**given, "maps": torch.full_like(MAPS, 0.3)})).isnan().all()
