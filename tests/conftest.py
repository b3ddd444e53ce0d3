"""Networks and images that the tests share."""

import gc
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

SHARED_DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """The tensors here are small: threads that spin for them only slow a busy machine down."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class SmallFaceNet(nn.Module):
    """Convolutions, then the ArcFace head: BatchNorm, flatten, Dropout, Linear, BatchNorm."""

    def __init__(self, channels: int = 3, features: int = 16) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(channels, 8, 3, stride=2, padding=1),
            nn.BatchNorm2d(8),
            nn.PReLU(8),
            nn.Conv2d(8, 12, 3, stride=2, padding=1),
            nn.BatchNorm2d(12),
            nn.PReLU(12),
            nn.Flatten(),
        )
        self.dropout = nn.Dropout(0.4)
        self.fc = nn.Linear(12 * 5 * 5, features)
        self.bn = nn.BatchNorm1d(features)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.fc(self.dropout(self.trunk(x))))


def small_face_net(seed: int = 0) -> SmallFaceNet:
    """A network with BatchNorm statistics that are not the trivial ones, float64, eval."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = SmallFaceNet().double()
        for module in net.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
                module.weight.data.uniform_(0.5, 1.5)
                module.bias.data.normal_()
    return net.eval()


@pytest.fixture
def net() -> SmallFaceNet:
    return small_face_net()


@pytest.fixture
def images() -> Tensor:
    """Seven images of 20×20, 0–255, float64."""
    generator = torch.Generator().manual_seed(7)
    return 255 * torch.rand(7, 3, 20, 20, generator=generator, dtype=torch.float64)


@pytest.fixture(scope="session")
def dlib_chips() -> Tensor:
    """Four real aligned chips, (4, 3, 150, 150), 0–255: the portrait, flipped, crooked, dim."""
    pytest.importorskip("dlib", reason="needs the extra [faces]")
    data = pytest.importorskip("skimage.data", reason="needs scikit-image")
    import numpy as np

    from captum_plq.faces import align_face, detect_faces

    image = data.astronaut()
    variants = [image, np.ascontiguousarray(image[:, ::-1]), image // 2]
    chips = [align_face(v, detect_faces(v)[0], template="dlib", size=150) for v in variants]
    chips.append(np.roll(chips[0], 9, axis=1))
    return torch.from_numpy(np.stack(chips)).permute(0, 3, 1, 2).float()


@pytest.fixture(scope="session")
def dlib_net() -> nn.Module:
    pytest.importorskip("face_recognition_models", reason="needs the extra [faces]")
    from captum_plq.models import load_model

    return load_model("dlib")


def living_tensors() -> int:
    """How many tensors there are, after the garbage is collected."""
    gc.collect()
    return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())


def snapshot(model: nn.Module) -> dict[str, object]:
    """Everything about a model that a call might leave changed, except its weights."""
    return {
        "hooks": [
            {name: len(value) for name, value in vars(m).items() if "_hooks" in name and value}
            for m in model.modules()
        ],
        "training": [m.training for m in model.modules()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "grad": [p.grad is None for p in model.parameters()],
        "buffers": [b.clone() for b in model.buffers()],
        "rng": torch.get_rng_state(),
    }


def in_mixed_state(model: nn.Module) -> nn.Module:
    """Some modules training, some parameters frozen: what must come back is not uniform."""
    for i, module in enumerate(model.modules()):
        module.training = i % 3 != 0
    for i, parameter in enumerate(model.parameters()):
        parameter.requires_grad = i % 2 == 0
    return model


def assert_untouched(before: dict[str, object], model: nn.Module) -> None:
    after = snapshot(model)
    for key in ("hooks", "training", "requires_grad", "grad"):
        assert after[key] == before[key], key
    assert torch.equal(after["rng"], before["rng"])
    for old, new in zip(before["buffers"], after["buffers"], strict=True):
        assert torch.equal(old, new)
