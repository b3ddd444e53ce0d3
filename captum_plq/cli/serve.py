"""The command ``captum-plq serve``: the page that says of a photo whether to take it again."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from captum_plq.cli.options import Estimating, OwnCalibration, Whole
from captum_plq.cli.terminal import held, tell

if TYPE_CHECKING:
    from captum_plq.web import WebSettings

__all__ = ["command"]

_LAST_PORT = 65535

command = App(
    "serve",
    help_epilogue="""Examples:
  captum-plq serve
  captum-plq serve --port 9000 --keep photos
  captum-plq serve --proxied-as photos.example.org""",
)


def _port(_: Any, tokens: Any) -> int:
    value = tokens[0].value
    if not (value.isascii() and value.isdecimal() and int(value) <= _LAST_PORT):
        raise ValueError(
            f"{value!r} is no port; give a whole number from 1 to {_LAST_PORT}, or 0 for any that "
            "is free."
        )
    return int(value)


def _address(_: Any, tokens: Any) -> str:
    return _something(tokens, "an address, such as 127.0.0.1")


def _name(_: Any, tokens: Any) -> str:
    return _something(tokens, "a name, such as photos.example.org, or leave the option out")


def _folder(_: Any, tokens: Any) -> Path:
    return Path(_something(tokens, "a folder, or leave the option out to keep no photo"))


def _something(tokens: Any, what: str) -> str:
    """Return a value that is not empty, as that of an unset variable of a shell is."""
    value = str(tokens[0].value)
    if not value.strip():
        raise ValueError(f"it is empty; give {what}.")
    return value


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Serving:
    """Who gets answers, and to what."""

    calibration: OwnCalibration = None
    host: Annotated[
        str,
        Parameter(
            converter=_address,
            help="Address to listen at; any but the default opens the page to others.",
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int, Parameter(converter=_port, help="Port to listen at; 0: any that is free.")
    ] = 8000
    proxied_as: Annotated[
        str,
        Parameter(
            name="--proxied-as",
            converter=_name,
            help="Name under which a reverse proxy on this machine serves the page to others.",
            show_default=False,
        ),
    ] = ""
    keep: Annotated[
        Path | None,
        Parameter(
            converter=_folder, help="Folder in which photos and answers are kept. Default: none."
        ),
    ] = None
    max_bytes: Annotated[Whole, Parameter(help="Longest photo, in bytes.")] = 10 * 2**20
    max_pixels: Annotated[Whole, Parameter(help="Largest photo, in pixels.")] = 40_000_000
    rate: Annotated[
        Whole,
        Parameter(help="Photos a minute from one address; after a pause, as many in a row."),
    ] = 30
    places: Annotated[
        Whole,
        Parameter(help="Photos that arrive, wait or are computed at once; half for one address."),
    ] = 32

    def settings(self, network: Estimating) -> WebSettings:
        """Return the settings that these options and those of the network ask for."""
        from captum_plq.web import WebSettings

        return WebSettings(
            model=network.model,
            checkpoint=network.checkpoint,
            calibration=self.calibration,
            explaining=network.settings(),
            host=self.host,
            proxied_as=self.proxied_as,
            keep=self.keep,
            max_bytes=self.max_bytes,
            max_pixels=self.max_pixels,
            rate=self.rate,
            places=self.places,
        )


@command.default
def serve(*, network: Estimating = Estimating(), options: Serving = Serving()) -> None:
    """Serve a page that says of a photo whether to take it again, and why.

    It works without the internet. No photo is kept unless --keep is given.
    """
    from captum_plq.errors import extra
    from captum_plq.web import create_app

    with extra("web"):
        import uvicorn

    try:
        settings = options.settings(network)
    except ValueError as error:
        raise _misused(str(error)) from error
    with _listen(options.host, options.port) as listening:
        app = create_app(settings)
        for line in _warnings(settings):
            tell(line, error=True)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            proxy_headers=bool(options.proxied_as),
            forwarded_allow_ips="127.0.0.1,::1",
            timeout_graceful_shutdown=5,
        )
        shown = f"[{options.host}]" if ":" in options.host else options.host
        tell(f"http://{shown}:{listening.getsockname()[1]}/ (Ctrl-C ends it)")
        with held():  # uvicorn ends in order at a signal, and raises it again
            uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, TypeError, ValueError) as error:  # the last two: of a name that none has
        reason = (getattr(error, "strerror", None) or str(error)).partition(" (while")[0]
        raise _misused(
            f"Port {port} of {host} cannot be used ({reason.rstrip('.')}): choose another with "
            "--port or --host."
        ) from error


def _misused(sentence: str) -> CycloptsError:
    return CycloptsError(msg=sentence, command_chain=command.name)


def _warnings(settings: WebSettings) -> list[str]:
    """Return what whoever starts the server must know of how open it is."""
    from captum_plq.web import is_loopback

    found = []
    if not is_loopback(settings.host):
        found.append(
            f"Open to others: whoever reaches {settings.host} can send photos to this machine, "
            "unencrypted and without a password; their browsers give the page no camera. Better: "
            "leave --host as it is, and put a proxy with TLS before it (--proxied-as)."
        )
    if settings.proxied_as:
        found.append(
            f"Open to whoever the proxy lets in as {settings.proxied_as}; the address of a client "
            "is taken from its X-Forwarded-For."
        )
    if settings.keep is not None:
        found.append(f"Photos that are assessed are kept in {settings.keep}, as they were sent.")
    return found
