"""A result written by hand: no network, exact numbers."""

import hashlib
import json

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow", reason="needs the extra [gallery]")
image_module = pytest.importorskip("PIL.Image", reason="needs the extra [faces]")

import pyarrow.parquet as pq  # noqa: E402

from captum_plq.faces import REGIONS, add_noise, sample_face  # noqa: E402
from captum_plq.gallery import read_result  # noqa: E402
from captum_plq.gallery.schema import lost_column, result_schema, table_of  # noqa: E402

FACES, SHARD = 12, 4
QUALITY = np.linspace(0.30, 0.74, FACES)[np.random.default_rng(0).permutation(FACES)]
HOSTILE = '<img src=x onerror="alert(1)">.png'


def lost_of(i):
    """The nose takes most of odd faces, the mouth of even ones; the worst face loses most."""
    lost = dict.fromkeys(REGIONS, -0.001)
    lost["nose" if i % 2 else "mouth"] = 0.1 * (0.8 - QUALITY[i])
    return {lost_column(region): value for region, value in lost.items()}


def ok_row(i, folder):
    path = folder / ("face.png" if i else HOSTILE) if i < 2 else folder / f"{i:02}.png"
    image_module.fromarray(add_noise(sample_face().chip, 2.0 * i, seed=i)).save(path)
    return {
        "index": i,
        "path": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "face": 1,
        "status": "ok",
        "quality": QUALITY[i],
        "standard_error": 0.002,
        "scaled_quality": None if i == 3 else 0.5,
        "local_quality": QUALITY[i],
        "lost_offset": 0.0,
        "detector_score": 0.1 if i == 5 else None,
        "cut_off": {2: 0.3, 3: 0.001}.get(i),
        "box": [1, 2, 30, 40] if i == 5 else None,
        "verdict": "retake" if i < 2 else "nothing to correct",
        "causes": [["dark"], ["dark", "blurred"]][i] if i < 2 else [],
        "weak": [[False], [True, False]][i] if i < 2 else [],
        **lost_of(i),
    }


def refused(i, path, reason, status="refused"):
    told = {"status": status, "reason": reason, "detail": f"is <b>{reason}</b> & so on."}
    return {"index": i, "path": path, **told}


def write_result(folder, rows, **metadata):
    given = {
        "model": {"name": "mine", "digest": "0"},
        "parameters": {"passes": 100, "dropout": 0.5, "shard_size": SHARD},
        "alignment": "arcface",
        "input_size": [112, 112],
        "source": {"root": str(folder / "photos")},
        "without_local": "",
        **metadata,
    }
    result = folder / "result"
    (result / "shards").mkdir(parents=True)
    (result / "manifest.json").write_text(json.dumps({"format": "captum-plq gallery"}))
    schema = result_schema(REGIONS, given, feedback=True)
    for number, start in enumerate(range(0, len(rows), SHARD)):
        table = table_of(rows[start : start + SHARD], schema)
        pq.write_table(table, result / "shards" / f"part-{number:05}.parquet")
    return read_result(result)


@pytest.fixture
def gallery(tmp_path):
    (tmp_path / "photos").mkdir()
    rows = [ok_row(i, tmp_path / "photos") for i in range(FACES)]
    rows.insert(2, refused(FACES, "a.png", "no_face"))
    rows += [refused(FACES + 1, "b.png", "no_face"), refused(FACES + 2, "c", "missing", "failed")]
    return write_result(tmp_path, rows)
