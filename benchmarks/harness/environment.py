"""Under what conditions something was measured, and setting them for a while."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

_PACKAGES = ("captum", "captum-plq", "timm", "numpy", "scikit-learn")


def current_environment(
    device: torch.device, dtype: torch.dtype, *, channels_last: bool = False, **given: Any
) -> dict[str, Any]:
    """Return all that a reader needs to doubt or repeat a measurement, as it is now.

    Args:

        device (torch.device): Where is measured.
        dtype (torch.dtype): Of weights and images.
        channels_last (bool): Whether weights and images lie in this memory format.
        given: ``passes`` and ``dropout``, m and p of SER-FIQ (m is 0 where it plays no part);
            ``seed`` of weights, images, masks and methods that draw; ``rows``, images that methods
            with many forwards put through at a time.

    Returns:
        *dict*: ready for JSON: these, and what was looked up: ``"device_name"`` of the processor
        or GPU, ``"versions"``, ``"platform"``, ``"tf32"`` (whether CUDA may use it for float32),
        ``"threads"`` of torch, ``"cores"`` for this process, ``"load"``, the one-minute average
        (what else was running), ``"commit"``, ``-dirty`` if tracked files were changed, and
        ``"date"``, UTC.
    """
    cuda = device.type == "cuda"
    return {
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device) if cuda else _processor(),
        "versions": _versions(),
        "platform": platform.platform(),
        "dtype": str(dtype).removeprefix("torch."),
        "tf32": cuda and bool(torch.backends.cuda.matmul.allow_tf32),
        "threads": torch.get_num_threads(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        **given,
        "commit": _commit(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "channels_last": channels_last,
    }


def described(conditions: Mapping[str, Any]) -> str:
    """Return all that a table or figure must name of an environment but the date, in one line."""
    versions = ", ".join(f"{name} {number}" for name, number in conditions["versions"].items())
    extras = ", TF32" * conditions["tf32"]
    extras += ", channels last" * conditions.get("channels_last", False)
    m, p = conditions["passes"], conditions["dropout"]
    serfiq = f"m = {m}, p = {p:g}, " if m else ""
    return (
        f"{conditions['device_name']} ({conditions['device']}), {conditions['threads']} threads, "
        f"{conditions['dtype']}{extras}; {serfiq}seed {conditions['seed']}; {versions}; "
        f"commit {conditions['commit']}"
    )


def dated(conditions: Mapping[str, Any]) -> str:
    """Return an environment in one line, and its date."""
    return f"{described(conditions)}; {conditions['date']}"


@contextmanager
def reproducible_settings(threads: int | None, tf32: bool, seed: int) -> Iterator[None]:
    """Sets threads, TF32 and the random states of torch and NumPy, and restores them.

    Args:

        threads (int, optional): ``None`` leaves them as they are.
        tf32 (bool): Whether CUDA's products *and* convolutions may use TF32. torch's own
            default is no for the former and yes for the latter.
        seed (int): For Captum's methods that draw from the global random states.
    """
    old_threads, old_numpy = torch.get_num_threads(), np.random.get_state()
    backends: tuple[Any, Any] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    old_tf32 = [backend.allow_tf32 for backend in backends]
    try:
        with torch.random.fork_rng():
            if threads is not None:
                torch.set_num_threads(threads)
            for backend in backends:
                backend.allow_tf32 = tf32
            torch.manual_seed(seed)
            np.random.seed(seed)
            yield
    finally:
        torch.set_num_threads(old_threads)
        np.random.set_state(old_numpy)
        for backend, old in zip(backends, old_tf32, strict=True):
            backend.allow_tf32 = old


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    versions = {"Python": platform.python_version(), "torch": str(torch.__version__)}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    if torch.cuda.is_available():
        versions["CUDA"] = str(torch.version.cuda)
        versions["cuDNN"] = str(torch.backends.cudnn.version())
    return versions


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"
