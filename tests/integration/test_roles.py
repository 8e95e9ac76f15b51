"""What writers, supervisors and strangers say to the coordinator, over real sockets and through the public client."""

from __future__ import annotations

import queue
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from strata_zmq import TrainingOrchestrator
from strata_zmq.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    PeerLostError,
    StorageError,
    UnavailableError,
)
from strata_zmq.protocol import messages as wire
from strata_zmq.workers.client import CoordinatorClient

TOKEN = secrets.token_hex()
SUMMARY = wire.CheckpointSummary("other", 1, 0, 10, 1000.0)


class Writer:
    """A storage writer's side of the control plane, without a storage."""

    def __init__(self, url: str, writer_id: str = "writer-0", **registration: Any) -> None:
        self.commits: queue.Queue[Any] = queue.Queue()
        info = wire.WriterInfo(writer_id, f"life of {writer_id}", "ipc:///data", "ipc:///acks")
        self.client = CoordinatorClient(
            url,
            role="writer",
            introduce=lambda: wire.RegisterWriter(writer=info, **registration),
            heartbeat=wire.Heartbeat,
            on_message=self.commits.put,
        )
        self.client.connect()


@pytest.fixture
def ranks(coordinator: Any) -> Iterator[list[TrainingOrchestrator]]:
    """Two workers of one generation, in rank order."""
    with ExitStack() as stack:
        one, two = (stack.enter_context(TrainingOrchestrator(coordinator.url, name)) for name in ("one", "two"))
        one.session.join(newer=True)
        yield [one, two]


@pytest.fixture
def writer(coordinator: Any) -> Iterator[Writer]:
    made = Writer(coordinator.url)
    yield made
    made.client.close()


def _begin(worker: TrainingOrchestrator, step: int) -> Any:
    return worker.session.client.request(
        wire.CheckpointBegin(step=step, epoch=0, generation=worker.generation, metadata={"note": "here"})
    )


def _arrive(worker: TrainingOrchestrator, checkpoint_id: str) -> Any:
    return worker.session.client.submit(
        wire.CheckpointArrive(
            checkpoint_id=checkpoint_id, index_key=f"{worker.rank}.index", digest="ab", size_bytes=100
        )
    )


def _committed(order: Any, retained: list[str]) -> wire.CheckpointCommitted:
    summary = wire.CheckpointSummary(order.checkpoint_id, order.step, order.epoch, 200, order.created_at, 2)
    return wire.CheckpointCommitted(checkpoint=summary, retained=retained)


def test_a_checkpoint_is_committed_when_every_rank_is_durable(
    coordinator: Any, ranks: list[TrainingOrchestrator], writer: Writer, eventually: Callable[..., Any]
) -> None:
    """All ranks get one id; the writer is asked once all have arrived; then ranks, list and broadcast tell of it."""
    heard: list[Any] = []
    with CoordinatorClient(coordinator.url, on_broadcast=heard.append) as listener:
        listener.connect()
        opened = [_begin(worker, 7) for worker in ranks]
        assert len({reply.checkpoint_id for reply in opened}) == 1
        assert [reply.rank for reply in opened] == [0, 1]
        assert [info.writer_id for info in opened[0].writers] == ["writer-0"]
        first = _arrive(ranks[0], opened[0].checkpoint_id)
        assert ranks[0].session.latest_checkpoints() == []
        assert coordinator.status().open_checkpoints == [opened[0].checkpoint_id]
        assert writer.commits.empty(), "asked to commit what one rank has not written"
        second = _arrive(ranks[1], opened[0].checkpoint_id)
        order = writer.commits.get(timeout=10)
        assert isinstance(order, wire.CommitCheckpoint)
        assert [(rank.rank, rank.worker_id, rank.index_key) for rank in order.ranks] == [
            (0, "one", "0.index"),
            (1, "two", "1.index"),
        ]
        assert (order.step, order.world_size, order.metadata) == (7, 2, {"note": "here"})
        assert not first.done(), "told durable before HEAD reached it"
        writer.client.request(_committed(order, [order.checkpoint_id]))
        for future in (first, second):
            assert future.result(10) == wire.CheckpointDurable(
                **_header(future.result()), checkpoint_id=order.checkpoint_id
            )
        (latest,) = ranks[1].session.latest_checkpoints(5)
        assert (latest.checkpoint_id, latest.step, latest.size_bytes) == (order.checkpoint_id, 7, 200)
        eventually(lambda: any(isinstance(message, wire.CheckpointAnnounced) for message in heard))
        with pytest.raises(AlreadyExistsError, match="step 7 is committed already"):
            _begin(ranks[0], 7)


def _header(reply: Any) -> dict[str, Any]:
    return {name: getattr(reply, name) for name in ("job", "term", "generation", "session", "seq")}


def test_a_rank_that_cannot_write_ends_the_checkpoint_for_all(
    ranks: list[TrainingOrchestrator], writer: Writer
) -> None:
    """The others learn whose fault it was; the next step's checkpoint is not touched by it."""
    opened = [_begin(worker, 3) for worker in ranks]
    waiting = _arrive(ranks[0], opened[0].checkpoint_id)
    ranks[0].session.status()  # behind the arrival on the same connection
    ranks[1].session.client.request(
        wire.CheckpointFailed(checkpoint_id=opened[0].checkpoint_id, code="storage", message="disk full")
    )
    with pytest.raises(StorageError, match=r"rank 1 \(two\): disk full"):
        waiting.result(10)
    with pytest.raises(NotFoundError, match="is not open"):
        _arrive(ranks[1], opened[0].checkpoint_id).result(10)
    assert _begin(ranks[0], 4).checkpoint_id != opened[0].checkpoint_id


def test_a_rank_that_leaves_ends_its_checkpoint(ranks: list[TrainingOrchestrator], writer: Writer) -> None:
    """Nobody waits for bytes that will never come."""
    opened = [_begin(worker, 3) for worker in ranks]
    waiting = _arrive(ranks[0], opened[0].checkpoint_id)
    ranks[0].session.status()  # behind the arrival on the same connection
    ranks[1].deregister()
    with pytest.raises(PeerLostError, match="two left before its bytes were durable"):
        waiting.result(10)


def test_without_a_writer_a_save_says_what_to_start(ranks: list[TrainingOrchestrator]) -> None:
    with pytest.raises(UnavailableError, match="no storage writer is registered; start one with `strata writer`"):
        _begin(ranks[0], 3)


def test_what_a_writer_finds_in_its_store_is_the_truth(coordinator: Any) -> None:
    """A writer tells what HEAD reaches when it registers; the coordinator's list follows."""
    writer = Writer(coordinator.url, checkpoints=[SUMMARY])
    assert coordinator.status().checkpoints == [SUMMARY]
    assert coordinator.status().writers == ["writer-0"]
    writer.client.close()


def test_a_commit_survives_the_coordinator_that_asked_for_it(
    coordinator: Any, ranks: list[TrainingOrchestrator], writer: Writer
) -> None:
    """Killed between the last rank's arrival and the commit, the coordinator asks again; the ranks wait it out."""
    opened = [_begin(worker, 9) for worker in ranks]
    waiting = [_arrive(worker, opened[0].checkpoint_id) for worker in ranks]
    writer.commits.get(timeout=10)
    coordinator.restart()
    order = writer.commits.get(timeout=20)
    assert order.checkpoint_id == opened[0].checkpoint_id
    writer.client.request(_committed(order, [order.checkpoint_id]))
    assert [future.result(20).checkpoint_id for future in waiting] == [order.checkpoint_id] * 2


def test_a_supervisor_reports_a_death_before_the_lease_ends(start_coordinator: Callable[..., Any]) -> None:
    """With the token the report counts at once and only for the process that it names; without, it is refused."""
    coordinator = start_coordinator("--lease-s", "30", env={"STRATA_SUPERVISOR_TOKEN": TOKEN})
    worker = TrainingOrchestrator(coordinator.url, "worker-0").connect()
    try:
        (row,) = coordinator.status().workers
        with CoordinatorClient(coordinator.url, role="supervisor", token=TOKEN) as supervisor:
            supervisor.connect()
            supervisor.request(wire.ReportLost(worker_id="worker-0", pid=row.pid + 1))
            assert coordinator.members() == ["worker-0"], "another process's death counted"
            supervisor.request(wire.ReportLost(worker_id="worker-0", pid=row.pid))
            assert coordinator.status().rebalances[-1]["left"] == ["worker-0"] or coordinator.members() == []
            with pytest.raises(NotFoundError, match="'ghost' is not registered"):
                supervisor.request(wire.ReportLost(worker_id="ghost", pid=1))
        with pytest.raises(InvalidArgumentError, match="not this coordinator's supervisor token"):
            CoordinatorClient(coordinator.url, role="supervisor", token=TOKEN[::-1]).connect()
        with pytest.raises(InvalidArgumentError, match="is no supervisor"):
            worker.session.client.request(wire.ReportLost(worker_id="worker-0", pid=row.pid))
    finally:
        worker.deregister()


def test_a_client_may_ask_but_not_act(coordinator: Any) -> None:
    """Who is no worker gets the status and anybody's shards; what only a worker does is refused by name."""
    with TrainingOrchestrator(coordinator.url, "worker-0") as worker, CoordinatorClient(coordinator.url) as client:
        client.connect()
        worker.register_dataset("numbers", total_samples=10, shard_size=2)
        assert client.request(wire.GetStatus()).need == 1
        assert client.request(wire.GetShards(dataset_id="numbers", worker_id="worker-0")).shards == [0, 1, 2, 3, 4]
        assert isinstance(client.request(wire.Heartbeat()), wire.HeartbeatAck)
        for message in (
            wire.Arrive(name="x", step=1),
            wire.AwaitGeneration(),
            wire.AdvanceEpoch(epoch=0),
            wire.Deregister(),
        ):
            with pytest.raises(Exception, match="no registered worker: send REGISTER_WORKER first"):
                client.request(message)
        with pytest.raises(InvalidArgumentError, match="only a worker registers as a worker"):
            client.request(wire.RegisterWorker(worker_id="worker-1", incarnation="x"))
        with pytest.raises(InvalidArgumentError, match=r"await_generation cannot be sent.*timeout_s"):
            client.request(wire.AwaitGeneration(timeout_s=-1.0))
    with pytest.raises(InvalidArgumentError, match="job 'mine' is not served here"):
        CoordinatorClient(coordinator.url, job="mine").connect()
