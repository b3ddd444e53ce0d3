"""What decides about the page and about who may use it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from captum_plq.explanation import Settings
from captum_plq.models import DEFAULT_MODEL

__all__ = ["WebSettings", "is_loopback"]

_LEAST = {"max_bytes": 1000, "max_pixels": 10_000, "rate": 1, "places": 1}


@dataclass(frozen=True, kw_only=True)
class WebSettings:
    """The choices of a server.

    Args:

        model (str): Network by its name or file, as of :func:`~captum_plq.models.load_model`.
        checkpoint (Path, optional): Its weight file.
        calibration (str, optional): A file, a preset, or ``"none"``. ``None``: the network's own,
            if it comes with this package.
        explaining (Settings): Of the explanations.
        host (str): Address that the server listens at.
        proxied_as (str): Name under which a reverse proxy on this machine serves the page; ``""``
            if none does.
        max_bytes (int): Longest photo, in bytes.
        max_pixels (int): Largest photo, in pixels.
        rate (int): Photos a minute from one client; after a minute's pause, as many in a row.
        places (int): Photos that arrive, wait or are computed at the same time; of one client half
            of them, rounded up.
        patience (float): Seconds in which an upload must arrive.
        keep (Path, optional): Folder in which photos and answers are kept. ``None``: none is.

    Raises:
        ValueError: if a limit is too low for any photo, the address is empty, or a name holds a
            port or a path.

    Examples::

        >>> WebSettings(keep=Path("photos"), rate=10)
    """

    model: str = DEFAULT_MODEL
    checkpoint: Path | None = None
    calibration: str | None = None
    explaining: Settings = field(default_factory=Settings)
    host: str = "127.0.0.1"
    proxied_as: str = ""
    max_bytes: int = 10 * 2**20
    max_pixels: int = 40_000_000
    rate: int = 30
    places: int = 32
    patience: float = 30.0
    keep: Path | None = None

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be {least} or more, but got {getattr(self, name)}.")
        if not self.patience > 0:
            raise ValueError(f"patience must be positive, but got {self.patience}.")
        if not self.host.strip():
            raise ValueError("host must be an address such as 127.0.0.1, but got nothing.")
        if any(c in self.proxied_as for c in ":/ "):
            raise ValueError(
                f"proxied_as must be a name such as photos.example.org, but got "
                f"{self.proxied_as!r}."
            )

    @property
    def names(self) -> frozenset[str] | None:
        """Names by which a client may call the server; ``None``: any.

        A page elsewhere can have its own name lead to the loopback address ("DNS rebinding"), and
        would then be taken for this server's.
        """
        if not is_loopback(self.host) and not self.proxied_as:
            return None
        own = {"localhost", "127.0.0.1", "::1", self.host, self.proxied_as}
        return frozenset(name.lower() for name in own if name)


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address.

    Args:

        host (str): Name or address.

    Examples::

        >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
        (True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
