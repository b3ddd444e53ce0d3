"""The network in batches: what is measured of aligned faces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_plq._base.device import device_name
from captum_plq.calibration.known import load_calibration
from captum_plq.errors import (
    PixelScaleWarning,
    UninformativeWarning,
    UnusableImagesError,
    muted,
)
from captum_plq.explanation import Explainer, Settings, matching_calibration
from captum_plq.faces import REGIONS, sample_face
from captum_plq.functional import scale_quality
from captum_plq.functional.local import (
    PlaceShares,
    local_quality,
    quality_from_snr,
    signal_to_noise,
)
from captum_plq.gallery.schema import lost_column
from captum_plq.gallery.settings import ScoreSettings
from captum_plq.models import FaceModel, load_model
from captum_plq.network.spatial.map import SpatialTailError
from captum_plq.quality import Assessment, SpatialSERFIQ, lost_by_region

__all__ = ["FaceScorer", "Measured"]


class Measured(NamedTuple):
    """What is measured of n faces.

    Args:

        columns (dict[str, ndarray]): (n,), float32, by column of the result; NaN where there is
            none.
        maps (ndarray): (n, h, w), float32, local quality; (n, 0, 0) where there is none.
        embeddings (ndarray): (n, d), float32.
        refused (dict[int, tuple[str, str]]): Of the faces without a quality, the place among the
            n → reason and sentence.
    """

    columns: dict[str, NDArray[np.float32]]
    maps: NDArray[np.float32]
    embeddings: NDArray[np.float32]
    refused: dict[int, tuple[str, str]]


class FaceScorer:
    """Scores batches of aligned faces with one network and one set of choices.

    It is tried on the package's sample face first: that decides, for all images, whether there is
    local quality (otherwise ``regions`` is empty and ``without_local`` says why), and whether it is
    had from the same forward of the network. Threads may share it.

    Args:

        settings (ScoreSettings): The choices.
        model (FaceModel, optional): In place of the one that they name.

    Raises:
        ValueError: for a bad parameter, an unusable device, a calibration that does not hold, or a
            network on which no quality can be had.

    Examples::

        >>> scorer = FaceScorer(ScoreSettings(aligned=True))
        >>> measured = scorer(images)
        >>> quality = measured.columns["quality"]
    """

    def __init__(self, settings: ScoreSettings, model: FaceModel | None = None) -> None:
        if model is None:
            model = load_model(settings.model, settings.checkpoint)
        method = Settings(
            passes=settings.passes,
            dropout=settings.dropout,
            seed=settings.seed,
            estimator=settings.estimator,
            device=settings.device,
        )
        named = settings.calibration
        if named is None:
            calibration = matching_calibration(model, method)
        else:
            calibration = None if named == "none" else load_calibration(named)
        explainer = Explainer(model, method, calibration)
        self.model, self.spec, self.calibration = model, explainer.spec, calibration
        self.device = torch.device(settings.device)
        self._identity = explainer.identity()
        self._scaling = explainer.scaling
        self._serfiq = explainer.plq.quality_model.serfiq
        self._spatial = SpatialSERFIQ.of(self._serfiq)
        self._local = None if calibration is None else calibration.local
        self._sample = self._sample_face()
        self._together = True
        self.regions: tuple[str, ...] = ()
        self.without_local = ""
        self._try_out()

    @property
    def reference_quality(self) -> float | None:
        """Q₀, of the median high-quality face."""
        return None if self.without_local or self._local is None else self._local.quality

    @property
    def place_centres(self) -> dict[str, Any] | None:
        """Where the places of local quality lie; ``None``: equal cells, or there is none."""
        centres = None if self.without_local or self._local is None else self._local.centres
        return None if centres is None else centres._asdict()

    @property
    def notes(self) -> list[str]:
        """What a reader of the numbers must be told."""
        found = [self.spec.note, "" if self.calibration is None else self.calibration.note]
        if self.without_local:
            found.append(f"There is no local quality: {self.without_local}")
        return [note for note in found if note]

    def identity(self) -> dict[str, Any]:
        """Return which network and calibration decide about the rows, ready for JSON."""
        return self._identity

    def device_name(self) -> str:
        """Return what the device is called."""
        return device_name(self.device)

    def __call__(self, images: Tensor) -> Measured:
        """Score a batch of aligned faces; one that has no quality does not cost the others.

        Args:

            images (Tensor): (n, 3, H, W), floating point, 0–255, RGB, on the device.

        Returns:
            *Measured*: of the n faces.

        Raises:
            RuntimeError: if the network, or the device, does not work any more.
        """
        try:
            return self._measure(images)
        except UnusableImagesError as error:
            why = ("uninformative", f"{error.problem}. {error.advice}")
            bad = dict.fromkeys(error.indices, why)
            good = [i for i in range(len(images)) if i not in bad]
            parts = [self(images[good])] if good else []
            return self._merged(len(images), [good] if good else [], parts, bad)
        except (ValueError, RuntimeError) as error:
            self._refuse_general(error)
            if len(images) == 1:
                why = ("error", str(error) or type(error).__name__)
                return self._merged(1, [], [], {0: why})
        alone = [self(images[i : i + 1]) for i in range(len(images))]
        return self._merged(len(images), [[i] for i in range(len(images))], alone, {})

    def _measure(self, images: Tensor) -> Measured:
        # Of a face in the dark, and of one that is refused here.
        with muted(PixelScaleWarning, UninformativeWarning), torch.no_grad():
            assessed, shares = self._assess(images)
            embedding = assessed.embedding.detach().flatten(1).float()
            columns: dict[str, Tensor] = {
                "quality": assessed.quality,
                "embedding_norm": embedding.norm(dim=1),
            }
            if assessed.standard_error is not None:
                columns["standard_error"] = assessed.standard_error
            if self._scaling is not None:
                columns["scaled_quality"] = scale_quality(assessed.quality, self._scaling)
            maps = embedding.new_empty((len(images), 0, 0))
            if shares is not None and self._local is not None:
                maps, offset = local_quality(shares, self._local.snr)
                lost = lost_by_region(
                    maps, self.spec.alignment, self.spec.input_size, self._local.centres
                )
                columns["local_quality"] = quality_from_snr(signal_to_noise(shares))
                columns["lost_offset"] = -offset
                columns |= dict(zip(map(lost_column, self.regions), lost.T, strict=True))
            refused = dict.fromkeys(
                torch.nonzero(assessed.quality >= 1).flatten().tolist(),
                ("uninformative", "Dropout does not move the embedding at all; is it blank?"),
            )
            numbers = torch.stack([values.detach().float() for values in columns.values()])
            found = numbers.cpu().numpy()  # one copy from the device for all columns
            found[:, list(refused)] = np.nan
            named = dict(zip(columns, found, strict=True))
            return Measured(
                named | self._meaning(named["quality"]),
                maps.float().cpu().numpy(),
                embedding.cpu().numpy(),
                refused,
            )

    def _meaning(self, quality: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """What Q (n,) means, in columns, where the calibration says it."""
        known = None if self.calibration is None else self.calibration.thresholds
        if known is None:
            return {}
        columns = {"percentile": known.percentile(quality)}
        if known.failures:
            columns["failure_rate"] = known.failures[0].curve.at(quality)[0]
        return {name: values.astype(np.float32) for name, values in columns.items()}

    def _assess(self, images: Tensor) -> tuple[Assessment, PlaceShares | None]:
        if not self.without_local:
            try:
                if self._together:
                    return self._spatial.assess_with(self._serfiq, images, standard_error=True)
                found = self._serfiq.assess(images, standard_error=True)
                return found, self._spatial.shares(images)
            except SpatialTailError:
                if len(images) > 1:  # whose fault it is shows when they come alone
                    raise
        return self._serfiq.assess(images, standard_error=True), None

    def _try_out(self) -> None:
        """Find out on the sample face what can be had; other errors are the network's own."""
        with torch.no_grad():
            alone = self._serfiq.assess(self._sample, standard_error=True)
            self.without_local, shares = self._why_no_local()
            if shares is None:
                return
            try:
                together, same = self._spatial.assess_with(self._serfiq, self._sample)
                self._together = _close(together.quality, alone.quality) and all(
                    _close(a, b) for a, b in zip(same, shares, strict=True)
                )
            except ValueError:
                self._together = False
        self.regions = REGIONS

    def _why_no_local(self) -> tuple[str, PlaceShares | None]:
        found = self.calibration
        if found is None:
            return "It needs a calibration of this network.", None
        if found.local is None:
            return found.without_local or "The calibration has no local reference.", None
        try:
            shares = self._spatial.shares(self._sample)
        except (ValueError, RuntimeError) as error:  # PyTorch's own errors among them
            return str(error), None
        layer = self._spatial.tail.layer_name
        if layer != found.local_layer:
            of = f"of the map at {found.local_layer!r}, but this one is at {layer!r}"
            return f"The calibration's local reference is {of}.", None
        return "", shares

    def _sample_face(self) -> Tensor:
        chip = torch.from_numpy(sample_face().chip).permute(2, 0, 1)[None].float()
        size = self.spec.input_size
        sized = torch.nn.functional.interpolate(chip, size=size, mode="bilinear", antialias=True)
        return sized.clamp(0, 255).to(self.device)

    def _refuse_general(self, error: Exception) -> None:
        """Raise an error that is no image's: the device's, the loader's, or the network's own."""
        if isinstance(error, torch.OutOfMemoryError) or str(error).startswith("DataLoader"):
            raise error
        try:
            self._assess(self._sample)
        except (ValueError, RuntimeError):
            raise error from None

    def _merged(
        self,
        count: int,
        places: Sequence[Sequence[int]],
        parts: Sequence[Measured],
        refused: dict[int, tuple[str, str]],
    ) -> Measured:
        """Put the faces of several measurements where they belong."""
        columns: dict[str, NDArray[np.float32]] = {}
        grid = max((part.maps.shape[1:] for part in parts), default=(0, 0))
        width = max((part.embeddings.shape[1] for part in parts), default=0)
        maps = np.full((count, *grid), np.nan, np.float32)
        embeddings = np.full((count, width), np.nan, np.float32)
        refused = dict(refused)
        for where, part in zip(places, parts, strict=True):
            index = np.array(where)
            for name, values in part.columns.items():
                columns.setdefault(name, np.full(count, np.nan, np.float32))[index] = values
            if part.maps.shape[1:] == grid:
                maps[index] = part.maps
            if part.embeddings.shape[1] == width:
                embeddings[index] = part.embeddings
            refused |= {where[place]: why for place, why in part.refused.items()}
        return Measured(columns, maps, embeddings, refused)


def _close(a: Tensor, b: Tensor) -> bool:
    return bool(((a - b).abs() <= 1e-5 * b.abs().max()).all())
