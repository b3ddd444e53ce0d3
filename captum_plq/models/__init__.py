"""Face networks: what has to be known about one, and loading one by name or file."""

from captum_plq.models.dlib_resnet import DLIB_SPEC, DlibResNet, dlib_resnet
from captum_plq.models.registry import ModelInfo, available_models, load_model
from captum_plq.models.spec import FaceModel, ModelSpec
from captum_plq.models.user_file import load_user_file

__all__ = [
    "DLIB_SPEC",
    "DlibResNet",
    "FaceModel",
    "ModelInfo",
    "ModelSpec",
    "available_models",
    "dlib_resnet",
    "load_model",
    "load_user_file",
]
