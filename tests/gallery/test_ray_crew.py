"""The Ray engine without Ray: how a cluster is divided, and what happens when workers are lost.

Ray itself is played by a class that runs what it is given when it is waited for.
"""

import sys
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest

from captum_plq.errors import MissingExtraError
from captum_plq.gallery import ScoreSettings, ray_engine, score_gallery
from captum_plq.gallery.compute import FaceScorer
from captum_plq.gallery.manifest import open_manifest
from captum_plq.gallery.ray_engine import share_of
from captum_plq.gallery.ray_worker import Order, ShardWorker, manifest_digest
from captum_plq.gallery.score import schema_of
from captum_plq.gallery.shards import make_folders, shard_path
from captum_plq.preparation import list_entries
from tests.gallery.conftest import FAST, rows_of

GPU_NODE = {"CPU": 32.0, "GPU": 4.0}


@pytest.mark.parametrize(
    ("changed", "nodes", "share"),
    [
        ({}, [{"CPU": 4.0}, {"CPU": 2.0}, {"memory": 1.0}], (1, 0, 1, 6)),
        ({"workers": 0}, [{"CPU": 4.0}], (1, 0, 0, 4)),
        ({"workers": 3}, [{"CPU": 4.0}, {"CPU": 8.0}], (3, 0, 3, 3)),
        ({"device": "cuda"}, [GPU_NODE, {"CPU": 64.0}], (7, 1, 7, 4)),
        ({"device": "cuda"}, [GPU_NODE, {"CPU": 4.0, "GPU": 1.0}], (3, 1, 3, 5)),
        ({"device": "cuda", "workers": 16}, [GPU_NODE], (16, 1, 16, 2)),
        ({"device": "cuda"}, [{"CPU": 8.0}], (1, 1, 1, 0)),
    ],
)
def test_a_cluster_is_divided(changed, nodes, share):
    assert share_of(ScoreSettings(**changed), nodes) == share


class RayError(Exception):
    pass


class RayTaskError(RayError):
    def __init__(self, cause):
        super().__init__("a long traceback")
        self.cause = cause


class Ray:
    """Two machines with a processor each; ``script`` says what ``score`` does, in turn."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, script=()):
        self.script, self.asked, self.killed, self.cpus = list(script), [], [], [1.0, 1.0]

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": count}} for count in self.cpus]

    def put(self, order):
        return order

    def remote(self, kind):
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self._actor))

    def _actor(self, order):
        def task(call):
            return SimpleNamespace(remote=lambda *given: (object(), call, given))

        return SimpleNamespace(
            begin=task(lambda: "here"), score=task(lambda *given: self._score(*given))
        )

    def _score(self, shard, careful):
        self.asked.append((shard, careful))
        does = self.script.pop(0) if self.script else "score"
        if isinstance(does, Exception):
            raise does
        if callable(does):
            does(shard)
        return {"shard": shard, "rows": 2, "counts": {"ok": 2}, "files": {}, "seconds": {}}

    def wait(self, refs, num_returns, timeout):
        return refs[:1], refs[1:]

    def get(self, ref):
        _, call, given = ref
        return call(*given)

    def kill(self, actor):
        self.killed.append(actor)


@pytest.fixture
def work(tmp_path, monkeypatch):
    told = []

    def run(ray, shards=5):
        settings = ScoreSettings(**{**FAST, "shard_size": 2})
        order = Order(range(2 * shards), "", settings, {}, None, {})
        monkeypatch.setitem(sys.modules, "ray", ray)
        monkeypatch.setattr(ray_engine, "_connected", lambda *_: nullcontext())
        with open_manifest(tmp_path, {}) as manifest:
            ray_engine.work_on_ray(
                order, range(shards), manifest, lambda *given: told.append(given), nullcontext
            )
            return sorted(manifest.records), told

    return run


def test_all_shards_are_done_once(work):
    ray = Ray()
    done, told = work(ray)
    assert done == [0, 1, 2, 3, 4]
    assert sorted(ray.asked) == [(shard, False) for shard in range(5)]
    assert told == [(2, "")] * 5
    assert len(ray.killed) == 2


def test_shards_of_a_lost_worker_are_done_again_and_no_others(work):
    ray = Ray(["score", RayError("The machine is gone.\nMore of it."), "score"])
    done, told = work(ray)
    assert done == [0, 1, 2, 3, 4]
    asked = [shard for shard, _ in ray.asked]
    lost = asked[1]
    assert sorted(asked) == sorted([*range(5), lost])
    notes = [note for images, note in told if note]
    assert notes == ["A worker on here was lost (The machine is gone.). Another goes on."]
    assert sum(images for images, _ in told) == 10


def test_what_a_lost_worker_had_written_is_not_done_again(work, monkeypatch):
    def adopted(directory, number, schema, places, maps):
        record = {"shard": number, "rows": 2, "counts": {"ok": 2}, "files": {}, "seconds": {}}
        return record if number == 0 else None

    monkeypatch.setattr(ray_engine, "adopted_record", adopted)
    ray = Ray([RayError("gone")])
    assert work(ray)[0] == [0, 1, 2, 3, 4]
    assert [shard for shard, _ in ray.asked].count(0) == 1


def test_a_shard_that_costs_workers_is_done_with_care_and_then_given_up(work):
    ray = Ray([RayError("gone")] * 2)
    assert work(ray, shards=1)[0] == [0]
    assert ray.asked == [(0, False), (0, False), (0, True)]
    with pytest.raises(RuntimeError, match=r"4 workers were lost on shard 1.*gone"):
        work(Ray(["score"] + [RayError("gone")] * 4), shards=2)


def test_an_error_of_ours_ends_the_run_as_it_is(work):
    with pytest.raises(OSError, match="no space"):
        work(Ray(["score", RayTaskError(OSError("no space"))]))
    assert work(Ray())[0] == [0, 1, 2, 3, 4]


def test_workers_that_never_begin_end_the_run(work, monkeypatch):
    class Broken(Ray):
        def get(self, ref):
            raise RayError("no captum_plq there")

    with pytest.raises(RuntimeError, match="do not begin: no captum_plq there"):
        work(Broken())


def test_a_cluster_without_room_is_refused(work):
    ray = Ray()
    ray.cpus = [0.0]
    with pytest.raises(ValueError, match="No machine of the Ray cluster has 1 processors"):
        work(ray)


@contextmanager
def an_order(crops, result, scorer=None, **changed):
    settings = ScoreSettings(**FAST)
    entries = list_entries(crops)
    scorer = scorer or FaceScorer(settings)
    make_folders(result, "none")
    with open_manifest(result, scorer.identity()):
        given = {
            "entries": entries,
            "anchor": entries.anchor(),
            "settings": settings,
            "identity": scorer.identity(),
            "schema": schema_of(scorer, settings),
            "source": {},
            "directory": str(result),
            "digest": manifest_digest(result),
        }
        yield Order(**{**given, **changed})


def test_a_worker_writes_what_the_local_engine_writes(crops, undisturbed, tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(
        "captum_plq.gallery.ray_worker.keep_freed_memory", lambda: kept.append(True)
    )
    with an_order(crops, tmp_path) as order:
        worker = ShardWorker(order)
        worker.begin()
        assert kept == [True]
        records = [worker.score(shard, shard == 1) for shard in range(4)]
    assert [record["rows"] for record in records] == [4, 4, 4, 2]
    assert shard_path(tmp_path, 3).is_file()
    assert rows_of(tmp_path) == rows_of(undisturbed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"directory": "/nowhere/result"}, "does not see the result /nowhere/result"),
        ({"digest": "of another one"}, "does not see the result"),
        ({"anchor": "/nowhere/photos"}, "does not see the images, /nowhere/photos"),
        ({"identity": {"model": {"name": "another"}}}, "another network or calibration"),
    ],
)
def test_a_machine_that_cannot_take_part_says_why(crops, tmp_path, monkeypatch, changed, message):
    scorer = FaceScorer(ScoreSettings(**FAST))
    monkeypatch.setattr("captum_plq.gallery.ray_worker.FaceScorer", lambda *_: scorer)
    with (
        an_order(crops, tmp_path, scorer, **changed) as order,
        pytest.raises(ValueError, match=message),
    ):
        ShardWorker(order).begin()


def test_the_engine_is_asked_for_in_words(crops, settings, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="'local' or 'ray'"):
        score_gallery(crops, tmp_path / "a", settings(), engine="spark")
    with pytest.raises(ValueError, match="ask for the engine 'ray' too"):
        score_gallery(crops, tmp_path / "a", settings(), address="head:6379")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"captum-plq\[ray\]"):
        score_gallery(crops, tmp_path / "a", settings(), engine="ray")
