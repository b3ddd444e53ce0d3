"""From a photograph to aligned faces, and aligned faces spoilt in known places.

Needs the optional group ``faces`` (``pip install 'captum-plq[faces]'``) as soon as one of its
functions is called; importing it does not.
"""

from captum_plq.faces._checks import MissingExtraError
from captum_plq.faces.align import align_face, landmarks_in_chip, resize_aligned
from captum_plq.faces.decode import ImageError, load_image
from captum_plq.faces.detect import Face, NoFaceError, detect_faces
from captum_plq.faces.disturb import Disturbed, blur, cover_eye, surgical_mask

__all__ = [
    "Disturbed",
    "Face",
    "ImageError",
    "MissingExtraError",
    "NoFaceError",
    "align_face",
    "blur",
    "cover_eye",
    "detect_faces",
    "landmarks_in_chip",
    "load_image",
    "resize_aligned",
    "surgical_mask",
]
