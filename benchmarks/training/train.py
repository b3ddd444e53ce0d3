"""The training loop and its configuration: resumable, seeded, one checkpoint an epoch."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.training.data import AugmentedFaces, as_batch
from captum_plq import SERFIQ
from captum_plq._base.whole_file import whole_file
from captum_plq.faces import STANDARD_DEGRADATIONS
from captum_plq.models import FaceModel
from captum_plq.models.architectures.dropout_mobilefacenet import TRUNK
from captum_plq.suitability.separation import auroc

_SMALLEST_SHARE = 1e-4
"""Added to a place's share, of 1/49 on average."""

DEFAULT_CONFIG = Path(__file__).parent / "config.json"
"""Of the weights that are shipped."""


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides the result but the images and the teacher.

    Args:

        train_folds (list[str]): Folds of the list of pairs whose images are trained on.
        validation_share (float): Of the *people* of these folds, kept for the curves.
        seed (int): Of initial weights, order, augmentation and dropout.
        epochs (int): In all.
        head_epochs (int): The first of them, in which neck and head alone are trained.
        batch (int): Images per step.
        head_rate (float), trunk_rate (float): AdamW's highest learning rates.
        weight_decay (float): AdamW's.
        warmup (float): Share of the steps over which the rates rise; then they fall as a cosine.
        spread_weight (float): Of the second part of the loss, see :func:`train`.
        place_weight (float): Of the third. 0: there is none.
        degraded_share (float): Probability that an image is degraded once; half as likely as
            that, twice.
        patched_share (float): Probability that, after that, a small part is covered.
    """

    train_folds: list[str]
    validation_share: float
    seed: int
    epochs: int
    head_epochs: int
    batch: int
    head_rate: float
    trunk_rate: float
    weight_decay: float
    warmup: float
    spread_weight: float
    place_weight: float
    degraded_share: float
    patched_share: float


def read_config(path: Path = DEFAULT_CONFIG) -> TrainingConfig:
    """Read a configuration; every field must be there, and no other.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a field is missing or unknown.
    """
    try:
        return TrainingConfig(**json.loads(path.read_text(encoding="utf-8")))
    except TypeError as error:
        raise ValueError(f"{path}: {error}.") from error


@dataclass(frozen=True)
class Faces:
    """Aligned crops (n, H, W, 3), uint8, and the teacher's embeddings of them, (n, d)."""

    chips: NDArray[np.uint8]
    targets: Tensor


def train(
    student: FaceModel,
    training: Faces,
    validation: Faces,
    config: TrainingConfig,
    directory: Path,
    *,
    device: torch.device,
    workers: int = 0,
    progress: Callable[[str], object] = print,
) -> list[dict[str, Any]]:
    """Train a student under dropout to embed a degraded image as the teacher embeds the clean one.

    The loss has up to three parts. The first is the mean squared error, under dropout, to the
    teacher's embedding of the clean image. Its minimum is the mean over all clean images that fit,
    which is shorter the less information an image holds. The second is the squared log-ratio of two
    variances: that of the embedding under dropout (:func:`variance_under_dropout`), and its
    squared error. Dropout is to move the embedding as far as it errs, as in the Bayesian reading
    of dropout (Gal and Ghahramani, ICML 2016). Neither part depends on whether or how an image
    was degraded. The third (:func:`place_surprise`) says at which places of the last map this
    variance lies: where the degradation changed what the place contributes to the embedding. The
    BatchNorms keep their statistics.

    Args:

        student (FaceModel): Around a :class:`DropoutMobileFaceNet`; trained in place, and left in
            evaluation mode on ``device``.
        training (Faces): To train on.
        validation (Faces): Of other people.
        config (TrainingConfig): All the rest.
        directory (Path): Where ``checkpoint.pt`` and ``history.json`` are kept. If there is a
            checkpoint, training goes on from there.
        device (torch.device): Where it runs; on CUDA in bfloat16 where autocast allows it.
        workers (int): Processes that augment; what comes out does not depend on it.
        progress (Callable): Told in words how far it is.

    Returns:
        *list[dict]*: one record an epoch.

    Raises:
        ValueError: if the checkpoint was made with another configuration.
    """
    network = student.backbone
    children = dict(network.named_children())
    trunk = [children.pop(name) for name in TRUNK]
    student.to(device).to(memory_format=torch.channels_last)
    faces = AugmentedFaces(
        training.chips,
        training.targets,
        config.seed,
        config.degraded_share,
        config.patched_share,
    )
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for module in part for p in module.parameters()]}
            for part in (children.values(), trunk)
        ],
        weight_decay=config.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=[config.head_rate, config.trunk_rate],
        total_steps=config.epochs * (len(faces) // config.batch),
        pct_start=config.warmup,
        cycle_momentum=False,
    )
    history: list[dict[str, Any]] = []
    resumed: dict[str, Any] = {"network": network, "optimizer": optimizer, "schedule": schedule}
    file = directory / "checkpoint.pt"
    if file.exists():
        state = torch.load(file, map_location=device, weights_only=True)
        if {**asdict(config), "epochs": 0} != {**state["config"], "epochs": 0}:
            raise ValueError(f"{file} was made with another configuration: {state['config']}.")
        for name, part in resumed.items():
            part.load_state_dict(state[name])
        history = state["history"]
        progress(f"goes on after epoch {len(history)}")
    for epoch in range(len(history), config.epochs):
        start = time.monotonic()
        children["dropout"].train()
        for module in trunk:
            module.requires_grad_(epoch >= config.head_epochs)
        faces.epoch = epoch
        with torch.random.fork_rng():
            torch.manual_seed(config.seed * 1000 + epoch)
            loss = _epoch(student, faces, config, optimizer, schedule, device, workers)
        student.eval()
        record = {"epoch": epoch + 1, "loss": loss, **_validate(student, validation, device)}
        record["seconds"] = round(time.monotonic() - start, 1)
        history.append(record)
        state = {name: part.state_dict() for name, part in resumed.items()}
        with whole_file(file) as out:
            torch.save({**state, "config": asdict(config), "history": history}, out)
        (directory / "history.json").write_text(json.dumps(history, indent=1) + "\n", "utf-8")
        progress(", ".join(f"{k} {v:.4g}" for k, v in record.items()))
    return history


def variance_under_dropout(network: nn.Module, features: Tensor) -> Tensor:
    r"""Return the expected squared distance by which dropout of the features moves the embedding.

    :math:`\frac1d \sum_j \mathrm{Var}[e_j]
    = \frac{p}{1 - p}\, \frac1d \sum_{jk} s_j^2 w_{jk}^2 x_k^2` for independently dropped features
    x, the weights w of the linear layer and the scale s of the BatchNorm after it.

    Args:

        network (nn.Module): A :class:`DropoutMobileFaceNet`.
        features (Tensor): (B, K), what its dropout is given.

    Returns:
        *Tensor*: (B,), with a gradient.
    """
    linear, norm = network.get_submodule("fc"), network.get_submodule("bn2")
    p = cast("float", network.get_submodule("dropout").p)
    moving = (cast("Tensor", norm.running_var) + cast("float", norm.eps)).sqrt()
    scale = cast("Tensor", norm.weight) / moving
    weight = cast("Tensor", linear.weight) * scale[:, None]
    return p / (1 - p) * (features.square() @ weight.square().mean(0))


def place_surprise(network: nn.Module, features: Tensor, clean: Tensor) -> Tensor:
    r"""Return how far the variance under dropout lies at other places than the error.

    Place s contributes :math:`y_s = \sum_{k \in s} J_k x_k` to the embedding, and the variance
    :math:`T_s` to its noise under dropout. If errors of places are independent, the degraded
    image's noise at s is to be that of the undegraded image and the squared change of
    :math:`y_s` together. Compared are the places' shares in both, so that it does not
    matter how large noise and error are in all: the second part of the loss cares for that.

    Args:

        network (nn.Module): A :class:`DropoutMobileFaceNet`.
        features (Tensor): (B, K), what its dropout is given, of degraded images.
        clean (Tensor): (B, K), of the same images undegraded; without a gradient.

    Returns:
        *Tensor*: (), mean squared log-ratio of the shares; with a gradient for ``features``'.
    """
    columns = _columns(network)
    here, noise = _places(network, features, columns)
    with torch.no_grad():
        there, before = _places(network, clean, columns)
        expected = before + (here - there).square().mean(2)
    shares = [x / x.sum(1, keepdim=True) + _SMALLEST_SHARE for x in (noise, expected)]
    surprise: Tensor = (shares[0].log() - shares[1].log()).square().mean()
    return surprise


def _columns(network: nn.Module) -> Tensor:
    """(d, C, P), J: how the embedding follows the features by channel and place."""
    linear, norm = network.get_submodule("fc"), network.get_submodule("bn2")
    moving = (cast("Tensor", norm.running_var) + cast("float", norm.eps)).sqrt()
    weight = cast("Tensor", linear.weight) * (cast("Tensor", norm.weight) / moving)[:, None]
    channels = cast("nn.BatchNorm2d", network.get_submodule("bn1")).num_features
    return weight.view(len(weight), channels, -1)


def _places(network: nn.Module, features: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """(B, P, d) contributions of places, and (B, P) variances of their noise under dropout."""
    p = cast("float", network.get_submodule("dropout").p)
    x = features.unflatten(1, columns.shape[1:])
    contributions = torch.einsum("bcp,dcp->bpd", x, columns)
    return contributions, p / (1 - p) * (x.square() * columns.square().mean(0)).sum(1)


def _epoch(
    student: FaceModel,
    faces: AugmentedFaces,
    config: TrainingConfig,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    device: torch.device,
    workers: int,
) -> float:
    """The mean loss over one pass through the faces."""
    loader = DataLoader(faces, config.batch, shuffle=True, drop_last=True, num_workers=workers)
    losses = []
    network = cast("nn.Sequential", student.backbone)
    at = list(dict(network.named_children())).index("dropout")
    trunk, dropout, head = network[:at], network[at], network[at + 1 :]

    def features_of(images: Tensor) -> Tensor:
        images = images.to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            found: Tensor = trunk((images - student.mean) / student.std).float()
        return found

    for images, undegraded, targets in loader:
        targets = targets.to(device)
        features = features_of(images)
        embeddings = head(dropout(features))
        variance = variance_under_dropout(network, features)
        missed = (head(features) - targets).square().mean(1).detach()
        surprise = (variance.log() - missed.log()).square().mean()
        loss = F.mse_loss(embeddings, targets) + config.spread_weight * surprise
        if config.place_weight > 0:
            with torch.no_grad():
                clean = features_of(undegraded)
            loss = loss + config.place_weight * place_surprise(network, features, clean)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
    return float(torch.stack(losses).mean())


def _validate(student: FaceModel, faces: Faces, device: torch.device) -> dict[str, float]:
    """Cosine to the teacher, and how surely Q falls, over people who are not trained on."""
    serfiq = SERFIQ(student)
    found: dict[str, float] = {}
    clean: Tensor | None = None
    targets = faces.targets.to(device)
    for name, degrade in {"clean": None, **STANDARD_DEGRADATIONS}.items():
        chips = faces.chips
        if degrade is not None:
            chips = np.stack([degrade(chip, seed) for seed, chip in enumerate(chips)])
        embeddings, qualities, errors = [], [], []
        with torch.no_grad():
            for images in as_batch(chips).split(32):
                assessed = serfiq.assess(images.to(device), standard_error=True)
                embeddings.append(student(images.to(device)))
                qualities.append(assessed.quality)
                errors.append(cast("Tensor", assessed.standard_error))
        quality = torch.cat(qualities).cpu()
        cosine = F.cosine_similarity(torch.cat(embeddings), targets)
        found[f"cosine {name}"] = float(cosine.mean())
        if clean is None:
            clean = quality
            error = torch.cat(errors).square().mean().sqrt()
            found |= {"Q": float(quality.mean()), "spread": float(quality.std())}
            found["error of Q"] = float(error)
        else:
            found[f"auroc {name}"] = auroc(clean, quality)
            found[f"falls {name}"] = float((quality < clean).double().mean())
    return found
