"""The ends of tasks on their way to one client: sent in numbered messages, and kept until it says that it has them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from strata_zmq.domain.task import Outcome, Task
from strata_zmq.failpoints import failpoint
from strata_zmq.functions.wire import Buffer, Weight, batches
from strata_zmq.protocol.functions import Results

from .rows import Rows, row_weight

__all__ = ["Deliveries"]

WINDOW = 32
"""Most RESULTS that are under way to a client and not seen."""
_AGAIN_S = 2.0
_AGAIN_MAX_S = 30.0
_LEAN_MAX = 1_000_000
_LOOK_AHEAD = 4096
"""How many waiting ends are looked at for the next messages."""


_Send = Callable[[Results, Sequence[Buffer]], bool]


class _Numbered:
    __slots__ = ("number", "sent_at", "tasks")

    def __init__(self, number: int, tasks: list[Task], sent_at: float) -> None:
        self.number = number
        self.tasks = tasks
        self.sent_at = sent_at


class Deliveries:
    """What one client is to be told. A message names tasks, so that what has expired meanwhile is told as expired."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._waiting: deque[Task] = deque()
        self._unseen: deque[_Numbered] = deque()
        self._number = 0
        self._again_s = _AGAIN_S
        self._lean: dict[bytes, None] = {}
        """Tasks whose results the client wants without their bodies, as told last; the latest of them."""

    def __len__(self) -> int:
        return len(self._waiting) + sum(len(one.tasks) for one in self._unseen)

    def add(self, tasks: Iterable[Task]) -> None:
        """Take ends to deliver, in their order."""
        self._waiting.extend(tasks)

    def seen(self, number: int) -> list[bytes]:
        """The client has all up to `number`; return those tasks' ids."""
        ids: list[bytes] = []
        while self._unseen and self._unseen[0].number <= number:
            ids.extend(task.task_id for task in self._unseen.popleft().tasks)
            self._again_s = _AGAIN_S
        if self._lean:
            self.wish(ids, bodies=True)
        return ids

    def wish(self, task_ids: Iterable[bytes], *, bodies: bool) -> None:
        """The client wants these tasks' results with their bodies, or without."""
        lean = self._lean
        for task_id in task_ids:
            lean.pop(task_id, None)
            if not bodies:
                lean[task_id] = None
        while len(lean) > _LEAN_MAX:
            del lean[next(iter(lean))]

    def flush(self, send: _Send, now: float) -> None:
        """Send what is waiting, as far as the window goes."""
        while self._waiting and len(self._unseen) < WINDOW:
            ahead = list(islice(self._waiting, _LOOK_AHEAD))
            sent = True
            for batch in batches(ahead, self._weight):
                if len(self._unseen) >= WINDOW or not sent:
                    return
                for _ in batch:
                    self._waiting.popleft()
                self._number += 1
                message = _Numbered(self._number, batch, now)
                self._unseen.append(message)
                sent = self._send(message, send)

    def begin_again(self, own: str) -> None:
        """The client has come on a new connection: everything that is not seen is new, but for its `own` tasks' ends,
        which the core delivers anew. Numbers go on.
        """
        tasks = [task for message in self._unseen for task in message.tasks]
        tasks += self._waiting
        self._unseen.clear()
        self._waiting = deque(task for task in tasks if task.client != own)
        self._again_s = _AGAIN_S

    def send_again(self, send: _Send, now: float) -> None:
        """Send again what has not been seen for a while."""
        if not self._unseen or now - self._unseen[0].sent_at < self._again_s:
            return
        self._again_s = min(2 * self._again_s, _AGAIN_MAX_S)
        for message in self._unseen:
            message.sent_at = now
        for message in self._unseen:
            if not self._send(message, send):
                return

    def _send(self, message: _Numbered, send: _Send) -> bool:
        frames: list[Buffer] = []
        rows = [self._rows.row(task, self._outcome(task), frames) for task in message.tasks]
        sent = send(Results(message.number, rows), frames)
        if sent:
            failpoint("dispatcher.result.sent")
        return sent

    def _outcome(self, task: Task) -> Outcome | None:
        return self._rows.outcome(task, bodies=task.task_id not in self._lean)

    def _weight(self, task: Task) -> Weight:
        return row_weight(self._outcome(task))
