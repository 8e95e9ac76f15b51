"""The attempts of a pool, from their offer to their outcome: what each of them waits for, and what came of it.

Knows no process. What happens here outside a turn rings the bell, so that the owner turns the pool.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from strata_zmq.domain.task import Cause, Outcome, Payload, Runnable
from strata_zmq.functions.pool.gate import Gate
from strata_zmq.functions.pool.options import Attempt
from strata_zmq.functions.pool.parking import Parking
from strata_zmq.functions.pool.planner import Planner, PoolCall
from strata_zmq.functions.pool.segments import SegmentPool, SharedParts
from strata_zmq.functions.pool.starting import Descriptor
from strata_zmq.functions.pool.verdicts import unstarted

__all__ = ["Backlog"]


class Backlog:
    """`calls` are all attempts by their key; `planner` has those that wait for a child, `parking` for a value,
    `gate` for the owner's word.
    """

    def __init__(self, devices: int, worker: str) -> None:
        self.calls: dict[Attempt, PoolCall] = {}
        self.planner = Planner()
        self.gate = Gate()
        self.segments = SegmentPool()
        self.parking = Parking(self.segments)
        self.bell = Descriptor(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
        self.outcomes: list[Outcome] = []
        self._devices = devices
        self._worker = worker
        self._rung = False

    @property
    def waiting(self) -> int:
        """How many attempts are at no child."""
        return self.planner.waiting + self.parking.count + self.gate.count

    def add(self, tasks: Iterable[Runnable]) -> None:
        """Take attempts in their order; one that is here already is not taken again."""
        kept, calls, put = self.parking.kept, self.calls, self.planner.put
        for task in tasks:
            call = PoolCall(task)
            if call.key in calls:
                continue
            calls[call.key] = call
            if call.need > self._devices:
                text = f"it needs {call.need} gpu, this pool has {self._devices}; start workers with more"
                self.end(call, "unloadable_call", text)
            elif (call.function in kept and not call.refs) or (lacks := self.parking.lacks(call)) is None:
                if call.asks:
                    self.gate.put(call)
                else:
                    put(call)
            else:
                self.parking.park(call, lacks)

    def put_back(self, calls: Iterable[PoolCall]) -> None:
        """Queue calls before the others; those that are to be stopped end, those that lack or ask wait aside."""
        ready = []
        for call in calls:
            if call.stop_cause:
                self.end(call, "cancelled", "it was cancelled before it ran")
            elif (lacks := self.parking.lacks(call)) is not None:
                self.parking.park(call, lacks)
            elif call.asks:
                self.gate.put(call)
                self.ring()
                continue
            else:
                ready.append(call)
            if call.granted:
                self.gate.granted[call] = None
        if ready:
            self.planner.put_front(ready)
            self.ring()

    def take_out(self, call: PoolCall) -> None:
        """Take one waiting call out of where it waits."""
        if call.parked:
            self.parking.remove(call)
        elif call.asks:
            self.gate.remove(call)
        else:
            self.planner.drop(call)

    def take_newest(self, count: int) -> list[PoolCall]:
        """Take out up to `count` waiting calls, the newest first."""
        calls = self.gate.newest(count)
        calls += self.planner.newest(count - len(calls))
        for call in reversed(self.parking.all()):
            if len(calls) < count:
                self.parking.remove(call)
                calls.append(call)
        return calls

    def keep(self, digest: bytes, payload: Payload | SharedParts) -> None:
        """Keep a value; the calls that waited for it are queued first."""
        self.put_back(self.parking.keep(digest, payload))

    def grant(self, attempts: Iterable[Attempt]) -> None:
        """Let calls wait for a child that may begin now."""
        for call in self.gate.grant(attempts):
            if (lacks := self.parking.lacks(call)) is not None:
                self.parking.park(call, lacks)
            else:
                self.planner.put(call)

    def give_back(self) -> list[Attempt]:
        """Forget the calls that may begin and are at no child, and return what they were."""
        calls = list(self.gate.granted)
        for call in calls:
            self.take_out(call)
            self.forget(call)
        return [call.key for call in calls]

    def drop(self, digest: bytes) -> bool:
        """Keep a value no longer; False where it is not kept."""
        dropped = self.parking.drop(digest)
        if dropped:
            for call in self.planner.take_out(digest):
                self.parking.park(call, digest)
        return dropped

    # ---- ends --------------------------------------------------------------------------------------------------------

    def end(self, call: PoolCall, cause: Cause, text: str) -> None:
        """End an attempt that has not started."""
        self.finish(call, unstarted(call, cause, text, self._worker))
        self.ring()

    def finish(self, call: PoolCall, outcome: Outcome) -> None:
        """Note the end of an attempt."""
        self.outcomes.append(outcome)
        self.forget(call)

    def forget(self, call: PoolCall) -> None:
        """Forget an attempt, and take back the memory that was made for it."""
        self.calls.pop(call.key, None)
        if call.granted:
            self.gate.granted.pop(call, None)
        if call.segment is not None:
            self.segments.give_back(call.segment)
            call.segment = None

    def take_outcomes(self) -> list[Outcome]:
        """Return what has ended since the last question, and silence the bell."""
        if self._rung:
            os.eventfd_read(self.bell.fileno())
            self._rung = False
        outcomes, self.outcomes = self.outcomes, []
        return outcomes

    def ring(self) -> None:
        """Make the pool's descriptor readable: there is something for the next turn."""
        if not self._rung:
            self._rung = True
            os.eventfd_write(self.bell.fileno(), 1)

    def close(self) -> None:
        """Let the memory of values and calls go."""
        for call in list(self.calls.values()):
            self.forget(call)
        self.parking.close()
        self.segments.close()
