"""Cut a face out so that it lies as a face network expects it."""

from __future__ import annotations

from operator import index
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from captum_plq.errors import extra
from captum_plq.faces.checks import require_landmarks, require_rgb
from captum_plq.faces.detect import Face

__all__ = [
    "Template",
    "align_face",
    "landmarks_in_chip",
    "points_in_photo",
    "resize_aligned",
    "template_landmarks",
]

Template = Literal["dlib", "arcface"]

# dlib's mean face, in units of the face's side (dlib/image_transforms/interpolation.h), and
# the margin its face network was trained with.
_DLIB_POINTS = np.array(
    [
        (0.8595674595992, 0.2134981538014),
        (0.6460604764104, 0.2289674387677),
        (0.1205750620789, 0.2137274526848),
        (0.3340850613712, 0.2290642403242),
        (0.4901123135679, 0.6277975316475),
    ]
)
_DLIB_PADDING = 0.25

# Where dlib's five points lie in faces aligned to the 112×112 ArcFace template, which itself is
# defined on pupils, nose tip and mouth corners. Measured with detect_faces on "LFW aligned to
# the ArcFace template", magnified four times: every second person's first image, 1035 of 1043
# faces found; mean of each coordinate without its extreme tenths. Standard deviations over the
# faces: 1.4 to 2.6 px. Landing of re-aligned faces, on the other 1038 people: the points of the
# ArcFace template end a median of 1.67 px from where they should (mean over a face's five
# points: median 1.78, 90th percentile 3.3), dlib's landmarks a median of 1.11 px from these.
_ARCFACE_POINTS = np.array(
    [
        (79.64, 52.85),
        (65.93, 53.32),
        (31.23, 53.30),
        (44.91, 53.51),
        (55.63, 79.41),
    ]
)
_ARCFACE_SIDE = 112
_LONGEST = 10_000  # side of a chip, in pixels


def align_face(
    image: NDArray[np.uint8], face: Face, *, template: Template, size: int | tuple[int, int]
) -> NDArray[np.uint8]:
    """Turn, scale and crop a face to a template.

    The transform is the similarity that brings the five landmarks closest to the template's;
    dlib resamples through an image pyramid, so that large faces do not alias; where it shrinks
    more than twice, the pyramid shifts the chip by up to half a pixel. What lies beyond the
    image is black.

    Args:

        image (ndarray): (H, W, 3), uint8, RGB, in which ``face`` was detected.
        face (Face): The face to cut out; only its landmarks are used.
        template (str): ``"dlib"``: the chip of ``dlib.get_face_chip`` with its padding of
            0.25 (equal to it, pixel by pixel). ``"arcface"``: the 112×112 crop of ArcFace and
            most newer networks. Its own template is about the mouth and the tip of the nose,
            which dlib does not give; instead, dlib's landmarks are brought to where they lie,
            on average, in faces aligned to it. Its points come to lie within some 2 px of
            where they should.
        size (int or tuple[int, int]): Side, or height and width, of the chip in pixels. The
            template is scaled with the height and centred in the width.

    Returns:
        *ndarray*: (size, size, 3) or (height, width, 3), uint8, RGB.

    Raises:
        ValueError: if ``image`` is not (H, W, 3) uint8, or landmarks, ``template`` or ``size``
            are not as above, or none of the landmarks lies in the image.
        MissingExtraError: if dlib is not installed.

    Examples::

        >>> best = detect_faces(image)[0]
        >>> align_face(image, best, template="arcface", size=112).shape
        (112, 112, 3)
    """
    with extra("faces"):
        import dlib

    image, details = require_rgb(image), _chip_details(face, template, size)
    last = np.array([image.shape[1], image.shape[0]]) - 1
    landmarks = require_landmarks(face.landmarks)
    if not ((landmarks >= 0) & (landmarks <= last)).all(axis=1).any():
        raise ValueError(
            f"None of the face's landmarks lies in the image of {image.shape[1]}×{image.shape[0]} "
            "pixels; give the image in which it was detected."
        )
    chip: NDArray[np.uint8] = dlib.extract_image_chip(image, details)
    return chip


def landmarks_in_chip(
    face: Face, *, template: Template, size: int | tuple[int, int]
) -> NDArray[np.float64]:
    """Return where the landmarks of a face lie in the chip that :func:`align_face` cuts.

    Good to half a pixel of the chip, because of the pyramid mentioned there.

    Args:

        face (Face): As given to :func:`align_face`.
        template (str): As given to :func:`align_face`.
        size (int or tuple[int, int]): As given to :func:`align_face`.

    Returns:
        *ndarray*: (5, 2), float64, x and y in the chip's pixels (whole numbers are pixel
        centres), in the order of :attr:`Face.landmarks`; close to the template, not equal.

    Raises:
        ValueError: if landmarks, ``template`` or ``size`` are not as in :func:`align_face`.
        MissingExtraError: if dlib is not installed.

    Examples::

        >>> points = landmarks_in_chip(best, template="arcface", size=112)
        >>> occluded = cover_eye(chip, points, "left")
    """
    centre, extent, last, turn = _frame(_chip_details(face, template, size))
    points: NDArray[np.float64] = (face.landmarks - centre) @ turn / extent * last + last / 2
    return points


def points_in_photo(
    points: NDArray[np.float64], face: Face, *, template: Template, size: int | tuple[int, int]
) -> NDArray[np.float64]:
    """Return where points of the chip that :func:`align_face` cuts lie in the photograph.

    The inverse of what :func:`landmarks_in_chip` does, and as exact.

    Args:

        points (ndarray): (n, 2), x and y in the chip's pixels.
        face (Face): As given to :func:`align_face`.
        template (str): As given to :func:`align_face`.
        size (int or tuple[int, int]): As given to :func:`align_face`.

    Returns:
        *ndarray*: (n, 2), float64, x and y in the photograph's pixels.

    Raises:
        ValueError: if landmarks, ``template`` or ``size`` are not as in :func:`align_face`.
        MissingExtraError: if dlib is not installed.

    Examples::

        >>> corners = np.array([(0, 0), (111, 0), (111, 111), (0, 111)])
        >>> outline = points_in_photo(corners, best, template="arcface", size=112)
    """
    centre, extent, last, turn = _frame(_chip_details(face, template, size))
    found: NDArray[np.float64] = (points - last / 2) / last * extent @ turn.T + centre
    return found


def template_landmarks(template: Template, size: int | tuple[int, int]) -> NDArray[np.float64]:
    """Return where the landmarks of an aligned face lie if nothing is known but its template.

    For crops that come aligned, without the photograph they were cut from. In "LFW aligned to
    the ArcFace template" the landmarks that dlib finds lie 1.4 to 2.6 px of a crop of 112 rows from
    these (root mean square, each coordinate, 40 people).

    Args:

        template (str): ``"arcface"`` or ``"dlib"``, see :func:`align_face`.
        size (int or tuple[int, int]): Side, or height and width, of the chip in pixels.

    Returns:
        *ndarray*: (5, 2), float64, x and y in the chip's pixels (whole numbers are pixel
        centres), in the order of :attr:`Face.landmarks`.

    Raises:
        ValueError: if ``template`` or ``size`` is not as above.

    Examples::

        >>> template_landmarks("arcface", 112)[4]  # base of the nose
        array([55.63, 79.41])
    """
    points = _template_points(template, *_height_and_width(size))
    # dlib counts chip coordinates from the corner of the first pixel, ArcFace from its centre.
    return points - 0.5 if template == "dlib" else points


def resize_aligned(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize an image that is already an aligned face to a network's input size.

    Args:

        image (ndarray): (H, W, 3), uint8, RGB.
        size (tuple[int, int]): Height and width wanted, in pixels.

    Returns:
        *ndarray*: (height, width, 3), uint8, RGB; unchanged if it has the size already.

    Raises:
        ValueError: if ``image`` is not (H, W, 3) uint8, ``size`` is not as in
            :func:`align_face`, or the proportions differ (by more than 2 %), so that resizing
            would distort the face.
        MissingExtraError: if Pillow is not installed.

    Examples::

        >>> resize_aligned(crop, (150, 150)).shape
        (150, 150, 3)
    """
    image = require_rgb(image)
    (height, width), (rows, columns) = image.shape[:2], _height_and_width(size)
    if (height, width) == (rows, columns):
        return image
    if abs(height * columns / (width * rows) - 1) > 0.02:
        raise ValueError(
            f"An aligned face must have the proportions of the network's input, "
            f"{columns}×{rows} pixels, but this image is {width}×{height}: leave out the option "
            "for aligned images to have the face found and cut out."
        )
    with extra("faces"):
        from PIL import Image

    return np.array(Image.fromarray(image).resize((columns, rows), Image.Resampling.LANCZOS))


def _height_and_width(size: int | tuple[int, int]) -> tuple[int, int]:
    sides: Any = (size, size) if np.ndim(size) == 0 else size
    try:
        height, width = map(index, sides)
    except (TypeError, ValueError):
        raise ValueError(f"size must be one or two whole numbers, but got {size!r}.") from None
    if not (2 <= height <= _LONGEST and 2 <= width <= _LONGEST):
        raise ValueError(
            f"size must be at least 2 pixels and at most {_LONGEST} each way, but got {size}."
        )
    return height, width


def _template_points(template: str, height: int, width: int) -> NDArray[np.float64]:
    if template == "dlib":
        points = (_DLIB_PADDING + _DLIB_POINTS) / (2 * _DLIB_PADDING + 1) * height
    elif template == "arcface":
        points = _ARCFACE_POINTS * (height / _ARCFACE_SIDE)
    else:
        raise ValueError(f'template must be "dlib" or "arcface", but got {template!r}.')
    return np.asarray(points + np.array([(width - height) / 2, 0.0]))


def _chip_details(face: Face, template: str, size: int | tuple[int, int]) -> Any:
    """Which turned rectangle of the image becomes the chip, as dlib's ``chip_details``."""
    height, width = _height_and_width(size)
    landmarks = require_landmarks(face.landmarks)
    with extra("faces"):
        import dlib

    wanted = _template_points(template, height, width)
    # dlib counts chip coordinates from the corner of the first pixel, ArcFace from its centre.
    if template == "arcface":
        wanted = wanted + 0.5
    dims = dlib.chip_dims(height, width)
    details = dlib.chip_details(_dpoints(wanted), _dpoints(landmarks), dims)
    if template == "arcface":
        # dlib spreads cols·scale − 1 image pixels over cols − 1 steps; make each step `scale`.
        rect = details.rect
        x, y = (rect.left() + rect.right()) / 2, (rect.top() + rect.bottom()) / 2
        scale = (rect.right() - rect.left() + 1) / width
        half_x, half_y = scale * (width - 1) / 2, scale * (height - 1) / 2
        exact = dlib.drectangle(x - half_x, y - half_y, x + half_x, y + half_y)
        details = dlib.chip_details(exact, dims, details.angle)
    return details


def _dpoints(points: NDArray[np.float64]) -> Any:
    import dlib

    return dlib.dpoints([dlib.dpoint(float(x), float(y)) for x, y in points])


def _frame(details: Any) -> tuple[NDArray[np.float64], ...]:
    """Return centre and extent of the turned rectangle, the chip's last pixel, and the turn.

    dlib puts the corners of the turned rectangle onto the centres of the chip's corner pixels.
    """
    rect = details.rect
    centre = np.array([rect.left() + rect.right(), rect.top() + rect.bottom()]) / 2
    extent = np.array([rect.right() - rect.left(), rect.bottom() - rect.top()])
    last = np.array([details.cols - 1.0, details.rows - 1.0])
    cos, sin = np.cos(details.angle), np.sin(details.angle)
    return centre, extent, last, np.array([[cos, -sin], [sin, cos]])
