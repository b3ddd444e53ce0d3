"""A worker of the Ray engine: scores shards of a source and writes them where the result is."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captum_plq._base.allocation import keep_freed_memory
from captum_plq.gallery.compute import FaceScorer
from captum_plq.gallery.result import MANIFEST
from captum_plq.gallery.score import preparation_of, schema_of, score_chunks
from captum_plq.gallery.settings import ScoreSettings
from captum_plq.gallery.shards import Record, write_shard
from captum_plq.models import FaceModel
from captum_plq.preparation import Entries, Waited, chunks_of, chunks_one_by_one, source_state

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Order", "ShardWorker", "manifest_digest"]


@dataclass(frozen=True)
class Order:
    """What a worker must know of a run; sent to it once.

    Args:

        entries (Entries): The source.
        anchor (str): Folder or archive that has to be there.
        settings (ScoreSettings): The choices.
        identity (dict): Of the leading process' :class:`~captum_plq.gallery.compute.FaceScorer`.
        schema (pyarrow.Schema): Of the rows.
        source (dict): What the schema's metadata says of the source.
        model (FaceModel, optional): In place of the one that ``settings`` name.
        directory (str): The result, absolute, and the same on all nodes.
        digest (str): From :func:`manifest_digest`, of the leading process.
    """

    entries: Entries
    anchor: str
    settings: ScoreSettings
    identity: dict[str, Any]
    schema: pa.Schema
    source: dict[str, Any]
    model: FaceModel | None = None
    directory: str = ""
    digest: str = ""


class ShardWorker:
    """Scores shards with a network that it makes once.

    Args:

        order (Order): The run.
    """

    def __init__(self, order: Order) -> None:
        self._order = order

    def begin(self) -> str:
        """Look whether all is here that the run needs, and make the network.

        Returns:
            *str*: the machine's name.

        Raises:
            ValueError: if this machine does not see the result or the source, or has another
                network or calibration; as :class:`~captum_plq.gallery.compute.FaceScorer`.
        """
        order, here = self._order, socket.gethostname()
        if manifest_digest(Path(order.directory)) != order.digest:
            raise ValueError(
                f"The machine {here} does not see the result {order.directory}: it must lie where "
                "all nodes of the cluster see it under the same name, such as on a network drive."
            )
        if source_state(order.anchor) is None:
            raise ValueError(
                f"The machine {here} does not see the images, {order.anchor}: they must lie where "
                "all nodes of the cluster see them under the same name."
            )
        keep_freed_memory()
        self._scorer = FaceScorer(order.settings, order.model)
        self._schema = schema_of(self._scorer, order.settings, order.source)
        self._how = preparation_of(self._scorer, order.settings, order.anchor)
        if self._scorer.identity() != order.identity or not self._schema.equals(order.schema):
            raise ValueError(
                f"The machine {here} has another network or calibration than the one that began "
                "the run: install the same version of captum-plq, and the same files."
            )
        return here

    def score(self, shard: int, carefully: bool = False) -> Record:
        """Score a shard and write it.

        Args:

            shard (int): Which.
            carefully (bool): Prepare its images one by one, in a process of their own, to find
                the one that ends it.

        Returns:
            *dict*: from :func:`~captum_plq.gallery.shards.write_shard`.

        Raises:
            SourceGoneError: if the source is not there any more.
            OSError: if it cannot be written.
            RuntimeError: if the network or its device fails.
        """
        order = self._order
        places = order.settings.chunks([shard], len(order.entries))
        prepared = chunks_one_by_one if carefully else chunks_of
        chunks = prepared(order.entries, places, self._how, order.settings.processes())
        waited = Waited(chunks)
        scored = score_chunks(waited, self._scorer, order.settings, self._schema)
        start, directory = time.perf_counter(), Path(order.directory)
        try:
            record = write_shard(directory, shard, scored, order.settings.maps)
        except OSError as error:
            raise OSError(
                f"{directory} cannot be written to by {socket.gethostname()} "
                f"({error.strerror or error}): mend that, and run the same again to go on."
            ) from error
        record["seconds"]["write"] = time.perf_counter() - start
        record["seconds"]["wait"] = waited.seconds
        return record


def manifest_digest(directory: Path) -> str | None:
    """Return a fingerprint of a result's manifest, which a folder of another machine has not.

    Args:

        directory (Path): The result.

    Returns:
        *str or None*: ``None``: there is none, or it cannot be read.
    """
    try:
        with open(os.path.join(directory, MANIFEST), "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return None
