"""The command line: ``explain``, ``calibrate``, ``suitability``, ``demo`` and ``models``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from captum_plq.cli.calibrate import add_calibrate
from captum_plq.cli.explain import add_explain
from captum_plq.cli.options import add_explaining, settings_of
from captum_plq.cli.suitability import add_suitability
from captum_plq.cli.terminal import Stopped, stoppable, tell

if TYPE_CHECKING:
    from captum_plq.models import ModelInfo

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:

        argv (sequence of str, optional): Arguments. ``None``: those of the process.

    Returns:
        *int*: 0 if all went well; 1 if an image of ``explain`` failed, or the whole command; 130,
        143, 129 or 141 if it was stopped by SIGINT, SIGTERM, SIGHUP, or because nobody reads its
        output any more. Wrong usage leaves with 2, as argparse does.
    """
    with stoppable():
        try:
            arguments = _parser().parse_args(argv)
            try:
                code: int = arguments.run(arguments)
            except (ValueError, OSError, ImportError) as error:
                tell(f"captum-plq: {error}", error=True, lines=True)
                return 1
        except Stopped as stop:
            if stop.code != 141:  # as any program whose reader went away
                with suppress(Stopped):
                    tell(f"captum-plq: stopped by {stop}", error=True)
            return stop.code
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="captum-plq",
        description="Pixel-level face image quality: which pixels help recognition, which hurt.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    add_explain(commands)
    add_calibrate(commands)
    add_suitability(commands)

    demo = commands.add_parser("demo", help="explain a portrait that needs no download")
    add_explaining(demo)
    demo.set_defaults(run=_demo)

    models = commands.add_parser("models", help="list the networks that can be loaded")
    models.set_defaults(run=_models)
    return parser


def _demo(arguments: argparse.Namespace) -> int:
    from captum_plq.cli.demo import run_demo

    output, model, checkpoint = arguments.output, arguments.model, arguments.checkpoint
    for line in run_demo(output, model, settings_of(arguments), checkpoint):
        tell(line)
    return 0


def _models(_: argparse.Namespace) -> int:
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
                tell(f"  weights                 --checkpoint FILE: {info.install}")
            else:
                found = str(info.weights) if info.weights_present else f"absent ({info.install})"
                tell(f"  weights                 {found}")
    tell("FILE.py: a network of your own: a file that defines load_model()")
    tell("FILE.dat: dlib's network from a file of its weights")
    return 0


def _alike(infos: Sequence[ModelInfo]) -> list[list[ModelInfo]]:
    """Groups networks that follow one another and differ in their name only."""
    groups: list[list[ModelInfo]] = []
    for info in infos:
        if groups and replace(groups[-1][0].spec, name=info.spec.name) == info.spec:
            groups[-1].append(info)
        else:
            groups.append([info])
    return groups
