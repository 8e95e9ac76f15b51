"""The ends of tasks as server-sent events. It owns the text of the stream, and never knows who waits for what."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from strata_zmq.functions.calls import TaskView

from .bodies import id_text
from .link import watching

__all__ = ["stream"]

_QUIET_S = 15.0
"""After so long a comment is sent, so that proxies keep the connection and a client that has gone is noticed."""


async def stream(views: AsyncIterator[TaskView], ids: Sequence[bytes]) -> AsyncIterator[bytes]:
    """Yield an event `task` for each view, then `done`, or `timeout` with the ids that are left."""
    left = dict.fromkeys(ids)
    async with watching(views):
        upcoming: asyncio.Task[TaskView | None] | None = None
        try:
            while left:
                upcoming = upcoming or asyncio.create_task(_next(views))
                await asyncio.wait([upcoming], timeout=_QUIET_S)
                if not upcoming.done():
                    yield b": still waiting\n\n"
                    continue
                view, upcoming = upcoming.result(), None
                if view is None:
                    break
                left.pop(view.task_id, None)
                task_id = id_text(view.task_id)
                yield _event("task", {"task_id": task_id, "status": view.state}, task_id)
        finally:
            if upcoming is not None:
                upcoming.cancel()
                with suppress(asyncio.CancelledError):
                    await upcoming
    if left:
        yield _event("timeout", {"pending": [id_text(task_id) for task_id in left]})
    else:
        yield _event("done", {})


async def _next(views: AsyncIterator[TaskView]) -> TaskView | None:
    return await anext(views, None)


def _event(kind: str, data: object, event_id: str = "") -> bytes:
    lines = [f"event: {kind}", *([f"id: {event_id}"] if event_id else ()), f"data: {json.dumps(data)}"]
    return ("\n".join(lines) + "\n\n").encode()
