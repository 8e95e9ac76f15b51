"""Messages get lost and connections break: every request has one effect, and no broadcast is needed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from strata_zmq import TrainingOrchestrator
from strata_zmq.domain.shuffle import checksum, dataset_checksum
from strata_zmq.protocol import messages as wire

TOTAL = 60
WITH_EFFECT = {
    "requests": [wire.RegisterWorker, wire.RegisterDataset, wire.Arrive, wire.AdvanceEpoch],
    "replies": [wire.Registered, wire.DatasetRegistered, wire.Released, wire.EpochAdvanced],
}
CUT = {"broken": "stop", "frozen": "freeze"}
MEND = {"broken": "start", "frozen": "thaw"}


@pytest.mark.parametrize("direction", ["requests", "replies"])
def test_a_lost_message_costs_a_retry_and_has_one_effect(
    coordinator: Any, start_relay: Callable[..., Any], direction: str
) -> None:
    """The first message of each kind is lost; the caller notices nothing but the time, and history has no doubles."""
    due: list[Any] = list(WITH_EFFECT[direction])

    def loses(message: Any) -> bool:
        if type(message) not in due:
            return False
        due.remove(type(message))
        return True

    relay = start_relay(coordinator, loses)
    with TrainingOrchestrator(relay.url, "worker-0") as worker:
        assert worker.register_dataset("numbers", total_samples=TOTAL, shard_size=10) == 6
        assert [len(batch) for batch in worker.batches("numbers", 20, timeout_s=30)] == [20, 20, 20]
        assert worker.advance_epoch(timeout_s=30) == 1
        assert not due, "not every message was lost once"
        status = coordinator.status()
    assert (status.generation, status.epoch, status.commit_index) == (1, 1, 3)
    assert len(status.datasets) == 1
    (certificate,) = status.certificates
    assert certificate["complete"]
    assert certificate["checksum"] == str(dataset_checksum(TOTAL))


def test_training_needs_no_broadcast(coordinator: Any, start_relay: Callable[..., Any]) -> None:
    """With every PUB message lost, a worker that left and an epoch that ended are noticed all the same."""
    lost: list[Any] = []

    def loses(message: Any) -> bool:
        if isinstance(message, wire.Announcement):
            lost.append(message)
            return True
        return False

    relay = start_relay(coordinator, loses)
    stays = TrainingOrchestrator(relay.url, "stays").connect()
    leaves = TrainingOrchestrator(relay.url, "leaves").connect()

    def train(worker: TrainingOrchestrator, leave_after: int) -> int:
        worker.register_dataset("numbers", total_samples=TOTAL, shard_size=5)
        try:
            for number, _ in enumerate(worker.batches("numbers", 5, timeout_s=30)):
                if number == leave_after:
                    return worker.epoch
            return worker.advance_epoch(timeout_s=30)
        finally:
            worker.deregister()

    with ThreadPoolExecutor() as pool:
        ends = [pool.submit(train, stays, TOTAL), pool.submit(train, leaves, 2)]
        assert [end.result(60) for end in ends] == [1, 0]
    (certificate,) = coordinator.status().certificates
    assert certificate["complete"]
    assert certificate["checksum"] == str(dataset_checksum(TOTAL))
    assert {type(message) for message in lost} >= {wire.MembershipChanged, wire.EpochStarted}


def test_a_broken_connection_does_not_end_a_membership(
    coordinator: Any, start_relay: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    """Who waits at a barrier while the network is away is the same member afterwards, and arrives once."""
    relay = start_relay(coordinator)
    far, near = TrainingOrchestrator(relay.url, "far"), TrainingOrchestrator(coordinator.url, "near")
    with far, near, ThreadPoolExecutor() as pool:
        assert far.session.join(newer=True).members == ["far", "near"]
        waiting = pool.submit(far.barrier, "meet", 1, timeout_s=30)
        eventually(lambda: [entry["arrived"] for entry in coordinator.status().barriers] == [1])
        relay.stop()
        relay.start()
        eventually(far.session.heartbeat)
        assert near.barrier("meet", 1, timeout_s=30).participants == ["far", "near"]
        assert waiting.result(30).participants == ["far", "near"]
        status = coordinator.status()
        assert (status.generation, [change["left"] for change in status.rebalances]) == (2, [[], []])


def test_a_late_worker_still_belongs_after_many_lost_heartbeats(
    start_coordinator: Callable[..., Any], start_relay: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    """Half of the heartbeats may get lost without ending a lease: there are several in each."""
    coordinator = start_coordinator("--lease-s", "3")
    heard: list[int] = []

    def loses(message: Any) -> bool:
        if not isinstance(message, wire.Heartbeat):
            return False
        heard.append(1)
        return len(heard) % 2 == 0

    relay = start_relay(coordinator, loses)
    with TrainingOrchestrator(relay.url, "worker-0"):
        eventually(lambda: len(heard) >= 8, 20)
        status = coordinator.status()
    assert status.generation == 1
    assert "leases_expired" not in status.counters


@pytest.mark.parametrize("connection", ["broken", "frozen"])
def test_who_was_fenced_while_waiting_for_the_epoch_comes_back_into_the_next(
    start_coordinator: Callable[..., Any],
    start_relay: Callable[..., Any],
    eventually: Callable[..., Any],
    connection: str,
) -> None:
    """Cut off for longer than its lease inside `advance_epoch`, a worker returns from it with the others' epoch."""
    coordinator = start_coordinator("--lease-s", "1")
    relay = start_relay(coordinator)
    with (
        TrainingOrchestrator(coordinator.url, "near") as near,
        TrainingOrchestrator(relay.url, "far") as far,
        ThreadPoolExecutor() as pool,
    ):
        near.session.join(newer=True)
        waiting = pool.submit(far.advance_epoch, timeout_s=30)
        eventually(far.session.heartbeat)  # behind the call on the same connection
        getattr(relay, CUT[connection])()
        eventually(lambda: coordinator.members() == ["near"])
        assert near.advance_epoch(timeout_s=30) == 1
        getattr(relay, MEND[connection])()
        assert waiting.result(30) == 1
        assert far.epoch == 1
        eventually(lambda: coordinator.members() == ["near", "far"])


@pytest.mark.parametrize("connection", ["broken", "frozen"])
def test_who_was_fenced_between_two_loops_trains_on(
    start_coordinator: Callable[..., Any],
    start_relay: Callable[..., Any],
    eventually: Callable[..., Any],
    connection: str,
) -> None:
    """A loop over batches begins by joining whatever generation there is now."""
    coordinator = start_coordinator("--lease-s", "1")
    relay = start_relay(coordinator)
    with TrainingOrchestrator(relay.url, "worker-0") as worker:
        worker.register_dataset("numbers", total_samples=TOTAL, shard_size=5)
        before = worker.generation
        getattr(relay, CUT[connection])()
        eventually(lambda: coordinator.status().workers == [])
        getattr(relay, MEND[connection])()
        assert sum(len(batch) for batch in worker.batches("numbers", 20, timeout_s=30)) == TOTAL
        assert worker.generation > before
        worker.advance_epoch(timeout_s=30)
        assert coordinator.status().certificates[0]["complete"]


def test_a_restart_is_noticed_without_broadcasts(coordinator: Any, start_relay: Callable[..., Any]) -> None:
    """The answer "unknown session" alone makes a worker introduce itself again and repeat what it had asked."""
    relay = start_relay(coordinator, lambda message: isinstance(message, wire.Announcement))
    with TrainingOrchestrator(relay.url, "worker-0") as worker:
        generation = worker.generation
        coordinator.restart()
        assert worker.register_dataset("numbers", total_samples=TOTAL, shard_size=5) == 12
        assert worker.barrier("alone", 1, timeout_s=10).participants == ["worker-0"]
        assert worker.session.status().generation == generation


def test_a_commit_whose_release_was_lost_is_not_rolled_back_by_a_fence(
    start_coordinator: Callable[..., Any], start_relay: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    """History has the step, the worker does not know: asking again it learns so, even after its lease has ended."""
    coordinator = start_coordinator("--lease-s", "1")
    lost: list[Any] = []

    def loses(message: Any) -> bool:
        if isinstance(message, wire.Released) and not lost:
            lost.append(message)
            relay.freeze()
            return True
        return False

    relay = start_relay(coordinator, loses)
    with TrainingOrchestrator(relay.url, "worker-0") as worker, ThreadPoolExecutor() as pool:
        model = np.zeros(1, dtype=np.uint64)
        worker.track(model=model)
        worker.register_dataset("numbers", total_samples=TOTAL, shard_size=5)

        def train() -> int:
            for batch in worker.batches("numbers", 20, timeout_s=30):
                model[:] += np.uint64(checksum(batch.indices))
            return worker.advance_epoch(timeout_s=30)

        training = pool.submit(train)
        eventually(lambda: lost)
        eventually(lambda: coordinator.status().workers == [])
        relay.thaw()
        assert training.result(60) == 1
        (certificate,) = coordinator.status().certificates
    assert certificate["checksum"] == str(dataset_checksum(TOTAL))
    assert int(model[0]) == dataset_checksum(TOTAL)


def test_a_session_sees_the_job_as_it_is_though_broadcasts_are_lost(
    coordinator: Any, start_relay: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    """Members, epoch and generation come by broadcast; what was missed is asked for after the next tick."""
    lost: list[Any] = []

    def loses(message: Any) -> bool:
        if isinstance(message, wire.MembershipChanged | wire.EpochStarted) and len(lost) % 2 == 0:
            lost.append(message)
            return True
        return False

    relay = start_relay(coordinator, loses)
    with TrainingOrchestrator(relay.url, "watches") as watches:
        session = watches.session
        eventually(lambda: session.cluster is not None)

        def sees_all() -> bool:
            status, cluster = coordinator.status(), session.cluster
            return (list(cluster.members), cluster.epoch, cluster.generation) == (
                coordinator.members(),
                status.epoch,
                status.generation,
            )

        for number in range(4):
            with TrainingOrchestrator(coordinator.url, f"passes-{number}"):
                eventually(lambda: len(coordinator.members()) == 2)
                eventually(sees_all)
            eventually(lambda: coordinator.members() == ["watches"])
            eventually(sees_all)
        watches.session.join()
        assert watches.advance_epoch(timeout_s=30) == 1
        eventually(sees_all)
        coordinator.restart()
        eventually(lambda: session.cluster.term == 2)
        eventually(sees_all)
    assert lost


def test_a_worker_that_hears_nothing_may_not_commit_after_two_thirds_of_its_lease(
    start_coordinator: Callable[..., Any], start_relay: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    """It knows so by itself, before anybody else can have taken its place."""
    coordinator = start_coordinator("--lease-s", "3")
    relay = start_relay(coordinator)
    with TrainingOrchestrator(relay.url, "worker-0") as worker:
        assert worker.session.may_commit
        relay.freeze()
        eventually(lambda: not worker.session.may_commit)
        assert coordinator.members() == ["worker-0"]
        relay.thaw()
        eventually(lambda: worker.session.may_commit)
        assert worker.session.commit([], timeout_s=10).commit_index == 1
