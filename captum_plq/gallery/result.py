"""Reading the result of a run over a gallery back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captum_plq.errors import extra
from captum_plq.functional.enlargement import PlaceCentres
from captum_plq.gallery.schema import metadata_of, regions_of

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset as ds

__all__ = ["MANIFEST", "MAPS", "SHARDS", "GalleryResult", "read_result"]

MANIFEST, SHARDS, MAPS = "manifest.json", "shards", "maps"
"""What lies in the folder of a result."""


@dataclass(frozen=True)
class GalleryResult:
    """What a run over a gallery has written so far.

    Args:

        directory (Path): Its folder.
        manifest (dict): What the run was asked, and of what.
        dataset (pyarrow.dataset.Dataset): All rows written, read only as they are asked for.
    """

    directory: Path
    manifest: dict[str, Any] = field(repr=False)
    dataset: ds.Dataset = field(repr=False)

    @property
    def metadata(self) -> dict[str, Any]:
        """Parameters, model, calibration, source and versions."""
        return metadata_of(self.dataset.schema)

    @property
    def regions(self) -> list[str]:
        """The regions of the face that a quality lost is known of."""
        return regions_of(self.dataset.schema)

    @property
    def reference_quality(self) -> float | None:
        """Q₀, that of the median high-quality face; ``None``: there is no local quality."""
        quality: float | None = self.metadata.get("reference_quality")
        return quality

    @property
    def place_centres(self) -> PlaceCentres | None:
        """Where the places of local quality lie in a face; ``None``: equal cells, or no maps."""
        found = self.metadata.get("place_centres")
        if found is None:
            return None
        return PlaceCentres(**{name: tuple(pair) for name, pair in found.items()})

    def table(self, columns: Sequence[str] | None = None, filter: Any = None) -> pa.Table:
        """Read rows into memory, in the order of the source.

        Args:

            columns (sequence of str, optional): Which; ``None``: all.
            filter (pyarrow.compute.Expression, optional): Which rows.

        Returns:
            *pyarrow.Table*: of the columns of
            :func:`~captum_plq.gallery.schema.result_schema`.

        Raises:
            OSError: if a file cannot be read, or is damaged.
        """
        return self.dataset.to_table(
            columns=None if columns is None else list(columns), filter=filter
        )


def read_result(directory: str | PathLike[str]) -> GalleryResult:
    """Open what ``captum-plq score`` has written; a run that still goes on may be read too.

    Args:

        directory (str or PathLike): Its folder.

    Returns:
        *GalleryResult*: of the rows written by now. Those of damaged files raise when read.

    Raises:
        ValueError: if the folder is not the result of a run, or holds no rows yet.
        MissingExtraError: if pyarrow is not installed.
    """
    with extra("gallery"):
        import pyarrow as pa
        import pyarrow.dataset as ds
    directory = Path(directory)
    try:
        manifest = json.loads((directory / MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{directory} is not the result of `captum-plq score`: its {MANIFEST} cannot be read "
            f"({error})."
        ) from error
    files = sorted((directory / SHARDS).glob("part-*.parquet"), key=lambda p: (len(p.name), p.name))
    if not files:
        raise ValueError(f"{directory} holds no rows yet.")
    options = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    format_ = ds.ParquetFileFormat(default_fragment_scan_options=options)
    try:
        dataset = ds.dataset([str(file) for file in files], format=format_)
        metadata_of(dataset.schema)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"{files[0]} is damaged ({str(error).splitlines()[0]}): run `captum-plq score` again, "
            "which makes it anew."
        ) from error
    return GalleryResult(directory, manifest, dataset)
