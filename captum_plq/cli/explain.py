"""The command ``captum-plq explain``: from one's own photos to explanations on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from captum_plq.cli.options import Aligned, Explaining
from captum_plq.cli.terminal import held, tell

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from captum_plq.explanation import Explainer
    from captum_plq.models import ModelSpec

__all__ = ["command", "load_explainer"]

command = App(
    "explain",
    help_epilogue="""Examples:
  captum-plq explain photos/*.jpg -o results
  captum-plq explain crop.png --aligned --model iresnet50 --checkpoint backbone.pth -o results
  captum-plq explain photos/*.jpg --model my_network.py --calibration mine.npz -o results""",
)


@command.default
def explain(
    images: Annotated[list[Path], Parameter(name="IMAGE", help="Photos of faces.")],
    /,
    *,
    options: Explaining,
    aligned: Aligned = False,
    all_faces: Annotated[
        bool, Parameter(help="Explain every face found.", show_default=False)
    ] = False,
    calibration: Annotated[
        str | None,
        Parameter(
            help="A file of 'captum-plq calibrate'; arcface or facenet, the paper's; or none. "
            "Default: the network's own, if it comes with this package.",
        ),
    ] = None,
) -> int:
    """Explain photos: write a figure, arrays and a record of each.

    A file that cannot be used is reported, and the rest goes on.
    """
    from captum_plq.explanation.names import result_names
    from captum_plq.explanation.run_record import RunRecord
    from captum_plq.faces import load_image

    explainer = load_explainer(options, calibration)
    _ = explainer.gamma  # an error of the network itself comes before the first face
    with RunRecord(options.output, len(images), held) as record:
        if record.left_by_another is not None:
            tell(f"An earlier run here was cut off; its rows are in {record.left_by_another}")
        names = result_names(images, options.output, faces=all_faces)
        for path, name in zip(images, names, strict=True):
            try:
                found = list(_faces(load_image(path), path, explainer.spec, aligned, all_faces))
                for number, (ending, chip, detection) in enumerate(found, start=1):
                    explanation = explainer(chip[None])
                    with held():
                        written = explanation.save(
                            options.output,
                            f"{name}{ending}",
                            extra={**options.extra(path), **detection},
                        )
                        row = {"image": str(path), "quality": explanation.quality[0]}
                        record.explained(
                            {**row, "record": written[-1].name}, last=number == len(found)
                        )
                    tell(f"{path}: {', '.join(explanation.titles()[0].splitlines())}")
                    for file in written:
                        tell(f"  {file}")
            except Exception as error:  # one bad image must not cost the others
                expected = isinstance(error, (ValueError, ImportError))
                reason = str(error) if expected else f"{type(error).__name__}: {error}"
                reason = reason.removeprefix(f"{path} ")
                record.failed(str(path), reason)
                tell(f"{path}: failed: {reason}", error=True)
    tell(f"{record.summary}{', in place of that of an earlier run' if record.replaces else ''}")
    if record.failures:
        tell(f"{record.failures} of {len(images)} images failed", error=True)
    return 1 if record.failures else 0


def load_explainer(options: Explaining, calibration: str | None = None) -> Explainer:
    """Return the explainer that options ask for, and tell what a reader must know of it."""
    from captum_plq.calibration.known import load_calibration
    from captum_plq.explanation import Explainer, matching_calibration

    settings = options.settings(options.gamma)
    found = None if calibration in (None, "none") else load_calibration(calibration)
    model = options.load()
    if calibration is None:
        found = matching_calibration(model, settings)
    explainer = Explainer(model, settings, found)
    if model.unused_weights:
        tell(f"Left out, for training only: {', '.join(model.unused_weights)}")
    for note in (model.spec.note, "" if found is None else found.note):
        if note:
            tell(note)
    return explainer


def _faces(
    image: NDArray[np.uint8], path: Path, spec: ModelSpec, aligned: bool, all_faces: bool
) -> Iterator[tuple[str, NDArray[np.uint8], dict[str, Any]]]:
    """Yield the aligned faces of an image: ending of the file name, pixels, what was detected."""
    from captum_plq.faces import align_face, detect_faces, resize_aligned

    if aligned:
        yield "", resize_aligned(image, spec.input_size), {}
        return
    faces = detect_faces(image)
    scores = [face.score for face in faces]
    if len(faces) > 1:
        which = "all were taken" if all_faces else "the first was taken; --all-faces"
        shown = ", ".join(f"{score:.2f}" for score in scores)
        tell(f"{path}: {len(faces)} faces found, with scores {shown}: {which}")
    for number, face in enumerate(faces if all_faces else faces[:1], start=1):
        detection = {
            "box": list(face.box),
            "score": face.score,
            "landmarks": face.landmarks.tolist(),
            "scores_of_all_found": scores,
        }
        chip = align_face(image, face, template=spec.alignment, size=spec.input_size)
        ending = f"-face{number}" if all_faces and len(faces) > 1 else ""
        yield ending, chip, {"detection": detection}
