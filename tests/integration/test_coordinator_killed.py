"""The coordinator may be killed at any time: its journal and the workers' patience bring the job to its end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from processkit.patience import until

from strata_zmq import TrainingOrchestrator
from strata_zmq.domain.shuffle import dataset_checksum
from strata_zmq.errors import DeadlineExceededError, UnavailableError
from strata_zmq.workers.aio import AsyncWorkerSession

TOTAL = 1000


def test_kill_9_in_mid_epoch_costs_nothing_but_time(
    coordinator: Any, start_trainer: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    """Restarted on its journal it knows the epoch so far; the workers come back by themselves, and no shard moves."""
    first = start_trainer(coordinator, "worker-0", total=TOTAL, epochs=2, hold={"half": 10})
    eventually(lambda: first.events("holding"), 20)
    second = start_trainer(coordinator, "worker-1", total=TOTAL, epochs=2, hold={"half": 10})
    eventually(lambda: coordinator.members() == ["worker-0", "worker-1"], 20)
    first.go("half")
    eventually(lambda: second.events("holding"), 20)
    before = coordinator.status()
    assert 0 < before.datasets[0]["remaining"] < TOTAL, "not in the middle of the epoch"

    coordinator.restart()
    second.go("half")
    for trainer in (first, second):
        trainer.finish()
        assert {event["pid"] for event in trainer.events("batch")} == {trainer.pid}
        assert [event["model"] for event in trainer.events("epoch")] == [
            dataset_checksum(TOTAL),
            2 * dataset_checksum(TOTAL) % 2**64,
        ]
    after = coordinator.status()
    assert after.term == before.term + 1
    assert [entry["checksum"] for entry in after.certificates] == [str(dataset_checksum(TOTAL))] * 2
    assert all(entry["complete"] for entry in after.certificates)
    trained_in = {event["generation"] for trainer in (first, second) for event in trainer.events("batch")}
    assert max(trained_in) == before.generation, "the restart made a new generation"
    assert after.rebalances[: len(before.rebalances)] == before.rebalances


def test_kills_at_any_moment_lose_nothing_that_was_acknowledged(
    coordinator: Any, start_trainer: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    """Killed again and again while barriers are in flight, the job still sees every sample exactly once."""
    trainers = [start_trainer(coordinator, f"worker-{number}", total=TOTAL, batch_size=4) for number in range(2)]
    for steps in (3, 40, 80):
        # Not one worker's batches: whoever comes late finds most of them taken.
        eventually(lambda steps=steps: coordinator.status().commit_index >= steps, 20)
        coordinator.restart()
    for trainer in trainers:
        trainer.finish()
        assert [event["model"] for event in trainer.events("epoch")] == [dataset_checksum(TOTAL)]
    (certificate,) = coordinator.status().certificates
    assert certificate["complete"]
    assert certificate["checksum"] == str(dataset_checksum(TOTAL))


def test_what_was_acknowledged_is_there_after_kill_9(coordinator: Any) -> None:
    """Datasets, epoch, generation and commit points are on disk before the reply that tells of them."""
    with TrainingOrchestrator(coordinator.url, "worker-0") as worker:
        shards = worker.register_dataset("numbers", "", 100, 7)
        assert [len(batch) for batch in worker.batches("numbers", 50)] == [50, 50]
        assert worker.advance_epoch() == 1
        worker.register_dataset("more", "", 10, 1)
        step, generation = worker.step, worker.generation

        coordinator.restart()
        status = coordinator.status()
        assert (status.epoch, status.commit_index, status.generation) == (1, step, generation)
        assert [entry["dataset_id"] for entry in status.datasets] == ["numbers", "more"]
        assert status.certificates[0]["checksum"] == str(dataset_checksum(100))
        assert worker.register_dataset("numbers", "", 100, 7) == shards
        assert sum(len(shard) for shard in worker.get_shards("numbers")) == 100


def test_a_barrier_holds_across_a_restart(coordinator: Any) -> None:
    """Who waits at a barrier when the coordinator dies is released by the next one, once, without calling again."""
    with (
        TrainingOrchestrator(coordinator.url, "worker-0") as one,
        TrainingOrchestrator(coordinator.url, "worker-1") as two,
        ThreadPoolExecutor() as pool,
    ):
        one.session.join(newer=True)
        waiting = pool.submit(one.barrier, "meet", 1, timeout_s=30)
        _wait_until_arrived(coordinator, "meet")
        coordinator.restart()
        released = two.barrier("meet", 1, timeout_s=30)
        assert sorted(released.participants) == ["worker-0", "worker-1"]
        assert waiting.result(30) == _like(released, waiting.result())


def test_workers_carry_on_within_two_seconds_of_a_restart(start_coordinator: Callable[..., Any]) -> None:
    """Half of them wait at a barrier when it dies, half come later; none is lost, and no generation is made.

    A machine that has other things to do may take longer, but not three times in a row.
    """
    count = 20
    coordinator = start_coordinator("--initial-workers", str(count))

    async def live() -> None:
        sessions = [AsyncWorkerSession.of(f"worker-{number}", coordinator.url) for number in range(count)]
        await asyncio.gather(*(session.connect() for session in sessions))
        await asyncio.gather(*(session.join(30) for session in sessions))
        generation = sessions[0].generation

        async def restart(step: int) -> float:
            waiting = [asyncio.create_task(session.barrier("meet", step, timeout_s=30)) for session in sessions[::2]]
            await asyncio.to_thread(_wait_until_arrived, coordinator, "meet")
            await asyncio.to_thread(coordinator.kill)
            await asyncio.to_thread(coordinator.start)
            served_at = time.monotonic()
            late = [session.barrier("meet", step, timeout_s=30) for session in sessions[1::2]]
            released = await asyncio.gather(*waiting, *late)
            took = time.monotonic() - served_at
            assert {len(one.participants) for one in released} == {count}
            assert {one.generation for one in released} == {generation}
            return took

        took = [await restart(1)]
        while took[-1] >= 2 and len(took) < 3:
            took.append(await restart(len(took) + 1))
        assert took[-1] < 2, took
        await asyncio.gather(*(session.close() for session in sessions))

    asyncio.run(asyncio.wait_for(live(), 100))


def test_a_coordinator_that_stays_away_is_named_within_the_timeout(coordinator: Any) -> None:
    """A request that nobody answers ends with an error that names the coordinator, and the client can be closed."""
    worker = TrainingOrchestrator(coordinator.url, "worker-0").connect()
    coordinator.kill()
    try:
        with pytest.raises(DeadlineExceededError, match="did not answer 'arrive' within") as caught:
            worker.barrier("alone", 1, timeout_s=0.2)
        assert caught.value.missing == ("coordinator",)
        assert coordinator.url in str(caught.value)
    finally:
        worker.deregister()


def test_without_a_coordinator_the_error_names_the_address(run_dir: Path) -> None:
    """Nobody listens: UnavailableError within the timeout, with the address and the way out."""
    started = time.monotonic()
    with pytest.raises(UnavailableError, match=rf"ipc://{run_dir}/nobody within 0\.3 s.*strata coordinator"):
        TrainingOrchestrator(f"ipc://{run_dir}/nobody", "worker-0").connect(timeout_s=0.3)
    assert time.monotonic() - started < 20
    assert not [thread for thread in threading.enumerate() if thread.name == "strata-client"]


def _wait_until_arrived(coordinator: Any, name: str) -> None:
    until(lambda: any(barrier["name"] == name and barrier["arrived"] for barrier in coordinator.status().barriers))


def _like(released: Any, other: Any) -> Any:
    """`released` with the header of `other`: what both ranks must agree on is the outcome."""
    import msgspec

    return msgspec.structs.replace(released, session=other.session, seq=other.seq)
