"""Context managers that borrow a model or its inputs and give them back as they were."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from captum_plq._base.late import at_once, is_new, look
from captum_plq._base.tracing import never_compiled, untraced
from captum_plq.errors import PixelScaleWarning, refuse_images, warn_caller
from captum_plq.network.borrowed import borrowed, original_of

__all__ = [
    "check_images",
    "differentiable_copies",
    "eager",
    "outside_inference",
    "undisturbed",
    "unnoticed",
    "weights_state",
]


_eager_lock = threading.Lock()
_eager_users = 0
_eager_stance = ExitStack()


@contextmanager
def eager() -> Iterator[None]:
    """Run compiled modules eagerly: a module compiled before a hook was set skips it.

    The compiler's stance is one for the whole process, so threads share it: the first one in
    sets it, the last one out puts it back.
    """
    global _eager_users
    if "torch._dynamo" not in sys.modules:  # then nothing has been compiled
        yield
        return
    with _eager_lock:
        if _eager_users == 0:
            _eager_stance.enter_context(torch.compiler.set_stance("force_eager"))
        _eager_users += 1
    try:
        yield
    finally:
        with _eager_lock:
            _eager_users -= 1
            if _eager_users == 0:
                _eager_stance.close()


class _Draws(TorchDispatchMode):
    """Records whether this thread draws random numbers."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.drew = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # what it would be wrapped in imports the compiler

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.drew = self.drew or torch.Tag.nondeterministic_seeded in func.tags
        return func(*args, **(kwargs or {}))


@contextmanager
def _unmoved_rng(tensors: Sequence[object]) -> Iterator[None]:
    """Restore the random state, of the tensors' devices too, if this thread drew from it."""
    devices = {x.device for x in tensors if isinstance(x, Tensor) and x.device.type == "cuda"}
    before = torch.get_rng_state(), {d: torch.cuda.get_rng_state(d) for d in devices}
    draws = _Draws()
    try:
        with draws:
            yield
    finally:
        if draws.drew:
            torch.set_rng_state(before[0])
            for device, state in before[1].items():
                torch.cuda.set_rng_state(state, device)


@contextmanager
def unnoticed(inputs: Sequence[object]) -> Iterator[None]:
    """Hide what is run from random state, compiler and tracer."""
    with at_once(), torch.inference_mode(False), eager(), untraced(), _unmoved_rng(inputs):
        yield


@contextmanager
def undisturbed(model: nn.Module, inputs: Sequence[object]) -> Iterator[nn.Module]:
    """Lend a copy of a model to be tried out, :func:`unnoticed`."""
    with unnoticed(inputs):
        yield borrowed(original_of(model))


def weights_state(model: nn.Module) -> object:
    """Return, at little cost, a value that differs if a network may have other weights.

    Args:

        model (nn.Module): The network.

    Returns:
        *object*: equal as long as the parameters are the same, and not changed but through
        ``.data``.
    """
    return tuple(
        (p.data_ptr(), None if p.is_inference() else p._version) for p in model.parameters()
    )


@never_compiled
def check_images(images: Sequence[object], model: nn.Module | None = None) -> None:
    """Raise unless images are finite floating-point batches.

    Args:

        images (sequence): The tensors to be explained, each (B, ...).
        model (nn.Module, optional): The network, which may state in an attribute ``pixel_range``
            that it takes 0–255 pixels.

    Raises:
        TypeError: if one is not a tensor, or not of floating point.
        ValueError: if one has no rows; as :class:`~captum_plq.errors.UnusableImagesError` if some
            hold NaN or infinite values.

    Warns:
        PixelScaleWarning: for 0–1 pixels in the first of them where the network takes 0–255.
    """
    takes_bytes = getattr(getattr(model, "module", model), "pixel_range", None) == (0, 255)
    with untraced():
        for place, x in enumerate(images):
            if not isinstance(x, Tensor):
                raise TypeError(f"Images must be tensors, but got {type(x).__name__}.")
            if not x.is_floating_point():
                raise TypeError(
                    f"Images must be floating point to have gradients, but got {x.dtype}. "
                    "Convert with .float(); the values may stay 0–255 if the model takes those."
                )
            if x.layout != torch.strided or x.is_meta:
                kind = "on the meta device" if x.is_meta else f"of layout {x.layout}"
                raise TypeError(f"Images must be dense tensors with values, but got one {kind}.")
            if x.ndim == 0 or x.shape[0] == 0:
                raise ValueError(
                    f"Images must come as a batch (B, ...) of at least one, but got "
                    f"{tuple(x.shape)}."
                )
            if x.numel() and is_new((x.data_ptr(), x.shape, takes_bytes and place == 0)):
                extremes = x.detach().aminmax()  # NaN if any pixel is
                look(extremes, partial(_judge_pixels, x, takes_bytes and place == 0))


def _judge_pixels(images: Tensor, takes_bytes: bool, extremes: list[float]) -> None:
    low, high = extremes
    if not -math.inf < low <= high < math.inf:
        finite = torch.isfinite(images.detach())
        refuse_images(
            ~finite.flatten(1).all(1) if images.ndim > 1 else ~finite,
            "An image holds NaN or infinite pixels",
            "Clean such images or leave them out.",
        )
    if takes_bytes and low >= 0.0 and 0.0 < high <= 1.0:
        warn_caller(
            f"The pixels lie between {low:.3g} and {high:.3g}, but the network takes 0–255: "
            "multiply by 255. As they are, the image is all but black to it.",
            PixelScaleWarning,
        )


def differentiable_copies(inputs: Sequence[object]) -> tuple[Any, ...]:
    """Return leaves that share the floating-point tensors' memory and require grad.

    The caller's own tensors keep their flags and their ``.grad``.
    """
    return tuple(
        x.detach().requires_grad_() if isinstance(x, Tensor) and x.is_floating_point() else x
        for x in outside_inference(inputs)
    )


def outside_inference(inputs: Sequence[object]) -> tuple[Any, ...]:
    """Return the inputs, those made in inference mode cloned: autograd cannot use them."""
    return tuple(x.clone() if isinstance(x, Tensor) and x.is_inference() else x for x in inputs)
