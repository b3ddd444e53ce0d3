"""Tensors of every kind of number, and how ordinary their numbers are."""

import torch

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

_SPECIAL = (float("nan"), float("inf"), float("-inf"), -0.0, 0.0, 1e-40, 3e38, 65504.0)

_ORDINARY = {torch.float64: 1e60}
"""How far from 1 the numbers of a type may be, up or down, to be ordinary; others: 1e12."""


def tensor(rng, shape, dtype, *, positive=False, special=True):
    """A tensor whose numbers are of one style, with NaN and the like among them if special."""
    limits, generator = torch.finfo(dtype), torch.Generator().manual_seed(rng.randrange(2**32))
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    share = torch.rand(shape, generator=generator, dtype=torch.float64)
    first = x[..., :1, :].expand(shape) if len(shape) > 1 else x
    styles = (
        x, x, x,
        share,
        0 * x,
        0 * x + 0.37,
        x * limits.tiny,
        (x.abs() % 1) * x.sign() * limits.max,
        x * limits.smallest_normal / 64,
        (x * 10.0 ** (40 * share - 20)).clamp(limits.min, limits.max),
        x * (share < 0.1),
        first,
        first + 1e-6 * x,
    )  # fmt: skip
    x = rng.choice(styles)
    x = (x.abs() if positive else x).to(dtype).clone(memory_format=torch.contiguous_format)
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
