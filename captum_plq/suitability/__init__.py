"""Whether SER-FIQ is informative on a network: dropout sites, degradations, a verdict."""

from captum_plq.suitability.assess import assess_suitability
from captum_plq.suitability.result import Reading, Suitability, Trial, Verdict, verdict_on

__all__ = [
    "Reading",
    "Suitability",
    "Trial",
    "Verdict",
    "assess_suitability",
    "verdict_on",
]
