"""Under what conditions something was measured, and setting them for a while."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["Environment", "current_environment", "reproducible_settings"]

_PACKAGES = ("captum", "captum-plq", "timm", "numpy", "scikit-learn")


@dataclass(frozen=True)
class Environment:
    """Everything a reader needs to know to doubt or repeat a measurement.

    Args:

        device (str): ``"cpu"`` or ``"cuda"``.
        device_name (str): The processor's or the GPU's name.
        versions (dict): Python, the packages, CUDA and cuDNN.
        platform (str): Operating system.
        dtype (str): Of weights and images.
        tf32 (bool): Whether float32 products and convolutions may use TF32; CUDA only.
        threads (int): torch.get_num_threads().
        cores (int): Processors this process may use.
        load (float or None): One-minute load average at the start: what else was running.
        passes (int): m of SER-FIQ; 0 where it plays no part.
        dropout (float): p of SER-FIQ.
        seed (int): Of weights, images, masks and methods that draw.
        rows (int): Images that methods with many forwards put through at a time.
        commit (str): Of the repository, ``-dirty`` if tracked files were changed.
        date (str): UTC, ISO 8601.
        channels_last (bool): Whether weights and images lie in this memory format.
    """

    device: str
    device_name: str
    versions: dict[str, str]
    platform: str
    dtype: str
    tf32: bool
    threads: int
    cores: int
    load: float | None
    passes: int
    dropout: float
    seed: int
    rows: int
    commit: str
    date: str
    channels_last: bool = False

    def line(self) -> str:
        """Return all that a table or figure must name, but for the date, in one line."""
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        extras = ", TF32" * self.tf32 + ", channels last" * self.channels_last
        serfiq = "" if self.passes == 0 else f"m = {self.passes}, p = {self.dropout:g}, "
        return (
            f"{self.device_name} ({self.device}), {self.threads} threads, {self.dtype}{extras}; "
            f"{serfiq}seed {self.seed}; {versions}; "
            f"commit {self.commit}"
        )

    def dated(self) -> str:
        """Return the line and the date."""
        return f"{self.line()}; {self.date}"


def current_environment(device: torch.device, dtype: torch.dtype, **given: Any) -> Environment:
    """Return the environment as it is now.

    Args:

        device (torch.device): Where is measured.
        dtype (torch.dtype): Of weights and images.
        given: The settings of :class:`Environment` that cannot be looked up: ``passes``,
            ``dropout``, ``seed``, ``rows`` and ``channels_last``.
    """
    cuda = device.type == "cuda"
    return Environment(
        device=device.type,
        device_name=torch.cuda.get_device_name(device) if cuda else _processor(),
        versions=_versions(),
        platform=platform.platform(),
        dtype=str(dtype).removeprefix("torch."),
        tf32=cuda and bool(torch.backends.cuda.matmul.allow_tf32),
        threads=torch.get_num_threads(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0,
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        commit=_commit(),
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **given,
    )


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
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    versions = {"Python": platform.python_version(), "torch": str(torch.__version__)}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
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
