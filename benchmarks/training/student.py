"""The network before training: the teacher's trunk, and a smaller version of its linear head."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.subjects.network import layers_that_ran
from benchmarks.training.data import as_batch
from captum_plq.models import FaceModel
from captum_plq.models.architectures.dropout_mobilefacenet import (
    DROPOUT_MOBILEFACENET_SPEC,
    NECK_CHANNELS,
    TRUNK,
    new_dropout_mobilefacenet,
)

_CALIBRATION = 512


def new_student(
    teacher: FaceModel,
    chips: NDArray[np.uint8],
    device: torch.device,
    neck_channels: int = NECK_CHANNELS,
) -> FaceModel:
    """Return a student whose embedding is as near to the teacher's as its smaller head allows.

    From the last 7×7 map on, a MobileFaceNet is affine: e = Σ_pos M_pos f_pos + b, where f_pos are
    the 512 features of a place. The student's head is affine too, but its neck N, the same at
    all places, lets 128 of 512 dimensions through. N and the linear layer are those that come
    nearest to the teacher in the mean square, for features of the covariance S of all places
    together: with V the first right singular vectors of the M_pos S^½, stacked,
    N = Vᵀ S^-½ and the layer's part for a place is M_pos S^½ V. The features of the neck then
    have unit variance.

    Args:

        teacher (FaceModel): A MobileFaceNet with ReLU6, whatever its layers are called: the
            trunk's weights are taken over in the order in which they are defined.
        chips (ndarray): (n, H, W, 3), uint8: faces for S, the first 512 of them.
        device (torch.device): Where it computes.
        neck_channels (int): What the neck lets through.

    Returns:
        *FaceModel*: around a :class:`~captum_plq.models.DropoutMobileFaceNet`; its embedding has
        length √d on average.

    Raises:
        ValueError: if the teacher's first layers are others than the trunk's.
    """
    with torch.random.fork_rng(devices=[]):
        student = new_dropout_mobilefacenet(neck_channels).eval().to(device)
    own = {k: v for k, v in student.state_dict().items() if k.split(".")[0] in TRUNK}
    theirs = list(teacher.backbone.state_dict().values())[: len(own)]
    if [value.shape for value in theirs] != [value.shape for value in own.values()]:
        raise ValueError(f"The first layers of {teacher.spec.name} are not those of the student.")
    student.load_state_dict(dict(zip(own, theirs, strict=True)), strict=False)
    model = FaceModel(student, DROPOUT_MOBILEFACENET_SPEC).eval().to(device)

    trunk_end = student.get_submodule(TRUNK[-1])
    images = as_batch(chips[:_CALIBRATION]).to(device)
    features = torch.cat(
        [
            output
            for some in images.split(32)
            for layer, output in layers_that_ran(model, some, type(trunk_end))
            if layer is trunk_end
        ]
    )
    with torch.no_grad():
        wanted = torch.cat([teacher(some).flatten(1) for some in images.split(32)]).double()
    slopes = _slopes(teacher, images[:1], features.shape[1:])
    places = features.double().flatten(2)  # (n, 512, 49)
    centred = (places - places.mean(0)).permute(0, 2, 1).flatten(0, 1)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
    root = vectors * values.clamp(min=1e-6).sqrt()  # S^½ up to a rotation
    stacked = slopes.double().flatten(2).permute(2, 0, 1).flatten(0, 1) @ root  # (49·d, 512)
    first = torch.linalg.svd(stacked, full_matrices=False)[2][:neck_channels].T
    neck = first.T @ torch.linalg.pinv(root)
    layer = (stacked @ first).unflatten(0, (places.shape[2], -1)).permute(1, 2, 0).flatten(1)

    narrow = torch.einsum("kc,ncp->nkp", neck, places)
    mean, variance = narrow.mean((0, 2)), narrow.var((0, 2))
    standard = (narrow - mean[:, None]) / (variance[:, None] + 1e-5).sqrt()
    layer = layer * (variance + 1e-5).sqrt().repeat_interleave(places.shape[2])
    linear = standard.flatten(1) @ layer.T
    bias = (wanted - linear).mean(0)
    embedding = linear + bias
    length = embedding.square().mean().sqrt()  # so that the length of e becomes √d
    center, spread = embedding.mean(0), (embedding.var(0) + 1e-5).sqrt()
    with torch.no_grad():
        _set(student.get_submodule("neck"), weight=neck[:, :, None, None])
        _set(student.get_submodule("bn1"), running_mean=mean, running_var=variance)
        _set(student.get_submodule("fc"), weight=layer, bias=bias)
        _set(
            student.get_submodule("bn2"),
            running_mean=center,
            running_var=embedding.var(0),
            weight=spread / length,
            bias=center / length,
        )
    return model


def _slopes(teacher: FaceModel, image: Tensor, shape: torch.Size) -> Tensor:
    """M: how the teacher's embedding follows its last map of this shape, (d, 512, 7, 7)."""
    maps: list[Tensor] = []

    def cut(_m: nn.Module, _i: object, output: Tensor) -> Tensor | None:
        if not isinstance(output, Tensor) or output.shape[1:] != shape:
            return None
        leaf = output.detach().requires_grad_()
        maps.append(leaf)
        return leaf

    handles = [m.register_forward_hook(cut) for m in teacher.modules() if not list(m.children())]
    try:
        with torch.enable_grad():
            embedding = teacher(image).flatten()
    finally:
        for handle in handles:
            handle.remove()
    rows = [torch.autograd.grad(e, maps[-1], retain_graph=True)[0][0] for e in embedding]
    return torch.stack(rows)


def _set(module: nn.Module, **values: Tensor) -> None:
    for name, value in values.items():
        getattr(module, name).copy_(value)
