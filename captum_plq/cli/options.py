"""Options that several commands share, and what they amount to."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from captum_plq.explanation import Settings

__all__ = ["add_explaining", "add_method", "add_network", "settings_of"]


def add_network(parser: argparse.ArgumentParser) -> None:
    """Which network, and where it computes."""
    add = parser.add_argument
    add("--model", default="mobilefacenet-dropout", metavar="NAME|FILE",
        help="network (default: %(default)s, which comes with this package)")  # fmt: skip
    add("--checkpoint", type=Path, metavar="FILE",
        help="weight file of a named network, see 'captum-plq models'")  # fmt: skip
    add("--passes", type=int, default=100, help="m, stochastic passes (default: %(default)s)")
    add("--device", default="cpu", help="e.g. cpu or cuda (default: %(default)s)")


def add_method(parser: argparse.ArgumentParser) -> None:
    """What decides about qualities and gradients, and so about what a calibration holds for."""
    add_network(parser)
    add = parser.add_argument
    add("--dropout", type=float, default=0.5, help="p, dropout rate (default: %(default)s)")
    add("--seed", type=int, default=0, help="seed of the dropout masks (default: %(default)s)")
    add("--estimator", choices=["sampling", "balanced", "closed-form"], default="sampling",
        help="how Q is estimated (default: %(default)s, the paper's)")  # fmt: skip
    add("--weights", choices=["l1", "sum", "signed", "l2"], default="l1",
        help="weights of the quality node (default: %(default)s, the paper's)")  # fmt: skip
    add("--target", choices=["node", "serfiq"], default="node",
        help="differentiate the quality node (the paper) or the SER-FIQ score")  # fmt: skip
    add("--directions", type=int, metavar="K",
        help="root mean square of K gradients along random directions of the embedding "
        "(default: the node's one gradient, the paper's)")  # fmt: skip


def add_explaining(parser: argparse.ArgumentParser) -> None:
    """What every command needs that writes explanations."""
    add = parser.add_argument
    add("-o", "--output", type=Path, required=True, metavar="DIR", help="where the results go")
    add("--gamma", type=float, help="γ of the map, for 0-255 pixels (default: the network's)")
    add_method(parser)


def settings_of(arguments: argparse.Namespace) -> Settings:
    """The settings that parsed arguments ask for."""
    from captum_plq.explanation import Settings

    return Settings(
        passes=arguments.passes,
        dropout=arguments.dropout,
        seed=arguments.seed,
        estimator=arguments.estimator,
        weights=arguments.weights,
        target_scalar=arguments.target,
        directions=arguments.directions,
        gamma=arguments.gamma,
        device=arguments.device,
    )
