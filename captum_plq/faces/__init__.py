"""From a photograph to aligned faces, and aligned faces occluded and degraded in known ways.

Needs the optional group ``faces`` (``pip install 'captum-plq[faces]'``) as soon as one of its
functions is called; importing it does not.
"""

from captum_plq.errors import MissingExtraError
from captum_plq.faces.align import (
    align_face,
    landmarks_in_chip,
    points_in_photo,
    resize_aligned,
    template_landmarks,
)
from captum_plq.faces.aligned import AlignedFace, aligned_faces
from captum_plq.faces.crops import draw_images, list_images, read_crop, read_crops
from captum_plq.faces.cut_off import cut_off_share
from captum_plq.faces.decode import decode_image, load_image
from captum_plq.faces.detect import Face, NoFaceError, detect_faces
from captum_plq.faces.disturb.degrade import (
    STANDARD_DEGRADATIONS,
    add_noise,
    blur,
    cover_lower_part,
    cover_with_block,
    reduce_resolution,
)
from captum_plq.faces.disturb.drawing import Disturbed
from captum_plq.faces.disturb.occlude import (
    cover_eye,
    hand,
    headgear,
    square,
    sunglasses,
    surgical_mask,
)
from captum_plq.faces.image_file import ImageError, read_image_file
from captum_plq.faces.inpaint import inpaint
from captum_plq.faces.regions import REGION_WORDS, REGIONS, face_regions
from captum_plq.faces.sample import SampleFace, sample_face

__all__ = [
    "REGIONS",
    "REGION_WORDS",
    "STANDARD_DEGRADATIONS",
    "AlignedFace",
    "Disturbed",
    "Face",
    "ImageError",
    "MissingExtraError",
    "NoFaceError",
    "SampleFace",
    "add_noise",
    "align_face",
    "aligned_faces",
    "blur",
    "cover_eye",
    "cover_lower_part",
    "cover_with_block",
    "cut_off_share",
    "decode_image",
    "detect_faces",
    "draw_images",
    "face_regions",
    "hand",
    "headgear",
    "inpaint",
    "landmarks_in_chip",
    "list_images",
    "load_image",
    "points_in_photo",
    "read_crop",
    "read_crops",
    "read_image_file",
    "reduce_resolution",
    "resize_aligned",
    "sample_face",
    "square",
    "sunglasses",
    "surgical_mask",
    "template_landmarks",
]
