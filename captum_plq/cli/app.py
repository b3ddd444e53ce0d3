"""The application: its commands, and what holds for all of them."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import App, Parameter

from captum_plq import __version__
from captum_plq.cli.terminal import tell

__all__ = ["app"]

_COMMANDS = {
    "explain": "Explain photos: write a figure, arrays and a record of each.",
    "score": "Score a whole gallery: write a table of qualities, in Parquet files.",
    "inspect": "Tell what 'score' has found: qualities, refusals, where quality is lost.",
    "serve": "Serve a page that says of a photo whether to take it again, and why.",
    "calibrate": "Measure α, r, γ and the reference map of a network on a folder of photos.",
    "suitability": "Measure whether SER-FIQ is informative on a network.",
    "demo": "Explain a portrait, as it is and degraded in three ways. Needs no download.",
    "models": "List the networks that can be loaded, their licences, and the weights they need.",
}
"""The commands, each in the module of its name, which is imported when it is used."""

app = App(
    name="captum-plq",
    help="Explain the quality of face images pixel by pixel.",
    help_epilogue="Options of a command: captum-plq COMMAND --help",
    help_format="plaintext",
    version=f"captum-plq {__version__}",
    default_parameter=Parameter(negative=(), allow_repeating=True, json_list=False),
    result_action="return_value",
    print_error=False,
    exit_on_error=False,
)
for name, text in _COMMANDS.items():
    app.command(f"captum_plq.cli.{name}:command", name=name, help=text)


@app.command(name="--install-completion")
def install_completion(
    *,
    shell: Annotated[
        Literal["bash", "zsh", "fish"] | None, Parameter(help="Default: the one in use.")
    ] = None,
) -> None:
    """Install completion for a shell."""
    tell(f"{app.install_completion(shell=shell)}: takes effect in the next shell")
