"""What an evaluation of maps and qualities measures, each number with its conventions."""

from captum_plq.metrics.complexity import complexity, gini_index
from captum_plq.metrics.discard import DiscardCurve, error_versus_discard, partial_area
from captum_plq.metrics.imputation import Imputer, black, blurred, constant, mean_colour, road
from captum_plq.metrics.perturbation import insertion_curve, perturbation_curve, srg
from captum_plq.metrics.recognition import (
    false_non_match_curve,
    fnmr,
    similarity_curve,
    threshold_at_fmr,
)
from captum_plq.metrics.removal import Curve, area_under_curve

__all__ = [
    "Curve",
    "DiscardCurve",
    "Imputer",
    "area_under_curve",
    "black",
    "blurred",
    "complexity",
    "constant",
    "error_versus_discard",
    "false_non_match_curve",
    "fnmr",
    "gini_index",
    "insertion_curve",
    "mean_colour",
    "partial_area",
    "perturbation_curve",
    "road",
    "similarity_curve",
    "srg",
    "threshold_at_fmr",
]
