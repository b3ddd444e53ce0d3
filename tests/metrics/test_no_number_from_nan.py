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
    return metrics.similarity_curve(
        lambda x: x.mean((2, 3)) * factor,
        way="deletion",
        order="lowest-first",
        impute=metrics.black,
        steps=2,
        **given,
    ).values


def target(factor):
    return lambda x, *_: x.square().mean((1, 2, 3)) * factor


PAIRS = {"quality_first": draw(6), "quality_second": draw(6), "threshold": 0.5}
TABLE = {
    "GaussianNoise": (
        lambda images, share: GaussianNoise(share)(images, torch.Generator().manual_seed(0)),
        {"images": IMAGES, "share": 0.1},
    ),
    "RemovedSquare": (
        lambda images, share: RemovedSquare(share)(images, torch.Generator().manual_seed(0)),
        {"images": IMAGES, "share": 0.2},
    ),
    "area_under_curve": (
        metrics.area_under_curve,
        {"curve": Curve(FRACTIONS, draw(2, 4))},
    ),
    "batch_invariance": (
        lambda images, factor: metrics.batch_invariance(target(factor), images),
        {"images": IMAGES, "factor": ONE},
    ),
    "black": (metrics.black, {"images": IMAGES, "removed": REMOVED}),
    "blurred": (
        lambda images, sigma: metrics.blurred(sigma)(images, REMOVED),
        {"images": IMAGES, "sigma": 1.0},
    ),
    "centre_gaussian": (lambda sigma: metrics.centre_gaussian(3, 3, sigma), {"sigma": 1.0}),
    "centre_similarity": (metrics.centre_similarity, {"maps": MAPS}),
    "complexity": (metrics.complexity, {"attributions": MAPS}),
    "constant": (
        lambda images, value: metrics.constant(value)(images, REMOVED),
        {"images": IMAGES, "value": [0.1, 0.2, 0.3]},
    ),
    "efficient_mprt": (
        lambda images, calibration, factor: metrics.efficient_mprt(
            NET, images, lambda net, x: explain(net, x) * factor, calibration=calibration
        ),
        {"images": IMAGES, "calibration": IMAGES, "factor": ONE},
    ),
    "error_versus_discard": (
        metrics.error_versus_discard,
        {"comparison_scores": draw(6), **PAIRS},
    ),
    "false_non_match_curve": (
        metrics.false_non_match_curve,
        {"similarities": Curve(FRACTIONS, draw(2, 4)), "threshold": 0.5},
    ),
    "fnmr": (metrics.fnmr, {"mated_scores": draw(5), "threshold": 0.5}),
    "gini_index": (metrics.gini_index, {"attributions": MAPS}),
    "histogram_entropy": (metrics.histogram_entropy, {"maps": MAPS}),
    "infidelity": (
        lambda images, attributions, factor, node: metrics.infidelity(
            lambda x, weights: target(factor)(x) * weights.sum(1),
            images,
            attributions,
            node=node,
            samples=4,
        ),
        {"images": IMAGES, "attributions": IMAGES, "factor": ONE, "node": NODE},
    ),
    "insertion_curve": (along(metrics.insertion_curve, order="lowest-first"), ALONG),
    "lowest_region": (
        lambda score_map: metrics.lowest_region(score_map, 3), {"score_map": MAPS[0]}
    ),
    "mean_colour": (metrics.mean_colour, {"images": IMAGES, "removed": REMOVED}),
    "partial_area": (
        metrics.partial_area,
        {"curve": DiscardCurve(torch.tensor([0.0, 0.25, 0.5]), draw(3)), "limit": 0.3},
    ),
    "perturbation_curve": (along(metrics.perturbation_curve, order="lowest-first"), ALONG),
    "quality_outcome": (
        metrics.quality_outcome, {"before": draw(1), "after": draw(1), "sd": 0.1}
    ),
    "quality_spread": (
        lambda quality: metrics.quality_spread(lambda seed: quality + seed), {"quality": draw(1)}
    ),
    "randomised": (
        lambda images: [net.fc.weight for _, net in metrics.randomised(NET, images=images)],
        {"images": IMAGES},
    ),
    "repeatability": (
        lambda maps, quality: metrics.repeatability(
            lambda m, seed: (maps + seed * OTHERS, quality + seed * draw(2)), passes=[10]
        ),
        {"maps": MAPS, "quality": draw(2)},
    ),
    "road": (
        lambda images, noise, value_range: metrics.road(noise, value_range=value_range)(
            images, REMOVED
        ),
        {"images": IMAGES, "noise": 0.01, "value_range": 1.0},
    ),
    "sensitivity_max": (
        lambda images, node, radius, factor: metrics.sensitivity_max(
            lambda x, weights: x.square() * factor * weights.sum(1)[:, None, None, None],
            images,
            node=node,
            radius=radius,
            samples=2,
        ),
        {"images": IMAGES, "node": NODE, "radius": 0.1, "factor": ONE},
    ),
    "similarity_between_images": (metrics.similarity_between_images, {"maps": MAPS}),
    "similarity_curve": (
        similarity_curve,
        {"probes": IMAGES, "gallery": draw(2, 3), "score_map": MAPS, "factor": ONE},
    ),
    "smooth_mprt": (
        lambda images, calibration, noise, factor: metrics.smooth_mprt(
            NET,
            images,
            lambda net, x: explain(net, x) * factor,
            samples=2,
            noise=noise,
            stages=2,
            calibration=calibration,
        ).similarity,
        {"images": IMAGES, "calibration": IMAGES, "noise": 0.1, "factor": ONE},
    ),
    "spearman": (metrics.spearman, {"maps": MAPS, "others": OTHERS}),
    "srg": (along(metrics.srg), ALONG),
    "structural_similarity": (metrics.structural_similarity, {"maps": MAPS, "others": OTHERS}),
    "threshold_at_fmr": (
        metrics.threshold_at_fmr, {"impostor_scores": draw(20), "fmr": 0.1}
    ),
    "with_random_weights": (
        lambda images: metrics.with_random_weights(NET, images=images).trunk[1].running_mean,
        {"images": IMAGES},
    ),
}  # fmt: skip
NO_FLOATING_INPUT = {"Curve", "DiscardCurve", "Imputer", "random_map"}
IMAGES_OUT = {"GaussianNoise", "RemovedSquare"}
"""They return the image changed: what is not spoilt of it stays as it is."""

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
