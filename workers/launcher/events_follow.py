"""`strata events`: what has happened in a job, a line each, and, with --follow, what happens.

Owns the printed form and the order of numbers: none is told twice, and what was missed is said. A coordinator that ends
is waited for; the next one's events go on below.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import msgspec
import zmq

from strata_zmq.errors import DeadlineExceededError, ProtocolError, UnavailableError
from strata_zmq.logs import printable
from strata_zmq.protocol.messages import GetSight, Sight
from strata_zmq.protocol.sight import EVENTS_MAX, SIGHT_TOPIC, SightDelta, decode_delta
from strata_zmq.protocol.sight_rows import EventSight
from strata_zmq.transport.curve import CurveKeys
from strata_zmq.transport.endpoints import seen_over
from strata_zmq.transport.sockets import REPLIES, connect, open_socket
from strata_zmq.workers.client import CoordinatorClient

__all__ = ["EventFeed", "print_events"]

_RENEW_S = 3.0
_SILENCE_S = 3.0
_ASK_S = 2.0
_POLL_MS = 500


class EventFeed:
    """Puts events into one order: `tell` gets each once, `remark` a sentence where something is missing or new.

    Of those that the first snapshot has, the `last` are told. With `kinds` only events of these kinds are.
    """

    def __init__(
        self,
        tell: Callable[[EventSight], None],
        remark: Callable[[str], None],
        *,
        kinds: Collection[str] = (),
        last: int = EVENTS_MAX,
    ) -> None:
        self._tell, self._remark = tell, remark
        self._kinds, self._last = kinds, last
        self._life = ""
        self._delta = 0
        self._event = 0

    def begin(self, sight: Sight) -> None:
        """Take a snapshot: the first one, or one after a gap."""
        events, known = sight.state.events, self._life
        self._life, self._delta = sight.life, sight.number
        if not known:
            for event in [one for one in events if self._is_wanted(one)][-self._last :] if self._last else ():
                self._tell(event)
            self._event = events[-1].number if events else 0
            return
        if known != sight.life:
            job = sight.state.job
            self._remark("the coordinator began a new life" + (f", term {job.term}" if job is not None else ""))
            self._event = 0
        self._take(events)

    def follow(self, delta: SightDelta) -> bool:
        """Take a delta; returns whether it continues what went before. Where it does not, a snapshot is needed."""
        if delta.life != self._life or delta.number > self._delta + 1:
            return False
        if delta.number == self._delta + 1:
            self._delta = delta.number
            self._take(delta.changes.events)
        return True

    def _take(self, events: Iterable[EventSight]) -> None:
        for event in events:
            if event.number <= self._event:
                continue
            if event.number > self._event + 1:
                self._remark(f"{event.number - self._event - 1} events are missing here")
            self._event = event.number
            if self._is_wanted(event):
                self._tell(event)

    def _is_wanted(self, event: EventSight) -> bool:
        return not self._kinds or event.kind in self._kinds


def print_events(url: str, *, follow: bool, as_json: bool, kinds: Collection[str], last: int, timeout_s: float) -> None:
    """Print the `last` events that the coordinator at `url` still knows, and with `follow` all to come."""

    def tell(event: EventSight) -> None:
        print(_json(event) if as_json else _line(event.at, event.level, event.kind, event.text), flush=True)

    def remark(text: str) -> None:
        now = time.time()
        row = {"at": now, "kind": "remark", "level": "warning", "text": text}
        print(json.dumps(row) if as_json else _line(now, "warning", "-", text), flush=True)

    feed = EventFeed(tell, remark, kinds=kinds, last=last)
    with CoordinatorClient(url).connect(timeout_s) as client:
        if not follow:
            feed.begin(_snapshot(client, timeout_s))
            return
        with _Listener(client) as listener:
            listener.run(feed, remark)


class _Listener:
    """A subscription to a coordinator's deltas, and the questions that keep them coming."""

    def __init__(self, client: CoordinatorClient) -> None:
        self._client = client
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._deltas = open_socket(self._context, zmq.SUB, REPLIES, keys=CurveKeys.from_environment())
        self._deltas.setsockopt(zmq.SUBSCRIBE, SIGHT_TOPIC)
        self._endpoint = ""
        self._renewal: Future[Any] | None = None
        self._renew_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.destroy(linger=0)

    def run(self, feed: EventFeed, remark: Callable[[str], None]) -> None:
        """Feed it until interrupted."""
        needed, gone, heard_at = True, False, time.monotonic()
        while True:
            if needed:
                try:
                    self._listen()
                    sight = _snapshot(self._client, _ASK_S)
                except (UnavailableError, DeadlineExceededError):
                    if not gone:
                        remark("the coordinator says nothing any more; waiting for it")
                    gone = True
                    continue
                if gone:
                    remark("the coordinator is heard again")
                feed.begin(sight)
                needed, gone, heard_at = False, False, time.monotonic()
            if self._deltas.poll(_POLL_MS):
                needed = not feed.follow(decode_delta(self._deltas.recv_multipart()[-1]))
                heard_at = time.monotonic()
            needed = needed or time.monotonic() - heard_at > _SILENCE_S
            self._renew()

    def _listen(self) -> None:
        endpoint = seen_over(self._client.welcome.broadcast_endpoint, self._client.endpoint)
        if endpoint != self._endpoint:
            if self._endpoint:
                self._deltas.disconnect(self._endpoint)
            connect(self._deltas, endpoint, field="broadcast endpoint")
            self._endpoint = endpoint

    def _renew(self) -> None:
        now = time.monotonic()
        if now >= self._renew_at and (self._renewal is None or self._renewal.done()):
            self._renew_at = now + _RENEW_S
            self._renewal = self._client.submit(GetSight(renew=True))


def _snapshot(client: CoordinatorClient, timeout_s: float) -> Sight:
    answer = client.request(GetSight(), timeout_s=timeout_s, patience_s=0.0)
    if not isinstance(answer, Sight):
        raise ProtocolError(f"the coordinator answered a request for a snapshot with {type(answer).__name__}")
    return answer


def _json(event: EventSight) -> str:
    return json.dumps(msgspec.structs.asdict(event))


def _line(at: float, level: str, kind: str, text: str) -> str:
    when = datetime.fromtimestamp(at, UTC).astimezone()
    return f"{when:%Y-%m-%d %H:%M:%S} {printable(level):<7} {printable(kind):<18} {printable(text)}"
