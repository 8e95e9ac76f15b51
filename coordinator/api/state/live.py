"""The live feed: who listens, what each still has to be sent, and the two ways of sending it. It makes no message.

Every listener begins with a snapshot. Whoever does not read is dropped: what waits for one listener is bounded in
messages and bytes, and one message may take SEND_S.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from starlette.responses import StreamingResponse
from starlette.websockets import WebSocketDisconnect

from strata_zmq.errors import ResourceExhaustedError

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send
    from starlette.websockets import WebSocket

__all__ = ["CLIENTS_MAX", "QUEUE_BYTES_MAX", "QUEUE_MAX", "SEND_S", "EventStream", "FanOut", "Subscription", "serve"]

CLIENTS_MAX = 256
QUEUE_MAX = 32
QUEUE_BYTES_MAX = 16 * 1024 * 1024
"""Of messages that wait for one listener; a single one may be longer while nothing else waits."""
SEND_S = 5.0
_CLOSE_S = 0.5
_TOO_SLOW = 1013
_GOING_AWAY = 1012


class Message:
    """One message of the feed, held once however many wait for it."""

    __slots__ = ("_text", "data", "number")

    def __init__(self, data: bytes, number: int) -> None:
        self.data = data
        self.number = number
        self._text: str | None = None

    @property
    def text(self) -> str:
        """It as text, made once."""
        if self._text is None:
            self._text = self.data.decode()
        return self._text


class Subscription:
    """One listener. Iterating gives its messages' bytes; it ends when it is closed or dropped."""

    def __init__(self, fan_out: FanOut, first: Message) -> None:
        self._fan_out = fan_out
        self._waiting: deque[Message] = deque([first])
        self._bytes = len(first.data)
        self._wake = asyncio.Event()
        self._wake.set()
        self._ended = False
        self.dropped = False
        """Whether it was ended because it did not read."""

    def offer(self, message: Message) -> None:
        """Put a message behind the others, or drop the listener where there is no room."""
        self._bytes += len(message.data)
        if len(self._waiting) >= QUEUE_MAX or (self._waiting and self._bytes > QUEUE_BYTES_MAX):
            self.drop()
            return
        self._waiting.append(message)
        self._wake.set()

    def drop(self) -> None:
        """End it because it does not read."""
        if not self._ended:
            self.dropped = True
            self._fan_out.dropped_total += 1
            self.close()

    def close(self) -> None:
        """End it; what waits is let go."""
        self._ended = True
        self._waiting.clear()
        self._bytes = 0
        self._fan_out.leave(self)
        self._wake.set()

    async def next(self) -> Message | None:
        """Return the next message, as soon as there is one; None at the end."""
        while not self._waiting:
            if self._ended:
                return None
            self._wake.clear()
            await self._wake.wait()
        message = self._waiting.popleft()
        self._bytes -= len(message.data)
        return message

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._each()

    async def _each(self) -> AsyncIterator[bytes]:
        while (message := await self.next()) is not None:
            yield message.data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FanOut:
    """All listeners. `first` makes the snapshot that a new one begins with."""

    def __init__(self, first: Callable[[], Message]) -> None:
        self._first = first
        self._listeners: dict[Subscription, None] = {}
        self.dropped_total = 0

    def __len__(self) -> int:
        return len(self._listeners)

    def join(self) -> Subscription:
        """Return a new listener; ResourceExhaustedError beyond CLIENTS_MAX."""
        if len(self._listeners) >= CLIENTS_MAX:
            raise ResourceExhaustedError(
                f"{CLIENTS_MAX} listen already, which is the limit: close one, or ask /api/dashboard now and then"
            )
        listener = Subscription(self, self._first())
        self._listeners[listener] = None
        return listener

    def leave(self, listener: Subscription) -> None:
        """Have it no more."""
        self._listeners.pop(listener, None)

    def tell(self, message: Message) -> None:
        """Offer a message to everybody."""
        for listener in tuple(self._listeners):
            listener.offer(message)

    def close(self) -> None:
        """End everybody."""
        for listener in tuple(self._listeners):
            listener.close()


async def serve(websocket: WebSocket, fan_out: FanOut) -> None:
    """Send the feed over a WebSocket as text until either side ends it; what the other side says is not read on."""
    await websocket.accept()
    try:
        listener = fan_out.join()
    except ResourceExhaustedError as error:
        await websocket.close(_TOO_SLOW, str(error))
        return
    with listener:
        gone = asyncio.create_task(_until_gone(websocket))
        gone.add_done_callback(lambda _: listener.close())
        try:
            while (message := await listener.next()) is not None:
                await asyncio.wait_for(websocket.send_text(message.text), SEND_S)
        except TimeoutError:
            listener.drop()
        except (WebSocketDisconnect, RuntimeError):
            return
        finally:
            gone.cancel()
            with suppress(asyncio.CancelledError):
                await gone
        # To one that does not read, this cannot be said, either: the connection is given up then.
        with suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
            code, reason = (_TOO_SLOW, "too slow") if listener.dropped else (_GOING_AWAY, "this server ends")
            await asyncio.wait_for(websocket.close(code, reason), _CLOSE_S)


async def _until_gone(websocket: WebSocket) -> None:
    """Return when the other side is gone, or when it speaks: this feed is for listening only."""
    with suppress(WebSocketDisconnect, RuntimeError):
        while (await websocket.receive())["type"] != "websocket.disconnect":
            pass


class EventStream(StreamingResponse):
    """The feed as server-sent events: `data:` events without a name, with their number as id."""

    def __init__(self, listener: Subscription) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(listener, media_type="text/event-stream", headers=headers)
        self._listener = listener

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the other side is gone, or does not read."""
        del scope
        listener = self._listener
        with listener:
            gone = asyncio.create_task(_until_disconnected(receive))
            gone.add_done_callback(lambda _: listener.close())
            try:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                while (message := await listener.next()) is not None:
                    event = b"id: %d\ndata: %b\n\n" % (message.number, message.data)
                    part = {"type": "http.response.body", "body": event, "more_body": True}
                    await asyncio.wait_for(send(part), SEND_S)
            except TimeoutError:
                listener.drop()
            finally:
                gone.cancel()
                with suppress(asyncio.CancelledError):
                    await gone
            with suppress(TimeoutError):
                await asyncio.wait_for(send({"type": "http.response.body", "body": b"", "more_body": False}), _CLOSE_S)


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
