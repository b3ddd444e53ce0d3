"""The command line: ``explain``, ``calibrate``, ``suitability``, ``demo`` and ``models``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captum_plq.cli_calibrate import add_calibrate
from captum_plq.cli_options import add_explaining, settings_of
from captum_plq.cli_suitability import add_suitability

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from captum_plq.explanation import Explainer
    from captum_plq.models import ModelInfo

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:

        argv (sequence of str, optional): Arguments. ``None``: those of the process.

    Returns:
        *int*: 0 if all went well; 1 if an image, or the whole command, failed. Wrong usage
        leaves with 2, as argparse does.
    """
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except (ValueError, OSError, ImportError) as error:
        print(f"captum-plq: {error}", file=sys.stderr)
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="captum-plq",
        description="Pixel-level face image quality: which pixels help recognition, which hurt.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    explain = commands.add_parser("explain", help="explain one's own photos")
    explain.add_argument("images", nargs="+", metavar="IMAGE", type=Path)
    explain.add_argument("--aligned", action="store_true", help="images are aligned face crops")
    explain.add_argument("--all-faces", action="store_true", help="explain every face found")
    explain.add_argument("--calibration", metavar="FILE|PRESET",
        help="a file of `captum-plq calibrate`; arcface or facenet, the paper's; or none "
        "(default: the network's own, if it comes with this package)")  # fmt: skip
    add_explaining(explain)
    explain.set_defaults(run=_explain)

    add_calibrate(commands)
    add_suitability(commands)

    demo = commands.add_parser("demo", help="explain a portrait that needs no download")
    add_explaining(demo)
    demo.set_defaults(run=_demo)

    models = commands.add_parser("models", help="list the networks that can be loaded")
    models.set_defaults(run=_models)
    return parser


def _demo(arguments: argparse.Namespace) -> int:
    from captum_plq.demo import run_demo

    output, model, checkpoint = arguments.output, arguments.model, arguments.checkpoint
    for line in run_demo(output, model, settings_of(arguments), checkpoint):
        print(line)
    return 0


def _models(_: argparse.Namespace) -> int:
    from captum_plq.models import available_models

    for infos in _alike(available_models()):
        spec = infos[0].spec
        height, width = spec.input_size
        dropout = {True: "yes", False: "no", None: "unknown"}[spec.trained_with_dropout]
        names = ", ".join(info.spec.name for info in infos)
        print(f"{names}: {height}x{width} pixels, {spec.alignment} alignment")
        print(f"  licence of the weights  {spec.licence_weights}")
        print(f"  licence of the code     {spec.licence_code}")
        print(f"  trained with dropout    {dropout}")
        print(f"  source                  {spec.source}")
        for info in infos:
            if info.needs_file:
                print(f"  weights                 --checkpoint FILE: {info.install}")
            else:
                found = str(info.weights) if info.weights_present else f"absent ({info.install})"
                print(f"  weights                 {found}")
    print("FILE.py: a network of your own: a file that defines load_model()")
    print("FILE.dat: dlib's network from a file of its weights")
    return 0


def _alike(infos: Sequence[ModelInfo]) -> list[list[ModelInfo]]:
    """Groups networks that follow one another and differ in their name only."""
    groups: list[list[ModelInfo]] = []
    for info in infos:
        if groups and replace(groups[-1][0].spec, name=info.spec.name) == info.spec:
            groups[-1].append(info)
        else:
            groups.append([info])
    return groups


def _explain(arguments: argparse.Namespace) -> int:
    from captum_plq.explanation import Explainer, calibration_that_holds
    from captum_plq.known_calibrations import load_calibration
    from captum_plq.models import load_model
    from captum_plq.whole_file import write_json

    wanted, settings = arguments.calibration, settings_of(arguments)
    calibration = None if wanted in (None, "none") else load_calibration(wanted)
    model = load_model(arguments.model, arguments.checkpoint)
    if wanted is None:
        calibration = calibration_that_holds(model, settings)
    explainer = Explainer(model, settings, calibration)
    if model.unused_weights:
        print(f"Left out, for training only: {', '.join(model.unused_weights)}")
    for note in (explainer.spec.note, "" if calibration is None else calibration.note):
        if note:
            print(note)
    results: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    stems = _stems(arguments.images)
    for path, stem in zip(arguments.images, stems, strict=True):
        try:
            results += _explain_file(explainer, path, stem, arguments)
        except Exception as error:  # one bad image must not cost the others
            expected = isinstance(error, (ValueError, ImportError))
            reason = str(error) if expected else f"{type(error).__name__}: {error}"
            failures.append({"image": str(path), "reason": reason.removeprefix(f"{path} ")})
            print(f"{path}: failed", file=sys.stderr)
    summary = arguments.output / "summary.json"
    arguments.output.mkdir(parents=True, exist_ok=True)
    write_json(summary, {"explained": results, "failed": failures})
    print(summary)
    if failures:
        print(f"{len(failures)} of {len(stems)} images failed:", file=sys.stderr)
        for failure in failures:
            print(f"  {failure['image']}: {failure['reason']}", file=sys.stderr)
    return 1 if failures else 0


def _explain_file(
    explainer: Explainer, path: Path, stem: str, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    from captum_plq.faces import load_image

    image = load_image(path)
    results = []
    for ending, chip, found in _chips(explainer, image, path, arguments):
        explanation = explainer(chip[None])
        extra: dict[str, Any] = {"source": str(path)}
        if arguments.checkpoint is not None:
            extra["checkpoint"] = str(arguments.checkpoint)
        if found is not None:
            extra["detection"] = found
        paths = explanation.save(arguments.output, f"{stem}{ending}", extra=extra)
        print(f"{path}: {explanation.titles()[0]}")
        for written in paths:
            print(f"  {written}")
        results.append(
            {"image": str(path), "quality": explanation.quality[0], "record": paths[-1].name}
        )
    return results


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
        print(f"{path}: {len(faces)} faces found, with scores {scores}: {which}")
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


def _stems(paths: Sequence[Path]) -> list[str]:
    """One file stem per image; images of the same name are numbered."""
    stems: list[str] = []
    for path in paths:
        stem, number = path.stem, 1
        while stem in stems:
            number += 1
            stem = f"{path.stem}-{number}"
        stems.append(stem)
    return stems
