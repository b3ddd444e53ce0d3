"""The Ray engine on a Ray cluster of two machines, both this one: the rows of the local engine.

The network says which process it works in, and lets the images take their time, so that there is
somebody to kill, and something left to do.
"""

import os
import signal
import socket
from contextlib import ExitStack

import pytest

pytest.importorskip("ray", reason="needs the extra [ray]")

from captum_plq.gallery import ScoreSettings, read_result, score_gallery
from tests.gallery.conftest import rows_of, write_crops

pytestmark = pytest.mark.slow

IMAGES, SHARD = 40, 4
NETWORK = """
import os, time, torch
from torch import nn
from captum_plq.preparation import prepare
from captum_plq.models import FaceModel, ModelSpec

LOG, BOMB = {log!r}, b"BOMB"
decode = prepare.decode_image

def explode(data, *more):
    if BOMB in data:
        os.kill(os.getpid(), 9)
    return decode(data, *more)

class Net(nn.Sequential):
    def forward(self, x):
        with open(LOG, "a") as file:
            print(os.getpid(), len(x), file=file)
        time.sleep({pause})
        return super().forward(x)

def load_model():
    prepare.decode_image = explode
    torch.manual_seed(0)
    net = Net(
        nn.Conv2d(3, 6, 5, 3), nn.PReLU(6), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(96, 8)
    )
    return FaceModel(net, ModelSpec("mine", (32, 32), (127.5,) * 3, (128.0,) * 3))
"""


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        for name in ("raylet_start_wait_time_s", "worker_register_timeout_seconds"):
            patch.setenv(f"RAY_{name}", "300")  # of a machine that is busy
        patch.setenv("RAY_agent_register_timeout_ms", "300000")
        yield from a_cluster(Cluster)


def a_cluster(make):
    head = {**machine(), "include_dashboard": False}
    cluster = make(initialize_head=True, head_node_args=head)
    yield cluster
    cluster.shutdown()


def machine():
    """A processor, and ports of its own: for those that it finds, Ray waits half a minute only."""
    names = ("metrics_agent", "metrics_export", "runtime_env_agent", "dashboard_agent_listen")
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("", 0))) for _ in names]
        ports = {
            f"{name}_port": listener.getsockname()[1]
            for name, listener in zip(names, sockets, strict=True)
        }
    return {"num_cpus": 1, "object_store_memory": 80_000_000, **ports}


@pytest.fixture
def two(cluster):
    """The cluster with its second machine."""
    node = cluster.add_node(**machine())
    yield cluster, node
    if node in cluster.worker_nodes:
        cluster.remove_node(node)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_crops(tmp_path_factory.mktemp("ray") / "crops", IMAGES)


@pytest.fixture
def network(tmp_path):
    def write(pause=0.0):
        file = tmp_path / "mine.py"
        file.write_text(NETWORK.format(log=str(tmp_path / "log"), pause=pause))
        return file

    return write


def chosen(network, **changed):
    given = {"model": str(network), "passes": 5, "aligned": True, "shard_size": SHARD}
    return ScoreSettings(**{**given, "batch_size": 2, "workers": 0, **changed})


@pytest.fixture
def expected(photos, network, tmp_path):
    score_gallery(photos, tmp_path / "expected", chosen(network()))
    (tmp_path / "log").unlink()
    return rows_of(tmp_path / "expected")


def processes(tmp_path):
    """Who has computed, in order; each process tries the network on the sample face first."""
    return [int(line.split()[0]) for line in (tmp_path / "log").read_text().splitlines()]


def batches(tmp_path):
    """How many were scored; each process also tries the network on two faces."""
    lines = (tmp_path / "log").read_text().splitlines()
    return sum(line.endswith(" 2") for line in lines) - len(set(processes(tmp_path)))


def test_rows_are_those_of_the_local_engine(two, photos, network, expected, tmp_path):
    settings = chosen(network(0.2), workers=1)  # of which the images are prepared ahead
    summary = score_gallery(
        photos, tmp_path / "result", settings, engine="ray", address=two[0].address
    )
    assert rows_of(tmp_path / "result") == expected
    assert (summary.computed, summary.counts) == (IMAGES, {"ok": IMAGES})
    assert len(set(processes(tmp_path)) - {os.getpid()}) == 2
    assert batches(tmp_path) == IMAGES / 2
    assert {"read", "decode", "align", "network", "write", "wait"} == set(summary.seconds)


def test_a_killed_worker_costs_its_unfinished_shards_only(two, photos, network, expected, tmp_path):
    told = []

    def kill(progress):
        told.append(progress)
        if len(told) == 1:
            os.kill(processes(tmp_path)[-1], signal.SIGKILL)

    settings = chosen(network(0.4))
    score_gallery(
        photos,
        tmp_path / "result",
        settings,
        engine="ray",
        address=two[0].address,
        progress=kill,
    )
    assert rows_of(tmp_path / "result") == expected
    assert next(p.note for p in told if p.note).startswith("A worker on ")
    assert told[-1].done == IMAGES
    assert batches(tmp_path) <= IMAGES / 2 + SHARD / 2
    assert not list((tmp_path / "result").rglob("*.tmp"))


def test_a_lost_machine_costs_its_unfinished_shards_only(two, photos, network, expected, tmp_path):
    cluster, node = two
    told = []

    def remove(progress):
        told.append(progress)
        if len(told) == 3:
            cluster.remove_node(node, allow_graceful=False)

    settings = chosen(network(0.4))
    score_gallery(
        photos,
        tmp_path / "result",
        settings,
        engine="ray",
        address=cluster.address,
        progress=remove,
    )
    assert rows_of(tmp_path / "result") == expected
    assert any("was lost" in p.note for p in told)
    assert batches(tmp_path) <= IMAGES / 2 + SHARD / 2


def test_a_run_goes_on_on_the_other_engine(cluster, photos, network, expected, tmp_path):
    class EnoughError(Exception):
        pass

    def stop(progress):
        if progress.done >= progress.before + 3 * SHARD:
            raise EnoughError

    where = {"engine": "ray", "address": cluster.address}
    for more in ({}, where):
        with pytest.raises(EnoughError):
            score_gallery(photos, tmp_path / "result", chosen(network()), progress=stop, **more)
    before = len(read_result(tmp_path / "result").dataset.files)
    assert before >= 5  # the local engine tells of the third before it is written
    summary = score_gallery(photos, tmp_path / "result", chosen(network()), **where)
    assert rows_of(tmp_path / "result") == expected
    assert summary.computed == IMAGES - before * SHARD
    assert score_gallery(photos, tmp_path / "result", chosen(network()), **where).computed == 0


def test_an_image_that_ends_every_worker_is_a_row_that_says_so(cluster, network, tmp_path):
    crops = write_crops(tmp_path / "crops", 6)
    bomb = sorted(crops.rglob("*.png"))[1]
    bomb.write_bytes(bomb.read_bytes() + b"BOMB")
    summary = score_gallery(
        crops, tmp_path / "result", chosen(network()), engine="ray", address=cluster.address
    )
    table = read_result(tmp_path / "result").table()
    assert summary.counts == {"ok": 5, "crash": 1}
    assert table["reason"].to_pylist()[1] == "crash"


def test_a_cluster_that_is_not_there_is_an_error(photos, network, tmp_path):
    where = {"engine": "ray", "address": "127.0.0.1:1"}
    with pytest.raises(ValueError, match=r"No Ray cluster can be reached at 127\.0\.0\.1:1"):
        score_gallery(photos, tmp_path / "result", chosen(network()), **where)
