"""The columns of a gallery's result: one row per face, or per image that has none."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from captum_plq._base.whole_file import json_bytes
from captum_plq.errors import extra

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "METADATA_KEY",
    "lost_column",
    "metadata_of",
    "regions_of",
    "result_schema",
    "table_of",
]

METADATA_KEY = b"captum_plq"
"""Of the schema's metadata: parameters, model, calibration and versions, as JSON."""

_LOST = "lost_"
_OFFSET = "lost_offset"


def lost_column(region: str) -> str:
    """Return the name of the column of the quality that a region of the face loses.

    Examples::

        >>> lost_column("nose")
        'lost_nose'
    """
    return f"{_LOST}{region}"


def result_schema(
    regions: Sequence[str],
    metadata: Mapping[str, Any] | None = None,
    *,
    embeddings: bool = False,
    feedback: bool = False,
) -> pa.Schema:
    """Return the schema of a result.

    Rows are in the order of the source, and of an image in the order of its faces, the surest
    first. The columns:

    - ``index`` (int64): the image's place in the source, from 0; ``path`` (string): as the source
      has it; ``sha256`` (string): of the file's bytes, in hexadecimal.
    - ``face`` (int16): the face's number within the image, from 1; ``faces`` (int16): how many
      were found. Both are null where none was looked for or found.
    - ``status``, ``reason``, ``detail`` (string): see :data:`~captum_plq.preparation.REASONS`;
      ``detail`` is the sentence. Null for ``"ok"``, as everything that follows is for the rest.
    - ``quality``, ``standard_error``, ``scaled_quality``, ``embedding_norm`` (float32): Q, its
      standard error, Q̂ (null where α and r are unknown), and the length of the embedding.
    - ``percentile``, ``failure_rate`` (float32): which per cent of good faces have a lower Q, and
      which share of images with this Q is not matched at FMR 1e-3, see
      :class:`~captum_plq.calibration.QualityThresholds`. Null where the calibration does not say.
    - ``local_quality`` (float32): Q of the local decomposition; ``lost_offset`` and one column
      ``lost_REGION`` for each region of the face (float32): what is lost there against
      high-quality faces. Their sum is Q₀ - ``local_quality``. Null where there is no local quality.
    - ``box`` (4 × int32): left, top, right, bottom; ``landmarks`` (10 × float32): x and y of five
      points, both in pixels of the image; ``detector_score`` (float32); ``cut_off`` (float32):
      which share of the face lies beyond the edge of the image. Null for aligned images.
    - ``verdict`` (string), ``causes`` (strings) and ``weak`` (bools, one for each cause), if asked
      for: of :func:`~captum_plq.feedback.give_feedback`.
    - ``embedding`` (float32), if asked for: as the network gives it, not normalised.

    Args:

        regions (sequence of str): Names of the face's regions.
        metadata (Mapping, optional): What JSON can hold; see :func:`metadata_of`.
        embeddings (bool): With a column for embeddings.
        feedback (bool): With columns for verdict and causes.

    Returns:
        *pyarrow.Schema*: with ``metadata`` under :data:`METADATA_KEY`.

    Raises:
        MissingExtraError: if pyarrow is not installed.

    Examples::

        >>> schema = result_schema(["nose", "mouth"], {"model": {"name": "mine"}})
        >>> schema.field("lost_nose").type
        DataType(float)
    """
    with extra("gallery"):
        import pyarrow as pa
    measured = (
        *("quality", "standard_error", "scaled_quality", "percentile", "failure_rate"),
        *("embedding_norm", "local_quality"),
    )
    lost = (_OFFSET, *map(lost_column, regions))
    fields = [
        pa.field("index", pa.int64(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("sha256", pa.string()),
        pa.field("face", pa.int16()),
        pa.field("faces", pa.int16()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
        *(pa.field(name, pa.float32()) for name in (*measured, *lost)),
        pa.field("box", pa.list_(pa.int32())),
        pa.field("landmarks", pa.list_(pa.float32())),
        pa.field("detector_score", pa.float32()),
        pa.field("cut_off", pa.float32()),
    ]
    if feedback:
        fields.append(pa.field("verdict", pa.string()))
        fields.append(pa.field("causes", pa.list_(pa.string())))
        fields.append(pa.field("weak", pa.list_(pa.bool_())))
    if embeddings:
        fields.append(pa.field("embedding", pa.list_(pa.float32())))
    text = json_bytes(dict(metadata or {}))
    return pa.schema(fields, metadata={METADATA_KEY: text})


def metadata_of(schema: pa.Schema) -> dict[str, Any]:
    """Return what the schema of a result says of its making.

    Args:

        schema (pyarrow.Schema): Of a file of the result, or of a table of it.

    Returns:
        *dict*: ``parameters``, ``model``, ``calibration`` (or ``None``), ``reference_quality``
        (Q₀, or ``None``), ``place_centres`` (of local quality; ``None``: equal cells),
        ``without_local`` (why there is no local quality, or ``""``), ``source`` and ``versions``.

    Raises:
        ValueError: if it is not the schema of a result.

    Examples::

        >>> metadata_of(result_schema([], {"source": {"root": "photos"}}))
        {'source': {'root': 'photos'}}
    """
    text = (schema.metadata or {}).get(METADATA_KEY)
    found = None if text is None else json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("This table is not the result of `captum-plq score`.")
    return found


def regions_of(schema: pa.Schema) -> list[str]:
    """Return the regions of the face that a result has a column for.

    Examples::

        >>> regions_of(result_schema(["nose", "mouth"]))
        ['nose', 'mouth']
    """
    names = (name for name in schema.names if name.startswith(_LOST) and name != _OFFSET)
    return [name.removeprefix(_LOST) for name in names]


def table_of(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Return rows as a table of a schema; what a row does not name is null.

    Args:

        rows (iterable of Mapping): Column → value.
        schema (pyarrow.Schema): From :func:`result_schema`.

    Raises:
        ValueError: if a row names a column that there is not, or lacks one that it must have.
    """
    import pyarrow as pa

    columns: dict[str, list[Any]] = {name: [] for name in schema.names}
    for row in rows:
        if unknown := row.keys() - columns.keys():
            raise ValueError(f"A result has no column {sorted(unknown)[0]!r}.")
        for name, values in columns.items():
            values.append(row.get(name))
    for field in schema:
        if not field.nullable and None in columns[field.name]:
            raise ValueError(f"A row of a result lacks its {field.name!r}.")
    return pa.Table.from_pydict(columns, schema=schema)
