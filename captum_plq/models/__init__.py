"""Face networks: what has to be known about one, and loading one by name or file."""

from captum_plq.models.dlib_resnet import DLIB_SPEC, DlibResNet, dlib_resnet
from captum_plq.models.inception_resnet import INCEPTION_RESNET_V1_SPEC, InceptionResnetV1
from captum_plq.models.iresnet import IRESNET_SPEC, IResNet, iresnet
from captum_plq.models.registry import ModelInfo, available_models, load_model
from captum_plq.models.spec import FaceModel, ModelSpec
from captum_plq.models.user_file import load_user_file

__all__ = [
    "DLIB_SPEC",
    "INCEPTION_RESNET_V1_SPEC",
    "IRESNET_SPEC",
    "DlibResNet",
    "FaceModel",
    "IResNet",
    "InceptionResnetV1",
    "ModelInfo",
    "ModelSpec",
    "available_models",
    "dlib_resnet",
    "iresnet",
    "load_model",
    "load_user_file",
]
