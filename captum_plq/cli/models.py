"""The command ``captum-plq models``: which networks can be loaded by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from captum_plq.cli.terminal import table, tell

if TYPE_CHECKING:
    from captum_plq.models import ModelInfo

__all__ = ["command"]

command = App(
    "models",
    help_epilogue="Examples:\n  captum-plq models\n  captum-plq models iresnet50",
)


@command.default
def models(
    name: Annotated[
        str | None, Parameter(name="NAME", help="Tell all of one network; default: list all.")
    ] = None,
    /,
) -> None:
    """List the networks that can be loaded, their licences, and the weights they need."""
    from captum_plq.models import available_models, did_you_mean

    infos = available_models()
    if name is not None:
        found = [info for info in infos if info.spec.name == name]
        if not found:
            raise ValueError(f"There is no network {name!r}.{did_you_mean(name)}")
        _tell_all(found[0])
        return
    rows = [_row(info) for info in infos]
    header = ("network", "input", "alignment", "dropout", "weights", "licence of the weights")
    for line in table(header, rows):
        tell(line)
    tell("")
    tell("file: one to be given with --checkpoint; captum-plq models NAME says which, how to get")
    tell("absent weights, and source and licences in full")
    tell("Also: FILE.py, a file of your own that defines load_model(); FILE.onnx;")
    tell("FILE.dat, dlib's network from a file of its weights; timm:NAME; hf_hub:OWNER/NAME")


def _row(info: ModelInfo) -> tuple[str, ...]:
    spec = info.spec
    height, width = spec.input_size
    licence, more, _ = spec.licence_weights.partition(";")
    shown = f"{licence}{more and '; …'}"
    weights = "installed" if info.weights_present else "file" if info.needs_file else "absent"
    return (spec.name, f"{height}x{width}", spec.alignment, _dropout(info), weights, shown)


def _tell_all(info: ModelInfo) -> None:
    spec = info.spec
    height, width = spec.input_size
    facts = {
        "network": spec.name,
        "input": f"{height}x{width} pixels, {spec.alignment} alignment",
        "licence of the weights": spec.licence_weights,
        "licence of the code": spec.licence_code,
        "trained with dropout": _dropout(info),
        "source": spec.source,
        "weights": _weights(info),
        "note": spec.note,
    }
    for name, text in facts.items():
        if text:
            tell(f"{name:24}{text}")


def _dropout(info: ModelInfo) -> str:
    return {True: "yes", False: "no", None: "unknown"}[info.spec.trained_with_dropout]


def _weights(info: ModelInfo) -> str:
    if info.needs_file:
        return f"--checkpoint FILE: {info.install}"
    return str(info.weights) if info.weights_present else f"absent: {info.install}"
