"""α, r, γ and reference statistics of high-quality faces: measured, in a file, found by name."""

from captum_plq.calibration.failures import measure_failures
from captum_plq.calibration.file import Calibration
from captum_plq.calibration.known import PRESETS, load_calibration, shipped_calibration
from captum_plq.calibration.measure import calibrate
from captum_plq.calibration.settings import MethodSettings
from captum_plq.calibration.thresholds import FailureRates, QualityThresholds

__all__ = [
    "PRESETS",
    "Calibration",
    "FailureRates",
    "MethodSettings",
    "QualityThresholds",
    "calibrate",
    "load_calibration",
    "measure_failures",
    "shipped_calibration",
]
