"""The app's way to its dispatcher: a client that is there, or is being looked for, or is not to be found.

Owns the connection's life; never knows what is asked over it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from strata_zmq.domain.task import TaskLimits
from strata_zmq.errors import UnavailableError
from strata_zmq.functions.calls import PackedCall, TaskView
from strata_zmq.protocol.functions import Counts
from strata_zmq.transport.curve import CurveKeys

__all__ = ["Link", "TaskClient", "Verdict", "watching"]

_FIRST_S = 2.0
_AGAIN_S = 0.5
_log = logging.getLogger(__name__)


class Verdict(Protocol):
    """What became of one call of a submission; `code` is empty where it was accepted."""

    @property
    def task_id(self) -> bytes:
        """The task: the one that was sent, or the one that its key already stands for."""

    @property
    def code(self) -> str:
        """The error's name, or nothing."""

    @property
    def message(self) -> str:
        """What it says."""

    @property
    def retry_after_s(self) -> float:
        """Above 0: when to try again."""


class TaskClient(Protocol):
    """What the app asks of a dispatcher; `functions.remote.aio.AsyncClient` does it."""

    async def register(self, name: str, payload: bytes, function_id: bytes = b"") -> bytes:
        """Keep a function for good."""

    async def submit(self, calls: Sequence[tuple[bytes, PackedCall]], limits: TaskLimits) -> Sequence[Verdict]:
        """Submit calls under their tasks' ids."""

    async def fetch(self, task_ids: Sequence[bytes], *, bodies: bool = True) -> Sequence[TaskView]:
        """Return what is known of tasks."""

    def watch(self, task_ids: Sequence[bytes], timeout_s: float, *, bodies: bool = True) -> AsyncIterator[TaskView]:
        """Yield tasks as they end."""

    async def cancel(self, task_ids: Sequence[bytes], *, running: bool) -> Sequence[str]:
        """Cancel tasks, and return their states."""

    async def page(self, after: bytes = b"", limit: int = 100, state: str = "") -> Sequence[TaskView]:
        """Return some tasks in the order of their acceptance."""

    async def counts(self) -> Counts:
        """Return how much there is."""

    async def close(self) -> None:
        """End the connection."""


@asynccontextmanager
async def watching(views: AsyncIterator[TaskView]) -> AsyncIterator[AsyncIterator[TaskView]]:
    """Close what `TaskClient.watch` returned at the end of the block, also where it was left early."""
    try:
        yield views
    finally:
        close = getattr(views, "aclose", None)
        if close is not None:
            await close()


class Link:
    """Holds the client. Without one from the start, `running` connects to `endpoint`, again and again until it can."""

    def __init__(self, client: TaskClient | None, endpoint: str, keys: CurveKeys | None = None) -> None:
        self._client = client
        self._endpoint = endpoint
        self._keys = keys

    @property
    def client(self) -> TaskClient:
        """The client; UnavailableError while no dispatcher has answered yet."""
        if self._client is None:
            raise UnavailableError(f"no dispatcher answers at {self._endpoint or 'any address'}: is it running?")
        return self._client

    @asynccontextmanager
    async def running(self, _: object = None) -> AsyncIterator[None]:
        """Connect in the background, unless a client was given, and close what was connected."""
        if self._client is not None or not self._endpoint:
            yield
            return
        looking = asyncio.create_task(self._look())
        try:
            # The first requests find it there, if it is.
            await asyncio.wait([looking], timeout=_FIRST_S)
            yield
        finally:
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking
            if self._client is not None:
                await self._client.close()

    async def _look(self) -> None:
        from strata_zmq.functions.remote.aio import AsyncClient

        level = logging.WARNING
        while self._client is None:
            try:
                self._client = await AsyncClient.connect(self._endpoint, keys=self._keys)
            except UnavailableError as error:
                _log.log(level, "%s; trying again", error)
                level = logging.DEBUG  # once is enough
                await asyncio.sleep(_AGAIN_S)
