"""A run over photos: each face explained and written, going on where an earlier run stopped."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captum_plq.explanation.batches import PhotoFace, explained_in_batches
from captum_plq.explanation.explainer import Explainer
from captum_plq.explanation.extremes import Extremes, Scored
from captum_plq.explanation.names import result_names
from captum_plq.explanation.result import Explanation
from captum_plq.explanation.run_record import FacePlace, RunRecord
from captum_plq.explanation.settings import PhotoSettings
from captum_plq.explanation.watcher import Watcher
from captum_plq.explanation.writer import ResultWriter, UnwritableError
from captum_plq.faces import AlignedFace, decode_image
from captum_plq.preparation import (
    Chunk,
    Entries,
    Preparation,
    Workers,
    chunks_of,
    list_photos,
    prepare_chunk,
    read_entry,
    source_state,
)
from captum_plq.visualization import plot_detections

__all__ = ["PhotosSummary", "explain_photos"]

_SHOWN = 24
"""Faces of lowest, and of highest quality in the table and on the contact sheet of a run."""


@dataclass(frozen=True)
class PhotosSummary:
    """What a run has done.

    Args:

        path (Path): Of ``summary.json``.
        images (int): Photos in the source.
        failures (int): Photos and faces that could not be explained.
        replaces (bool): Whether there was a summary of an earlier run.
        extremes (Extremes): The faces of lowest and highest quality.
        sheet (Path, optional): The contact sheet, if one was drawn.
    """

    path: Path
    images: int
    failures: int
    replaces: bool
    extremes: Extremes
    sheet: Path | None


def explain_photos(
    sources: Sequence[str | os.PathLike[str]],
    directory: str | os.PathLike[str],
    explainer: Explainer,
    settings: PhotoSettings | None = None,
    *,
    column: str | None = None,
    extra: dict[str, Any] | None = None,
    watcher: Watcher | None = None,
    undisturbed: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> PhotosSummary:
    """Explain the faces in photos, into a folder of figures, arrays and records.

    A run that was killed, interrupted, or ended by a full disk goes on when it is called again in
    the same way: faces that were explained are not computed again, unless their photo is another
    one now. A photo that cannot be used does not cost the others.

    Args:

        sources (sequence of str or PathLike): As for :func:`~captum_plq.preparation.list_photos`.
        directory (str or PathLike): For the results; made if it is missing. One run at a time.
        explainer (Explainer): The network and its choices.
        settings (PhotoSettings, optional): Default: ``PhotoSettings()``.
        column (str, optional): Of a table, the one of paths.
        extra (dict, optional): More for each record.
        watcher (Watcher, optional): Is told how the run goes on.
        undisturbed (Callable, optional): Makes a context in which files are written and noted,
            such as one that holds signals.

    Returns:
        *PhotosSummary*: what was done.

    Raises:
        ValueError: if a source is none; if the folder cannot be written to, or another run writes
            there.
        SourceGoneError: if the photos vanish. Call again when they are back.
        OSError: if a result cannot be written.
        MissingExtraError: if the extra ``faces`` is not installed.

    Examples::

        >>> explainer = Explainer(load_model("mobilefacenet-dropout"), calibration=calibration)
        >>> explain_photos(["portrait.jpg"], "results", explainer).failures
        0
    """
    settings, watcher = settings or PhotoSettings(), watcher or Watcher()
    directory = Path(directory)
    entries = list_photos(sources, column, results=directory)
    scaling = explainer.scaling and explainer.scaling._asdict()
    chosen = {**asdict(explainer.settings), **(scaling or {}), "gamma": explainer.gamma}
    chosen.pop("device")
    identity = {
        "parameters": {**chosen, **settings.deciding()},
        **explainer.identity(),
        "source": entries.identity(),
    }
    with RunRecord(directory, len(entries), identity, undisturbed) as record:
        watcher.begun(record)
        writer = ResultWriter(record, explainer, settings, extra or {}, undisturbed)
        run = _Run(entries, explainer, settings, record, watcher, writer)
        run.work()
        sheet = run.contact_sheet()
    return PhotosSummary(
        record.summary, len(entries), record.failures, record.replaces, run.extremes, sheet
    )


_Row = tuple[dict[str, Any], AlignedFace | None, NDArray[np.uint8] | None]
"""What the preparation says of a face, or of a photo without one; the face, and its chip."""


class _Run:
    """What is read, computed and written in a run."""

    def __init__(
        self,
        entries: Entries,
        explainer: Explainer,
        settings: PhotoSettings,
        record: RunRecord,
        watcher: Watcher,
        writer: ResultWriter,
    ) -> None:
        self.entries, self.explainer, self.settings = entries, explainer, settings
        self.record, self.watcher, self.writer = record, watcher, writer
        paths = [Path(os.fsdecode(name)) for name in entries.names]
        self.names = result_names(paths, record.directory, faces=settings.all_faces)
        self.extremes = Extremes(_SHOWN)
        anchor = entries.anchor()
        self.how = Preparation(
            template=explainer.spec.alignment,
            size=explainer.spec.input_size,
            aligned=settings.aligned,
            all_faces=settings.all_faces,
            timeout=settings.timeout,
            anchor=anchor,
            state=source_state(anchor),
        )

    def work(self) -> None:
        """Explain all faces that no earlier run has explained."""
        size = self.settings.batch_size
        for face, found in explained_in_batches(self.explainer, self._faces(), size):
            try:
                if isinstance(found, Exception):
                    raise found
                row, feedback, files = self.writer.write(face, found)
            except UnwritableError:
                raise
            except Exception as error:  # one bad image must not cost the others
                expected = isinstance(error, ValueError)
                reason = str(error) if expected else f"{type(error).__name__}: {error}"
                self._fail(face.place, reason)
            else:
                self._rank(face.place, row, found)
                self.watcher.explained(face, found, feedback, files)

    def _faces(self) -> Iterator[PhotoFace]:
        """Yield the faces that are to be explained; note what cannot be."""
        step, total = self.settings.batch_size, len(self.entries)
        places = [(start, min(start + step, total)) for start in range(0, total, step)]
        workers = Workers(self.settings.workers, lock=self.record.lock)
        how = replace(self.how, known=self._known())
        for chunk in chunks_of(self.entries, places, how, workers, self.watcher.noted):
            for index, rows in groupby(_rows(chunk), key=lambda row: int(row[0]["index"])):
                yield from self._faces_of(index, list(rows))

    def _known(self) -> dict[int, str]:
        """Of the photos that earlier runs have done, the hashes of their bytes."""
        known = {}
        for index in self.record.complete():
            rows = self.record.rows(index)
            if all(self.writer.has(self._stem(place), row) for place, row in rows.items()):
                known[index] = next(iter(rows.values()))["sha256"]
        return known

    def _stem(self, place: FacePlace) -> str:
        name = self.names[place.photo]
        return name if place.rows == 1 else f"{name}-face{place.face}"

    def _faces_of(self, index: int, rows: Sequence[_Row]) -> Iterator[PhotoFace]:
        image, (first, *_) = self.entries[index].path, rows[0]
        done = self.record.rows(index)
        if any(row["sha256"] != first.get("sha256") for row in done.values()):
            self.record.forget(index)
            done = {}
        kept = {p: row for p, row in done.items() if self.writer.has(self._stem(p), row)}
        for place, row in kept.items():
            self._rank(place, row, None)
        if first["status"] == "known":
            return
        found = [face for _, face, _ in rows if face is not None]
        if found:
            self.watcher.read(image, found)
            self._overview(index, found[0])
        for row, face, chip in rows:
            place = FacePlace(index, row.get("face", 0), len(rows))
            if face is None or chip is None:
                self._fail(place, row["detail"])
            elif place not in kept:
                yield PhotoFace(place, image, self._stem(place), face, chip, row["sha256"])

    def _overview(self, index: int, face: AlignedFace) -> None:
        """Draw a photo with its faces numbered, if it has several."""
        settings, detected = self.settings, face.detected
        if len(detected) < 2 or not settings.all_faces or "figure" not in settings.write:
            return
        entry = self.entries[index]
        try:
            image = decode_image(read_entry(entry), entry.path)
        except ValueError as error:  # which it was not a moment ago
            self.watcher.noted(f"{entry.path} could not be drawn: {error}")
            return
        boxes, weak = [face.box for face in detected], [face.weak for face in detected]
        labels = [f"score {face.score:.2f}" for face in detected]
        figure = plot_detections(image, boxes, labels, weak)
        self.watcher.wrote(self.writer.draw(f"{self.names[index]}-faces.png", figure))

    def _rank(self, place: FacePlace, row: dict[str, Any], found: Explanation | None) -> None:
        name = row["record"].removesuffix(".json")
        self.extremes.add(Scored(row["quality"], place[:2], name, row, found))

    def _fail(self, place: FacePlace, reason: str) -> None:
        image = self.entries[place.photo].path
        reason = reason.removeprefix(f"{image} ")
        if place.face and place.rows > 1:
            reason = f"face {place.face}: {reason}"
        with self.writer.writing():
            self.record.failed(place, image, reason)
        self.watcher.failed(image, reason)

    def contact_sheet(self) -> Path | None:
        """Draw the faces of the run in the order of their quality, if there are several."""
        if self.extremes.count < 2 or "figure" not in self.settings.write:
            return None
        without = {face.place for face in self.extremes.ranked() if face.explanation is None}
        faces = (
            PhotoFace(FacePlace(index, row["face"]), "", "", face, chip, "")
            for index in sorted({index for index, _ in without})
            for row, face, chip in _rows(prepare_chunk([self.entries[index]], self.how))
            if face is not None and chip is not None and (index, row["face"]) in without
        )
        size = self.settings.batch_size
        again = {
            face.place[:2]: found
            for face, found in explained_in_batches(self.explainer, faces, size)
            if isinstance(found, Explanation)
        }
        return self.writer.draw("contact-sheet.png", self.extremes.contact_sheet(again))


def _rows(chunk: Chunk) -> list[_Row]:
    faces = dict(zip(chunk.places, zip(chunk.faces, chunk.chips, strict=True), strict=True))
    return [(row, *faces.get(place, (None, None))) for place, row in enumerate(chunk.rows)]
