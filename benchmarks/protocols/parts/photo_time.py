"""How long a photo takes, from its pixels to a verdict with reasons."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.harness.protocol import Record
from captum_plq.calibration.file import Calibration
from captum_plq.explanation import Explainer
from captum_plq.faces import align_face, detect_faces
from captum_plq.feedback import give_feedback
from captum_plq.models import FaceModel

__all__ = ["seconds_a_photo"]

_TIMED = 11


def seconds_a_photo(network: FaceModel, calibration: Calibration | None) -> Record | None:
    """Time a photo of 512 × 512 pixels, from pixels to reasons, after a first one.

    Args:

        network (FaceModel): On its device.
        calibration (Calibration, optional): Of the network.

    Returns:
        *dict or None*: ``median``, ``low`` and ``high`` (10th and 90th percentile) in seconds,
        and over how many ``photos``; ``None`` without scikit-image, whose photo it is.
    """
    try:
        from skimage.data import astronaut
    except ImportError:
        return None
    photo = astronaut()
    explainer, taken = Explainer(network, calibration=calibration), []
    for _ in range(_TIMED):
        began = time.perf_counter()
        face = detect_faces(photo)[0]
        spec = network.spec
        chip = align_face(photo, face, template=spec.alignment, size=spec.input_size)
        found = explainer(chip[None])
        give_feedback(
            chip,
            spec,
            landmarks=face.landmarks,
            scaled_quality=None if found.scaled_quality is None else found.scaled_quality[0],
            lost=None if found.local is None else found.local.lost[0],
            calibration=calibration,
        )
        taken.append(time.perf_counter() - began)
    low, median, high = np.quantile(taken[1:], [0.1, 0.5, 0.9]).tolist()
    return {"median": median, "low": low, "high": high, "photos": len(taken) - 1}
