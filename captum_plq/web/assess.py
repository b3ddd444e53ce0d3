"""From the bytes of a photo to what the page shows of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captum_plq import __version__
from captum_plq.calibration.known import load_calibration
from captum_plq.explanation import Explainer, Explanation, LocalMaps, matching_calibration
from captum_plq.faces import (
    REGION_WORDS,
    REGIONS,
    AlignedFace,
    align_face,
    aligned_faces,
    decode_image,
    face_regions,
    inpaint,
    resize_aligned,
    sample_face,
)
from captum_plq.feedback import GROUPS, RULES, Feedback, Reason, give_feedback
from captum_plq.models import load_model
from captum_plq.web.pictures import data_url, map_scale, overlay, region_outlines
from captum_plq.web.refusal import RefusedError
from captum_plq.web.settings import WebSettings

__all__ = ["CAUTION", "PhotoAssessor", "load_assessor"]

CAUTION = (
    "An illustration: the region was painted over from what is around it. Inpainting invents "
    "pixels, so a higher score does not mean that a retake will reach it."
)
"""What stands below an answer to "what if"."""

_SHOWN = 336  # pixels; height of the face that is shown, at least
_ALSO = 0.25  # of the loss of a reason's worst region: what others must lose to be shown with it
_RULE_GROUPS = {rule.cause: rule.group for rule in RULES}


@dataclass(frozen=True, eq=False)
class _Face:
    """A face of a photo: as the network takes it, as it is shown, and what to know of it."""

    aligned: AlignedFace
    chip: NDArray[np.uint8]
    shown: NDArray[np.uint8]

    def warnings(self) -> list[str]:
        detected, found = self.aligned.detected, []
        if len(detected) > 1:
            weak = sum(face.weak for face in detected)
            which = f" ({weak} of them may be none)" if weak else ""
            found.append(
                f"{len(detected)} faces were found{which}; the one found most surely was used: if "
                "that is not yours, send a photo of yours alone."
            )
        for text in self.aligned.warnings():
            found.append(f"{text[0].upper()}{text[1:]}{'' if text.endswith('?') else '.'}")
        return found


class PhotoAssessor:
    """Assesses photos with one network; for one thread at a time.

    Args:

        explainer (Explainer): Of the network.
        max_pixels (int): Largest photo, in pixels.

    Examples::

        >>> assessor = load_assessor(WebSettings())
        >>> assessor.photo(Path("portrait.jpg").read_bytes())["verdict"]
        'nothing to correct'
    """

    def __init__(self, explainer: Explainer, max_pixels: int = 40_000_000) -> None:
        self._explainer, self._max_pixels = explainer, max_pixels
        spec = explainer.spec
        factor = -(-_SHOWN // spec.input_size[0])
        self._shown_size = (factor * spec.input_size[0], factor * spec.input_size[1])
        self._masks = face_regions(spec.alignment, spec.input_size)
        self._outlines = region_outlines(spec.alignment, self._shown_size)

    def about(self) -> dict[str, Any]:
        """Return what is to be known of network and program."""
        calibration = self._explainer.calibration
        return {
            "network": self._explainer.spec.name,
            "calibrated": calibration is not None and calibration.region_losses is not None,
            "max_pixels": self._max_pixels,
            "version": __version__,
        }

    def photo(self, data: bytes) -> dict[str, Any]:
        """Assess a photo.

        Args:

            data (bytes): All of the file.

        Returns:
            *dict*: ready for JSON: ``quality``, ``scaled_quality``, ``verdict``, ``reasons`` and
            the rest that ``docs/how_to/web.md`` lists.

        Raises:
            ImageError: if the file is no image that is read, or is damaged.
            NoFaceError: if no face is found.
            ValueError: if the face cannot be assessed.
        """
        face = self._face(data)
        found, feedback = self._assess(face.chip, face)
        local, unusual = found.local, self._unusual(found)
        warnings = face.warnings()
        if feedback.without_map:
            warnings.append(f"Parts of the face were not looked at: {feedback.without_map}")
        return {
            **_numbers(found),
            "meaning": _meaning(found),
            "verdict": feedback.verdict,
            "reasons": [_reason(reason, found) for reason in feedback.reasons],
            "face": data_url(face.shown),
            "map": None if local is None else self._overlay(found.images[0], local),
            "map_scale": None if local is None else map_scale(),
            "regions": {
                name: {
                    "name": REGION_WORDS[name],
                    "polygon": pieces[0] if pieces else [],
                    "polygons": pieces,
                    "lost": None if local is None else float(local.lost[0, place]),
                    "unusual": None if unusual is None else float(unusual[place]),
                }
                for place, (name, pieces) in enumerate(self._outlines.items())
            },
            "worst_region": None if local is None else local.worst_regions()[0],
            "summary": found.titles()[0].splitlines()[0] if local is None else local.words()[0],
            "warnings": warnings,
        }

    def what_if(self, data: bytes, region: str) -> dict[str, Any]:
        """Paint over regions of a face from what is around them, and assess it again.

        Args:

            data (bytes): All of the file.
            region (str): One or more of :data:`~captum_plq.faces.REGIONS`, with commas between
                them.

        Returns:
            *dict*: ready for JSON: ``face``, ``quality``, ``scaled_quality``, ``verdict``,
            ``region`` and ``caution``.

        Raises:
            RefusedError: 422 for a region that is missing, unknown or has no pixel.
            ValueError: as :meth:`photo`.
        """
        names = [name.strip() for name in region.split(",")]
        if "" in names:
            raise RefusedError(
                422,
                "It is not said which region to paint over: send as 'region' one or more of "
                f"{', '.join(REGIONS)}, with commas between them.",
            )
        if unknown := [name for name in names if name not in REGIONS]:
            which = f"'{unknown[0][:40]}'" if unknown[0].isprintable() else "that"
            raise RefusedError(
                422, f"There is no region {which}: choose among {', '.join(REGIONS)}."
            )
        mask = np.any([self._masks[name] for name in names], axis=0)
        if not mask.any() or mask.all():
            raise RefusedError(
                422, "Nothing would be painted over, or all of the face: choose less."
            )
        face = self._face(data)
        painted = inpaint(face.chip, mask, method="biharmonic")
        found, feedback = self._assess(painted, face)
        factor = self._shown_size[0] // len(mask)
        large = mask.repeat(factor, 0).repeat(factor, 1)
        shown = np.where(large[..., None], resize_aligned(painted, self._shown_size), face.shown)
        numbers = _numbers(found)
        return {
            "face": data_url(shown),
            "quality": numbers["quality"],
            "scaled_quality": numbers["scaled_quality"],
            "verdict": feedback.verdict,
            "region": region,
            "caution": CAUTION,
        }

    def warm_up(self) -> None:
        """Load what the first photo would otherwise wait for."""
        image = np.pad(sample_face().chip, ((112, 112), (112, 112), (0, 0)), mode="edge")
        spec = self._explainer.spec
        (face,) = aligned_faces(image, template=spec.alignment, size=spec.input_size)
        if face.chip is not None:
            self._explainer(face.chip[None])

    def _face(self, data: bytes) -> _Face:
        spec = self._explainer.spec
        image = decode_image(data, "The file", max_pixels=self._max_pixels)
        (aligned,) = aligned_faces(image, template=spec.alignment, size=spec.input_size)
        if aligned.chip is None or aligned.face is None:
            raise ValueError(aligned.problem)
        shown = align_face(image, aligned.face, template=spec.alignment, size=self._shown_size)
        return _Face(aligned, aligned.chip, shown)

    def _assess(self, chip: NDArray[np.uint8], face: _Face) -> tuple[Explanation, Feedback]:
        found = self._explainer(chip[None])
        detected = face.aligned.face
        feedback = give_feedback(
            chip,
            self._explainer.spec,
            landmarks=None if detected is None else detected.landmarks,
            detector_score=None if detected is None else detected.score,
            cut_off=None if detected is None else face.aligned.cut_off,
            scaled_quality=None if found.scaled_quality is None else found.scaled_quality[0],
            lost=None if found.local is None else found.local.lost[0],
            calibration=self._explainer.calibration,
        )
        return found, feedback

    def _overlay(self, chip: NDArray[np.uint8], local: LocalMaps) -> str:
        return data_url(overlay(local.zscores[0], chip, self._shown_size, local.centres))

    def _unusual(self, found: Explanation) -> NDArray[np.float64] | None:
        calibration = self._explainer.calibration
        losses = None if calibration is None else calibration.region_losses
        if found.local is None or losses is None:
            return None
        return np.asarray(losses.unusual(found.local.lost)[0])


def load_assessor(settings: WebSettings) -> PhotoAssessor:
    """Load the network that settings ask for.

    Args:

        settings (WebSettings): Which network and calibration, and the largest photo.

    Returns:
        *PhotoAssessor*: ready: what a first photo would wait for is loaded.

    Raises:
        ValueError: if network, calibration or parameters cannot be used.
        OSError: if a file is not there.
        MissingExtraError: if a package is not installed.
    """
    model = load_model(settings.model, settings.checkpoint)
    if settings.calibration is None:
        calibration = matching_calibration(model, settings.explaining)
    elif settings.calibration == "none":
        calibration = None
    else:
        calibration = load_calibration(settings.calibration)
    explainer = Explainer(model, settings.explaining, calibration)
    _ = explainer.gamma
    assessor = PhotoAssessor(explainer, settings.max_pixels)
    assessor.warm_up()
    return assessor


def _numbers(found: Explanation) -> dict[str, float | None]:
    """Return Q and Q̂, and the Q that regions add up to where they are known."""
    return {
        "quality": found.quality[0],
        "standard_error": found.quality_standard_error[0],
        "scaled_quality": None if found.scaled_quality is None else found.scaled_quality[0],
        "local_quality": None if found.local is None else found.local.quality[0],
    }


def _meaning(found: Explanation) -> dict[str, Any] | None:
    """Return what Q means on this network, where that was measured."""
    known = found.thresholds
    if known is None:
        return None
    return {**known.records(found.quality)[0], "measured_on": known.measured_on()}


def _reason(reason: Reason, found: Explanation) -> dict[str, Any]:
    return {
        "cause": reason.cause,
        "sentence": reason.sentence,
        "regions": [] if reason.region is None else _shown_with(reason, found),
        "share": reason.share,
        "unusual": reason.unusual,
        "lost": reason.lost,
        "weak": reason.weak,
        "evidence": reason.evidence_in_words(),
    }


def _shown_with(reason: Reason, found: Explanation) -> list[str]:
    """Return the regions that are evidence of a reason, the worst first."""
    if found.local is None:
        return []
    lost = dict(zip(REGIONS, found.local.lost[0].tolist(), strict=True))
    group = sorted(GROUPS[_RULE_GROUPS[reason.cause]], key=lambda name: -lost[name])
    return [name for name in group if lost[name] >= _ALSO * lost[group[0]]]
