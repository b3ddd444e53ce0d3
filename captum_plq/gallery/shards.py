"""The files of a shard: written whole or not at all, and checked when they are read."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from captum_plq._base.whole_file import remove_unfinished, whole_file
from captum_plq.gallery.manifest import Manifest
from captum_plq.gallery.result import MAPS, SHARDS
from captum_plq.gallery.schema import METADATA_KEY
from captum_plq.gallery.score import Scored
from captum_plq.gallery.settings import Maps, ScoreSettings
from captum_plq.preparation import REASONS, Entries

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Record",
    "adopted_record",
    "make_folders",
    "shard_is_sound",
    "shard_path",
    "shards_to_do",
    "write_shard",
]

Record = dict[str, Any]
"""What the manifest keeps of a finished shard."""


def shard_path(directory: Path, number: int, kind: str = SHARDS, ending: str = ".parquet") -> Path:
    """Return the name of a shard's file.

    Examples::

        >>> shard_path(Path("result"), 12).name
        'part-00012.parquet'
    """
    return directory / kind / f"part-{number:05}{ending}"


def make_folders(directory: Path, maps: Maps) -> None:
    """Make the folders of a result, and clear what killed runs left unfinished there.

    Args:

        directory (Path): The result, to which nobody else writes.
        maps (str): Whether there is one for maps.

    Raises:
        ValueError: if one is a link, which might lead out of the result, or a file.
        OSError: if one cannot be made.
    """
    for name in (SHARDS, MAPS) if maps != "none" else (SHARDS,):
        folder = directory / name
        folder.mkdir(exist_ok=True) if not os.path.lexists(folder) else None
        if folder.is_symlink() or not folder.is_dir():
            raise ValueError(f"{folder} is a link or a file, not a folder: name another result.")
        remove_unfinished(folder)


def write_shard(directory: Path, number: int, scored: Scored, maps: Maps) -> Record:
    """Write the files of a shard, its table last, under their names once they are on the disk.

    Args:

        directory (Path): The result.
        number (int): Of the shard.
        scored (Scored): What to write.
        maps (str): How to keep maps.

    Returns:
        *dict*: ``shard``, ``rows``, ``counts`` by reason, ``seconds`` by stage, and the checksums
        of the ``files``.

    Raises:
        OSError: if a file cannot be written; then there is no table.
    """
    import pyarrow.parquet as pq

    contents: dict[Path, bytes] = {}
    if maps != "none" and scored.maps.shape[1]:
        ending = ".npz" if maps == "npz" else ".zip"
        make = _map_arrays if maps == "npz" else _map_pictures
        contents[shard_path(directory, number, MAPS, ending)] = make(scored)
    sink = io.BytesIO()
    pq.write_table(scored.table, sink, compression="zstd", write_page_checksum=True)
    contents[shard_path(directory, number)] = sink.getvalue()
    for path, content in contents.items():
        if path.is_symlink():  # which was put there by somebody else
            path.unlink()
        with whole_file(path, follow=False) as file:
            file.write(content)
    return {**_record(number, scored.table, contents, directory), "seconds": scored.seconds}


def shard_is_sound(directory: Path, record: Record) -> bool:
    """Tell whether the files of a shard are what was written.

    Args:

        directory (Path): The result.
        record (dict): From :func:`write_shard`.
    """
    try:
        files = record["files"].items()
        return all(
            not (directory / name).is_symlink()
            and hashlib.sha256((directory / name).read_bytes()).hexdigest() == digest
            for name, digest in files
        )
    except (OSError, KeyError, AttributeError, TypeError):
        return False


def adopted_record(
    directory: Path, number: int, schema: pa.Schema, entries: range, maps: Maps
) -> Record | None:
    """Return the record of a shard that was finished and, the run being killed, not noted.

    Args:

        directory (Path): The result.
        number (int): Of the shard.
        schema (pyarrow.Schema): That it should have.
        entries (range): Places in the source that it should hold.
        maps (str): How maps are kept.

    Returns:
        *dict or None*: ``None``: there is none, or it is damaged or of something else.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = shard_path(directory, number)
    try:
        if path.is_symlink() or not path.is_file():
            return None
        contents = {path: path.read_bytes()}
        source = pa.BufferReader(contents[path])
        table = pq.read_table(source, page_checksum_verification=True)
        if maps != "none" and table["local_quality"].null_count < table.num_rows:
            ending = ".npz" if maps == "npz" else ".zip"
            other = shard_path(directory, number, MAPS, ending)
            contents[other] = other.read_bytes()
            with zipfile.ZipFile(io.BytesIO(contents[other])) as archive:
                if archive.testzip() is not None:
                    return None
    except (OSError, ValueError, pa.ArrowException, zipfile.BadZipFile):
        return None
    same = table.schema.equals(schema) and table.schema.metadata is not None
    if not same or set(table["index"].to_pylist()) != set(entries):
        return None
    if not _alike(table.schema.metadata.get(METADATA_KEY), schema.metadata[METADATA_KEY]):
        return None
    return {**_record(number, table, contents, directory), "seconds": {}}


def shards_to_do(
    manifest: Manifest,
    entries: Entries,
    settings: ScoreSettings,
    schema: pa.Schema,
    retry: bool = False,
) -> list[int]:
    """Return the shards that are not done, or no longer what was written.

    A shard that is there, but was not noted since the run was killed, is noted now.

    Args:

        manifest (Manifest): Of the result.
        entries (Entries): The source.
        settings (ScoreSettings): The choices.
        schema (pyarrow.Schema): Of the rows.
        retry (bool): And those in which an image failed.
    """
    todo = []
    for shard in range(-(-len(entries) // settings.shard_size)):
        record = manifest.records.get(shard)
        if record is None or not shard_is_sound(manifest.directory, record):
            manifest.forget(shard)
            places = settings.places_of(shard, len(entries))
            record = adopted_record(manifest.directory, shard, schema, places, settings.maps)
            if record is not None:
                manifest.note(record)
        if record is None or (retry and _has_failed(record)):
            manifest.forget(shard)
            todo.append(shard)
    return todo


def _has_failed(record: Record) -> bool:
    return any(REASONS.get(reason) == "failed" for reason in record["counts"])


def _alike(there: bytes | None, here: bytes) -> bool:
    a, b = json.loads(there or b"{}"), json.loads(here)
    return all(a.get(key) == b.get(key) for key in ("parameters", "model", "calibration"))


def _record(number: int, table: pa.Table, contents: dict[Path, bytes], directory: Path) -> Record:
    reasons = Counter(reason or "ok" for reason in table["reason"].to_pylist())
    return {
        "shard": number,
        "rows": table.num_rows,
        "counts": dict(reasons),
        "files": {
            path.relative_to(directory).as_posix(): hashlib.sha256(content).hexdigest()
            for path, content in contents.items()
        },
    }


def _with_map(scored: Scored) -> NDArray[np.intp]:
    found: NDArray[np.intp] = np.flatnonzero(np.isfinite(scored.maps).all(axis=(1, 2)))
    return found


def _map_arrays(scored: Scored) -> bytes:
    rows, sink = _with_map(scored), io.BytesIO()
    columns = {name: scored.table[name].to_numpy()[rows] for name in ("index", "face")}
    np.savez_compressed(
        sink,
        maps=scored.maps[rows].astype(np.float16),
        index=columns["index"].astype(np.int64),
        face=columns["face"].astype(np.int16),
    )
    return sink.getvalue()


def _map_pictures(scored: Scored) -> bytes:
    """A .zip of pictures, named by the place of the image in the source and the face's number."""
    from matplotlib import colormaps
    from PIL import Image

    from captum_plq.visualization.local_maps import LOCAL_COLOURS, QUALITY_LIMIT

    sink = io.BytesIO()
    index, face = (scored.table[name].to_pylist() for name in ("index", "face"))
    colours, limit = colormaps[LOCAL_COLOURS], QUALITY_LIMIT / scored.maps[0].size
    with zipfile.ZipFile(sink, "w") as archive:
        for row in _with_map(scored):
            level = (scored.maps[row] / limit + 1) / 2
            pixels = (colours(level.clip(0, 1))[..., :3] * 255).round().astype(np.uint8)
            picture = io.BytesIO()
            Image.fromarray(pixels).resize((112, 112), Image.Resampling.BICUBIC).save(
                picture, "PNG"
            )
            name = zipfile.ZipInfo(f"{index[row]:09}-{face[row]}.png")  # of no date: always equal
            archive.writestr(name, picture.getvalue())
    return sink.getvalue()
