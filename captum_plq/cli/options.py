"""Options that several commands share, and what is made of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from captum_plq.explanation import Settings
    from captum_plq.models import FaceModel

__all__ = [
    "Aligned",
    "Column",
    "Directory",
    "Estimating",
    "Explaining",
    "Method",
    "Network",
    "OwnCalibration",
    "Timeout",
    "Whole",
    "WorkerCount",
]


def _whole(_: Any, tokens: Any) -> int:
    """Convert a whole number; cyclopts would round 5.5."""
    value = tokens[0].value
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"{value!r} is not a whole number.") from None


Whole = Annotated[int, Parameter(converter=_whole)]
OwnCalibration = Annotated[
    str | None,
    Parameter(
        help="A file of 'captum-plq calibrate', or none. Default: the network's own, if it "
        "comes with this package."
    ),
]
Aligned = Annotated[bool, Parameter(help="Images are aligned face crops.", show_default=False)]
WorkerCount = Annotated[
    int | None,
    Parameter(
        help="Processes that decode and align. Default: processors less one; none for images that "
        "are computed at once.",
        converter=_whole,
    ),
]
Timeout = Annotated[float, Parameter(help="Seconds until an image is given up.")]
Column = Annotated[str | None, Parameter(help="Column of paths, of a table.")]
Directory = Annotated[Path, Parameter(name="DIR", help="Folder of photos, with its subfolders.")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Network:
    """Which network, and where it computes."""

    model: Annotated[
        str, Parameter(help="Network by its name or file, see 'captum-plq models'.")
    ] = "mobilefacenet-places"
    checkpoint: Annotated[
        Path | None,
        Parameter(help="Weight file of a named network."),
    ] = None
    passes: Annotated[Whole, Parameter(help="m, stochastic passes.")] = 100
    device: Annotated[str, Parameter(help="Where to compute, e.g. cpu or cuda.")] = "cpu"

    def load(self) -> FaceModel:
        """Return the network."""
        from captum_plq.models import load_model

        return load_model(self.model, self.checkpoint)


@dataclass(frozen=True, kw_only=True)
class Estimating(Network):
    """What decides about Q."""

    dropout: Annotated[float, Parameter(help="p, dropout rate.")] = 0.5
    seed: Annotated[Whole, Parameter(help="Seed of the dropout masks.")] = 0
    estimator: Annotated[
        Literal["sampling", "balanced", "closed-form"],
        Parameter(help="How Q is estimated; sampling is the paper's."),
    ] = "sampling"

    def settings(self) -> Settings:
        """Return the settings that these options ask for."""
        from captum_plq.explanation import Settings

        return Settings(
            passes=self.passes,
            dropout=self.dropout,
            seed=self.seed,
            estimator=self.estimator,
            device=self.device,
        )


@dataclass(frozen=True, kw_only=True)
class Method(Estimating):
    """What decides about qualities and gradients, and so about what a calibration holds for."""

    weights: Annotated[
        Literal["l1", "sum", "signed", "l2"],
        Parameter(help="Weights of the quality node; l1 is the paper's."),
    ] = "l1"
    target: Annotated[
        Literal["node", "serfiq"],
        Parameter(help="Differentiate the quality node (the paper) or the SER-FIQ score."),
    ] = "node"
    directions: Annotated[
        int | None,
        Parameter(
            converter=_whole,
            help="Number of gradients along random directions of the embedding, whose root mean "
            "square is taken. Default: the node's one gradient, the paper's.",
        ),
    ] = None

    def settings(self) -> Settings:
        """Return the settings that these options ask for."""
        return replace(
            super().settings(),
            weights=self.weights,
            target_scalar=self.target,
            directions=self.directions,
        )


@dataclass(frozen=True, kw_only=True)
class Explaining(Method):
    """What every command needs that writes explanations."""

    output: Annotated[Path, Parameter(name=("--output", "-o"), help="Where the results go.")]
    gamma: Annotated[
        float | None, Parameter(help="γ of the map, for 0-255 pixels. Default: the network's.")
    ] = None

    def settings(self) -> Settings:
        """Return the settings that these options ask for."""
        return replace(super().settings(), gamma=self.gamma)

    def extra(self) -> dict[str, Any]:
        """Return what the record of an explanation says of these options beside the settings."""
        return {} if self.checkpoint is None else {"checkpoint": str(self.checkpoint)}
