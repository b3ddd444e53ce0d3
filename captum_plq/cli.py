"""The command line: ``captum-plq explain``, ``calibrate``, ``models`` and ``demo``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from captum_plq.explanation import Explainer, Settings

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
        help="a file of `captum-plq calibrate`, or arcface or facenet, the paper's")  # fmt: skip
    _add_common(explain)
    explain.set_defaults(run=_explain)

    calibrate = commands.add_parser(
        "calibrate", help="measure α, r, γ and what good faces show, on a folder of images"
    )
    calibrate.add_argument("directory", metavar="DIR", type=Path)
    calibrate.add_argument("--aligned", action="store_true", help="images are aligned face crops")
    calibrate.add_argument("-o", "--output", type=Path, required=True, metavar="FILE",
        help="the calibration file to write, e.g. mine.npz")  # fmt: skip
    _add_method(calibrate)
    calibrate.set_defaults(run=_calibrate, gamma=None)

    demo = commands.add_parser("demo", help="explain a portrait that needs no download")
    _add_common(demo)
    demo.set_defaults(run=_demo)

    models = commands.add_parser("models", help="list the networks that can be loaded")
    models.set_defaults(run=_models)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-o", "--output", type=Path, required=True, metavar="DIR", help="where the results go")
    add("--gamma", type=float, help="γ of the map, for 0-255 pixels (default: the network's)")
    _add_method(parser)


def _add_method(parser: argparse.ArgumentParser) -> None:
    """What decides about qualities and gradients, and so about what a calibration holds for."""
    add = parser.add_argument
    add("--model", default="dlib", metavar="NAME|FILE", help="network (default: %(default)s)")
    add("--passes", type=int, default=100, help="m, stochastic passes (default: %(default)s)")
    add("--dropout", type=float, default=0.5, help="p, dropout rate (default: %(default)s)")
    add("--seed", type=int, default=0, help="seed of the dropout masks (default: %(default)s)")
    add("--estimator", choices=["sampling", "balanced", "closed-form"], default="sampling",
        help="how Q is estimated (default: %(default)s, the paper's)")  # fmt: skip
    add("--weights", choices=["l1", "sum", "signed", "l2"], default="l1",
        help="weights of the quality node (default: %(default)s, the paper's)")  # fmt: skip
    add("--target", choices=["node", "serfiq"], default="node",
        help="differentiate the quality node (the paper) or the SER-FIQ score")  # fmt: skip
    add("--device", default="cpu", help="e.g. cpu or cuda (default: %(default)s)")


def _settings(arguments: argparse.Namespace) -> Settings:
    from captum_plq.explanation import Settings

    return Settings(
        passes=arguments.passes,
        dropout=arguments.dropout,
        seed=arguments.seed,
        estimator=arguments.estimator,
        weights=arguments.weights,
        target_scalar=arguments.target,
        gamma=arguments.gamma,
        device=arguments.device,
    )


def _demo(arguments: argparse.Namespace) -> int:
    from captum_plq.demo import run_demo

    for line in run_demo(arguments.output, arguments.model, _settings(arguments)):
        print(line)
    return 0


def _calibrate(arguments: argparse.Namespace) -> int:
    from captum_plq.calibrate_command import run_calibrate

    lines, left_out = run_calibrate(
        arguments.directory,
        arguments.output,
        arguments.model,
        _settings(arguments),
        aligned=arguments.aligned,
        report=lambda line: print(line, file=sys.stderr),
    )
    for line in lines:
        print(line)
    if left_out:
        print(f"images that could not be used: {len(left_out)}", file=sys.stderr)
    return 1 if left_out else 0


def _models(_: argparse.Namespace) -> int:
    from captum_plq.models import available_models

    for info in available_models():
        spec = info.spec
        height, width = spec.input_size
        weights = str(info.weights) if info.weights_present else f"absent ({info.install})"
        dropout = {True: "yes", False: "no", None: "unknown"}[spec.trained_with_dropout]
        print(f"{spec.name}: {height}x{width} pixels, {spec.alignment} alignment")
        print(f"  licence of the weights  {spec.licence_weights}")
        print(f"  licence of the code     {spec.licence_code}")
        print(f"  trained with dropout    {dropout}")
        print(f"  source                  {spec.source}")
        print(f"  weights                 {weights}")
    print("FILE.py: a network of your own: a file that defines load_model()")
    print("FILE.dat: dlib's network from a file of its weights")
    return 0


def _explain(arguments: argparse.Namespace) -> int:
    from captum_plq.calibration_file import load_calibration
    from captum_plq.explanation import Explainer, write_json
    from captum_plq.models import load_model

    wanted = arguments.calibration
    calibration = None if wanted is None else load_calibration(wanted)
    explainer = Explainer(load_model(arguments.model), _settings(arguments), calibration)
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
        extra = {"source": str(path), **({} if found is None else {"detection": found})}
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
