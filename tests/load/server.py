"""A real server in a process of its own, and how much memory it takes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Server:
    """A process that serves: its address, its memory, and what it said in the end."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process, self.url, self.said = process, url, ""

    def memory(self) -> float:
        """Return its proportional set size, in MiB."""
        lines = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines()
        (kilobytes,) = (line.split()[1] for line in lines if line.startswith("Pss:"))
        return int(kilobytes) / 1024

    def stop(self) -> int:
        """Interrupt it, and return its exit code."""
        self.process.send_signal(signal.SIGINT)
        self.said = self.process.communicate(timeout=60)[1]
        return self.process.returncode


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[Server]:
    """Start ``captum-plq serve`` on a free port, its temporary files in a folder."""
    process = subprocess.Popen(
        [sys.executable, "-m", "captum_plq", "serve", "--port", "0", *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # not as with `&`
    )
    try:
        if process.stdout is None or not select.select([process.stdout], [], [], 300)[0]:
            raise RuntimeError("The server did not start within 300 seconds.")
        url = process.stdout.readline().partition("/ (")[0]
        if not url.startswith("http://"):
            raise RuntimeError(f"The server did not start: {process.communicate()[1]}")
        yield Server(process, url)
    finally:
        process.kill()
        process.communicate()
