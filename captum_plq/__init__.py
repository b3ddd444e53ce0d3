"""Pixel-level face image quality (PLQ) as a Captum attribution method."""

from captum_plq.attribution import PixelQualityAttribution
from captum_plq.functional import QualityScaling, quality_map
from captum_plq.layer_attribution import LayerPixelQuality
from captum_plq.quality_model import QualityModel
from captum_plq.serfiq import SERFIQ

__all__ = [
    "SERFIQ",
    "LayerPixelQuality",
    "PixelQualityAttribution",
    "QualityModel",
    "QualityScaling",
    "quality_map",
]

__version__ = "0.1.0"
