"""Pixel-level face image quality (PLQ) as a Captum attribution method."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captum_plq.attribution import LayerPixelQuality, LocalQuality, PixelQualityAttribution
    from captum_plq.functional import QualityScaling, quality_map
    from captum_plq.quality import SERFIQ, QualityModel, SpatialSERFIQ

__all__ = [
    "SERFIQ",
    "LayerPixelQuality",
    "LocalQuality",
    "PixelQualityAttribution",
    "QualityModel",
    "QualityScaling",
    "SpatialSERFIQ",
    "quality_map",
]

__version__ = "0.1.0"

_HOMES = {
    "LayerPixelQuality": "attribution",
    "LocalQuality": "attribution",
    "PixelQualityAttribution": "attribution",
    "QualityModel": "quality",
    "QualityScaling": "functional",
    "SERFIQ": "quality",
    "SpatialSERFIQ": "quality",
    "quality_map": "functional",
}
"""Public name → its package, which is imported when the name is first used."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(globals().keys() | _HOMES.keys())
