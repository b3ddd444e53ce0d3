"""The command ``captum-plq models``: which networks can be loaded by name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cyclopts import App

from captum_plq.cli.terminal import tell

if TYPE_CHECKING:
    from captum_plq.models import ModelInfo

__all__ = ["command"]

command = App("models", help_epilogue="Example:\n  captum-plq models")


@command.default
def models() -> None:
    """List the networks that can be loaded, their licences, and the weights they need."""
    from captum_plq.models import available_models

    for infos in _alike(available_models()):
        spec = infos[0].spec
        height, width = spec.input_size
        dropout = {True: "yes", False: "no", None: "unknown"}[spec.trained_with_dropout]
        names = ", ".join(info.spec.name for info in infos)
        tell(f"{names}: {height}x{width} pixels, {spec.alignment} alignment")
        tell(f"  licence of the weights  {spec.licence_weights}")
        tell(f"  licence of the code     {spec.licence_code}")
        tell(f"  trained with dropout    {dropout}")
        tell(f"  source                  {spec.source}")
        for info in infos:
            if info.needs_file:
                weights = f"--checkpoint FILE: {info.install}"
            elif info.weights_present:
                weights = str(info.weights)
            else:
                weights = f"absent ({info.install})"
            tell(f"  weights                 {weights}")
    tell("FILE.py: a network of your own: a file that defines load_model()")
    tell("FILE.dat: dlib's network from a file of its weights")


def _alike(infos: list[ModelInfo]) -> list[list[ModelInfo]]:
    """Group networks that follow one another and differ in nothing but their names."""
    groups: list[list[ModelInfo]] = []
    for info in infos:
        if groups and replace(groups[-1][0].spec, name=info.spec.name) == info.spec:
            groups[-1].append(info)
        else:
            groups.append([info])
    return groups
