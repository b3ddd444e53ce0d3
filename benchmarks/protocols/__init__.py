"""What is measured, one file a protocol; :data:`PROTOCOLS` registers them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.harness.protocol import Protocol

__all__ = ["PROTOCOLS", "protocol"]

PROTOCOLS = {
    "speed": ("speed:Speed", "what do time, memory and FLOPs of a method cost, in Saliencies?"),
    "scaling": ("scaling:Scaling", "how do these grow with the batch and with m?"),
    "estimators": ("estimators:Estimators", "how far is each estimator of SER-FIQ from its limit?"),
    "verification": ("verification:Verification", "how accurate is a network on pairs of faces?"),
    "map-time": ("map_time:MapTime", "what does each map cost, from image to map?"),
    "curves": ("curves:Curves", "how does Q fall as pixels go in the order of a map?"),
}
"""Command → module and class, and the question it answers, in the order of the documents."""


def protocol(name: str) -> type[Protocol]:
    """Return a protocol of :data:`PROTOCOLS`; its module is imported only now."""
    module, _, own = PROTOCOLS[name][0].partition(":")
    found: type[Protocol] = getattr(importlib.import_module(f"{__name__}.{module}"), own)
    return found
