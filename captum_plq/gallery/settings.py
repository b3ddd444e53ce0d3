"""What a run over a gallery computes, and how."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from captum_plq._base.choices import require_choice
from captum_plq.models import DEFAULT_MODEL
from captum_plq.preparation import Workers, require_preparing
from captum_plq.quality import Estimator

__all__ = ["Maps", "ScoreSettings"]

Maps = Literal["none", "png", "npz"]
"""How the maps of local quality are kept: not at all, as pictures, or as float16 arrays."""

_HOW = ("model", "checkpoint", "calibration", "batch_size", "workers", "device", "timeout")
"""What does not decide about the rows, or is recorded by what was made of it."""


@dataclass(frozen=True, kw_only=True)
class ScoreSettings:
    """The choices of a run over a gallery; they can be sent to another process.

    Args:

        model (str): Network, as for :func:`~captum_plq.models.load_model`.
        checkpoint (str, optional): Weight file of a named network.
        calibration (str, optional): As for
            :func:`~captum_plq.calibration.known.load_calibration`; ``"none"``: without.
            ``None``: the one that is shipped with the network, if it holds.
        passes (int): m of SER-FIQ.
        dropout (float): p of SER-FIQ.
        seed (int): Seed of the dropout masks.
        estimator (str): ``"sampling"``, ``"balanced"`` or ``"closed-form"``.
        aligned (bool): Images are aligned crops; nothing is detected.
        all_faces (bool): A row for every face found, not for the surest alone.
        maps (str): ``"none"``, ``"png"`` or ``"npz"``.
        embeddings (bool): Keep the embeddings too.
        feedback (bool): Say of each face whether it should be taken again, and why.
        shard_size (int): Images of the source per file of the result.
        batch_size (int): Images that the network is given at once, at most.
        workers (int, optional): Processes that decode and align, as of
            :class:`~captum_plq.preparation.Workers`.
        device (str): Where the network computes, e.g. ``"cpu"`` or ``"cuda"``.
        timeout (float): Seconds after which an image is given up.

    Raises:
        ValueError: for a value that is out of range.

    Examples::

        >>> settings = ScoreSettings(aligned=True, embeddings=True)
    """

    model: str = DEFAULT_MODEL
    checkpoint: str | None = None
    calibration: str | None = None
    passes: int = 100
    dropout: float = 0.5
    seed: int = 0
    estimator: Estimator = "sampling"
    aligned: bool = False
    all_faces: bool = False
    maps: Maps = "none"
    embeddings: bool = False
    feedback: bool = False
    shard_size: int = 1024
    batch_size: int = 16
    workers: int | None = None
    device: str = "cpu"
    timeout: float = 60.0

    def __post_init__(self) -> None:
        require_choice("maps", self.maps, Maps)
        require_preparing(self.batch_size, self.workers, self.timeout)
        if self.shard_size < 1:
            raise ValueError(f"shard_size must be at least 1, but is {self.shard_size}.")
        if self.passes < 3:
            raise ValueError(f"A standard error needs at least 3 passes, not {self.passes}.")

    def deciding(self) -> dict[str, Any]:
        """Return those that decide about the rows, ready for JSON."""
        return {name: value for name, value in vars(self).items() if name not in _HOW}

    def places_of(self, shard: int, images: int) -> range:
        """Return the places in a source of so many images that a shard holds."""
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, images))

    def chunks(self, shards: Iterable[int], images: int) -> list[tuple[int, int]]:
        """Return first place, and that after the last, of what is prepared at once of shards."""
        step, held = self.batch_size, (self.places_of(shard, images) for shard in shards)
        return [(start, min(start + step, own.stop)) for own in held for start in own[::step]]

    def processes(self, lock: int | None = None) -> Workers:
        """Return who decodes and aligns."""
        return Workers(self.workers, self.device.startswith("cuda"), lock)
