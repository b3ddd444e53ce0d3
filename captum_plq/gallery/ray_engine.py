"""The Ray engine: the shards of a run on all machines of a cluster, an actor per GPU or processor.

It uses Ray's actors, not Ray Data's pool of them. Nothing flows here but numbers of shards and
their records, and the pool is in the way when a machine is lost for good: what it had been given
waits until another actor has nothing left to do. A shard that ends its worker each time is tried
without end there, or ends the run.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from captum_plq._base.whole_file import remove_unfinished
from captum_plq.errors import extra
from captum_plq.gallery.manifest import Manifest
from captum_plq.gallery.ray_worker import Order, ShardWorker, manifest_digest
from captum_plq.gallery.result import MAPS, SHARDS
from captum_plq.gallery.settings import ScoreSettings
from captum_plq.gallery.shards import adopted_record

__all__ = ["Share", "share_of", "work_on_ray"]

_CAREFUL, _LOSSES = 2, 4
"""Workers lost on one shard before it is prepared image by image, and before the run ends."""
_LOST_AT_ONCE = 10
"""Workers lost one after another before one has begun."""
_AHEAD = 2
"""Shards that a worker is given at once, so that it need not wait for this process."""
_ANSWER = 10.0
"""Seconds in which a cluster has to answer."""
_LOOK, _PATIENCE = 5.0, 60.0
"""Seconds between two looks at the cluster, and without any worker."""


class Share(NamedTuple):
    """What of a cluster a worker gets.

    Args:

        cpus (int): Processors.
        gpus (int): 0 or 1.
        workers (int): Processes that decode and align, of each.
        room (int): How many workers there is room for.
    """

    cpus: int
    gpus: int
    workers: int
    room: int


def share_of(settings: ScoreSettings, nodes: Sequence[dict[str, float]]) -> Share:
    """Divide a cluster among workers: one for each GPU, or processor where none is asked for.

    A worker gets as many processors as it has processes that decode and align. Their default is 1,
    or with GPUs the processors that a GPU has on its machine, less one for the worker itself.

    Args:

        settings (ScoreSettings): The choices.
        nodes (sequence of dict): Of each machine, Ray's resources.

    Returns:
        *Share*: ``room`` is 0 if no machine has that.

    Examples::

        >>> share_of(ScoreSettings(device="cuda"), [{"CPU": 64.0, "GPU": 8.0}])
        Share(cpus=7, gpus=1, workers=7, room=8)
        >>> share_of(ScoreSettings(), [{"CPU": 16.0}, {"CPU": 8.0}]).room
        24
    """
    gpus, workers = int(settings.device.startswith("cuda")), settings.workers
    if workers is None:
        ratios = [n["CPU"] // n["GPU"] for n in nodes if n.get("GPU", 0) >= 1 and "CPU" in n]
        workers = max(1, int(min(ratios, default=1)) - 1) if gpus else 1
    cpus = max(1, workers)
    room = sum(
        int(min(node.get("CPU", 0) // cpus, node.get("GPU", 0) if gpus else float("inf")))
        for node in nodes
    )
    return Share(cpus, gpus, workers, room)


def work_on_ray(
    order: Order,
    todo: Sequence[int],
    manifest: Manifest,
    tell: Callable[[int, str], None],
    undisturbed: Callable[[], AbstractContextManager[None]],
    address: str | None = None,
) -> None:
    """Score shards on a Ray cluster, and note them.

    Args:

        order (Order): The run; its paths are made absolute here.
        todo (sequence of int): The shards.
        manifest (Manifest): Of the result.
        tell (Callable): Told how many images are done, and what has happened.
        undisturbed (Callable): Makes a context in which a shard is noted.
        address (str, optional): Of the cluster, ``"HOST:PORT"``, or ``"auto"`` for the one that
            this machine is in. ``None``: the one that this process is connected to, or that
            ``RAY_ADDRESS`` names, or else one of this machine alone, which ends with the run.

    Raises:
        ValueError: if a machine does not see the result or the source, or has another network; if
            the cluster cannot be reached or has no room for a worker.
        RuntimeError: if workers end again and again, or the network fails.
        OSError: if a file of the result cannot be written, or the source is gone.
        MissingExtraError: if Ray is not installed.
    """
    with extra("ray"):
        import ray
    if not todo:
        return
    order = replace(
        order,
        directory=os.path.abspath(manifest.directory),
        digest=manifest_digest(manifest.directory) or "",
        settings=_with_absolute_paths(order.settings),
    )
    with _connected(ray, address):
        crew = _Crew(ray, order, manifest, tell, undisturbed)
        try:
            crew.work(todo)
        finally:
            crew.dismiss()
    for folder in (SHARDS, MAPS):
        remove_unfinished(manifest.directory / folder)


def _with_absolute_paths(settings: ScoreSettings) -> ScoreSettings:
    """Name files so that they are found from any folder."""
    found = {name: getattr(settings, name) for name in ("model", "checkpoint", "calibration")}
    files = {name: value for name, value in found.items() if value and os.path.isfile(value)}
    return replace(settings, **{name: os.path.abspath(file) for name, file in files.items()})


@contextmanager
def _connected(ray: Any, address: str | None) -> Iterator[None]:
    """Connect to a cluster, unless this process is connected already."""
    if ray.is_initialized():
        yield
        return
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        address = address or os.environ.get("RAY_ADDRESS") or "local"
        host, _, port = address.removeprefix("ray://").rpartition(":")
        if host and port.isdecimal():  # Ray itself would try for minutes
            socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER).close()
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        what = "begun here" if address == "local" else f"reached at {address}"
        raise ValueError(f"No Ray cluster can be {what} ({_line(error)}).") from error
    try:
        if main and before is not None:  # Ray has set its own
            signal.signal(signal.SIGTERM, before)
        yield
    finally:
        ray.shutdown()


@dataclass(eq=False)
class _Member:
    """A worker, and what it was given: shards by their references, None for its beginning."""

    actor: Any
    given: dict[Any, int | None] = field(default_factory=dict)
    host: str = ""

    def shards(self) -> list[int]:
        return [shard for shard in self.given.values() if shard is not None]


class _Crew:
    """The workers on a cluster."""

    def __init__(
        self,
        ray: Any,
        order: Order,
        manifest: Manifest,
        tell: Callable[[int, str], None],
        undisturbed: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._ray, self._order, self._manifest = ray, order, manifest
        self._tell, self._undisturbed = tell, undisturbed
        self._members: list[_Member] = []
        self._todo: deque[int] = deque()
        self._losses: Counter[int] = Counter()
        self._lost_at_once = 0
        self._looked = self._begun = float("-inf")
        self._share = share_of(order.settings, self._nodes())
        if not self._share.room:
            cpus, gpus = self._share.cpus, self._share.gpus
            asked = f"{cpus} processors{' and a GPU' if gpus else ''}"
            raise ValueError(f"No machine of the Ray cluster has {asked}, as a worker needs.")
        device = "cuda" if self._share.gpus else order.settings.device  # a worker sees one only
        settings = replace(order.settings, workers=self._share.workers, device=device)
        self._sent = ray.put(replace(order, settings=settings))

    def work(self, todo: Sequence[int]) -> None:
        """Do shards; those of lost workers again."""
        self._todo = deque(todo)
        self._begun = time.monotonic()
        while self._todo or any(member.shards() for member in self._members):
            self._hire()
            self._hand_out()
            given = {ref: member for member in self._members for ref in member.given}
            if not given:
                time.sleep(1)
                continue
            ready, _ = self._ray.wait(list(given), num_returns=1, timeout=_LOOK)
            for ref in ready:
                self._receive(given[ref], ref)

    def dismiss(self) -> None:
        """End all workers."""
        for member in self._members:
            with suppress(Exception):  # of whatever has happened to the cluster
                self._ray.kill(member.actor)
        self._members = []

    def _nodes(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _hire(self) -> None:
        """Make workers for what there is room for, also on machines that have come later."""
        now = time.monotonic()
        if any(member.host for member in self._members):
            self._begun = now
        elif now - self._begun > _PATIENCE:
            self._tell(0, "No worker has begun yet: is there room for one on the Ray cluster?")
            self._begun = now
        if now - self._looked < _LOOK:
            return
        self._looked = now
        now_there = share_of(
            replace(self._order.settings, workers=self._share.workers), self._nodes()
        )
        wanted = min(now_there.room, len(self._todo) + len(self._members))
        actor = self._ray.remote(ShardWorker).options(
            num_cpus=self._share.cpus,
            num_gpus=self._share.gpus,
            max_restarts=0,
            scheduling_strategy="SPREAD",
        )
        for _ in range(wanted - len(self._members)):
            member = _Member(actor.remote(self._sent))
            member.given[member.actor.begin.remote()] = None
            self._members.append(member)

    def _hand_out(self) -> None:
        for many in range(_AHEAD):
            for member in self._members:
                if not self._todo or (many and len(self._todo) <= len(self._members)):
                    break  # the last ones go to whoever is free first
                if member.host and len(member.given) == many:
                    shard = self._todo.popleft()
                    careful = self._losses[shard] >= _CAREFUL
                    member.given[member.actor.score.remote(shard, careful)] = shard

    def _receive(self, member: _Member, ref: Any) -> None:
        if ref not in member.given:  # of a worker that was found to be lost in the meantime
            return
        failures = self._ray.exceptions
        try:
            found = self._ray.get(ref)
        except failures.RayTaskError as error:  # of our own code: no other worker would do better
            cause = error.cause
            raise (cause if isinstance(cause, Exception) else error) from None
        except failures.RayError as error:
            self._lost(member, error)
            return
        shard = member.given.pop(ref)
        if shard is None:
            member.host, self._lost_at_once = found, 0
        else:
            self._note(found)

    def _lost(self, member: _Member, error: Exception) -> None:
        self._members.remove(member)
        with suppress(Exception):  # it may live, and only not be reached
            self._ray.kill(member.actor)
        shards, self._looked = member.shards(), float("-inf")
        member.given.clear()
        if member.host:
            self._tell(0, f"A worker on {member.host} was lost ({_line(error)}). Another goes on.")
        else:
            self._lost_at_once += 1
            if self._lost_at_once == _LOST_AT_ONCE:
                raise RuntimeError(f"The workers on the Ray cluster do not begin: {error}")
        if shards:  # the first was in work
            self._losses[shards[0]] += 1
            if self._losses[shards[0]] == _LOSSES:
                raise RuntimeError(
                    f"{_LOSSES} workers were lost on shard {shards[0]}, the last one with: "
                    f"{_line(error)} Is there too little memory?"
                )
        for shard in reversed(shards):
            written = self._written(shard)
            if written is None:
                self._todo.appendleft(shard)
            else:
                self._note(written)

    def _written(self, shard: int) -> dict[str, Any] | None:
        """The record of a shard that a lost worker had written, but not told of."""
        order, directory = self._order, self._manifest.directory
        return adopted_record(
            directory, shard, order.schema, self._places(shard), order.settings.maps
        )

    def _places(self, shard: int) -> range:
        return self._order.settings.places_of(shard, len(self._order.entries))

    def _note(self, record: dict[str, Any]) -> None:
        with self._undisturbed():
            self._manifest.note(record)
        self._tell(len(self._places(record["shard"])), "")


def _line(error: BaseException) -> str:
    """The first line of an error that says something, and of Ray's many."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
