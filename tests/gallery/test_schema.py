"""The table of a result: its columns, what its metadata says, and reading it back."""

import json

import pytest

pa = pytest.importorskip("pyarrow", reason="needs the extra [gallery]")
pq = pytest.importorskip("pyarrow.parquet")

from captum_plq.gallery import read_result  # noqa: E402
from captum_plq.gallery.schema import (  # noqa: E402
    metadata_of,
    regions_of,
    result_schema,
    table_of,
)

SCHEMA = result_schema(["nose", "mouth"], {"reference_quality": 0.7})
ROWS = [
    {"index": 0, "path": "a\u00e4.jpg", "status": "ok", "quality": 0.5, "box": [1, 2, 3, 4]},
    {"index": 1, "path": "b.jpg", "status": "refused", "reason": "empty", "detail": "is empty"},
]


def write(directory, rows, number=0):
    (directory / "shards").mkdir(exist_ok=True)
    path = directory / "shards" / f"part-{number:05}.parquet"
    pq.write_table(table_of(rows, SCHEMA), path, write_page_checksum=True)
    (directory / "manifest.json").write_text(json.dumps({"shards": 1}))
    return path


def test_what_a_row_does_not_name_is_null():
    table = table_of(ROWS, SCHEMA)
    assert table["quality"].to_pylist() == [0.5, None]
    assert table["lost_nose"].null_count == 2
    with pytest.raises(ValueError, match="no column 'size'"):
        table_of([{**ROWS[0], "size": 3}], SCHEMA)
    with pytest.raises(ValueError, match="lacks its 'path'"):
        table_of([{"index": 0, "status": "ok"}], SCHEMA)


def test_the_metadata_and_the_regions_come_back():
    assert metadata_of(SCHEMA) == {"reference_quality": 0.7}
    assert regions_of(SCHEMA) == ["nose", "mouth"]
    with pytest.raises(ValueError, match="not the result"):
        metadata_of(pa.schema([pa.field("index", pa.int64())]))
    assert "embedding" in result_schema([], embeddings=True).names


def test_a_result_is_read_in_the_order_of_its_shards(tmp_path):
    for number in (100000, 2, 10):
        write(tmp_path, [{**ROWS[0], "index": number}], number)
    result = read_result(tmp_path)
    assert result.table(["index"])["index"].to_pylist() == [2, 10, 100000]
    assert (result.regions, result.reference_quality) == (["nose", "mouth"], 0.7)


def test_what_is_no_result_or_damaged_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"manifest\.json cannot be read"):
        read_result(tmp_path)
    path = write(tmp_path, ROWS)
    whole = path.read_bytes()
    place = whole.index(b"b.jpg")  # in a page, of which there is a checksum
    path.write_bytes(whole[:place] + b"B" + whole[place + 1 :])
    with pytest.raises(OSError, match="CRC"):
        read_result(tmp_path).table()
    path.write_bytes(whole[:-9])
    with pytest.raises(ValueError, match="is damaged"):
        read_result(tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match="no rows yet"):
        read_result(tmp_path)
