"""The quality of an image for a network: :class:`SERFIQ`, and the node :class:`QualityModel`."""

from captum_plq.quality.estimators import Assessment, Estimator
from captum_plq.quality.model import QualityModel
from captum_plq.quality.serfiq import SERFIQ

__all__ = [
    "SERFIQ",
    "Assessment",
    "Estimator",
    "QualityModel",
]
