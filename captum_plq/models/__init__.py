"""Face networks: what has to be known about one, and loading one by name or file."""

from captum_plq.models.architecture import Architecture, load_weights
from captum_plq.models.architectures.adaface import ADAFACE_SPEC, AdaFaceIR
from captum_plq.models.architectures.crfiqa import CRFIQA_SPEC, CRFIQAIResNet
from captum_plq.models.architectures.dlib_resnet import DLIB_SPEC, DlibResNet, dlib_resnet
from captum_plq.models.architectures.dropout_mobilefacenet import (
    DROPOUT_MOBILEFACENET_SPEC,
    PLACES_MOBILEFACENET_SPEC,
    DropoutMobileFaceNet,
    dropout_mobilefacenet,
)
from captum_plq.models.architectures.edgeface import EDGEFACE_SPECS, EdgeFace, edgeface
from captum_plq.models.architectures.inception_resnet import (
    INCEPTION_RESNET_V1_SPEC,
    InceptionResnetV1,
)
from captum_plq.models.architectures.iresnet import IRESNET_SPEC, IResNet, iresnet
from captum_plq.models.architectures.magface import MAGFACE_SPEC, MagFaceIResNet
from captum_plq.models.architectures.mobilefacenet import (
    MOBILEFACENET_SPECS,
    MobileFaceNet,
    mobilefacenet,
)
from captum_plq.models.onnx.load import ONNX_SPEC, OnnxNetwork, load_onnx
from captum_plq.models.registry import (
    DEFAULT_MODEL,
    ModelInfo,
    available_models,
    did_you_mean,
    load_model,
)
from captum_plq.models.spec import FaceModel, ModelSpec
from captum_plq.models.timm_models import HUB_FACE_MODELS, timm_model
from captum_plq.models.user_file import load_user_file
from captum_plq.models.weight_files.read import read_weights

__all__ = [
    "ADAFACE_SPEC",
    "CRFIQA_SPEC",
    "DEFAULT_MODEL",
    "DLIB_SPEC",
    "DROPOUT_MOBILEFACENET_SPEC",
    "EDGEFACE_SPECS",
    "HUB_FACE_MODELS",
    "INCEPTION_RESNET_V1_SPEC",
    "IRESNET_SPEC",
    "MAGFACE_SPEC",
    "MOBILEFACENET_SPECS",
    "ONNX_SPEC",
    "PLACES_MOBILEFACENET_SPEC",
    "AdaFaceIR",
    "Architecture",
    "CRFIQAIResNet",
    "DlibResNet",
    "DropoutMobileFaceNet",
    "EdgeFace",
    "FaceModel",
    "IResNet",
    "InceptionResnetV1",
    "MagFaceIResNet",
    "MobileFaceNet",
    "ModelInfo",
    "ModelSpec",
    "OnnxNetwork",
    "available_models",
    "did_you_mean",
    "dlib_resnet",
    "dropout_mobilefacenet",
    "edgeface",
    "iresnet",
    "load_model",
    "load_onnx",
    "load_user_file",
    "load_weights",
    "mobilefacenet",
    "read_weights",
    "timm_model",
]
