"""What an evaluation of maps and qualities measures, each number with its conventions.

These functions know of maps, qualities and networks, not of any one attribution method. A score
map is (B, H, W), higher for better pixels, its channels merged beforehand.
"""

from captum_plq.metrics.captum_own import GaussianNoise, RemovedSquare, infidelity, sensitivity_max
from captum_plq.metrics.failure import FailureCurve, failure_curve, quality_at_failure
from captum_plq.metrics.imputation import Imputer, black, blurred, constant, mean_colour, road
from captum_plq.metrics.maps import (
    centre_gaussian,
    centre_similarity,
    complexity,
    gini_index,
    random_map,
    similarity_between_images,
    spearman,
    structural_similarity,
)
from captum_plq.metrics.perturbation import (
    Curve,
    area_under_curve,
    insertion_curve,
    perturbation_curve,
    srg,
)
from captum_plq.metrics.random_weights import randomised, with_random_weights
from captum_plq.metrics.recognition import (
    DiscardCurve,
    error_versus_discard,
    false_non_match_curve,
    fnmr,
    partial_area,
    similarity_curve,
    threshold_at_fmr,
)
from captum_plq.metrics.repeatability import (
    batch_invariance,
    lowest_region,
    quality_outcome,
    quality_spread,
    repeatability,
)
from captum_plq.metrics.sanity import efficient_mprt, histogram_entropy, smooth_mprt

__all__ = [
    "Curve",
    "DiscardCurve",
    "FailureCurve",
    "GaussianNoise",
    "Imputer",
    "RemovedSquare",
    "area_under_curve",
    "batch_invariance",
    "black",
    "blurred",
    "centre_gaussian",
    "centre_similarity",
    "complexity",
    "constant",
    "efficient_mprt",
    "error_versus_discard",
    "failure_curve",
    "false_non_match_curve",
    "fnmr",
    "gini_index",
    "histogram_entropy",
    "infidelity",
    "insertion_curve",
    "lowest_region",
    "mean_colour",
    "partial_area",
    "perturbation_curve",
    "quality_at_failure",
    "quality_outcome",
    "quality_spread",
    "random_map",
    "randomised",
    "repeatability",
    "road",
    "sensitivity_max",
    "similarity_between_images",
    "similarity_curve",
    "smooth_mprt",
    "spearman",
    "srg",
    "structural_similarity",
    "threshold_at_fmr",
    "with_random_weights",
]
