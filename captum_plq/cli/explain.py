"""The command ``captum-plq explain``: from one's own photos to explanations on disk."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captum_plq.cli.options import add_explaining, settings_of
from captum_plq.cli.terminal import held, tell

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from captum_plq.explanation import Explainer
    from captum_plq.explanation.run_record import RunRecord

__all__ = ["add_explain"]


def add_explain(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "explain", help="explain one's own photos"
    )
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", type=Path)
    add("--aligned", action="store_true", help="images are aligned face crops")
    add("--all-faces", action="store_true", help="explain every face found")
    add("--calibration", metavar="FILE|PRESET",
        help="a file of `captum-plq calibrate`; arcface or facenet, the paper's; or none "
        "(default: the network's own, if it comes with this package)")  # fmt: skip
    add_explaining(parser)
    parser.set_defaults(run=_explain)


def _explain(arguments: argparse.Namespace) -> int:
    from captum_plq.explanation.names import result_names
    from captum_plq.explanation.run_record import RunRecord

    explainer = _explainer(arguments)
    images: list[Path] = arguments.images
    with RunRecord(arguments.output, len(images), held) as record:
        if record.left_by_another is not None:
            tell(f"An earlier run here was cut off; its rows are in {record.left_by_another}")
        names = result_names(images, arguments.output, faces=arguments.all_faces)
        for path, name in zip(images, names, strict=True):
            try:
                _explain_file(explainer, path, name, arguments, record)
            except Exception as error:  # one bad image must not cost the others
                expected = isinstance(error, (ValueError, ImportError))
                reason = str(error) if expected else f"{type(error).__name__}: {error}"
                reason = reason.removeprefix(f"{path} ")
                record.failed(str(path), reason)
                record.reached += 1
                tell(f"{path}: failed: {reason}", error=True)
    tell(f"{record.summary}{', in place of that of an earlier run' if record.replaces else ''}")
    if record.failures:
        tell(f"{record.failures} of {len(images)} images failed", error=True)
    return 1 if record.failures else 0


def _explainer(arguments: argparse.Namespace) -> Explainer:
    """With everything checked that can be before the first face."""
    from captum_plq.calibration.known import load_calibration
    from captum_plq.explanation import Explainer, calibration_that_holds
    from captum_plq.models import load_model

    wanted, settings = arguments.calibration, settings_of(arguments)
    calibration = None if wanted in (None, "none") else load_calibration(wanted)
    model = load_model(arguments.model, arguments.checkpoint)
    if wanted is None:
        calibration = calibration_that_holds(model, settings)
    explainer = Explainer(model, settings, calibration)
    if model.unused_weights:
        tell(f"Left out, for training only: {', '.join(model.unused_weights)}")
    for note in (explainer.spec.note, "" if calibration is None else calibration.note):
        if note:
            tell(note)
    _ = explainer.gamma
    return explainer


def _explain_file(
    explainer: Explainer, path: Path, name: str, arguments: argparse.Namespace, record: RunRecord
) -> None:
    from captum_plq.faces import load_image

    image = load_image(path)
    chips = _chips(explainer, image, path, arguments)
    for number, (ending, chip, found) in enumerate(chips, start=1):
        explanation = explainer(chip[None])
        extra: dict[str, Any] = {"source": str(path)}
        if arguments.checkpoint is not None:
            extra["checkpoint"] = str(arguments.checkpoint)
        if found is not None:
            extra["detection"] = found
        with held():
            paths = explanation.save(arguments.output, f"{name}{ending}", extra=extra)
            quality = explanation.quality[0]
            record.explained({"image": str(path), "quality": quality, "record": paths[-1].name})
            record.reached += number == len(chips)
        tell(f"{path}: {explanation.titles()[0]}")
        for written in paths:
            tell(f"  {written}")


def _chips(
    explainer: Explainer, image: NDArray[np.uint8], path: Path, arguments: argparse.Namespace
) -> list[tuple[str, NDArray[np.uint8], dict[str, Any] | None]]:
    """The aligned faces of an image: ending of the file name, pixels, what was detected."""
    from captum_plq.faces import align_face, detect_faces, resize_aligned

    spec = explainer.spec
    if arguments.aligned:
        return [("", resize_aligned(image, spec.input_size), None)]
    faces = detect_faces(image)
    taken = faces if arguments.all_faces else faces[:1]
    scores = ", ".join(f"{face.score:.2f}" for face in faces)
    if len(faces) > 1:
        which = "all were taken" if arguments.all_faces else "the first was taken; --all-faces"
        tell(f"{path}: {len(faces)} faces found, with scores {scores}: {which}")
    chips: list[tuple[str, NDArray[np.uint8], dict[str, Any] | None]] = []
    for number, face in enumerate(taken, start=1):
        found = {
            "box": list(face.box),
            "score": face.score,
            "landmarks": face.landmarks.tolist(),
            "scores_of_all_found": [other.score for other in faces],
        }
        chip = align_face(image, face, template=spec.alignment, size=spec.input_size)
        chips.append((f"-face{number}" if len(taken) > 1 else "", chip, found))
    return chips
