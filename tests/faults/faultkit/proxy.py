"""A TCP proxy on 127.0.0.1 that misbehaves as told: an asyncio server on a thread of its own.

It delays, slows down, stalls, cuts and half-opens connections of any kind, and it repeats, swaps and drops whole
messages of ZMTP connections. What happens to a message hangs on the seed and on its number only, so that one seed
makes the same decisions again.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import random
import socket
import struct
import threading
import time
from asyncio.trsock import TransportSocket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from .zmtp import Splitter

__all__ = ["Behaviour", "Decision", "TcpProxy"]

T = TypeVar("T")

_READ_BYTES = 65_536
_HELD_BYTES_MAX = 4 * 1024 * 1024
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one message: `copies` of it, each `hold_s` later than the messages around it."""

    copies: int = 1
    hold_s: float = 0.0


@dataclass(slots=True)
class Behaviour:
    """How one direction treats what it carries. May be changed at any time; later bytes feel it.

    The three shares are of messages, between 0 and 1. A message that is `reorders`-ed is held back for `hold_s`, so
    that what follows overtakes it.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float = float("inf")
    loses: float = 0.0
    duplicates: float = 0.0
    reorders: float = 0.0
    hold_s: float = 0.05

    def decide(self, seed: str, number: int) -> Decision:
        """Return what becomes of message `number` (from 0) of a direction of a connection, which `seed` names."""
        chance = random.Random(f"{seed}:{number}")
        lost, doubled, late = (chance.random() for _ in range(3))
        if lost < self.loses:
            return Decision(copies=0)
        return Decision(2 if doubled < self.duplicates else 1, self.hold_s if late < self.reorders else 0.0)


@dataclass(slots=True)
class Counts:
    """What one direction has done so far, over all connections."""

    messages: int = 0
    lost: int = 0
    duplicated: int = 0
    held: int = 0


class TcpProxy:
    """Listens on a free port and passes on to `target` (host, port); `up` is towards the target, `down` comes back.

    `rewrite` may replace a message on its way back, for example by one that names other proxies.
    """

    def __init__(
        self, target: tuple[str, int], *, seed: int = 0, rewrite: Callable[[bytes], bytes] | None = None
    ) -> None:
        self.target = target
        self.seed = seed
        self.up = Behaviour()
        self.down = Behaviour()
        self.counts = {"up": Counts(), "down": Counts()}
        self.half_open = False
        """New connections are accepted, and nothing is passed on from them, ever."""
        self.connections = 0
        """How many connections have been accepted so far."""
        self.port = 0
        self._rewrite = rewrite
        self._open: set[TransportSocket] = set()
        self._listener: socket.socket | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._flows: dict[str, asyncio.Event] = {}
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy", daemon=True)

    @property
    def url(self) -> str:
        """The address to connect to."""
        return f"tcp://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Listen and pass on."""
        self._thread.start()
        self._call(self._listen())
        return self

    def stop(self) -> None:
        """Cut everything and end the thread."""
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def stall(self, *directions: str) -> None:
        """Pass nothing on in these directions (both, if none is named); connections stay, and nothing is lost."""
        self._call(self._gate(directions, flowing=False))

    def flow(self, *directions: str) -> None:
        """Pass on what was stalled, and what follows."""
        self._call(self._gate(directions, flowing=True))

    def cut(self) -> int:
        """Reset every connection (RST on both sides) and return how many there were; what was held back is lost."""
        return self._call(self._reset())

    def refuse(self) -> None:
        """Cut everything and stop listening: who connects is refused."""
        self._call(self._close_listener())
        self.cut()

    def accept(self) -> None:
        """Listen again on the same port."""
        self._call(self._listen())

    def _call(self, what: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(10)

    # ---- on the thread

    async def _listen(self) -> None:
        self._flows = self._flows or {name: asyncio.Event() for name in ("up", "down")}
        await self._gate((), flowing=True)
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=2048)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            near, _ = listener.accept()
            near.setblocking(False)
            # The set keeps each connection's task alive, and knows whom to cut.
            serving = asyncio.create_task(self._serve(near))
            self._serving.add(serving)
            serving.add_done_callback(self._serving.discard)

    async def _close_listener(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    async def _gate(self, directions: tuple[str, ...], *, flowing: bool) -> None:
        for name in directions or tuple(self._flows):
            event = self._flows[name]
            if flowing:
                event.set()
            else:
                event.clear()

    async def _reset(self) -> int:
        connections = len(self._open) // 2
        for one in self._open:
            with contextlib.suppress(OSError):
                # No goodbye: the peer sees RST, as from a host that was restarted or a firewall that forgot.
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        serving = list(self._serving)
        # A task that is cancelled before its first step would leave its socket open.
        await asyncio.sleep(0)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        return connections

    async def _end(self) -> None:
        await self._close_listener()
        await self._reset()

    async def _serve(self, near: socket.socket) -> None:
        number, self.connections = self.connections, self.connections + 1
        with contextlib.suppress(OSError, asyncio.CancelledError), near:
            async with contextlib.AsyncExitStack() as stack:
                reader, writer = await asyncio.open_connection(sock=near)
                self._keep(stack, writer)
                if self.half_open:
                    await asyncio.Event().wait()
                far_reader, far_writer = await asyncio.open_connection(*self.target)
                self._keep(stack, far_writer)
                await _first_to_end(
                    self._pass(f"{self.seed}:{number}", "up", reader, far_writer),
                    self._pass(f"{self.seed}:{number}", "down", far_reader, writer),
                )

    def _keep(self, stack: contextlib.AsyncExitStack, writer: asyncio.StreamWriter) -> None:
        plain = writer.get_extra_info("socket")
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open.add(plain)
        stack.callback(self._open.discard, plain)
        stack.callback(writer.transport.abort)

    async def _pass(
        self, connection: str, direction: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Carry one direction of one connection until either end closes."""
        lane = _Lane()
        await _first_to_end(
            self._take(f"{connection}:{direction}", direction, reader, lane), self._give(direction, writer, lane)
        )

    async def _take(self, seed: str, direction: str, reader: asyncio.StreamReader, lane: _Lane) -> None:
        splitter, numbers, counts = Splitter(), itertools.count(), self.counts[direction]
        rewrite = self._rewrite if direction == "down" else None
        while data := await reader.read(_READ_BYTES):
            behaviour = self.up if direction == "up" else self.down
            for piece in splitter.feed(data):
                if piece.kind != "message":
                    await lane.put(piece.raw, behaviour, 0.0)
                    continue
                decision = behaviour.decide(seed, next(numbers))
                counts.messages += 1
                counts.lost += decision.copies == 0
                counts.duplicated += decision.copies == 2
                counts.held += decision.copies > 0 and decision.hold_s > 0
                raw = piece.raw if rewrite is None else rewrite(piece.raw)
                for _ in range(decision.copies):
                    await lane.put(raw, behaviour, decision.hold_s)
            # A stalled connection pushes back on its sender.
            await lane.held_at_most(_HELD_BYTES_MAX)
        # What is on its way arrives before the end does.
        await lane.held_at_most(0)

    async def _give(self, direction: str, writer: asyncio.StreamWriter, lane: _Lane) -> None:
        while True:
            data = await lane.next_due()
            await self._flows[direction].wait()
            writer.write(data)
            await writer.drain()
            behaviour = self.up if direction == "up" else self.down
            if behaviour.bytes_per_s != float("inf"):
                await asyncio.sleep(len(data) / behaviour.bytes_per_s)
            await lane.given(data)


@dataclass(slots=True)
class _Lane:
    """What is on its way in one direction of one connection, ordered by when it is due."""

    pieces: list[tuple[float, int, bytes]] = field(default_factory=list)
    held_bytes: int = 0
    in_order_due: float = 0.0
    numbers: itertools.count[int] = field(default_factory=itertools.count)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def put(self, data: bytes, behaviour: Behaviour, hold_s: float) -> None:
        """Take bytes that are due after the direction's delay, and `hold_s` later than those around them."""
        due = time.monotonic() + behaviour.delay_s + random.uniform(0.0, behaviour.jitter_s)
        # Jitter alone reorders nothing, as in TCP; only what is held back is overtaken.
        self.in_order_due = due = max(due, self.in_order_due)
        async with self.changed:
            heapq.heappush(self.pieces, (due + hold_s, next(self.numbers), data))
            self.held_bytes += len(data)
            self.changed.notify_all()

    async def next_due(self) -> bytes:
        """Wait for the next bytes and take them out."""
        async with self.changed:
            while True:
                wait_s = self.pieces[0][0] - time.monotonic() if self.pieces else None
                if wait_s is not None and wait_s <= 0:
                    return heapq.heappop(self.pieces)[2]
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.changed.wait(), wait_s)

    async def given(self, data: bytes) -> None:
        """Note that bytes which were taken out are with the peer."""
        async with self.changed:
            self.held_bytes -= len(data)
            self.changed.notify_all()

    async def held_at_most(self, size: int) -> None:
        """Wait until no more than `size` bytes are on their way."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.held_bytes <= size)


async def _first_to_end(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run both until one ends, then end the other."""
    tasks = [asyncio.ensure_future(one) for one in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for one in done:
            one.result()
    finally:
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
