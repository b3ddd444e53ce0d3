"""A run over photos: what it survives, and that the next one goes on where it stopped."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

image_module = pytest.importorskip("PIL.Image", reason="needs the extra [faces]")

from captum_plq.explanation import (  # noqa: E402
    Explainer,
    PhotoSettings,
    Settings,
    Watcher,
    explain_photos,
    result,
)
from captum_plq.faces import AlignedFace, Face  # noqa: E402
from captum_plq.models import FaceModel, ModelSpec  # noqa: E402
from captum_plq.preparation import loader, prepare  # noqa: E402

PHOTOS = 6
SPEC = ModelSpec("toy", (24, 24), (127.5,) * 3, (128.0,) * 3, gamma=8.0)
linux = pytest.mark.skipif(sys.platform != "linux", reason="kills forked processes")


@pytest.fixture
def explainer(backbone):
    return Explainer(FaceModel(backbone, SPEC).eval(), Settings(passes=5))


def write_crop(path, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    path.parent.mkdir(exist_ok=True)
    image_module.fromarray(pixels).save(path)


@pytest.fixture
def crops(tmp_path):
    for i in range(PHOTOS):
        write_crop(tmp_path / "crops" / f"{i}.png", i)
    return tmp_path / "crops"


class Heard(Watcher):
    """Notes what it is told; raises after some faces."""

    def __init__(self, stop=None, error=KeyboardInterrupt):
        self.faces, self.failures, self.notes = [], {}, []
        self.stop, self.error = stop, error

    def begun(self, record):
        self.record = record
        self.before = record.reached

    def noted(self, note):
        self.notes.append(note)

    def failed(self, image, reason):
        self.failures[os.path.basename(image)] = reason

    def explained(self, face, found, feedback, files):
        self.faces.append(face.stem)
        if len(self.faces) == self.stop:
            raise self.error


def explain(explainer, source, out, watcher=None, **changed):
    chosen = {"aligned": True, "batch_size": 1, "workers": 0, "write": ("figure",), **changed}
    sources = source if isinstance(source, list) else [source]
    return explain_photos(sources, out, explainer, PhotoSettings(**chosen), watcher=watcher)


def stopped(explainer, source, out, after, **changed):
    with pytest.raises(KeyboardInterrupt):
        explain(explainer, source, out, Heard(after), **changed)


def summary(out):
    return json.loads((out / "summary.json").read_text("utf-8"))


def content(out):
    """The summary, the names of all files, and the pixels of the contact sheet."""
    names = sorted(path.name for path in out.iterdir())
    return summary(out), names, (out / "contact-sheet.png").read_bytes()


def records(out):
    """When the record of each face that is noted was written."""
    path = out / "summary.jsonl"
    whole = path.read_text("utf-8").split("\n")[:-1] if path.exists() else []
    rows = [json.loads(line) for line in whole]
    found = [row["explained"]["record"] for row in rows if "explained" in row]
    return {name: (out / name).stat().st_mtime_ns for name in found}


@linux
@pytest.mark.parametrize("workers", [0, 1])
def test_killed_at_random_moments_it_loses_nothing(explainer, crops, tmp_path, workers):
    out, context, draw = tmp_path / "out", multiprocessing.get_context("fork"), random.Random(7)
    took = time.monotonic()
    explain(explainer, crops, tmp_path / "once", workers=workers)
    took = time.monotonic() - took
    kept = {}
    for _ in range(4):
        given = {"workers": workers}
        run = context.Process(target=explain, args=(explainer, crops, out), kwargs=given)
        run.start()
        time.sleep(draw.uniform(0.1, 0.5) * took)
        run.kill()
        run.join()
        if run.exitcode == 0:  # it was faster
            break
        now = records(out)
        assert kept.items() <= now.items()  # none was computed again
        kept = now
    else:
        heard = Heard()
        explain(explainer, crops, out, heard, workers=workers)
        assert len(heard.faces) == PHOTOS - len(kept)
    assert all((out / name).stat().st_mtime_ns == at for name, at in kept.items())
    assert content(out) == content(tmp_path / "once")


def test_interrupted_it_says_so_and_goes_on(explainer, crops, tmp_path):
    out = tmp_path / "out"
    explain(explainer, crops, tmp_path / "once", batch_size=4)
    for after in (1, 2):
        stopped(explainer, crops, out, after, batch_size=4)
        found = summary(out)
        done = 1 if after == 1 else 3
        assert (found["interrupted"], found["not_reached"]) == ("KeyboardInterrupt", PHOTOS - done)
        assert len(found["explained"]) == done
    heard = Heard()
    explain(explainer, crops, out, heard, batch_size=3, workers=1)  # which decide about no row
    assert (heard.before, heard.faces) == (3, ["3", "4", "5"])
    here, there = summary(out), summary(tmp_path / "once")
    for row, other in zip(here["explained"], there["explained"], strict=True):
        assert row == pytest.approx(other, abs=1e-5)
    assert (here["failed"], list(here)) == ([], list(there))
    assert not (out / "summary.jsonl").exists()
    heard = Heard()
    assert explain(explainer, crops, out, heard).replaces  # a finished run is no unfinished one
    assert len(heard.faces) == PHOTOS


@pytest.mark.parametrize(
    ("changed", "differs"),
    [
        ({"write": ()}, 'write ["figure"], not []'),
        ({"feedback": True}, "feedback false, not true"),
        ({"passes": 6}, "passes 5, not 6"),
        ({"weights": 2.0}, "model digest"),
        ({"source": "0.png"}, "source images 6, not 1"),
    ],
)
def test_the_rows_of_another_run_are_kept_and_it_is_told(
    explainer, crops, tmp_path, changed, differs
):
    out = tmp_path / "out"
    stopped(explainer, crops, out, 2)
    rows = (out / "summary.jsonl").read_bytes()
    if "passes" in changed:
        model = explainer.plq.quality_model.serfiq.model
        explainer = Explainer(model, Settings(passes=changed.pop("passes")))
    if "weights" in changed:
        next(explainer.plq.quality_model.serfiq.model.parameters()).data.mul_(
            changed.pop("weights")
        )
    source, heard = crops / changed.pop("source", ""), Heard()
    explain(explainer, source, out, heard, **changed)
    assert differs in heard.record.differs
    assert heard.record.left_by_another == out / "summary-2.jsonl"
    assert heard.record.left_by_another.read_bytes() == rows
    assert heard.before == 0
    assert len(heard.faces) == len(summary(out)["explained"])


def test_what_has_changed_or_is_gone_is_explained_again(explainer, crops, tmp_path):
    out = tmp_path / "out"
    stopped(explainer, crops, out, 5)
    write_crop(crops / "1.png", 99)
    (out / "3.png").unlink()
    heard = Heard()
    explain(explainer, crops, out, heard)
    assert (heard.before, heard.faces) == (5, ["1", "3", "5"])
    explain(explainer, crops, tmp_path / "once")
    assert content(out) == content(tmp_path / "once")


def test_a_photo_that_is_gone_fails_and_is_tried_again(explainer, crops, tmp_path):
    out, photos = tmp_path / "out", [crops / f"{i}.png" for i in range(PHOTOS)]
    stopped(explainer, photos, out, 5)
    photos[2].unlink()
    with pytest.raises(KeyboardInterrupt):
        explain(explainer, photos, out, heard := Heard(1))
    assert heard.failures == {"2.png": "does not exist; check the path."}
    assert [row["record"] for row in summary(out)["explained"]] == [
        *("0.json", "1.json", "3.json", "4.json", "5.json")
    ]
    assert "not_reached" in summary(out)
    write_crop(photos[2], 2)
    explain(explainer, photos, out, heard := Heard())
    assert (heard.before, heard.faces, heard.failures) == (5, ["2"], {})
    explain(explainer, photos, tmp_path / "once")
    assert content(out) == content(tmp_path / "once")


def test_of_several_faces_only_those_are_explained_that_were_not(
    explainer, crops, tmp_path, monkeypatch
):
    out, photo = tmp_path / "out", crops / "0.png"
    faces = [Face((i, i, 9 + i, 9 + i), 1.0 - 0.45 * i, np.ones((5, 2))) for i in range(3)]

    def three(image, **how):
        chips = [np.roll(image, i, axis=0) for i in range(3)]
        return [AlignedFace(chip, i + 1, faces) for i, chip in enumerate(chips)]

    monkeypatch.setattr(prepare, "aligned_faces", three)
    asked = {"aligned": False, "all_faces": True}
    stopped(explainer, photo, out, 2, **asked)
    assert (summary(out)["not_reached"], len(summary(out)["explained"])) == (1, 2)
    heard = Heard()
    explain(explainer, photo, out, heard, **asked)
    assert heard.faces == ["0-face3"]
    explain(explainer, photo, tmp_path / "once", **asked)
    assert content(out) == content(tmp_path / "once")
    assert "0-faces.png" in content(out)[1]
    assert "weak detection" in summary(out)["explained"][2]["warnings"][0]


def test_files_that_a_killed_run_had_begun_get_the_name_they_would_have(explainer, crops, tmp_path):
    out = tmp_path / "out"
    stopped(explainer, crops, out, 2)
    with (out / "summary.jsonl").open("a") as file:
        file.write('{"begun": "2"}\n{"at": [2, 1')
    (out / "2.png").write_text("half of what was to be")
    explain(explainer, crops, out)
    explain(explainer, crops, tmp_path / "once")
    assert content(out) == content(tmp_path / "once")


def full_fake(monkeypatch, out):
    real = result.whole_file

    def full(path, **options):
        if len(list(path.parent.glob("?.json"))) >= 2:
            raise OSError(28, "No space left on device")
        return real(path, **options)

    monkeypatch.setattr(result, "whole_file", full)
    return monkeypatch.undo


def full_tmpfs(monkeypatch, out):
    out.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "none", str(out)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a tmpfs cannot be mounted here")
    return lambda: subprocess.run(
        ["mount", "-o", "remount,size=10m", str(out)], check=True, capture_output=True
    )


@pytest.mark.parametrize("fill", [full_fake, full_tmpfs])
def test_after_a_full_disk_it_goes_on(explainer, crops, tmp_path, monkeypatch, fill):
    out = tmp_path / "out"
    make_room = fill(monkeypatch, out)
    try:
        with pytest.raises(OSError, match=r"left( on device)?\.?\): mend that, and run the same"):
            explain(explainer, crops, out)
        before = records(out)
        assert 0 < len(before) < PHOTOS
        make_room()
        heard = Heard()
        explain(explainer, crops, out, heard)
        assert len(heard.faces) == PHOTOS - len(before)
        explain(explainer, crops, tmp_path / "once")
        assert content(out) == content(tmp_path / "once")
    finally:
        if fill is full_tmpfs:
            subprocess.run(["umount", str(out)], check=True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a POSIX file system")
@pytest.mark.parametrize("workers", [0, 1])
def test_pipes_and_devices_in_a_list_hold_nothing_up(explainer, crops, tmp_path, workers):
    os.mkfifo(crops / "fifo.jpg")
    (tmp_path / "list.txt").write_text("crops/0.png\ncrops/fifo.jpg\n/dev/zero\ncrops/1.png\n")
    heard = Heard()
    found = explain(explainer, tmp_path / "list.txt", tmp_path / "out", heard, workers=workers)
    assert (heard.faces, found.failures) == (["0", "1"], 2)
    assert "named pipe" in heard.failures["fifo.jpg"]
    assert "a device" in heard.failures["zero"]


@linux
def test_a_worker_that_is_lost_costs_nothing_but_the_photo_that_ends_two(
    explainer, crops, tmp_path, monkeypatch
):
    decode = prepare.decode_image

    def badly(content, name):
        if name.endswith("2.png"):
            os.kill(os.getpid(), signal.SIGKILL)
        if name.endswith("4.png"):
            time.sleep(60)
        return decode(content, name)

    monkeypatch.setattr(prepare, "decode_image", badly)
    heard = Heard()
    explain(explainer, crops, tmp_path / "out", heard, workers=1, timeout=0.5, write=())
    assert heard.faces == ["0", "1", "3", "5"]
    assert "ended, 2 times" in heard.failures["2.png"]
    assert heard.failures["4.png"] == "was given up after 0.5 seconds."
    assert any("killed" in note or "exited" in note for note in heard.notes)


def test_photos_of_one_batch_need_no_process_and_none_needs_pyarrow(
    explainer, crops, tmp_path, monkeypatch
):
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    begun = []
    monkeypatch.setattr(loader.DataLoader, "__init__", spied(loader.DataLoader.__init__, begun))
    for size, workers in ((PHOTOS, 0), (PHOTOS - 1, loader.Workers().count(2))):
        heard = Heard()
        explain(explainer, crops, tmp_path / "o", heard, batch_size=size, workers=None, write=())
        assert (len(heard.faces), begun.pop()) == (PHOTOS, workers)
        assert not begun
    assert workers >= 1


def spied(begin, noted):
    def beginning(self, *given, **options):
        noted.append(options["num_workers"])
        begin(self, *given, **options)

    return beginning
