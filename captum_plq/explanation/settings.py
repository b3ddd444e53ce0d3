"""What decides about qualities and maps, apart from the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from captum_plq._base.device import usable_device
from captum_plq.attribution import PixelQualityAttribution, TargetScalar
from captum_plq.functional import NodeWeights
from captum_plq.models import FaceModel
from captum_plq.preparation import require_preparing
from captum_plq.quality.serfiq import SERFIQ, Estimator

__all__ = ["PhotoSettings", "Settings"]


@dataclass(frozen=True)
class Settings:
    """The choices of a run; the paper's by default.

    Args:

        passes (int): m of SER-FIQ.
        dropout (float): p of SER-FIQ.
        seed (int): Seed of the dropout masks.
        estimator (str): ``"sampling"``, ``"balanced"`` or ``"closed-form"``.
        weights (str): ``"l1"``, ``"sum"``, ``"signed"`` or ``"l2"``.
        target_scalar (str): ``"node"`` or ``"serfiq"``.
        directions (int, optional): Of the attribution. ``None``, the paper's: one gradient.
        gamma (float, optional): γ of Eq. 6. ``None``: the calibration's, or the network's own;
            where none is known for these settings, the one at which the median pixel of the
            package's sample face (:func:`~captum_plq.faces.sample_face`, in the size that the
            network takes) has quality ½. So it depends on the network and the settings alone,
            and maps can be compared between runs.
        device (str): Where to compute, e.g. ``"cpu"`` or ``"cuda"``.
    """

    passes: int = 100
    dropout: float = 0.5
    seed: int = 0
    estimator: Estimator = "sampling"
    weights: NodeWeights = "l1"
    target_scalar: TargetScalar = "node"
    directions: int | None = None
    gamma: float | None = None
    device: str = "cpu"

    def attribution(self, model: FaceModel) -> PixelQualityAttribution:
        """Return the attribution method for a network, which is moved to the device.

        Args:

            model (FaceModel): The network.

        Returns:
            *PixelQualityAttribution*: without α and r.

        Raises:
            ValueError: for a bad parameter or an unusable device.

        Examples::

            >>> plq = Settings(passes=50).attribution(load_model("mobilefacenet-dropout"))
        """
        serfiq = SERFIQ(
            model.to(usable_device(self.device)),
            passes=self.passes,
            dropout=self.dropout,
            seed=self.seed,
            estimator=self.estimator,
        )
        return PixelQualityAttribution(
            serfiq,
            weights=self.weights,
            target_scalar=self.target_scalar,
            directions=self.directions,
        )


@dataclass(frozen=True, kw_only=True)
class PhotoSettings:
    """How photos are read, and what is written of their faces.

    Args:

        aligned (bool): They are aligned crops; nothing is detected.
        all_faces (bool): Explain every face found, not the surest alone, and number them.
        feedback (bool): Say of each face whether to take the photo again, and why.
        write (tuple[str, ...]): What is written beside each record: ``"figure"``, ``"arrays"``.
        batch_size (int): Faces computed at once.
        workers (int, optional): Processes that decode and align, as of
            :class:`~captum_plq.preparation.Workers`.
        timeout (float): Seconds after which a photo is given up.

    Raises:
        ValueError: for a value that is out of range.
    """

    aligned: bool = False
    all_faces: bool = False
    feedback: bool = False
    write: tuple[str, ...] = ("figure", "arrays")
    batch_size: int = 16
    workers: int | None = None
    timeout: float = 60.0

    def __post_init__(self) -> None:
        require_preparing(self.batch_size, self.workers, self.timeout)
        if unknown := set(self.write) - {"figure", "arrays"}:
            raise ValueError(f"{min(unknown)!r} is not figure or arrays.")

    def deciding(self) -> dict[str, Any]:
        """Return those that decide about what is written, ready for JSON."""
        how = ("batch_size", "workers", "timeout")
        return {name: value for name, value in vars(self).items() if name not in how}
