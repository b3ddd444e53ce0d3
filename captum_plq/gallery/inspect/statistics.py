"""The distribution of quality in a gallery, its extremes, refusals, and where quality is lost."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from captum_plq.faces.aligned import CUT_OFF
from captum_plq.faces.detect import WEAK_SCORE
from captum_plq.gallery.result import GalleryResult
from captum_plq.gallery.schema import lost_column

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Inspection", "Refusals", "RegionLoss", "inspect_result"]

_LEVELS = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_LOW = 0.1
_BINS = 30
_COLUMNS = (
    *("index", "path", "sha256", "face", "quality", "standard_error", "scaled_quality"),
    *("local_quality", "box", "landmarks", "detector_score"),
)


class Refusals(NamedTuple):
    """The images, or faces, that have no quality for one reason.

    Args:

        reason (str): As of :data:`~captum_plq.preparation.REASONS`.
        status (str): ``"refused"`` or ``"failed"``.
        rows (int): How many.
        path (str): The first of them.
        detail (str): The sentence that goes with it.
    """

    reason: str
    status: str
    rows: int
    path: str
    detail: str


class RegionLoss(NamedTuple):
    """What a region of the face takes from Q.

    Args:

        region (str): As of :data:`~captum_plq.faces.REGIONS`.
        mean (float): On average over all faces, in units of Q; negative where it adds.
        low (float): Over the tenth of lowest quality.
        worst_share (float): Of how many faces, 0 to 1, it is the region that takes most.
    """

    region: str
    mean: float
    low: float
    worst_share: float


@dataclass(frozen=True)
class Inspection:
    """What a result shows.

    Args:

        rows (int): In the result.
        images (int): Of the source, as far as they are done.
        faces (int): With a quality.
        weak (int): Of these, weak detections, see :attr:`~captum_plq.faces.Face.weak`.
        cut_off (int): Of these, cut off by the edge of their image.
        quantiles (dict[float, float]): Level → Q; empty without faces.
        histogram (tuple[ndarray, ndarray]): Faces (30,), and the edges of Q (31,).
        refusals (list[Refusals]): By reason, the most frequent first.
        losses (list[RegionLoss]): By region; empty without local quality.
        verdicts (dict[str, int]): Verdict → faces, if the run was asked for feedback.
        causes (dict[str, int]): Cause → faces that it was told of, the most frequent first.
        lowest (list[dict]): Rows of lowest quality, the lowest first.
        highest (list[dict]): Rows of highest quality, the highest first; none of ``lowest``.
        metadata (dict): Of the run.
    """

    rows: int
    images: int
    faces: int
    weak: int
    cut_off: int
    quantiles: dict[float, float]
    histogram: tuple[NDArray[np.int64], NDArray[np.float64]]
    refusals: list[Refusals]
    losses: list[RegionLoss]
    verdicts: dict[str, int]
    causes: dict[str, int]
    lowest: list[dict[str, Any]] = field(repr=False)
    highest: list[dict[str, Any]] = field(repr=False)
    metadata: dict[str, Any] = field(repr=False)


def inspect_result(result: GalleryResult, *, each: int = 24) -> Inspection:
    """Summarise the result of a run over a gallery.

    Only the qualities are held in memory, 4 bytes a face; the rest is read in pieces.

    Args:

        result (GalleryResult): From :func:`~captum_plq.gallery.read_result`.
        each (int): Faces of lowest, and of highest quality to look at.

    Returns:
        *Inspection*: of the rows written by now.

    Raises:
        ValueError: if ``each`` is negative.
        OSError: if a file of the result cannot be read, or is damaged.

    Examples::

        >>> inspection = inspect_result(read_result("scored"))
        >>> inspection.quantiles[0.5]  # the median Q
        >>> [refusal.reason for refusal in inspection.refusals]
    """
    import pyarrow.compute as pc

    if each < 0:
        raise ValueError(f"each must not be negative, but is {each}.")
    quality = result.table(["quality"])["quality"].drop_null().to_numpy()
    scored = pc.field("quality").is_valid()
    weak = scored & (pc.field("detector_score") <= WEAK_SCORE)
    cut_off = scored & (pc.field("cut_off") >= CUT_OFF)
    low, high = _shares(len(quality), each)
    levels = np.quantile(quality, _LEVELS).tolist() if len(quality) else []
    return Inspection(
        rows=result.dataset.count_rows(),
        images=pc.count_distinct(result.table(["index"])["index"]).as_py(),
        faces=len(quality),
        weak=result.dataset.count_rows(filter=weak),
        cut_off=result.dataset.count_rows(filter=cut_off),
        quantiles=dict(zip(_LEVELS, levels, strict=False)),
        histogram=_histogram(quality),
        refusals=_refusals(result),
        losses=_losses(result, quality),
        verdicts=_value_counts(result, "verdict"),
        causes=_value_counts(result, "causes"),
        lowest=_extremes(result, quality, low, "ascending"),
        highest=_extremes(result, quality, high, "descending"),
        metadata=result.metadata,
    )


def _shares(faces: int, each: int) -> tuple[int, int]:
    """How many of lowest, and of highest quality, so that none is both."""
    low = min(each, -(-faces // 2))
    return low, min(each, faces - low)


def _histogram(quality: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    if not len(quality):
        return np.zeros(_BINS, np.int64), np.linspace(0, 1, _BINS + 1)
    low = math.floor(float(quality.min()) * 50) / 50
    high = max(math.ceil(float(quality.max()) * 50) / 50, low + 0.02)
    counts, edges = np.histogram(quality, _BINS, (low, high))
    return counts.astype(np.int64), edges.astype(np.float64)


def _refusals(result: GalleryResult) -> list[Refusals]:
    import pyarrow.compute as pc

    table = result.table(["reason", "status", "path", "detail"], pc.field("reason").is_valid())
    if not table.num_rows:
        return []
    first = [(name, "first") for name in ("status", "path", "detail")]
    found = table.group_by("reason", use_threads=False).aggregate([("path", "count"), *first])
    ordered = found.sort_by([("path_count", "descending"), ("reason", "ascending")])
    names = ("reason", "status_first", "path_count", "path_first", "detail_first")
    return [Refusals(*(row[name] for name in names)) for row in ordered.to_pylist()]


def _value_counts(result: GalleryResult, column: str) -> dict[str, int]:
    """Count the words of a column, of which each row may have several; none if there is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if column not in result.dataset.schema.names:
        return {}
    values = result.table([column])[column]
    if pa.types.is_list(values.type):
        values = pc.list_flatten(values)
    counts = pa.Table.from_struct_array(pc.value_counts(values.drop_null()))
    ordered = counts.sort_by([("counts", "descending"), ("values", "ascending")])
    return {row["values"]: row["counts"] for row in ordered.to_pylist()}


def _losses(result: GalleryResult, quality: NDArray[np.float32]) -> list[RegionLoss]:
    """Sum what regions lose, in pieces of the table."""
    import pyarrow.compute as pc

    regions = result.regions
    if not regions or not len(quality):
        return []
    threshold = np.quantile(quality, _LOW)
    columns = ["quality", *map(lost_column, regions)]
    known = pc.field("quality").is_valid() & pc.field(columns[1]).is_valid()
    sums = np.zeros((2, len(regions)))
    worst, counts = np.zeros(len(regions)), np.zeros(2)
    for batch in result.dataset.to_batches(columns=columns, filter=known):
        q, *lost = (batch.column(name).to_numpy(zero_copy_only=False) for name in columns)
        losses = np.stack(lost, axis=1).astype(np.float64).reshape(-1, len(regions))
        is_low = q <= threshold
        sums += losses.sum(axis=0), losses[is_low].sum(axis=0)
        counts += len(q), is_low.sum()
        worst += np.bincount(losses.argmax(axis=1), minlength=len(regions)) if len(q) else 0
    if not counts.all():
        return []
    rows = zip(regions, *(sums / counts[:, None]), worst / counts[0], strict=True)
    return [RegionLoss(region, float(m), float(low), float(w)) for region, m, low, w in rows]


def _extremes(
    result: GalleryResult, quality: NDArray[np.float32], count: int, order: str
) -> list[dict[str, Any]]:
    """Read the rows of lowest, or highest, quality, and no others."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not count:
        return []
    column = pc.field("quality")
    if order == "ascending":
        wanted = column <= pa.scalar(np.partition(quality, count - 1)[count - 1])
    else:
        wanted = column >= pa.scalar(np.partition(quality, -count)[-count])
    told = [name for name in ("causes",) if name in result.dataset.schema.names]
    columns = [*_COLUMNS, *told, *map(lost_column, result.regions)]
    table: pa.Table = result.table(columns, wanted)
    ordered = table.sort_by([("quality", order), ("index", "ascending"), ("face", "ascending")])
    rows: list[dict[str, Any]] = ordered.slice(0, count).to_pylist()
    return rows
