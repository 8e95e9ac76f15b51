"""The awaitable face of a worker's session: every blocking call under its name, over the same state, in one loop."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest

from strata_zmq.errors import (
    AlreadyExistsError,
    DeadlineExceededError,
    GenerationChangedError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from strata_zmq.workers.aio import AsyncWorkerSession
from strata_zmq.workers.session import WorkerSession

# What does not wait: it is asked of `session.session`.
NOT_WAITING = {"registration", "report", "adopt", "agreed"}


BLOCKING = [
    (name, call)
    for name, call in inspect.getmembers(WorkerSession, inspect.isfunction)
    if not name.startswith("_") and name not in NOT_WAITING
]


@pytest.mark.parametrize(("name", "call"), BLOCKING)
def test_every_blocking_call_has_an_awaitable_twin(name: str, call: Callable[..., Any]) -> None:
    """It has the same name, parameters and defaults, and says the same of itself."""
    twin = getattr(AsyncWorkerSession, name)
    assert inspect.iscoroutinefunction(twin)
    assert [*inspect.signature(twin).parameters.values()][1:] == [*inspect.signature(call).parameters.values()][1:]
    assert twin.__doc__ == call.__doc__


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


async def until(ask: Callable[[], Awaitable[Any]]) -> None:
    """Poll until the answer is true."""
    for _ in range(1000):
        if await ask():
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"not within 1000 answers: {ask}")


async def someone_waits(session: AsyncWorkerSession) -> bool:
    return bool((await session.status()).barriers)


async def is_quiet(session: AsyncWorkerSession) -> bool:
    return session.session.client.outstanding == 0


@asynccontextmanager
async def job(coordinator: Any, count: int) -> AsyncIterator[list[AsyncWorkerSession]]:
    """Sessions of one generation, in rank order, all in this event loop."""
    sessions = [AsyncWorkerSession.of(f"worker-{number}", coordinator.url) for number in range(count)]
    try:
        await asyncio.gather(*(session.connect() for session in sessions))
        await asyncio.gather(*(session.join(30) for session in sessions))
        yield sorted(sessions, key=lambda session: session.membership.rank)
    finally:
        await asyncio.gather(*(session.close() for session in sessions))


def test_several_workers_live_in_one_event_loop(start_coordinator: Callable[..., Any]) -> None:
    """They join, meet, take shards, commit, advance the epoch and ask, all at once, and see one job."""
    coordinator = start_coordinator("--initial-workers", "3")

    async def live() -> None:
        async with job(coordinator, 3) as sessions:

            async def one(session: AsyncWorkerSession) -> None:
                assert await session.register_dataset("numbers", 30, 5) == 6
                released = await session.barrier("start", 1, timeout_s=30)
                assert sorted(released.participants) == ["worker-0", "worker-1", "worker-2"]
                shards = await session.get_shards("numbers")
                assert len(shards.shards) == 2
                assert (await session.commit([], timeout_s=30)).commit_index == 1
                assert await session.advance_epoch(timeout_s=30) == 1
                assert await session.latest_checkpoints() == []
                assert await session.heartbeat()
                position = await session.resume()
                assert (position.checkpoint, position.epoch, position.commit_index) == (None, 1, 1)
                assert (await session.view()).members == tuple(session.membership.members)
                assert (await session.status()).epoch == 1

            await asyncio.gather(*map(one, sessions))
            assert {(session.epoch, session.step, session.generation) for session in sessions} == {(1, 1, 1)}
            assert await sessions[0].restore("beginning", b'{"epoch": 0, "commit_index": 0, "datasets": {}}') is False

    run(live())
    assert coordinator.members() == []


def test_both_faces_serve_one_worker(coordinator: Any) -> None:
    """What is awaited and what is waited for share the adopted generation and the step."""

    async def live() -> None:
        async with job(coordinator, 1) as (face,):
            blocking = face.session
            with ThreadPoolExecutor(1) as pool:
                released = await asyncio.get_running_loop().run_in_executor(pool, blocking.commit, [])
            assert released.commit_index == 1
            assert (await blocking.aio.commit([])).commit_index == 2
            assert (face.step, blocking.step) == (2, 2)
            assert blocking.barrier("meet", 1).participants == ["worker-0"]
            with pytest.raises(InvalidArgumentError, match="released already"):
                await face.barrier("meet", 1)

    run(live())


def test_a_cancelled_task_takes_its_request_back(start_coordinator: Callable[..., Any]) -> None:
    """Nothing is sent for it any more, the worker goes on, and a later meeting needs a later arrival."""
    coordinator = start_coordinator("--initial-workers", "2")

    async def live() -> None:
        async with job(coordinator, 2) as (first, second):
            waiting = asyncio.create_task(first.barrier("meet", 1, timeout_s=30))
            await until(lambda: someone_waits(second))
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert first.session.state == "IDLE"
            await until(lambda: is_quiet(first))
            both = await asyncio.gather(first.barrier("meet", 2, timeout_s=30), second.barrier("meet", 2, timeout_s=30))
            assert [sorted(released.participants) for released in both] == [["worker-0", "worker-1"]] * 2

    run(live())


def test_errors_are_those_of_the_blocking_calls(start_coordinator: Callable[..., Any]) -> None:
    """A time limit names who is missing, a change of membership who came, and a mistake its field."""
    coordinator = start_coordinator("--initial-workers", "2")

    async def live() -> None:
        async with job(coordinator, 2) as (first, _):
            with pytest.raises(DeadlineExceededError) as late:
                await first.barrier("meet", 1, timeout_s=0.1)
            assert late.value.missing == ("worker-1",)
            with pytest.raises(NotFoundError, match="nothing"):
                await first.get_shards("nothing")
            with pytest.raises(InvalidArgumentError, match="timeout_s"):
                await first.barrier("meet", 2, timeout_s=-1)
            waiting = asyncio.create_task(first.barrier("meet", 3, timeout_s=30))
            await until(lambda: someone_waits(first))
            async with AsyncWorkerSession.of("worker-2", coordinator.url):
                with pytest.raises(GenerationChangedError) as changed:
                    await waiting
                assert changed.value.joined == ("worker-2",)

    run(live())


def test_who_cannot_connect_is_told_why_and_leaves_nothing(coordinator: Any, tmp_path: Any) -> None:
    """Nobody there, or the name taken: the error is the blocking one, and the connection's thread has ended."""

    async def live() -> None:
        alone = AsyncWorkerSession.of("worker-0", f"ipc://{tmp_path}/nobody")
        with pytest.raises(UnavailableError, match="strata coordinator"):
            await alone.connect(0.1)
        with pytest.raises(UnavailableError, match="closed"):
            await alone.heartbeat()
        async with AsyncWorkerSession.of("worker-0", coordinator.url):
            twin = AsyncWorkerSession.of("worker-0", coordinator.url)
            with pytest.raises(AlreadyExistsError):
                await twin.connect()

    run(live())


@pytest.mark.parametrize("timeout_s", [-1, float("nan"), "soon", None])
def test_a_bad_time_limit_is_refused_before_anything_is_said(coordinator: Any, timeout_s: Any) -> None:
    """On both faces: nobody is registered by it, and the same session connects with a good one."""

    async def live() -> None:
        session = AsyncWorkerSession.of("worker-0", coordinator.url)
        with pytest.raises(InvalidArgumentError, match="timeout_s"):
            await session.connect(timeout_s)
        with pytest.raises(InvalidArgumentError, match="timeout_s"):
            session.session.connect(timeout_s)
        assert "strata-client" not in {thread.name for thread in threading.enumerate()}
        assert coordinator.status().have == 0
        await session.connect()
        assert (await session.join(30)).members == ["worker-0"]
        await session.close()

    run(live())


def test_a_connection_that_is_not_awaited_any_more_can_still_be_used(coordinator: Any) -> None:
    """Cancelling connect() gives up the waiting, and not the connection."""

    async def live() -> None:
        session = AsyncWorkerSession.of("worker-0", coordinator.url)
        waiting = asyncio.create_task(session.connect())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await session.connect()
        assert (await session.join(30)).rank == 0
        await session.close()

    run(live())


def test_cancelled_tasks_leave_the_membership_all_the_same(start_coordinator: Any) -> None:
    """An error in one task ends the program, and with it the others, wherever they are: no name stays taken."""
    coordinator = start_coordinator("--initial-workers", "3")

    async def wait_for_the_first(session: AsyncWorkerSession) -> None:
        async with session:
            await session.join(30)
            if session.session.worker_id == "worker-0":
                await until(lambda: is_quiet(session))
                raise LookupError("of the user's own")
            await session.barrier("never", 1, on_change="reform", timeout_s=30)

    async def program() -> None:
        sessions = [AsyncWorkerSession.of(f"worker-{number}", coordinator.url) for number in range(3)]
        await asyncio.gather(*map(wait_for_the_first, sessions))

    with pytest.raises(LookupError):
        run(program())
    assert coordinator.members() == []
