"""Whatever the metrics refuse, in one table: with what error, and by what words."""

import sys

import pytest
import torch
from torch import nn

from captum_plq import metrics as M
from captum_plq.errors import MissingExtraError
from tests.support.draws import uniform

IMAGES, MAPS, NODE = uniform(2, 3, 9, 9), uniform(2, 9, 9), torch.ones(2, 3)
ONE_MAP = MAPS[:1]
REMOVED = MAPS > 0.5
WHOLE = IMAGES.long()
NET = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)).double()
SCORES = torch.ones(3), torch.ones(1), torch.ones(3)
DISCARDED = M.DiscardCurve(torch.tensor([0.0, 0.5]), torch.ones(2))


def total(images):
    return images.sum((1, 2, 3))


def infidelity(images=IMAGES, attributions=IMAGES, **options):
    return M.infidelity(total, images, attributions, **options)


def curve(score=total, images=IMAGES, maps=MAPS, order="lowest-first", **options):
    return M.perturbation_curve(score, images, maps, order=order, impute=M.black, **options)


def similarity(gallery, way="deletion"):
    embed = lambda x: x.mean((2, 3))  # noqa: E731
    return M.similarity_curve(
        embed, IMAGES, gallery, MAPS, way=way, order="lowest-first", impute=M.black, steps=4
    )


def repeated(maps, quality, seeds=(1, 2)):
    return M.repeatability(lambda m, s: (torch.ones(maps), torch.ones(quality)), [1], seeds)


def smooth(explain=lambda _, x: x.mean(1), images=IMAGES, **options):
    return M.smooth_mprt(NET, images, explain, **options)


def breaks(network, images):
    return images.mean(1) * (1.0 if network is NET else torch.nan)


TYPE_ERRORS = [
    ("must be floating point", lambda: infidelity(WHOLE)),
    ("floating-point tensor, but got list", lambda: M.spearman([1.0], MAPS)),
    ("others must be a floating-point", lambda: M.spearman(MAPS, MAPS.long())),
    ("floating-point tensor, but got list", lambda: M.lowest_region([[1.0, 2.0]], 1)),
    ("floating point", lambda: M.randomised(NET, images=WHOLE)),
    ("floating point", lambda: smooth(images=WHOLE)),
    ("must be a floating-point tensor", lambda: smooth(lambda n, x: x.numpy())),
]
VALUE_ERRORS = [
    (r"\(B, C, H, W\), but got", lambda: infidelity(IMAGES[..., 0])),
    (r"but got \(1, 3\)", lambda: infidelity(node=NODE[:1])),
    ("1, but got 0 and 64", lambda: infidelity(samples=0)),
    (r"but got \(2, 9, 9", lambda: infidelity(attributions=MAPS)),
    ("radius must be above 0", lambda: M.sensitivity_max(total, IMAGES, radius=0)),
    ("share must be above 0 and finite", lambda: M.GaussianNoise(0)),
    (r"at most 1, but got 1\.1", lambda: M.RemovedSquare(1.1)),
    ("sigma must be positive and finite", lambda: M.blurred(0.0)),
    ("noise must be finite and not negative", lambda: M.road(-0.1)),
    ("value_range must be positive", lambda: M.road(value_range=0.0)),
    ("2 channels, but the images have 3", lambda: M.constant((1.0, 2.0))(IMAGES, REMOVED)),
    ("floating point", lambda: M.black(WHOLE, REMOVED)),
    ("torch.bool, but got", lambda: M.road()(IMAGES, REMOVED.float())),
    (r"score maps \(B, H, W\)", lambda: M.spearman(MAPS[None], MAPS)),
    ("channels merged", lambda: M.structural_similarity(MAPS[:0], MAPS[:0])),
    ("the same shape", lambda: M.spearman(MAPS, MAPS[..., 1:])),
    ("7×7 or more", lambda: M.structural_similarity(MAPS[:, :6], MAPS[:, :6])),
    ("at least two images", lambda: M.similarity_between_images(ONE_MAP)),
    ("sigma must be above 0", lambda: M.centre_gaussian(4, 4, 0.0)),
    ("at least 1, but got 4 and 0", lambda: M.random_map(4, 0, 1)),
    (r"zero everywhere, but nos\. \[0, 1\]", lambda: M.gini_index(MAPS * 0)),
    (r"\(B, \.\.\.\), not empty", lambda: M.complexity(torch.ones(2))),
    ("bins must be at least 2", lambda: M.histogram_entropy(MAPS, bins=1)),
    ("'lowest-first' or 'highest-first'", lambda: curve(order="best-first")),
    (r"\(2, 3, 9, 9\) and \(1, 9, 9\)", lambda: curve(maps=ONE_MAP)),
    ("from 1 to the image's 81 pixels", lambda: curve(steps=0)),
    ("rows must be at least 1", lambda: curve(rows=0)),
    (r"\(10,\), one number each", lambda: curve(lambda x: x.sum(), steps=4)),
    ("length 0", lambda: similarity(torch.zeros(2, 3))),
    ("'deletion' or 'insertion'", lambda: similarity(NODE, way="removal")),
    (r"one embedding per probe.*\(1, 3\) for 2", lambda: similarity(NODE[:1])),
    (r"\(10, 2\).*as the gallery has.*\(10, 3\)", lambda: similarity(NODE[:, :2])),
    ("1000 impostor scores, but got 999", lambda: M.threshold_at_fmr(torch.rand(999))),
    ("strictly between 0 and 1", lambda: M.threshold_at_fmr(torch.rand(9), 1.0)),
    ("n ≥ 1", lambda: M.fnmr(torch.rand(0), 0.5)),
    (r"\(3,\), \(1,\), \(3,\)", lambda: M.error_versus_discard(*SCORES, 0.5)),
    ("above 0 and at most 1", lambda: M.partial_area(DISCARDED, 0.0)),
    ("two different numbers", lambda: repeated((2, 3, 3), 2, (1, 2, 1))),
    (r"\(B, H, W\)", lambda: repeated((2, 3, 3, 3), 2)),
    ("one per map", lambda: repeated((2, 3, 3), 3)),
    ("at least two, but got one", lambda: M.batch_invariance(total, IMAGES[:1])),
    ("per image, but 2 images gave", lambda: M.batch_invariance(torch.sum, IMAGES)),
    ("per image, but 2 images gave", lambda: M.batch_invariance(lambda x: x[:1], IMAGES)),
    (r"must be \(H, W\)", lambda: M.lowest_region(MAPS, 1)),
    ("from 1 to 81 pixels, but got 82", lambda: M.lowest_region(MAPS[0], 82)),
    ("odd number", lambda: M.lowest_region(MAPS[0], 1, pool=2)),
    (r"\(n,\), but got", lambda: M.quality_outcome(NODE[0], NODE[0], NODE)),
    ("cannot be negative", lambda: M.quality_outcome(NODE[0], NODE[0], -0.1)),
    ("two different numbers", lambda: M.quality_spread(lambda s: NODE[0], (1, 1))),
    ("at least two images", lambda: M.randomised(NET, images=IMAGES[:1])),
    ("nothing to randomise", lambda: M.randomised(nn.ReLU())),
    ("'bottom-up' or 'top-down'", lambda: M.randomised(NET, order="upwards")),
    ("stages must be at least 1, but got 0", lambda: M.randomised(NET, stages=0)),
    ("samples must be at least 1", lambda: smooth(samples=0)),
    ("noise finite and not negative", lambda: smooth(noise=-0.1)),
    ("'spearman' or 'ssim'", lambda: smooth(similarity="pearson")),
    ("one map per image, but gave 1", lambda: smooth(lambda n, x: x[:1, 0])),
    (r"explain \(the network as it is\) must be score", lambda: smooth(lambda n, x: x)),
    ("layers up to '0' randomised", lambda: smooth(breaks)),
    ("all weights random", lambda: M.efficient_mprt(NET, IMAGES, breaks)),
]


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [(TypeError, *case) for case in TYPE_ERRORS] + [(ValueError, *case) for case in VALUE_ERRORS],
)
def test_what_is_refused(error, message, call):
    with pytest.raises(error, match=message):
        call()


def test_without_an_extra_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setitem(sys.modules, "skimage.metrics", None)
    with pytest.raises(MissingExtraError, match=r"scipy.*captum-plq\[benchmarks\]"):
        M.road()(IMAGES, REMOVED)
    with pytest.raises(MissingExtraError, match=r"pip install 'captum-plq\[metrics\]'"):
        M.structural_similarity(MAPS, MAPS)
