"""A result as one CSV file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from captum_plq._base.whole_file import whole_file
from captum_plq.gallery.result import GalleryResult

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["write_csv"]

_PARTS = {
    "box": ("box_left", "box_top", "box_right", "box_bottom"),
    "landmarks": tuple(f"landmark_{i}_{axis}" for i in range(1, 6) for axis in "xy"),
}


def write_csv(result: GalleryResult, path: Path) -> int:
    """Write all rows as CSV, in the order of the source; embeddings are left out.

    Boxes and landmarks, which are lists in the result, become a column for each number; the causes
    of a verdict, and whether each is weak, become words with ``;`` between them.

    Args:

        result (GalleryResult): From :func:`~captum_plq.gallery.read_result`.
        path (Path): The file; replaced as a whole once all is written.

    Returns:
        *int*: rows written.

    Raises:
        OSError: if it cannot be written, or a file of the result cannot be read.

    Examples::

        >>> write_csv(read_result("scored"), Path("result.csv"))
    """
    import pyarrow.csv as csv

    names = [name for name in result.dataset.schema.names if name != "embedding"]
    rows = 0
    with whole_file(path) as file:
        writer = None
        for batch in result.dataset.to_batches(columns=names):
            flat = _flat(batch)
            if writer is None:
                writer = csv.CSVWriter(file, flat.schema)
            writer.write_batch(flat)
            rows += flat.num_rows
        if writer is not None:
            writer.close()
    return rows


def _flat(batch: pa.RecordBatch) -> pa.RecordBatch:
    import pyarrow as pa
    import pyarrow.compute as pc

    columns: dict[str, pa.Array] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        parts = _PARTS.get(name)
        if parts is not None:
            filled = column.fill_null([None] * len(parts))
            columns |= {part: pc.list_element(filled, i) for i, part in enumerate(parts)}
        elif pa.types.is_list(column.type):
            columns[name] = pc.binary_join(column.cast(pa.list_(pa.string())), ";")
        else:
            columns[name] = column
    return pa.record_batch(columns)
