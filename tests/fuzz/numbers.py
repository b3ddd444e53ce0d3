"""Tensors of every kind of number, and how ordinary their numbers are."""

import torch

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

_STYLES = (
    "normal", "normal", "normal", "uniform", "zeros", "constant", "tiny", "huge", "subnormal",
    "wide", "rows equal", "nearly equal", "few",
)  # fmt: skip
_SPECIAL = (float("nan"), float("inf"), float("-inf"), -0.0, 0.0, 1e-40, 3e38, 65504.0)

_ORDINARY = {torch.float64: 1e60}
"""How far from 1 the numbers of a type may be, up or down, to be ordinary; others: 1e12."""


def tensor(rng, shape, dtype, *, positive=False, special=True):
    """A tensor whose numbers are of one style, with NaN and the like among them if special."""
    style, limits = rng.choice(_STYLES), torch.finfo(dtype)
    generator = torch.Generator().manual_seed(rng.randrange(2**32))
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    several = len(shape) > 1
    match style:
        case "uniform":
            x = torch.rand(shape, generator=generator, dtype=torch.float64)
        case "zeros":
            x = torch.zeros_like(x)
        case "constant":
            x = torch.full_like(x, 0.37)
        case "tiny":
            x = x * limits.tiny
        case "huge":
            x = (x.abs() % 1) * x.sign() * limits.max
        case "subnormal":
            x = x * limits.smallest_normal / 64
        case "wide":
            x = x * 10.0 ** (20 * torch.randn(shape, generator=generator, dtype=torch.float64))
            x = x.clamp(limits.min, limits.max)
        case "few":
            x = x * (torch.rand(shape, generator=generator) < 0.1)
        case "rows equal" if several:
            x = x[..., :1, :].expand(shape).clone()
        case "nearly equal" if several:
            x = x[..., :1, :] + 1e-6 * x
    x = (x.abs() if positive else x).to(dtype)
    for _ in range(rng.choice((0, 0, 0, 0, 1, 2)) if special and x.numel() else 0):
        number = rng.choice(_SPECIAL)
        x.view(-1)[rng.randrange(x.numel())] = abs(number) if positive else number
    return x


def grade(x, dims=(), nonzero=False, far=None):
    """Whether numbers are ordinary (0), may leave the range of the type (1), or are none (2).

    Over ``dims`` the worst counts; all of them zero is 1, too, if ``nonzero``. A factor of more
    than ``far`` from 1, up or down, is not ordinary.
    """
    far = far or _ORDINARY.get(x.dtype, 1e12)
    size = x.double().abs()
    found = ((size > far) | ((size < 1 / far) & (size > 0))).int()
    found = torch.where(torch.isfinite(x), found, 2)
    if not dims:
        return found
    worst = found.amax(dims)
    return torch.maximum(worst, (size.amax(dims) == 0).int()) if nonzero else worst
