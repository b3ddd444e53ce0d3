"""What an evaluation measures: agreement, sanity, repeatability, controls.

These functions know of maps, qualities and networks, not of any one attribution method. A score
map is (B, H, W), higher for better pixels, its channels merged beforehand.
"""

from captum_plq.metrics.captum_own import GaussianNoise, RemovedSquare, infidelity, sensitivity_max
from captum_plq.metrics.controls import (
    centre_gaussian,
    centre_similarity,
    random_map,
    similarity_between_images,
)
from captum_plq.metrics.inpainting import lowest_region, quality_outcome, quality_spread
from captum_plq.metrics.random_weights import randomised, with_random_weights
from captum_plq.metrics.repeatability import batch_invariance, repeatability
from captum_plq.metrics.sanity import efficient_mprt, histogram_entropy, smooth_mprt
from captum_plq.metrics.similarity import spearman, structural_similarity

__all__ = [
    "GaussianNoise",
    "RemovedSquare",
    "batch_invariance",
    "centre_gaussian",
    "centre_similarity",
    "efficient_mprt",
    "histogram_entropy",
    "infidelity",
    "lowest_region",
    "quality_outcome",
    "quality_spread",
    "random_map",
    "randomised",
    "repeatability",
    "sensitivity_max",
    "similarity_between_images",
    "smooth_mprt",
    "spearman",
    "structural_similarity",
    "with_random_weights",
]
