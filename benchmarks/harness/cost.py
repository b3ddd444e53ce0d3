"""What a call costs apart from time: arithmetic, traffic, passes, peak memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from benchmarks.subjects.network import layers_that_ran

MEMORY = {
    "cuda": "torch.cuda.max_memory_allocated during one call, less memory_allocated before it",
    "cpu": (
        "torch.profiler(profile_memory=True): highest running sum of the CPU allocator's events "
        "during one call"
    ),
}
"""How the peak is measured, by type of device; weights, images and node are not in it."""


class OperatorCost(TorchDispatchMode):
    """Counts what the operators inside a ``with`` block compute and move.

    With the formulas of :mod:`torch.utils.flop_counter`, whose own ``FlopCounterMode``
    cannot be used: it follows modules by hooks, and these raise under
    ``torch.autograd.grad`` with respect to a leaf.

    Attributes:
        flops (int): Floating-point operations of matrix products, convolutions and
            attention, forward and backward; two for a multiplication with its addition.
            Operators without a formula (elementwise ones, ``torch.pdist``) count as none.
        traffic (int): Bytes of every tensor that an operator reads or writes, each once per
            operator; views and bare allocations cost nothing. This is what unfused
            execution moves if no result stays in a cache.

    Examples::

        >>> with OperatorCost() as cost:
        ...     torch.ones(2, 3) @ torch.ones(3, 5)
        >>> cost.flops
        60
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0
        self.traffic = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Runs one operator and counts it; composite ones are taken apart first."""
        options = dict(kwargs or {})
        formula: Callable[..., int] | None = flop_registry.get(func._overloadpacket)
        if formula is None:
            with self:
                parts = func.decompose(*args, **options)
            if parts is not NotImplemented:
                return parts
        result = func(*args, **options)
        if formula is not None:
            self.flops += int(formula(*args, **options, out_val=result))
        self.traffic += _moved(func, args, options, result)
        return result


def _moved(func: Any, args: tuple[Any, ...], options: dict[str, Any], result: Any) -> int:
    if "empty" in func._overloadpacket.__name__:  # allocates, writes nothing
        return 0
    read = {id(x): x for x in tree_leaves((args, options)) if isinstance(x, Tensor)}
    written = {id(x): x for x in tree_leaves(result) if isinstance(x, Tensor)}
    storages = {x.untyped_storage()._cdata for x in read.values()}
    is_view = all(x.untyped_storage()._cdata in storages for x in written.values())
    if is_view and not func._schema.is_mutable:
        return 0
    # An expanded tensor has fewer bytes than elements.
    return sum(min(x.nbytes, x.untyped_storage().nbytes()) for x in (read | written).values())


@dataclass
class Passes:
    """Passes through the network, in multiples of the batch.

    Args:

        forward (float): Rows that left its first layer, over the batch size.
        backward (float): Rows of gradient that came back to it, over the batch size.
    """

    forward: float = 0.0
    backward: float = 0.0


@contextmanager
def counted_passes(model: nn.Module, images: Tensor) -> Iterator[Passes]:
    """Counts the passes through a network, while the block runs, by a hook on its first layer.

    Args:

        model (nn.Module): The network.
        images (Tensor): The batch (B, ...); its first image is put through once, to see
            which layer is the first.

    Yields:
        *Passes*: complete when the block ends.

    Raises:
        ValueError: if the network runs no layer with weights.
    """
    passes = Passes()
    batch = images.shape[0]

    def count(_: nn.Module, __: object, output: Tensor) -> None:
        passes.forward += output.shape[0] / batch
        if output.requires_grad:
            output.register_hook(count_back)

    def count_back(gradient: Tensor) -> None:
        passes.backward += gradient.shape[0] / batch

    layers = layers_that_ran(model, images[:1], (nn.Linear, nn.modules.conv._ConvNd))
    if not layers:
        raise ValueError("The network runs no Linear or convolution layer.")
    handle = layers[0][0].register_forward_hook(count)
    try:
        yield passes
    finally:
        handle.remove()


def peak_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    """Most bytes alive at a time during a call, above those alive before it.

    On the CPU every allocation and release of torch's allocator is summed in its order, so
    what kernels allocate for themselves is in it; what oneDNN or the C library allocate
    past torch is not.

    Args:

        call (Callable): What to measure, already warm.
        device (torch.device): Where it computes.

    Returns:
        *int*, or ``None`` if this build of torch records no allocations.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device) - before)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    results = getattr(profiler.profiler, "kineto_results", None)
    if results is None:
        return None
    events = [(e.start_ns(), e.nbytes()) for e in results.events() if e.name() == "[memory]"]
    alive = peak = 0
    for _, size in sorted(events, key=lambda event: event[0]):
        alive += size
        peak = max(peak, alive)
    return peak if events else None
