"""One child as its parent sees it: the calls it has, what is unread in its socket, what it does; it decides nothing.

Calls are numbered as they are handed over and come back in that order. What the child has not read yet can be read back
here: each packet has exactly one reader, so a call that was stolen never runs there.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping

from strata_zmq.domain.task import CALL_IN_PAYLOAD, Cause
from strata_zmq.functions.pool import packets
from strata_zmq.functions.pool.blackbox import IDLE, BoxReader
from strata_zmq.functions.pool.placing import KeptValue, as_call
from strata_zmq.functions.pool.planner import PoolCall
from strata_zmq.functions.pool.segments import SegmentPool
from strata_zmq.functions.pool.starting import Descriptor, StartedChild, of_this_process

__all__ = ["UNBOUNDED", "Child", "Doom"]

UNBOUNDED = 2**62


class Doom:
    """Why a child is being killed: the call that it was in (None: none), the cause, and a text with the limit."""

    __slots__ = ("call", "cause", "rss_bytes", "text")

    def __init__(self, call: PoolCall | None, cause: Cause, text: str, rss_bytes: int = 0) -> None:
        self.call = call
        self.cause = cause
        self.text = text
        self.rss_bytes = rss_bytes


class Child:
    """A started child process; `devices` are the names it was started with, `left` how many calls it may still take.

    `calls` are those it has, in order; `bounds` has the number of the last call of each of their packets. `since` is
    when it last showed progress, `stuck` that its present call takes longer than expected. `retired`: it
    ends when it has read its socket's end. `ended_at`: its process has ended, how is not known yet.
    """

    __slots__ = (
        "_forgotten",
        "_n",
        "_start",
        "_unsent",
        "bounds",
        "box",
        "box_memory",
        "calls",
        "devices",
        "doom",
        "ended_at",
        "known",
        "left",
        "memory_bytes",
        "pid",
        "pidfd",
        "process",
        "ready",
        "retired",
        "retired_at",
        "since",
        "stuck",
    )

    def __init__(
        self, start: StartedChild, box: Descriptor, devices: tuple[str, ...], left: int, memory_bytes: int, now: float
    ) -> None:
        self._start = start
        self.process = start.process
        self.pid = start.pid
        self.pidfd = start.pidfd.fileno()
        self.box_memory = box
        self.box = BoxReader(box.fileno())
        self.devices = devices
        self.left = left
        self.memory_bytes = memory_bytes
        self.calls: deque[PoolCall] = deque()
        self.bounds: deque[int] = deque()
        self.known: set[bytes] = {CALL_IN_PAYLOAD}
        self.ready = False
        self.retired = False
        self.retired_at = 0.0
        self.since = now
        self.stuck = False
        self.ended_at = 0.0
        self.doom: Doom | None = None
        self._n = 0
        self._unsent: deque[tuple[bytes, list[int]]] = deque()
        self._forgotten: list[bytes] = []

    def fileno(self) -> int:
        """Return the descriptor that is readable when the child has said something."""
        return self._start.ours.fileno()

    @property
    def usable(self) -> bool:
        """Whether it may be handed calls."""
        return self.left > 0 and not (self.retired or self.ended_at or self.doom)

    @property
    def blocked(self) -> bool:
        """Whether packets wait because its socket is full; `flush` when it is writable."""
        return bool(self._unsent)

    # ---- to the child ------------------------------------------------------------------------------------------------

    def hand(self, calls: list[PoolCall], kept: Mapping[bytes, KeptValue], segments: SegmentPool, now: float) -> None:
        """Send one packet with `calls`, and before it what they need and the child does not know yet."""
        if not self.calls:
            self.since, self.stuck = now, False
        known, n = self.known, self._n
        descriptors: list[int] = []
        orders: list[packets.Call] = []
        for call in calls:
            if call.function not in known:
                self._keep(call.function, kept)
            for digest in call.refs:
                if digest not in known:
                    self._keep(digest, kept)
            n += 1
            call.n = n
            call.child = self
            orders.append(as_call(call, n, segments, descriptors))
        self._n = n
        self.calls.extend(calls)
        self.bounds.append(n)
        self.left -= len(calls)
        self._send(packets.encode_calls(orders), descriptors)

    def forget(self, digest: bytes) -> None:
        """Tell the child, with the next calls, that `digest` is not needed any more."""
        if digest in self.known:
            self.known.discard(digest)
            self._forgotten.append(digest)

    def retire(self, now: float) -> None:
        """Let the child end when it has run what it has."""
        self.retired = True
        self.retired_at = now
        self._start.ours.shutdown(1)

    def flush(self) -> None:
        """Send what waited for room in the socket."""
        while self._unsent:
            packet, descriptors = self._unsent[0]
            if not packets.send(self._start.ours, packet, descriptors):
                return
            self._unsent.popleft()
            _close(descriptors)

    def _keep(self, digest: bytes, kept: Mapping[bytes, KeptValue]) -> None:
        if self._forgotten:
            forgotten = [unneeded for unneeded in self._forgotten if unneeded != digest]
            self._forgotten.clear()
            for at in range(0, len(forgotten), packets.CALLS_MAX):
                self._send(packets.encode_forget(forgotten[at : at + packets.CALLS_MAX]), [])
        descriptors: list[int] = []
        self._send(packets.encode_keep(kept[digest].as_keep(digest, descriptors)), descriptors)
        self.known.add(digest)

    def _send(self, packet: bytes, descriptors: list[int]) -> None:
        if self._unsent or not packets.send(self._start.ours, packet, descriptors):
            # Copies: their owner may close them before there is room.
            self._unsent.append((packet, [os.dup(descriptor) for descriptor in descriptors]))

    # ---- from the child ----------------------------------------------------------------------------------------------

    def receive(self) -> tuple[bytes, list[int]] | None:
        """Return the next packet and its descriptors, None where there is none; raises ProtocolError."""
        return packets.receive(self._start.ours)

    def done(self, call: PoolCall) -> None:
        """Take note that `call`, the first of `calls`, is over."""
        self.calls.popleft()
        self.stuck = False
        if self.bounds and self.bounds[0] <= call.n:
            self.bounds.popleft()
        call.child = None

    def steal(self) -> list[PoolCall]:
        """Take back every call that the child has not read, in order; what it has read stays with it.

        The child may read on meanwhile, so that what is taken need not be the end of what it had. Calls that it has
        read without the value that was sent for them are `deprived`: they cannot be loaded there.
        """
        stolen: set[int] = set()
        lost: set[bytes] = set()
        for packet in self._unread():
            order = packets.decode_order(packet)
            if isinstance(order, list):
                stolen.update(call.n for call in order)
            elif isinstance(order, packets.Keep):
                lost.add(order.digest)
            else:
                self._forgotten += order.digests
        self.known -= lost
        taken = [call for call in self.calls if call.n in stolen]
        if taken:
            self.calls = deque(call for call in self.calls if call.n not in stolen)
            self.bounds = deque(n for n in self.bounds if n not in stolen)
            self.left += len(taken)
            for call in taken:
                call.child = None
        if lost:
            for call in self.calls:
                call.deprived = call.deprived or call.function in lost or not lost.isdisjoint(call.refs)
        return taken

    def _unread(self) -> list[bytes]:
        unread: list[bytes] = []
        while (got := packets.receive(self._start.theirs)) is not None and got[0]:
            unread.append(got[0])
            _close(got[1])
        for packet, descriptors in self._unsent:
            unread.append(packet)
            _close(descriptors)
        self._unsent.clear()
        return unread

    def current(self) -> PoolCall | None:
        """Return the call that the child is in, as its black box has it; None between calls."""
        look = self.box.look()
        if look.phase == IDLE:
            return None
        return next((call for call in self.calls if call.n == look.n), None)

    # ---- its end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give back everything that connects the parent to it; a child that lives ends by itself."""
        for _, descriptors in self._unsent:
            _close(descriptors)
        self._unsent.clear()
        self.calls.clear()  # they refer to this child
        self._start.close()
        self.box.close()
        of_this_process(self.box_memory, closed=True)
        self.box_memory.close()


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
