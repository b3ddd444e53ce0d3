"""One table over everything public: a valid call of each, then NaN and infinity in each input."""

import math

import pytest
import torch

import captum_plq.metrics as metrics
from captum_plq.metrics import Curve, DiscardCurve, GaussianNoise, RemovedSquare
from captum_plq.suitability import separation
from captum_plq.suitability.result import verdict_on
from captum_plq.suitability.separation import Estimate, Separation
from tests.conftest import small_face_net
from tests.support.poisoned import POISONS, cases, check, numbers

SIDE = 20
GENERATOR = torch.Generator().manual_seed(0)


def draw(*shape):
    return torch.rand(*shape, dtype=torch.float64, generator=GENERATOR)


IMAGES, MAPS, OTHERS = draw(2, 3, SIDE, SIDE), draw(2, SIDE, SIDE), draw(2, SIDE, SIDE)
REMOVED = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
REMOVED[:, :4] = True
NET = small_face_net()
ONE, NODE = torch.ones(1, dtype=torch.float64), torch.ones(2, 1, dtype=torch.float64)
FRACTIONS = torch.linspace(0, 1, 4, dtype=torch.float64)
ALONG = {"images": IMAGES, "score_map": MAPS, "factor": ONE}


def explain(network, images):
    return network.trunk[0](images).abs().mean(1).repeat_interleave(2, 1).repeat_interleave(2, 2)


def along(function, **options):
    """With the mean of an image, times a factor, as its score."""

    def call(images, score_map, factor):
        score = lambda x: x.mean((1, 2, 3)) * factor  # noqa: E731
        found = function(score, images, score_map, impute=metrics.mean_colour, steps=2, **options)
        return getattr(found, "values", found)

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
        return metrics.smooth_mprt(NET, images, scaled, **given).similarity
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
    "blurred": (lambda images, sigma: M.blurred(sigma)(images, REMOVED),
                {"images": IMAGES, "sigma": 1.0}),
    "centre_gaussian": (lambda sigma: M.centre_gaussian(3, 3, sigma), {"sigma": 1.0}),
    "centre_similarity": (M.centre_similarity, {"maps": MAPS}),
    "complexity": (M.complexity, {"attributions": MAPS}),
    "constant": (lambda images, value: M.constant(value)(images, REMOVED),
                 {"images": IMAGES, "value": [0.1, 0.2, 0.3]}),
    "efficient_mprt": (mprt, {"images": IMAGES, "calibration": IMAGES, "factor": ONE}),
    "error_versus_discard": (M.error_versus_discard, {"comparison_scores": draw(6), **PAIRS}),
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
    "quality_outcome": (M.quality_outcome, {"before": draw(1), "after": draw(1), "sd": 0.1}),
    "quality_spread": (lambda quality: M.quality_spread(lambda seed: quality + seed),
                       {"quality": draw(1)}),
    "randomised": (lambda images: [net.fc.weight for _, net in M.randomised(NET, images=images)],
                   {"images": IMAGES}),
    "repeatability": (lambda maps, quality: M.repeatability(
        lambda m, seed: (maps + seed * OTHERS, quality + seed * draw(2)), passes=[10]),
        {"maps": MAPS, "quality": draw(2)}),
    "road": (lambda images, noise, value_range: M.road(noise, value_range=value_range)(
        images, REMOVED), {"images": IMAGES, "noise": 0.01, "value_range": 1.0}),
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
NO_FLOATING_INPUT = {"Curve", "DiscardCurve", "Imputer", "random_map"}
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


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", EVERY)
def test_a_valid_call_gives_numbers(name):
    call, given = EVERY[name]
    assert all(math.isfinite(x) for x in numbers(call(**given)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize(
    ("name", "path"), [pytest.param(*case, id=f"{case[0]}-{case[1]}") for case in cases(EVERY)]
)
def test_no_number_from_nan_or_infinity(name, path, poison):
    check(*EVERY[name], path, poison, parts=name in IMAGES_OUT)


@pytest.mark.parametrize(
    "function",
    [
        metrics.centre_similarity,
        metrics.similarity_between_images,
        lambda maps: metrics.spearman(maps, OTHERS),
    ],
)
def test_a_constant_map_correlates_with_nothing(function):
    assert torch.as_tensor(function(torch.full_like(MAPS, 0.3))).isnan().all()
