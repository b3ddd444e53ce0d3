"""Whether SER-FIQ, or another score, is informative on a network: degradations, a verdict."""

from captum_plq.suitability.assess import assess_suitability
from captum_plq.suitability.result import Reading, Suitability, Trial, Verdict, verdict_on
from captum_plq.suitability.scores import ScoreComparison, ScoreReading, compare_scores

__all__ = [
    "Reading",
    "ScoreComparison",
    "ScoreReading",
    "Suitability",
    "Trial",
    "Verdict",
    "assess_suitability",
    "compare_scores",
    "verdict_on",
]
