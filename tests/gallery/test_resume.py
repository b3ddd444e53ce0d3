"""What a run survives: being killed, a full disk, a source that vanishes, damaged files."""

import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import time

import pytest

from captum_plq.explanation.run_record import FacePlace, RunRecord
from captum_plq.gallery import read_result, score_gallery, shards
from captum_plq.preparation import SourceGoneError
from tests.gallery.conftest import IMAGES, rows_of, write_crops

SHARDS = -(-IMAGES // 4)
fork = pytest.mark.skipif(sys.platform != "linux", reason="kills forked processes")


def files(result):
    return {p.name: p.stat().st_mtime_ns for p in (result / "shards").glob("part-*")}


@fork
@pytest.mark.parametrize("workers", [0, 1])
def test_killed_at_random_moments_it_loses_nothing(crops, undisturbed, settings, tmp_path, workers):
    result, context = tmp_path / "result", multiprocessing.get_context("fork")
    draw, kept, asked = random.Random(workers), {}, (crops, result, settings(workers=workers))
    took = time.monotonic()
    score_gallery(crops, tmp_path / "once", settings(workers=workers))
    took = time.monotonic() - took
    for _ in range(4):
        run = context.Process(target=score_gallery, args=asked)
        run.start()
        time.sleep(draw.uniform(0.2, 0.9) * took)
        run.kill()
        run.join()
        now = files(result)
        assert kept.items() <= now.items()  # none was computed again
        kept = now
    summary = score_gallery(*asked)
    assert kept.items() <= files(result).items()
    assert len(files(result)) == SHARDS
    assert summary.computed >= IMAGES - 4 * len(kept)
    assert rows_of(result) == rows_of(undisturbed)
    assert not [path for path in result.rglob("*") if path.name.startswith(".captum")]


def test_a_shard_that_was_finished_but_not_noted_is_kept(crops, undisturbed, settings, tmp_path):
    result = shutil.copytree(undisturbed, tmp_path / "result")
    journal = result / "shards.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-2]) + lines[-2][:20])  # killed as it was noted
    before = files(result)
    assert score_gallery(crops, result, settings()).computed == 0
    assert files(result) == before
    assert len(journal.read_bytes().splitlines()) == SHARDS


@pytest.mark.parametrize("noted", [True, False])
@pytest.mark.parametrize("damage", ["page", "footer", "cut", "gone", "other"])
def test_a_damaged_shard_is_found_and_made_anew(
    crops, undisturbed, settings, tmp_path, noted, damage
):
    result = shutil.copytree(undisturbed, tmp_path / "result")
    path, whole = shards.shard_path(result, 1), shards.shard_path(result, 1).read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "other":
        shutil.copy(shards.shard_path(result, 2), path)
    else:
        at = {"page": 40, "footer": len(whole) - 30, "cut": 0}[damage]
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] if at else whole[:9])
    if not noted and damage != "footer":  # which has no checksum of its own
        (result / "shards.jsonl").unlink()
    summary = score_gallery(crops, result, settings())
    assert summary.computed == (0 if not noted and damage == "footer" and at == 0 else 4)
    assert rows_of(result) == rows_of(undisturbed)


def full_fake(monkeypatch, result):
    real = shards.whole_file

    def full(path, **options):
        if len(list(path.parent.glob("part-*"))) >= 2:
            raise OSError(28, "No space left on device")
        return real(path, **options)

    monkeypatch.setattr(shards, "whole_file", full)
    return monkeypatch.undo


def full_tmpfs(monkeypatch, result):
    result.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=28k", "none", str(result)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a tmpfs cannot be mounted here")
    return lambda: subprocess.run(
        ["mount", "-o", "remount,size=10m", str(result)], check=True, capture_output=True
    )


@pytest.mark.parametrize("fill", [full_fake, full_tmpfs])
def test_after_a_full_disk_it_goes_on(crops, undisturbed, settings, tmp_path, monkeypatch, fill):
    result = tmp_path / "result"
    make_room = fill(monkeypatch, result)
    try:
        with pytest.raises(OSError, match=r"No space left on device\): mend that, and run"):
            score_gallery(crops, result, settings())
        before = files(result)
        assert 0 < len(before) < SHARDS
        make_room()
        assert score_gallery(crops, result, settings()).computed < IMAGES
        assert before.items() <= files(result).items()
        assert rows_of(result) == rows_of(undisturbed)
    finally:
        if fill is full_tmpfs:
            subprocess.run(["umount", str(result)], check=True)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_source_that_vanishes_ends_the_run_and_not_its_images(settings, tmp_path, workers):
    source, result = write_crops(tmp_path / "crops"), tmp_path / "result"
    asked = settings(workers=workers, batch_size=1, shard_size=2)
    score_gallery(source, tmp_path / "once", asked)

    def vanish(progress):
        if progress.done == 3:
            source.rename(tmp_path / "elsewhere")

    with pytest.raises(SourceGoneError, match="is not there any more"):
        score_gallery(source, result, asked, progress=vanish)
    assert "failed" not in read_result(result).table()["status"].to_pylist()
    with pytest.raises(FileNotFoundError):
        score_gallery(source, result, asked)
    (tmp_path / "elsewhere").rename(source)
    score_gallery(source, result, asked)
    assert rows_of(result) == rows_of(tmp_path / "once")


def test_a_file_that_vanishes_is_a_row(settings, tmp_path):
    source = write_crops(tmp_path / "crops", 4)

    def vanish(progress):
        (source / "b" / "03.png").unlink(missing_ok=True)

    score_gallery(source, tmp_path / "result", settings(batch_size=1), progress=vanish)
    table = read_result(tmp_path / "result").table()
    assert table["status"].to_pylist() == ["ok", "ok", "ok", "failed"]
    assert table["reason"].to_pylist()[-1] == "missing"


def test_images_that_failed_are_tried_again_on_request(settings, tmp_path):
    source = write_crops(tmp_path / "crops", 4)
    asked, result = settings(shard_size=2), tmp_path / "result"
    score_gallery(source, tmp_path / "undisturbed", asked)
    one = source / "b" / "03.png"
    content = one.read_bytes()
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"{path}\n" for path in sorted(source.rglob("*.png"))))
    one.unlink()
    score_gallery(listed, result, asked)
    assert read_result(result).table()["reason"].to_pylist() == [None, None, None, "missing"]
    one.write_bytes(content)
    kept = shards.shard_path(result, 0).stat().st_mtime_ns
    assert score_gallery(listed, result, asked).computed == 0
    again = score_gallery(listed, result, asked, retry=True)
    assert (again.computed, again.counts) == (2, {"ok": 4})
    assert shards.shard_path(result, 0).stat().st_mtime_ns == kept
    quality = [
        read_result(folder).table()["quality"].to_pylist()
        for folder in (result, tmp_path / "undisturbed")
    ]
    assert quality[0] == quality[1]
    assert score_gallery(listed, result, asked, retry=True).computed == 0


def test_a_second_run_is_refused(crops, settings, tmp_path):
    refused = []

    def again(progress):
        with pytest.raises(ValueError, match=f"Another run \\(process {os.getpid()}\\) writes"):
            score_gallery(crops, tmp_path, settings())
        refused.append(progress.done)

    score_gallery(crops / "a", tmp_path, settings(shard_size=100, batch_size=4), progress=again)
    assert refused


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"passes": 50}, "passes 100, not 50"),
        ({"estimator": "balanced"}, "estimator closed-form, not balanced"),
        ({"shard_size": 5}, "shard size 4, not 5"),
        ({"calibration": "none"}, "calibration"),
        ({"embeddings": True, "all_faces": True}, "all faces false, not true; embeddings false"),
    ],
)
def test_other_parameters_are_refused(crops, undisturbed, settings, changed, message):
    before = files(undisturbed)
    with pytest.raises(ValueError, match=f"was begun with .*{message}"):
        score_gallery(crops, undisturbed, settings(**changed))
    assert files(undisturbed) == before


def test_another_network_or_source_is_refused(crops, undisturbed, settings, tmp_path):
    from captum_plq.models import load_model

    model = load_model("mobilefacenet-dropout")
    next(model.parameters()).data.mul_(1.01)
    with pytest.raises(ValueError, match="model digest"):
        score_gallery(crops, undisturbed, settings(), model=model)
    with pytest.raises(ValueError, match=f"source images {IMAGES}, not 7"):
        score_gallery(crops / "a", undisturbed, settings())
    (tmp_path / "manifest.json").write_text(json.dumps({"format": "something"}))
    with pytest.raises(ValueError, match="of something else"):
        score_gallery(crops, tmp_path, settings())


def test_links_in_the_result_lead_nowhere(crops, settings, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("kept")
    result = tmp_path / "result"
    (result / "shards").mkdir(parents=True)
    for name in ("shards/part-00000.parquet", "summary.json"):
        (result / name).symlink_to(outside / "file")
    score_gallery(crops, result, settings(shard_size=50))
    assert (outside / "file").read_text() == "kept"
    assert len(read_result(result).table()) == IMAGES
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "shards").symlink_to(outside)
    with pytest.raises(ValueError, match="is a link"):
        score_gallery(crops, linked, settings())
    assert [path.name for path in outside.iterdir()] == ["file"]


@pytest.mark.parametrize("killed", [False, True])
def test_explanations_are_left_alone(crops, settings, tmp_path, killed):
    with RunRecord(tmp_path, 1, {"parameters": {}}) as record:
        record.explained(FacePlace(0), {"image": "a.jpg"})
    if killed:  # which leaves rows only
        record.summary.rename(tmp_path / "summary.jsonl")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="holds explanations of photos: name another folder"):
        score_gallery(crops, tmp_path, settings())
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
