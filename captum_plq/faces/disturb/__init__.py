"""Synthetic occlusions and degradations of aligned faces, each with the pixels it covers."""

from captum_plq.faces.disturb.cover import Disturbed, blur, cover_eye, surgical_mask

__all__ = [
    "Disturbed",
    "blur",
    "cover_eye",
    "surgical_mask",
]
