"""The awaitable face of a worker's session: the same operations over the same state, awaited instead of waited for.

Cancelling a task that awaits cancels its request; a time limit raises the same error as the blocking method.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from strata_zmq.domain.names import check_seconds
from strata_zmq.errors import StrataError
from strata_zmq.protocol import messages as wire

from . import operations
from .client import CoordinatorClient
from .identity import WorkerIdentity
from .operations import Ask, Operation, SessionState
from .session import WorkerSession

__all__ = ["AsyncWorkerSession"]

P = ParamSpec("P")
R = TypeVar("R")


def _awaitable(
    operation: Callable[Concatenate[SessionState, P], Operation[R]],
) -> Callable[Concatenate[AsyncWorkerSession, P], Coroutine[Any, Any, R]]:
    @functools.wraps(operation)
    async def call(face: AsyncWorkerSession, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await _carry_out(operation(face.session, *args, **kwargs), face.session.client)

    return call


class AsyncWorkerSession:
    """A registered worker for asyncio code: every blocking method of `session` under its name, awaitable.

    Either of an existing session (`session.aio`), or of one of its own: `AsyncWorkerSession.of("worker-1")`, to be
    connected, joined and closed. Many may be used in one event loop; none belongs to a particular one.
    """

    def __init__(self, session: WorkerSession) -> None:
        self.session = session

    @classmethod
    def of(cls, worker_id: str, coordinator_url: str | None = None) -> Self:
        """Return a session of its own for `worker_id`."""
        return cls(WorkerSession(WorkerIdentity(worker_id=worker_id), coordinator_url))

    async def connect(self, timeout_s: float = 10.0) -> None:
        """Wait until the coordinator has taken this worker in."""
        limit = check_seconds("timeout_s", timeout_s)
        client = self.session.client
        ready = asyncio.wrap_future(client.when_ready())
        try:
            done, _ = await asyncio.wait([ready], timeout=limit)
        finally:
            _let_go(ready)
        if not done:
            await self.close(leave=False)
            raise client.unanswered(limit)
        error = ready.exception()
        if error is not None:
            await self.close(leave=False)
            raise error

    join = _awaitable(operations.join)
    barrier = _awaitable(operations.barrier)
    commit = _awaitable(operations.commit)
    register_dataset = _awaitable(operations.register_dataset)
    get_shards = _awaitable(operations.get_shards)
    advance_epoch = _awaitable(operations.advance_epoch)
    latest_checkpoints = _awaitable(operations.latest_checkpoints)
    resume = _awaitable(operations.resume)
    restore = _awaitable(operations.restore)
    heartbeat = _awaitable(operations.heartbeat)
    view = _awaitable(operations.view)
    status = _awaitable(operations.status)

    async def close(self, *, leave: bool = True) -> None:
        """Leave the membership, unless the coordinator cannot be reached, and end the connection."""
        # In a thread, and shielded: where the awaiting task is cancelled, even before the thread has begun, the
        # farewell is said all the same, so that nobody has to wait for the lease.
        close = functools.partial(self.session.close, leave=leave)
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, close))

    @property
    def membership(self) -> wire.Membership:
        """The generation that the training code has adopted."""
        return self.session.membership

    @property
    def generation(self) -> int:
        """The adopted generation; 0 before the first."""
        return self.session.generation

    @property
    def epoch(self) -> int:
        """The epoch that this worker is in."""
        return self.session.epoch

    @property
    def step(self) -> int:
        """How many commit points history has, as far as this worker has seen."""
        return self.session.step

    async def __aenter__(self) -> Self:
        try:
            await self.connect()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def _carry_out(operation: Operation[R], client: CoordinatorClient) -> R:
    """Ask what the operation asks for until it returns."""
    answer: Any = None
    failure: StrataError | None = None
    try:
        while True:
            ask = operation.send(answer) if failure is None else operation.throw(failure)
            answer, failure = None, None
            try:
                answer = await _answer(client, ask)
            except StrataError as error:
                failure = error
    except StopIteration as end:
        result: R = end.value
        return result
    finally:
        operation.close()


async def _answer(client: CoordinatorClient, ask: Ask) -> Any:
    limit = client.patience(ask.timeout_s, ask.patience_s)
    future = asyncio.wrap_future(client.submit(ask.request))
    try:
        done, _ = await asyncio.wait([future], timeout=limit)
    finally:
        _let_go(future)
    if not done:
        raise client.late(ask.request, limit)
    return future.result()


def _let_go(future: asyncio.Future[Any]) -> None:
    """Want no more of it: it is cancelled, or what it brought counts as looked at."""
    if not future.cancel() and not future.cancelled():
        future.exception()
