"""Tells from the names and shapes in a weight file which network it may belong to."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from captum_plq.models.architecture import STAGES

__all__ = ["guess_layout"]

Shapes = Mapping[str, tuple[int, ...]]

_WRAPPER = re.compile(
    r"^(?:(?:module\.features|features\.module|module|model|backbone|net|network|_orig_mod)\.)+"
)


def guess_layout(shapes: Shapes) -> str | None:
    """Guesses the network behind a weight file, by the names that only its kind has.

    Args:

        shapes (Mapping[str, tuple[int, ...]]): Shape by name. Prefixes of the usual wrappers
            do not matter.

    Returns:
        *str or None*: the guess in words, to follow "It looks like".

    Examples::

        >>> guess_layout({"model.conv_6_dw.conv.weight": (512, 1, 7, 7)})
        'a MobileFaceNet, named as in InsightFace_Pytorch'
    """
    bare = {_WRAPPER.sub("", key): shape for key, shape in shapes.items()}
    return next((guess for kind in _KINDS if (guess := kind(bare)) is not None), None)


def _iresnet(shapes: Shapes) -> str | None:
    if "layer1.0.prelu.weight" not in shapes:
        return None
    blocks = tuple(_count(shapes, rf"layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4))
    depth = next((depth for depth, stages in STAGES.items() if stages == blocks), None)
    name = f"iresnet{depth}" if depth else "no iresnet of a published depth"
    what = f"an IResNet with {', '.join(map(str, blocks[:3]))} and {blocks[3]} blocks ({name})"
    if any(".se" in key for key in shapes):
        what += " with squeeze-and-excitation, which is not built here"
    if "qs.weight" in shapes:
        what += " and the quality head of CR-FIQA"
    size = shapes.get("fc.weight", ())
    return f"{what}, and {size[0]} features" if size and size[0] != 512 else what


def _adaface(shapes: Shapes) -> str | None:
    if "input_layer.0.weight" not in shapes or "body.0.res_layer.1.weight" not in shapes:
        return None
    if any("se_block" in key or re.search(r"res_layer\.5\.fc", key) for key in shapes):
        return "an IR-SE network (with squeeze-and-excitation), which is not built here"
    blocks = _count(shapes, r"body\.(\d+)\.")
    depth = next((depth for depth, stages in STAGES.items() if sum(stages) == blocks), None)
    name = f"IR-{101 if depth == 100 else depth}" if depth else "no IR of a published depth"
    return f"an IR network of AdaFace with {blocks} blocks ({name})"


def _inception(shapes: Shapes) -> str | None:
    found = "repeat_1.0.branch0.conv.weight" in shapes and "mixed_6a.branch0.conv.weight" in shapes
    return "FaceNet's InceptionResnetV1 (facenet)" if found else None


def _mobilefacenet(shapes: Shapes) -> str | None:
    signatures = {
        "conv_6_dw.conv.weight": "InsightFace_Pytorch",
        "conv_sep.layers.0.weight": "insightface's arcface_torch",
        "dw_conv1.conv.weight": "MobileFaceNet_Pytorch",
    }
    return next(
        (f"a MobileFaceNet, named as in {of}" for key, of in signatures.items() if key in shapes),
        None,
    )


def _edgenext(shapes: Shapes) -> str | None:
    found = any(re.match(r"stages\.\d+\.blocks\.\d+\.xca\.qkv\.", key) for key in shapes)
    return f"an EdgeNeXt, as in EdgeFace{_head(shapes)}" if found else None


def _timm(shapes: Shapes) -> str | None:
    if "patch_embed.proj.weight" in shapes and "blocks.0.attn.qkv.weight" in shapes:
        return f"a vision transformer of timm{_head(shapes)}"
    if "stem.0.weight" in shapes and "stages.0.blocks.0.conv_dw.weight" in shapes:
        return f"a ConvNeXt of timm{_head(shapes)}"
    return None


def _resnet(shapes: Shapes) -> str | None:
    if "layer1.0.conv1.weight" not in shapes or "layer1.0.bn1.weight" not in shapes:
        return None
    classes = shapes.get("fc.weight", ())
    if not classes:
        return "a ResNet of torchvision without its last layer, not a face embedder"
    return f"a ResNet of torchvision, a classifier into {classes[0]} classes, not an embedder"


def _class_centres(shapes: Shapes) -> str | None:
    if len(shapes) > 5 or not all(len(shape) <= 2 for shape in shapes.values()):
        return None
    widest = max((max(shape) for shape in shapes.values() if len(shape) == 2), default=0)
    return "the class centres of a training, without the network" if widest > 5000 else None


_KINDS: tuple[Callable[[Shapes], str | None], ...] = (
    _iresnet,
    _adaface,
    _inception,
    _mobilefacenet,
    _edgenext,
    _timm,
    _resnet,
    _class_centres,
)


def _head(shapes: Shapes) -> str:
    """What the last linear layer of timm's networks tells: a classifier of ImageNet's."""
    for key in ("head.fc.weight", "head.weight"):
        if shapes.get(key, (0,))[0] in (1000, 21841, 21843):
            return f", a classifier into {shapes[key][0]} classes, not an embedder"
    return ""


def _count(shapes: Shapes, pattern: str) -> int:
    return len({match[1] for key in shapes if (match := re.match(pattern, key))})
