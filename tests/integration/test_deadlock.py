"""Ranks whose code takes different ways are told so within seconds, not at their time limits of minutes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from strata_zmq.errors import InvalidArgumentError
from strata_zmq.workers.aio import AsyncWorkerSession

LONG_S = 300.0


async def outcome(call: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await call
    except InvalidArgumentError as error:
        return str(error)


def test_one_rank_at_the_end_of_its_epoch_and_one_at_a_commit_point_both_hear_where_the_other_waits(
    start_coordinator,
) -> None:
    coordinator = start_coordinator("--initial-workers", "2", "--lease-s", "6", "--hang-s", "1")

    async def ranks() -> tuple[Any, Any]:
        sessions = [AsyncWorkerSession.of(f"worker-{number}", coordinator.url) for number in range(2)]
        for session in sessions:
            await session.connect()
        await asyncio.gather(*(session.join() for session in sessions))
        one, two = sorted(sessions, key=lambda session: session.session.membership.rank)
        told = await asyncio.gather(
            outcome(one.advance_epoch(timeout_s=LONG_S)), outcome(two.commit([], timeout_s=LONG_S))
        )
        again = await asyncio.gather(one.commit([], timeout_s=LONG_S), two.commit([], timeout_s=LONG_S))
        assert [released.commit_index for released in again] == [1, 1], "the job is as it was"
        for session in sessions:
            await session.close()
        return told

    told = asyncio.run(asyncio.wait_for(ranks(), 60))
    assert told[0] == told[1]
    assert "1 rank waits at commit point 1: rank 1 (worker-" in told[0]
    assert "1 rank waits for the end of epoch 0: rank 0 (worker-" in told[0]


def test_tasks_of_one_worker_that_wait_beside_each_other_are_no_deadlock(start_coordinator) -> None:
    """Each rank waits in one place while another task of it is on the way to where the other rank waits."""
    coordinator = start_coordinator("--initial-workers", "2", "--lease-s", "6")

    async def ranks() -> list[Any]:
        one, two = (AsyncWorkerSession.of(f"worker-{number}", coordinator.url) for number in range(2))
        for session in (one, two):
            await session.connect()
        await asyncio.gather(one.join(), two.join())
        first = [asyncio.ensure_future(one.barrier("a", 1)), asyncio.ensure_future(two.barrier("b", 1))]
        for _ in range(1000):
            if len((await one.status()).barriers) == 2:
                break
            await asyncio.sleep(0.01)
        released = await asyncio.gather(one.barrier("b", 1), two.barrier("a", 1), *first)
        for session in (one, two):
            await session.close()
        return released

    released = asyncio.run(asyncio.wait_for(ranks(), 60))
    assert sorted(one.name for one in released) == ["a", "a", "b", "b"]
