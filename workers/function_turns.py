"""What a function worker tells its dispatcher until it is heard; it knows neither pool nor socket.

Turns with content are numbered and kept until they are confirmed. What is not confirmed for a while is sent again, all
of it and in its order, under the same numbers; in a new session it is numbered anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence

from strata_zmq.domain.task import Outcome
from strata_zmq.functions.dispatch.events import Attempt
from strata_zmq.functions.wire import Buffer, batches, outcome_row, outcome_weight
from strata_zmq.protocol.functions import TaskRef, Turn

__all__ = ["Send", "Turns"]

Send = Callable[[Turn, Sequence[Buffer]], bool]
"""Sends a message, or returns False where it cannot go now."""

_AGAIN_S = 2.0
_UNSENT_AGAIN_S = 0.05
_SLOWEST_BYTES_PER_S = 10_000_000
"""What has payload frames is given the time that it takes at this rate."""


class _Content:
    __slots__ = ("again_at", "number", "outcomes", "returned")

    def __init__(self, number: int, outcomes: list[Outcome], returned: list[Attempt]) -> None:
        self.number = number
        self.outcomes = outcomes
        self.returned = returned
        self.again_at = 0.0


class Turns:
    """The turns of one worker, over its sessions."""

    def __init__(self, heartbeat_s: float = 1.0) -> None:
        self.heartbeat_s = heartbeat_s
        self.session = 0
        """0: there is none, and nothing can be said."""
        self.received = 0
        """The number of the last ASSIGN of this session."""
        self.want = 0
        """How many tasks a pulling worker is ready for."""
        self._number = 0
        self._unsent: deque[_Content] = deque()
        self._sent: deque[_Content] = deque()
        """Sent, and not confirmed."""
        self._spoke_at = 0.0

    @property
    def settled(self) -> bool:
        """Whether everything that there was to say is confirmed."""
        return not self._unsent and not self._sent

    def done(self) -> list[Attempt]:
        """Return the attempts whose outcomes are not confirmed."""
        return [(one.task_id, one.attempt) for one in self._outcomes()]

    def begin(self, session: int, dropped: Collection[Attempt]) -> None:
        """A session begins: what is not confirmed will be said in it, but for what nobody wants any more.

        What was to be given back is not: the worker has not said that it holds it.
        """
        outcomes = [one for one in self._outcomes() if (one.task_id, one.attempt) not in dropped]
        self.session = session
        self.received = self._number = 0
        self._sent.clear()
        self._unsent.clear()
        self.add(outcomes)

    def end(self) -> None:
        """The session is no more: nothing can be said until the next one."""
        self.session = 0

    def add(self, outcomes: Iterable[Outcome], returned: Sequence[Attempt] = ()) -> None:
        """Take what has happened; `flush` sends it."""
        for batch in batches(outcomes, outcome_weight):
            self._number += 1
            self._unsent.append(_Content(self._number, batch, []))
        if returned:
            self._number += 1
            self._unsent.append(_Content(self._number, [], list(returned)))

    def confirm(self, number: int) -> None:
        """Everything up to `number` is taken."""
        while self._sent and self._sent[0].number <= number:
            self._sent.popleft()

    def tell_started(self, attempts: Iterable[Attempt], send: Send, now: float) -> bool:
        """Say that these are about to begin; False if it cannot be said."""
        if not self.session:
            return False
        self._spoke_at = now
        return send(self._turn(started=[TaskRef(*one) for one in attempts]), ())

    def ask(self, attempts: Iterable[Attempt], send: Send, now: float) -> None:
        """Ask whether these may begin; the answer is a BEGIN, or nothing."""
        if self.session:
            self._spoke_at = now
            send(self._turn(asks=[TaskRef(*one) for one in attempts]), ())

    def flush(self, send: Send, now: float) -> int:
        """Send what has not left yet, as far as it goes, and return how many outcomes it was."""
        told = 0
        while self.session and self._unsent:
            content = self._unsent[0]
            if not self._send(content, send, now):
                break
            self._sent.append(self._unsent.popleft())
            told += len(content.outcomes)
        return told

    def beat(self, send: Send, now: float) -> None:
        """Say that the worker lives, and what it wants."""
        if self.session:
            self._spoke_at = now
            send(self._turn(), ())

    def look_after(self, send: Send, now: float) -> None:
        """Say again what has not been confirmed for a while; say that the worker lives, if it has said nothing."""
        if not self.session:
            return
        if self._sent and now >= self._sent[0].again_at:
            for content in self._sent:
                if not self._send(content, send, now):
                    return
        elif now - self._spoke_at >= self.heartbeat_s:
            self.beat(send, now)

    def next_due(self, now: float) -> float:
        """Return when `look_after` or `flush` has something to do, while there is a session."""
        due = self._spoke_at + self.heartbeat_s
        if self._sent:
            due = min(due, self._sent[0].again_at)
        return min(due, now + _UNSENT_AGAIN_S) if self._unsent else due

    def _outcomes(self) -> list[Outcome]:
        return [one for content in (*self._sent, *self._unsent) for one in content.outcomes]

    def _send(self, content: _Content, send: Send, now: float) -> bool:
        frames: list[Buffer] = []
        rows = [outcome_row(one, frames) for one in content.outcomes]
        returned = [TaskRef(*one) for one in content.returned]
        self._spoke_at = now
        size = sum(memoryview(frame).nbytes for frame in frames)
        content.again_at = now + _AGAIN_S + size / _SLOWEST_BYTES_PER_S
        return send(Turn(self.session, content.number, rows, [], returned, self.want, self.received), frames)

    def _turn(self, started: Sequence[TaskRef] = (), asks: Sequence[TaskRef] = ()) -> Turn:
        last = self._sent[-1].number if self._sent else self._unsent[0].number - 1 if self._unsent else self._number
        return Turn(self.session, last, [], list(started), [], self.want, self.received, list(asks))
