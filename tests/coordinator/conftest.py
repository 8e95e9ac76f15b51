"""A whole job without sockets, clock or threads: clients that talk to the core, and time that a test moves by hand.

After every step the records so far, replayed through their bytes, must give the same history: what the core answers is
in the journal, or it was not decided.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import msgspec
import numpy as np
import pytest

from strata_zmq.coordinator.core.core import Core
from strata_zmq.coordinator.core.history import History
from strata_zmq.coordinator.core.records import Record
from strata_zmq.coordinator.core.world import CoreConfig, Effects, Received
from strata_zmq.domain.checksum import checksum
from strata_zmq.domain.shuffle import sample_ids
from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.codec import decode_broadcast, decode_reply, decode_request, encode
from strata_zmq.protocol.sight import SightDelta, decode_delta

R = TypeVar("R")

LEASE_S = 8.0
TICK_S = 0.25
TOKEN = "supervisor's secret"  # noqa: S105 - a test's


class Call:
    """One request and, once it came, its answer."""

    def __init__(self, request: Any) -> None:
        self.request = request
        self.replies: list[Any] = []

    @property
    def waits(self) -> bool:
        """Whether no answer has come yet."""
        return not self.replies

    def got(self, kind: type[R]) -> R:
        """The answer, which must be the only one and of this kind."""
        assert len(self.replies) == 1, f"{self.request}: answered with {self.replies}"
        assert type(self.replies[0]) is kind, f"{self.request}: answered with {self.replies[0]}"
        return self.replies[0]

    def refused(self, code: str, *words: str) -> wire.ErrorReply:
        """The error that answered; it must have this code and name all `words`."""
        error = self.got(wire.ErrorReply)
        assert error.code == code, error
        for word in words:
            assert word in error.message, f"{word!r} is not named in {error.message!r}"
        return error


class Client:
    """One connection. `inbox` holds what came without having been asked for."""

    def __init__(self, job: Job, role: str) -> None:
        self.job, self.role = job, role
        self.connection = f"connection-{next(job.numbers)}".encode()
        self.session = self.term = self.generation = 0
        self.name = ""
        self.incarnation = ""
        self.calls: dict[int, Call] = {}
        self.inbox: list[Any] = []

    def hello(self, **fields: Any) -> Call:
        call = self.ask(wire.Hello(**{"role": self.role, **fields}))
        if type(call.replies[0]) is wire.Welcome:
            self.session, self.term = call.replies[0].session, call.replies[0].term
        return call

    def event(self, message: Any) -> Received:
        """The message as it would arrive, under a new sequence number."""
        seq = next(self.job.numbers)
        fields = {"session": self.session, "term": self.term, "generation": self.generation, "seq": seq}
        named = {name: getattr(message, name) or value for name, value in fields.items()}
        sent = msgspec.structs.replace(message, **named)
        self.calls[sent.seq] = Call(sent)
        return Received(self.connection, decode_request(encode(sent)))

    def ask(self, message: Any) -> Call:
        """Send one request in a step of its own."""
        event = self.event(message)
        call = self.calls[event.message.seq]
        self.job.step(event)
        return call

    def take(self, reply: Any) -> None:
        self.generation = reply.generation if type(reply) is wire.Membership else self.generation
        if reply.seq == 0:
            self.inbox.append(reply)
        else:
            self.calls[reply.seq].replies.append(reply)

    # ---- what a worker says

    def register(self, **fields: Any) -> Call:
        given = {"worker_id": self.name, "incarnation": self.incarnation, "pid": 1000, "hostname": "host", **fields}
        return self.ask(wire.RegisterWorker(**given))

    def join(self, timeout_s: float = 60.0) -> Call:
        """Ask for the generation after the adopted one."""
        return self.ask(wire.AwaitGeneration(after=self.generation, timeout_s=timeout_s))

    def heartbeat(self, **fields: Any) -> Call:
        return self.ask(wire.Heartbeat(**fields))

    def arrive(self, name: str = "step", step: int = 1, **fields: Any) -> Call:
        return self.ask(wire.Arrive(name=name, step=step, **fields))

    def commit(self, *ranges: wire.SeenRange, step: int = 0, **fields: Any) -> Call:
        """Arrive at the next commit point (or `step`) with these ranges."""
        due = step or self.job.history.commit_index + 1
        return self.arrive("commit", due, commit=True, ranges=list(ranges), **fields)

    def shards(self, dataset_id: str = "data", **fields: Any) -> wire.Shards:
        return self.ask(wire.GetShards(dataset_id=dataset_id, **fields)).got(wire.Shards)

    def advance(self, epoch: int | None = None, timeout_s: float = 60.0) -> Call:
        current = self.job.history.epoch if epoch is None else epoch
        return self.ask(wire.AdvanceEpoch(epoch=current, timeout_s=timeout_s))

    def begin(self, step: int = 10, **fields: Any) -> Call:
        return self.ask(wire.CheckpointBegin(step=step, **fields))

    def durable(self, checkpoint_id: str, digest: str = "digest") -> Call:
        return self.ask(
            wire.CheckpointArrive(checkpoint_id=checkpoint_id, index_key="key", digest=digest, size_bytes=100)
        )

    def staged(self, checkpoint_id: str, writer_id: str = "writer") -> Call:
        return self.ask(wire.CheckpointStaged(checkpoint_id=checkpoint_id, writer_id=writer_id))

    # ---- what a writer says

    def drained(self, checkpoint_id: str, worker: Client, rank: int, **fields: Any) -> Call:
        """Arrive for a worker whose save this writer has finished."""
        given = {"index_key": "drained", "digest": "digest", "size_bytes": 100, "worker_id": worker.name, **fields}
        return self.ask(wire.CheckpointArrive(checkpoint_id=checkpoint_id, rank=rank, **given))

    def offer(self, *checkpoints: wire.CheckpointSummary, boot_id: str = "boot", head_version: int = 0) -> Call:
        info = wire.WriterInfo(self.name, self.incarnation, "ipc:///data", "ipc:///control", boot_id)
        kept = list(checkpoints)
        return self.ask(wire.RegisterWriter(writer=info, checkpoints=kept, head_version=head_version))

    def confirm(self, summary: wire.CheckpointSummary, *retained: str, head_version: int = 0) -> Call:
        kept = list(retained) or [summary.checkpoint_id]
        return self.ask(wire.CheckpointCommitted(checkpoint=summary, retained=kept, head_version=head_version))

    def asked_to_commit(self) -> wire.CommitCheckpoint | None:
        """Take the oldest commit that this writer was asked for, if any."""
        return self.inbox.pop(0) if self.inbox else None


class Job:
    """The core, its clients, a clock that stands still until `wait`, and a second history fed from the records."""

    def __init__(self, **config: Any) -> None:
        self.config = CoreConfig(
            **{"job": "job", "lease_s": LEASE_S, "heartbeat_s": 1.0, "supervisor_token": TOKEN, **config}
        )
        self.numbers = itertools.count(1)
        self.now = 1000.0
        self.clients: dict[bytes, Client] = {}
        self.records: list[Record] = []
        self.replayed = History()
        self.announced: list[Any] = []
        self.shown: list[SightDelta] = []
        self.core = Core(self.config)
        self._perform(self.core.start(self.now))

    @property
    def history(self) -> History:
        return self.core.history

    def step(self, *events: Received, backlog: bool = False) -> Effects:
        """One step of the core at the present time."""
        return self._perform(self.core.step(list(events), self.now, backlog=backlog))

    def wait(self, seconds: float) -> None:
        """Let time pass in ticks, as the shell does when nothing arrives."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(self.now + TICK_S, until)
            self.step()

    def stall(self, seconds: float) -> None:
        """Let time pass without the coordinator running at all."""
        self.now += seconds

    def restart(self, **config: Any) -> None:
        """Kill the coordinator and start it again from its records; connections live on, sessions do not."""
        self.config = replace(self.config, **config)
        self.core = Core(self.config, self._replay(self.records))
        self._perform(self.core.start(self.now))

    def client(self, role: str = "client", **fields: Any) -> Client:
        """A new connection that has said hello."""
        client = Client(self, role)
        self.clients[client.connection] = client
        client.hello(**fields).got(wire.Welcome)
        return client

    def worker(self, name: str, incarnation: str = "", **fields: Any) -> Client:
        """A worker that has registered, and may wait for its quorum."""
        client = self.client("worker")
        client.name, client.incarnation = name, incarnation or f"life-{next(self.numbers)}"
        client.register(**fields).got(wire.Registered)
        return client

    def workers(self, *names: str) -> list[Client]:
        """Workers that have all adopted the generation that the last of them completes."""
        members = [self.worker(name) for name in names]
        for member in members:
            member.join().got(wire.Membership)
        return members

    def writer(self, name: str = "writer", *checkpoints: wire.CheckpointSummary, boot_id: str = "boot") -> Client:
        """A storage writer that has registered with what its store holds."""
        client = self.client("writer")
        client.name, client.incarnation = name, f"life-{next(self.numbers)}"
        client.offer(*checkpoints, boot_id=boot_id).got(wire.Registered)
        return client

    def supervisor(self) -> Client:
        return self.client("supervisor", token=TOKEN)

    def lose(self, worker: Client) -> None:
        """Have a supervisor report a worker's death."""
        self.supervisor().ask(wire.ReportLost(worker_id=worker.name, pid=1000)).got(wire.Done)

    def dataset(self, total: int = 100, shard_size: int = 10, dataset_id: str = "data", **fields: Any) -> int:
        """Register a dataset and return how many shards it has."""
        request = wire.RegisterDataset(dataset_id=dataset_id, total_samples=total, shard_size=shard_size, **fields)
        return self.client().ask(request).got(wire.DatasetRegistered).total_shards

    def seen(self, shard: int, start: int, stop: int, dataset_id: str = "data", epoch: int | None = None) -> Any:
        """A range with the checksum that reading it really gives."""
        added = self.history.datasets[dataset_id].added
        epoch = self.history.epoch if epoch is None else epoch
        first = shard * added.shard_size
        ids = sample_ids(
            first + start, first + stop, added.total_samples, shuffle=added.shuffle, seed=added.seed, epoch=epoch
        )
        return wire.SeenRange(dataset_id, epoch, shard, start, stop, checksum(np.asarray(ids)).to_bytes(8, "little"))

    @staticmethod
    def opened(workers: Iterable[Client], step: int = 10) -> str:
        """Have all workers begin a checkpoint; returns its id, which is the same for all."""
        (name,) = {worker.begin(step).got(wire.CheckpointOpened).checkpoint_id for worker in workers}
        return name

    @staticmethod
    def all_durable(workers: Sequence[Client], step: int = 10) -> str:
        """Have all workers begin a checkpoint and store their bytes; returns its id."""
        name = Job.opened(workers, step)
        for worker in workers:
            worker.durable(name)
        return name

    @staticmethod
    def summary(name: str, step: int = 10) -> wire.CheckpointSummary:
        """What a writer says of a checkpoint in its store."""
        return wire.CheckpointSummary(
            checkpoint_id=name, step=step, epoch=0, size_bytes=300, created_at=1.0, world_size=3
        )

    def status(self) -> wire.Status:
        return self.client().ask(wire.GetStatus()).got(wire.Status)

    def _perform(self, effects: Effects) -> Effects:
        for record in effects.records:
            self.records.append(record)
            self.replayed.apply(_through_bytes(record))
        assert self.replayed.to_snapshot() == self.core.history.to_snapshot()
        for connection, reply in effects.sends:
            again = decode_reply(encode(reply))
            assert encode(again) == encode(reply)  # as bytes: not every number equals itself
            self.clients[connection].take(again)
        for broadcast in effects.broadcasts:
            assert decode_broadcast(encode(broadcast)) == broadcast
            self.announced.append(broadcast)
        if effects.shown is not None:
            assert decode_delta(encode(effects.shown)) == effects.shown
            self.shown.append(effects.shown)
        return effects

    @staticmethod
    def _replay(records: list[Record]) -> History:
        history = History()
        for record in records:
            history.apply(_through_bytes(record))
        return history


_decoder = msgspec.msgpack.Decoder(Record)


def _through_bytes(record: Record) -> Record:
    return _decoder.decode(msgspec.msgpack.encode(record))


@pytest.fixture(scope="session")
def make_job() -> Callable[..., Job]:
    """`make_job(initial_workers=3, ...)` gives a job with this CoreConfig; leases last 8 s."""
    return Job


@pytest.fixture
def job() -> Job:
    """A job of at least one worker."""
    return Job()


@pytest.fixture
def trio() -> tuple[Job, Client, Client, Client]:
    """A job and its three members w0, w1 and w2, in rank order."""
    job = Job(initial_workers=3)
    one, two, three = job.workers("w0", "w1", "w2")
    return job, one, two, three


@pytest.fixture
def saving(trio):
    """Three members and a storage writer."""
    job, *workers = trio
    return job, workers, job.writer()
