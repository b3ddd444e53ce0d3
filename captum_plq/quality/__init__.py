"""The quality of an image for a network: :class:`SERFIQ`, its node and its division over places."""

from captum_plq.quality.estimators import Assessment, Estimator
from captum_plq.quality.model import QualityModel
from captum_plq.quality.regions import LEAST_TOLD, lost_by_region, worst_region
from captum_plq.quality.serfiq import SERFIQ
from captum_plq.quality.spatial import SpatialSERFIQ

__all__ = [
    "LEAST_TOLD",
    "SERFIQ",
    "Assessment",
    "Estimator",
    "QualityModel",
    "SpatialSERFIQ",
    "lost_by_region",
    "worst_region",
]
