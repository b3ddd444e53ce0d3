"""A shard: a fixed range of a source's entries, scored; the same in whatever process does it."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_plq._base.lanes import in_lanes, lanes_on
from captum_plq._base.versions import package_versions
from captum_plq.gallery.compute import FaceScorer, Measured
from captum_plq.gallery.feedback import add_feedback
from captum_plq.gallery.schema import result_schema, table_of
from captum_plq.gallery.settings import ScoreSettings
from captum_plq.preparation import (
    REASONS,
    Chunk,
    Entry,
    Preparation,
    prepare_chunk,
    source_state,
)

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "MeasuredChunk",
    "Scored",
    "assembled",
    "measured_chunks",
    "preparation_of",
    "schema_of",
    "score_chunks",
    "score_shard",
]


class Scored(NamedTuple):
    """A shard that is scored, and not yet on disk.

    Args:

        table (pyarrow.Table): Its rows.
        maps (ndarray): (rows, h, w), float32, local quality; NaN in rows without one. (rows, 0, 0)
            where none was asked for or is to be had.
        seconds (dict[str, float]): Spent on each stage, in all threads and processes together.
    """

    table: pa.Table
    maps: NDArray[np.float32]
    seconds: dict[str, float]


class MeasuredChunk(NamedTuple):
    """A chunk, and what the network makes of its faces.

    Args:

        chunk (Chunk): With the reasons for which the network refused faces, and the seconds that
            it took.
        parts (list): Batches of faces: their rows in the chunk, and what was measured.
    """

    chunk: Chunk
    parts: list[tuple[list[int], Measured]]


def score_shard(
    entries: list[Entry],
    settings: ScoreSettings,
    *,
    scorer: FaceScorer | None = None,
    source: dict[str, Any] | None = None,
    anchor: str = "",
) -> Scored:
    """Score consecutive entries of a source in this process alone.

    What it gives depends on the entries and the settings only, and on ``settings.batch_size`` by
    less than 1e-5.

    Args:

        entries (list[Entry]): All those of the shard.
        settings (ScoreSettings): The choices; ``workers`` has no effect.
        scorer (FaceScorer, optional): Of these settings. ``None``: made at the first call in a
            process, and kept.
        source (dict, optional): What the schema's metadata says of the source.
        anchor (str): Folder or archive that has to be there, see
            :meth:`~captum_plq.preparation.Entries.anchor`; empty: not checked.

    Returns:
        *Scored*: its rows, in the order of the entries.

    Raises:
        SourceGoneError: if ``anchor`` is not there.
        ValueError: as :class:`~captum_plq.gallery.compute.FaceScorer`.

    Examples::

        >>> entries = list_entries("photos.txt")
        >>> settings = ScoreSettings(passes=5)
        >>> score_shard(list(entries.between(0, 1024)), settings).table["quality"]
    """
    scorer = scorer or _scorer(settings)
    how = preparation_of(scorer, settings, anchor)
    step = settings.batch_size
    chunks = (prepare_chunk(entries[i : i + step], how) for i in range(0, len(entries), step))
    return score_chunks(chunks, scorer, settings, schema_of(scorer, settings, source))


def score_chunks(
    chunks: Iterable[Chunk], scorer: FaceScorer, settings: ScoreSettings, schema: pa.Schema
) -> Scored:
    """Score the chunks of a shard, each of ``settings.batch_size`` entries but the last.

    Args:

        chunks (iterable of Chunk): All of the shard's entries, in order.
        scorer (FaceScorer): Of these settings.
        settings (ScoreSettings): The choices.
        schema (pyarrow.Schema): From :func:`schema_of`.

    Returns:
        *Scored*: its rows, in the order of the chunks.
    """
    with closing(measured_chunks(chunks, scorer, settings)) as measured:
        return assembled(measured, settings, schema)


def measured_chunks(
    chunks: Iterable[Chunk], scorer: FaceScorer, settings: ScoreSettings
) -> Generator[MeasuredChunk]:
    """Put chunks through the network: on processors several at once, see :mod:`._base.lanes`.

    Args:

        chunks (iterable of Chunk): Each of ``settings.batch_size`` entries, but the last of a
            shard.
        scorer (FaceScorer): Of these settings.
        settings (ScoreSettings): The choices.

    Yields:
        *MeasuredChunk*: in the order of the chunks.

    Raises:
        RuntimeError: if the network, or its device, does not work any more.
    """
    work = partial(_measured, scorer=scorer, settings=settings)
    lanes = lanes_on(scorer.device)
    with closing(in_lanes(work, _on_device(chunks, scorer.device), lanes)) as measured:
        yield from measured


def assembled(
    measured: Iterable[MeasuredChunk], settings: ScoreSettings, schema: pa.Schema
) -> Scored:
    """Put together what was measured of a shard.

    Args:

        measured (iterable of MeasuredChunk): Of all its chunks, in order.
        settings (ScoreSettings): The choices.
        schema (pyarrow.Schema): From :func:`schema_of`.

    Returns:
        *Scored*: its rows, in the order of the chunks.
    """
    rows: list[dict[str, Any]] = []
    parts: list[tuple[list[int], Measured]] = []
    seconds = dict.fromkeys(("read", "decode", "align", "network"), 0.0)
    for chunk, found in measured:
        parts += [([len(rows) + place for place in places], part) for places, part in found]
        rows += chunk.rows
        for stage, spent in chunk.seconds.items():
            seconds[stage] = seconds.get(stage, 0.0) + spent
    table, maps = _assemble(rows, parts, schema, settings.maps != "none")
    return Scored(table, maps, seconds)


def _measured(
    given: tuple[Chunk, Tensor], scorer: FaceScorer, settings: ScoreSettings
) -> MeasuredChunk:
    """What the network makes of a chunk, whose chips are on its device."""
    (chunk, images), began, feedback = given, time.perf_counter(), 0.0
    parts: list[tuple[list[int], Measured]] = []
    done = 0
    for batch, places in zip(
        images.split(settings.batch_size), _split(chunk.places, settings), strict=False
    ):
        if not len(places):
            continue
        measured = scorer(batch.permute(0, 3, 1, 2).float())
        for place, (reason, detail) in measured.refused.items():
            told = {"status": REASONS[reason], "reason": reason, "detail": detail}
            chunk.rows[places[place]].update(told)
        parts.append((places, measured))
        if settings.feedback:
            start, chips = time.perf_counter(), chunk.chips[done : done + len(places)]
            add_feedback([chunk.rows[place] for place in places], chips, measured, scorer)
            feedback += time.perf_counter() - start
        done += len(places)
    chunk.seconds["network"] = time.perf_counter() - began - feedback
    if settings.feedback:
        chunk.seconds["feedback"] = feedback
    return MeasuredChunk(chunk, parts)


def preparation_of(scorer: FaceScorer, settings: ScoreSettings, anchor: str = "") -> Preparation:
    """Return what is to be done to an image before the network sees it.

    Args:

        scorer (FaceScorer): Whose network it is for.
        settings (ScoreSettings): The choices.
        anchor (str): As for :func:`score_shard`.
    """
    return Preparation(
        template=scorer.spec.alignment,
        size=scorer.spec.input_size,
        aligned=settings.aligned,
        all_faces=settings.all_faces,
        timeout=settings.timeout,
        anchor=anchor,
        state=source_state(anchor) if anchor else None,
    )


def schema_of(
    scorer: FaceScorer, settings: ScoreSettings, source: dict[str, Any] | None = None
) -> pa.Schema:
    """Return the schema of the rows that a scorer gives.

    Args:

        scorer (FaceScorer): Of these settings.
        settings (ScoreSettings): The choices.
        source (dict, optional): What the metadata says of the source.
    """
    metadata = {
        "parameters": settings.deciding(),
        **scorer.identity(),
        "reference_quality": scorer.reference_quality,
        "place_centres": scorer.place_centres,
        "without_local": scorer.without_local,
        "alignment": scorer.spec.alignment,
        "input_size": list(scorer.spec.input_size),
        "source": source or {},
        "batch_size": settings.batch_size,
        "device": scorer.device_name(),
        "versions": package_versions(),
    }
    return result_schema(
        scorer.regions, metadata, embeddings=settings.embeddings, feedback=settings.feedback
    )


@lru_cache(maxsize=1)
def _scorer(settings: ScoreSettings) -> FaceScorer:
    return FaceScorer(settings)


def _split(places: list[int], settings: ScoreSettings) -> list[list[int]]:
    step = settings.batch_size
    return [places[i : i + step] for i in range(0, len(places), step)]


def _on_device(chunks: Iterable[Chunk], device: torch.device) -> Iterator[tuple[Chunk, Tensor]]:
    """Yield chunks with their chips on the device, the next one's being copied meanwhile."""
    if device.type != "cuda":
        for chunk in chunks:
            yield chunk, chunk.tensor().to(device)
        return
    copies, here = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    waiting: tuple[Chunk, Tensor, torch.cuda.Event] | None = None
    for chunk in chunks:
        with torch.cuda.stream(copies):
            images = chunk.tensor().to(device, non_blocking=True)
        copied = copies.record_event()
        if waiting is not None:
            yield _arrived(waiting, here)
        waiting = chunk, images, copied
    if waiting is not None:
        yield _arrived(waiting, here)


def _arrived(
    waiting: tuple[Chunk, Tensor, torch.cuda.Event], stream: torch.cuda.Stream
) -> tuple[Chunk, Tensor]:
    chunk, images, copied = waiting
    stream.wait_event(copied)
    images.record_stream(stream)  # its memory is not given away before this stream has used it
    return chunk, images


def _assemble(
    rows: list[dict[str, Any]],
    parts: list[tuple[list[int], Measured]],
    schema: pa.Schema,
    with_maps: bool,
) -> tuple[pa.Table, NDArray[np.float32]]:
    """The table of rows and what was measured of them, and the maps."""
    import pyarrow as pa

    measured: dict[str, NDArray[np.float32]] = {}
    embeddings: list[Any] = [None] * len(rows)
    grid = max((part.maps.shape[1:] for _, part in parts), default=(0, 0))
    maps = np.full((len(rows), *(grid if with_maps else (0, 0))), np.nan, np.float32)
    for places, part in parts:
        index = np.array(places)
        for name, values in part.columns.items():
            measured.setdefault(name, np.full(len(rows), np.nan, np.float32))[index] = values
        if with_maps and part.maps.shape[1:] == grid:
            maps[index] = part.maps
        if "embedding" in schema.names:
            for place, values in zip(places, part.embeddings, strict=True):
                if np.isfinite(values).all():
                    embeddings[place] = values
    if "embedding" in schema.names:
        for row, values in zip(rows, embeddings, strict=True):
            row["embedding"] = values
    table = table_of(rows, schema)
    for name, values in measured.items():
        column = pa.array(values, pa.float32(), mask=np.isnan(values))
        table = table.set_column(schema.get_field_index(name), schema.field(name), column)
    return table, maps
