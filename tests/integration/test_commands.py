"""Commands reach a worker once, and what concerns all ranks takes effect on all behind the same commit point."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

from strata_zmq import TrainingOrchestrator
from strata_zmq.domain.shuffle import dataset_checksum
from strata_zmq.errors import InvalidArgumentError, UnavailableError
from strata_zmq.protocol import messages as wire
from strata_zmq.workers.client import CoordinatorClient
from strata_zmq.workers.session import WorkerIdentity, WorkerSession

TOKEN = secrets.token_hex()
TOTAL = 400


class Worker(TrainingOrchestrator):
    """Trains epochs of one dataset and notes where it was asked to save; `gate` holds it between batches."""

    def __init__(self, url: str, worker_id: str) -> None:
        super().__init__(url, worker_id)
        self.model = np.zeros(1)
        self.track(model=self.model)
        self.gate = threading.Event()
        self.saved_at: list[int] = []
        self.batches_seen = 0

    def on_checkpoint_requested(self) -> None:
        self.saved_at.append(self.step)
        super().on_checkpoint_requested()

    def train(self, epochs: int = 1) -> int:
        """Returns the commit point behind which the loop ended."""
        self.register_dataset("numbers", total_samples=TOTAL, shard_size=20)
        for _ in self.epochs(epochs, timeout_s=30):
            for batch in self.batches("numbers", 5, every_rank=True, timeout_s=30):
                assert self.gate.wait(30)
                self.model += len(batch)
                self.batches_seen += 1
            ended_at = self.step
        return ended_at


@pytest.fixture
def coordinator(start_coordinator: Callable[..., Any]) -> Any:
    """One whose heartbeats, and so its commands, are fast."""
    return start_coordinator("--initial-workers", "2", "--lease-s", "3", env={"STRATA_SUPERVISOR_TOKEN": TOKEN})


@pytest.fixture
def command(coordinator: Any) -> Iterator[Callable[..., None]]:
    """`command("stop", "worker-0")` sends it; without names to all."""
    with CoordinatorClient(coordinator.url, role="supervisor", token=TOKEN).connect() as supervisor:
        yield lambda what, *names: supervisor.request(wire.SendCommand(command=what, workers=list(names)))


@pytest.fixture
def workers(coordinator: Any) -> Iterator[list[Worker]]:
    """Two that are connected; they are let go and closed afterwards."""
    with ExitStack() as stack:
        made = [Worker(coordinator.url, f"worker-{number}") for number in range(2)]
        with ThreadPoolExecutor() as pool:
            for one in pool.map(lambda worker: worker.connect(30), made):
                stack.callback(one.deregister)
        yield made
        for worker in made:
            worker.gate.set()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as threads:
        yield threads


def told(worker: Worker) -> set[str]:
    """What it has been commanded and not yet carried out."""
    return set(worker.session.votes.wanted)


def test_one_rank_is_told_to_stop_and_all_stop_behind_the_same_commit_point(
    workers: list[Worker],
    command: Callable[..., None],
    pool: ThreadPoolExecutor,
    eventually: Callable[..., Any],
    coordinator: Any,
) -> None:
    """The epoch is not over for that, and no later one begins; a save behind the loop has one place for all."""
    ends = [pool.submit(worker.train, 3) for worker in workers]
    eventually(lambda: coordinator.status().datasets)
    command("stop", "worker-1")
    eventually(lambda: told(workers[1]) == {"stop"})
    for worker in workers:
        worker.gate.set()
    first, second = (end.result(60) for end in ends)
    assert first == second > 0
    assert all(worker.stopping for worker in workers)
    status = coordinator.status()
    assert status.epoch == 0
    assert 0 < status.datasets[0]["remaining"] < TOTAL
    assert [list(worker.batches("numbers", 5)) for worker in workers] == [[], []]
    saves = [worker.save_checkpoint() for worker in workers]
    assert {save.step for save in saves} == {first}


def test_a_checkpoint_is_asked_of_every_rank_at_one_commit_point(
    workers: list[Worker],
    command: Callable[..., None],
    pool: ThreadPoolExecutor,
    eventually: Callable[..., Any],
    coordinator: Any,
) -> None:
    """Told to both at different times, or to one, it is one save on each, and training goes on to its end."""
    ends = [pool.submit(worker.train) for worker in workers]
    eventually(lambda: coordinator.status().datasets)
    command("checkpoint")
    eventually(lambda: all(told(worker) == {"checkpoint"} for worker in workers))
    for worker in workers:
        worker.gate.set()
    for end in ends:
        end.result(60)
    assert workers[0].saved_at == workers[1].saved_at
    assert len(workers[0].saved_at) == 1
    assert coordinator.status().certificates[0]["complete"]


def test_one_command_to_all_is_one_checkpoint_however_late_some_hear_of_it(
    workers: list[Worker],
    command: Callable[..., None],
    pool: ThreadPoolExecutor,
    eventually: Callable[..., Any],
    coordinator: Any,
) -> None:
    """Who hears of it behind the commit point that decided has nobody save again."""
    for worker in workers:
        worker.gate.set()
    ends = [pool.submit(worker.train, 1000) for worker in workers]
    eventually(lambda: coordinator.status().commit_index)
    command("checkpoint")
    eventually(lambda: all(worker.saved_at for worker in workers))
    for worker in workers:
        worker.session.heartbeat()
    heard_at = coordinator.status().commit_index
    eventually(lambda: coordinator.status().commit_index > heard_at + 2)
    command("stop")
    for end in ends:
        end.result(60)
    assert workers[0].saved_at == workers[1].saved_at
    assert len(workers[0].saved_at) == 1


def test_who_is_drained_commits_and_leaves_and_the_others_take_its_shards(
    workers: list[Worker],
    command: Callable[..., None],
    pool: ThreadPoolExecutor,
    eventually: Callable[..., Any],
    coordinator: Any,
) -> None:
    """Its loop ends, what a script does behind the loop does no harm, and the epoch is whole without it."""
    stays, leaves = workers
    ends = [pool.submit(worker.train) for worker in workers]
    eventually(lambda: coordinator.status().datasets)
    command("drain", "worker-1")
    eventually(lambda: leaves.session.votes.draining)
    for worker in workers:
        worker.gate.set()
    left_at = ends[1].result(60)
    assert left_at > 0
    assert (leaves.stopping, stays.stopping) == (True, False)
    eventually(lambda: coordinator.members() == ["worker-0"])
    ends[0].result(60)
    (certificate,) = coordinator.status().certificates
    assert certificate["checksum"] == str(dataset_checksum(TOTAL))
    assert leaves.advance_epoch() == 0
    assert leaves.save_checkpoint().done
    assert not leaves.save_checkpoint().is_durable
    assert leaves.worker_id not in coordinator.members(), "it has joined again"
    with pytest.raises(UnavailableError):
        leaves.barrier("meet", 1)


def test_stacks_are_dumped_at_once(
    coordinator: Any,
    command: Callable[..., None],
    start_trainer: Callable[..., Any],
    eventually: Callable[..., Any],
) -> None:
    """All threads' stacks go to standard error, also of a worker that does not come to its next commit point."""
    trainers = [start_trainer(coordinator, f"worker-{number}", total=100, hold={"stuck": 2}) for number in range(2)]
    eventually(lambda: trainers[0].events("holding"), 20)
    command("dump_stacks", "worker-0")
    eventually(lambda: "wait_at_gates" in trainers[0].log.read_text())
    assert trainers[1].log.read_text() == ""
    for trainer in trainers:
        trainer.go("stuck")
    for trainer in trainers:
        trainer.finish()
    assert trainers[0].log.read_text().count("Current thread") == 1


def test_values_are_agreed_on_in_the_same_round_trip(workers: list[Worker], pool: ThreadPoolExecutor) -> None:
    """A barrier and a commit point reduce what the ranks bring, and every rank gets the same."""
    for worker in workers:
        worker.session.join(newer=False)

    def meet(worker: Worker) -> tuple[dict[str, float], dict[str, float]]:
        rank = worker.rank
        met = worker.barrier("loss", 1, timeout_s=30, values={"loss": ("mean", 1.0 + rank), "worst": ("max", rank)})
        done = worker.session.commit([], timeout_s=30, values={"stop": ("any", rank == 1), "n": ("sum", 3)})
        return met.reduced, done.reduced

    assert list(pool.map(meet, workers)) == [({"loss": 1.5, "worst": 1.0}, {"stop": 1.0, "n": 6.0})] * 2


@pytest.mark.parametrize("values", [{"loss": 3}, {"loss": ("mean", "high")}, {"loss": ("median", 1.0)}])
def test_a_value_that_cannot_be_reduced_is_a_named_error(workers: list[Worker], values: Any) -> None:
    """It says which one and how to give it."""
    with pytest.raises(InvalidArgumentError, match=r"values|arrive"):
        workers[0].barrier("loss", 1, values=values)


def test_a_save_behind_a_command_is_one_save(
    workers: list[Worker],
    command: Callable[..., None],
    pool: ThreadPoolExecutor,
    eventually: Callable[..., Any],
    coordinator: Any,
) -> None:
    """Where the commit point is a save's own, the command asks for no second one."""

    def train(worker: Worker) -> int:
        worker.register_dataset("numbers", total_samples=TOTAL, shard_size=20)
        for _ in worker.batches("numbers", 5, every_rank=True, timeout_s=30):
            assert worker.gate.wait(30)
            handle = worker.save_checkpoint()
            break
        return handle.step

    ends = [pool.submit(train, worker) for worker in workers]
    eventually(lambda: coordinator.status().datasets)
    command("checkpoint", "worker-0")
    eventually(lambda: told(workers[0]) == {"checkpoint"})
    for worker in workers:
        worker.gate.set()
    assert [end.result(60) for end in ends] == [1, 1]
    assert [worker.saved_at for worker in workers] == [[], []]
    assert told(workers[0]) == set()


def test_a_newcomer_does_not_ask_again_for_a_checkpoint_that_the_job_has_taken_without_it(
    start_coordinator: Callable[..., Any], pool: ThreadPoolExecutor, eventually: Callable[..., Any]
) -> None:
    """It took the command while it waited to be a member; the members have answered it meanwhile."""
    coordinator = start_coordinator("--lease-s", "3", "--join-window-s", "6", env={"STRATA_SUPERVISOR_TOKEN": TOKEN})

    class Once(Worker):
        def on_checkpoint_requested(self) -> None:
            self.saved_at.append(self.step)
            self.gate.clear()

    worker = Once(coordinator.url, "worker-0").connect(30)
    newcomer = WorkerSession(WorkerIdentity(worker_id="worker-1"), coordinator.url)
    try:
        end = pool.submit(worker.train)
        eventually(lambda: coordinator.status().datasets)
        newcomer.connect()
        with CoordinatorClient(coordinator.url, role="supervisor", token=TOKEN).connect() as supervisor:
            supervisor.request(wire.SendCommand(command="checkpoint"))
        eventually(lambda: newcomer.votes.wanted == told(worker) == {"checkpoint"})
        worker.gate.set()
        eventually(lambda: worker.saved_at)
        assert coordinator.members() == ["worker-0"], "the join window is over too soon for what is tested here"
        newcomer.join(30)
        assert newcomer.membership.members == ["worker-0", "worker-1"]
        assert newcomer.votes.wanted == set()
        newcomer.close()
        worker.gate.set()
        end.result(30)
        assert len(worker.saved_at) == 1
    finally:
        newcomer.close()
        worker.gate.set()
        worker.deregister()
