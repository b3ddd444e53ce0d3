"""Made checkpoints and images, and the small steps that references of networks share."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.conftest import SHARED_DATA

WEIGHTS = SHARED_DATA / "weights"
LFW = SHARED_DATA / "faces" / "lfw"


def batchnorm(name, channels):
    fields = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{name}.{f}": (channels,) for f in fields}, f"{name}.num_batches_tracked": ()}


def normed(state, name, x, eps):
    shape = (1, -1) + (1,) * (x.ndim - 2)
    mean, var = (state[f"{name}.running_{what}"].view(shape) for what in ("mean", "var"))
    z = (x - mean) / (var + eps).sqrt()
    if f"{name}.weight" not in state:
        return z
    return z * state[f"{name}.weight"].view(shape) + state[f"{name}.bias"].view(shape)


def bent(state, name, x):
    return x.clamp(min=0) + state[f"{name}.weight"].view(1, -1, 1, 1) * x.clamp(max=0)


def random_checkpoint(shapes, seed=0):
    """Weights in float64 under which signals neither vanish nor explode."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in shapes.items():
        values = torch.randn(shape, generator=generator, dtype=torch.float64)
        if len(shape) > 1:
            values /= values[0].numel() ** 0.5
        elif key.endswith(("running_var", "weight")):
            values = 0.5 + values.abs() / 2
        else:
            values /= 4
        state[key] = torch.tensor(7) if key.endswith("num_batches_tracked") else values
    return state


def cast(state, dtype):
    return {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}


def weightless(shapes):
    """A state dict of these shapes that takes no memory."""
    return {
        key: torch.zeros((), dtype=torch.long if key.endswith("tracked") else None).expand(shape)
        for key, shape in shapes.items()
    }


def under(prefix, state):
    return {f"{prefix}{key}": value for key, value in state.items()}


def pixels(count, size=112):
    generator = torch.Generator().manual_seed(1)
    return 255 * torch.rand(count, 3, size, size, generator=generator)


def rgb(count, height, width):
    """Images whose channels differ in brightness, so that no two orders look alike."""
    generator = torch.Generator().manual_seed(3)
    levels = torch.tensor([60.0, 120.0, 200.0]).view(1, 3, 1, 1)
    return levels + 50 * torch.rand(count, 3, height, width, generator=generator)


def on_meta(make, *args):
    with torch.device("meta"):
        return make(*args).eval()


def flops(network, size):
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        network(torch.zeros(1, 3, *size))
    return counter.get_total_flops()


def shapes_in(network):
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


def size_of(network):
    return sum(parameter.numel() for parameter in network.parameters())
