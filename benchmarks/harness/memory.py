"""Peak memory of one call, above what was there before it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

__all__ = ["METHOD", "peak_bytes"]

METHOD = {
    "cuda": "torch.cuda.max_memory_allocated during one call, less memory_allocated before it",
    "cpu": (
        "torch.profiler(profile_memory=True): highest running sum of the CPU allocator's events "
        "during one call"
    ),
}
"""How the peak is measured, by type of device; weights, images and node are not in it."""


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
