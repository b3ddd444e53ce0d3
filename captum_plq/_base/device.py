"""Where to compute."""

from __future__ import annotations

import torch

__all__ = ["device_name", "usable_device"]


def usable_device(name: str) -> torch.device:
    """A device by its name; refuses one that cannot be used here."""
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"The device {name!r} cannot be used here: {reason}") from error
    return device


def device_name(device: torch.device) -> str:
    """What a device is called, for a record."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
