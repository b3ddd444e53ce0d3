"""What is measured, one file a protocol: :data:`PROTOCOLS` registers them, ``parts`` helps."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.harness.protocol import Protocol

PROTOCOLS = {
    "speed": (
        "costs.speed:Speed",
        "what do time, memory and FLOPs of a method cost, in Saliencies?",
    ),
    "scaling": ("costs.scaling:Scaling", "how do these grow with the batch and with m?"),
    "gpu": ("costs.gpu:Gpu", "does a GPU compute the same, and how fast is it there?"),
    "estimators": ("estimators:Estimators", "how far is each estimator of SER-FIQ from its limit?"),
    "verification": ("verification:Verification", "how accurate is a network on pairs of faces?"),
    "map-time": ("costs.map_time:MapTime", "what does each map cost, from image to map?"),
    "level": ("level:Level", "does a map's mean rank images as Q does?"),
    "random-mask": ("random_mask:RandomMask", "does a map see a square on a face?"),
    "curves": ("curves:Curves", "how does Q fall as pixels go in the order of a map?"),
    "inpainting": ("inpainting:Inpainting", "does painting over a map's lowest region raise Q?"),
    "recognition": ("recognition:Recognition", "is a face recognised as pixels go by a map?"),
    "captum": ("captum_metrics:CaptumMetrics", "infidelity, sensitivity and sparseness of a map"),
    "sanity": ("sanity:Sanity", "does a map depend on the weights and on the image?"),
    "standards": ("standards:Standards", "what do Q and maps make of violated photo standards?"),
    "out-of-domain": (
        "out_of_domain:OutOfDomain",
        "do relative maps survive faces that do not fit?",
    ),
    "feedback": ("feedback:FeedbackCauses", "is the right cause of a low quality named?"),
    "photos": (
        "photos.cut_off:Photos",
        "is a face that is cut off or covered found, and what is said of it?",
    ),
    "edc": ("edc:EDC", "does recognition err less without low qualities?"),
    "thresholds": ("thresholds:Thresholds", "how often do images of a Q fail, and is it so?"),
}
"""Command → module and class, and the question it answers, in the order of the documents."""


def protocol(name: str) -> type[Protocol]:
    """Return a protocol of :data:`PROTOCOLS`; its module is imported only now."""
    module, _, own = PROTOCOLS[name][0].partition(":")
    found: type[Protocol] = getattr(importlib.import_module(f"{__name__}.{module}"), own)
    return found
