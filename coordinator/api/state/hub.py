"""The middle of the API process: feeds in; sections, history and the live feed out. It opens no port and no file.

A turn (`tick`) takes what has come in since the last one, a few times a second. Only turns change what is answered, so
a snapshot and the changes behind it fit together: `number` counts turns that changed something, of this process's
`life`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

from .alerts import AlertBook, Facts
from .board import Board, source_of
from .feed import Absent, Feed
from .history import HistoryStore
from .live import FanOut, Message, Subscription
from .models import Dashboard, StateHealth, Timeline
from .picture import Touched
from .ports import JobsPort, LogBookPort, VaultPort
from .rows import Event, Setting, Source
from .sections import Lines, Rows, Value, encode
from .timeline import TimelineStore
from .translate import millis, timeline_release

__all__ = ["QUIET_S", "TICK_S", "Hub"]

TICK_S = 0.25
QUIET_S = 1.0
"""After so long without a change an empty message says that there was none."""
_FOLLOW_AGAIN_S = 1.0
_CELLS_HERE = 50_000
"""Seconds of workers that are read on the loop; more of them are read beside it."""
_PLAIN = ("life", "number", "at")
_log = logging.getLogger(__name__)


class Hub:
    """Everything that the API answers, of up to one coordinator and one dispatcher."""

    def __init__(
        self,
        feeds: Sequence[Feed],
        *,
        logs: LogBookPort,
        jobs: JobsPort,
        vault: VaultPort,
        clock: Callable[[], float] = time.time,
        settings: Sequence[Setting] = (),
    ) -> None:
        self.feeds = tuple(feeds)
        self.logs, self.jobs, self.vault = logs, jobs, vault
        self.coordinator = _of(self.feeds, "coordinator")
        self.dispatcher = _of(self.feeds, "dispatcher")
        self._core: Feed = self.coordinator or Absent("coordinator")
        self._plane: Feed = self.dispatcher or Absent("dispatcher")
        self.history = HistoryStore()
        self.timeline = TimelineStore()
        self.board = Board(
            self._core,
            self._plane,
            logs=logs,
            jobs=jobs,
            vault=vault,
            settings=settings,
            timeline=self.timeline,
        )
        self.life = secrets.token_hex(8)
        self.number = 0
        self.at = clock()
        self.clients = FanOut(self._snapshot)
        self._clock = clock
        self._alerts = AlertBook()
        self._pending: Touched = {}
        self._second = -1
        self._told_at = 0.0
        self._pending_since: float | None = None
        self._points: dict[str, list[tuple[int, float | None]]] = {}
        self._sources = {feed.origin: source_of(feed) for feed in self.feeds}
        self._dashboard: bytes | None = None
        self._first: Message | None = None

    # ---- what is answered --------------------------------------------------------------------------------------------

    @property
    def source(self) -> Source:
        """Whether the coordinator is heard, was heard, or never was."""
        return source_of(self._core)

    def section(self, name: str) -> bytes:
        """Return the JSON of one key of a dashboard; KeyError for one that it has not."""
        if name in _PLAIN:
            return encode({"life": self.life, "number": self.number, "at": millis(self.at)}[name])
        if name not in Dashboard.__struct_fields__:
            raise KeyError(name)
        part: Rows | Value | Lines = getattr(self.board, name)
        return part.json()

    def dashboard(self) -> bytes:
        """Return the whole of it."""
        if self._dashboard is None:
            parts = [b'"%b":%b' % (name.encode(), self.section(name)) for name in Dashboard.__struct_fields__]
            self._dashboard = b"{" + b",".join(parts) + b"}"
        return self._dashboard

    def etag(self) -> str:
        """Return what names this state of it, in quotes."""
        return f'"{self.life}-{self.number}"'

    def health(self) -> StateHealth:
        """Return whether this process is fed."""
        coordinator = self.board.coordinator.model
        status = {"live": "ok", "stale": "stale", "waiting": "waiting"}[coordinator.source]
        return StateHealth(
            status=status,  # type: ignore[arg-type]
            version=coordinator.api_version,
            simulated=coordinator.simulated,
            stale_since=coordinator.since,
            clients=len(self.clients),
        )

    def timeline_of(self, seconds: int, end: float, offset: int, limit: int, search: str) -> Timeline:
        """Return a page of the timeline: workers by rank, those that are lost or have left behind them."""
        return self._timeline_of(seconds, end, offset, limit, search)()

    async def timeline_beside(self, seconds: int, end: float, offset: int, limit: int, search: str) -> Timeline:
        """Return the same; one of many workers' many seconds is made beside the loop."""
        read = self._timeline_of(seconds, end, offset, limit, search)
        return await asyncio.to_thread(read) if seconds * limit > _CELLS_HERE else read()

    def _timeline_of(self, seconds: int, end: float, offset: int, limit: int, search: str) -> Callable[[], Timeline]:
        there = dict.fromkeys(row.id for row in self.board.workers.ordered())
        there |= dict.fromkeys(sorted(name for name in self.timeline.names(end - seconds) if name not in there))
        wanted = [name for name in there if search in name]
        since = end - seconds - 1
        releases = [timeline_release(one) for one in self.board.releases if since <= one.ended_at <= end]
        return partial(self.timeline.read, seconds, end, wanted[offset : offset + limit], len(wanted), releases)

    def now(self) -> float:
        """Return this process's Unix time."""
        return self._clock()

    def subscribe(self) -> Subscription:
        """Return a listener of the live feed, which begins with a snapshot; ResourceExhaustedError where many do."""
        return self.clients.join()

    # ---- turns -------------------------------------------------------------------------------------------------------

    def tell(self, touched: Touched) -> None:
        """Take what a feed's message has changed; the next turn shows it."""
        for told in (touched, self.board.notice(touched, self._clock())):
            for table, keys in told.items():
                self._pending.setdefault(table, set()).update(keys)

    def catch_up(self) -> None:
        """Take a turn now where jobs or the store have something new: whoever has just asked for it looks for it."""
        if self.board.outdated:
            self.tick()

    def tick(self) -> None:
        """Take one turn: fold what came in, sample once a second, and tell listeners."""
        now = self._clock()
        touched, self._pending = self._pending, {}
        self.timeline.advance(now)
        self.board.fold(touched, now)
        self._notice_sources(now)
        self.board.show_cores(now)
        self.board.read_ports()
        if int(now) != self._second:
            self._second = int(now)
            self._sample(now)
        changes = self._changes()
        if changes or self._points or not 0 <= now - self._told_at < QUIET_S:
            self.number += 1
            self.at = self._told_at = now
            self._dashboard = self._first = None
            points, self._points = self._points, {}
            if len(self.clients):
                self.clients.tell(self._message(changes, points))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow the feeds and take turns while the block runs."""
        async with AsyncExitStack() as stack:
            for port in (self.logs, self.jobs, self.vault):
                await stack.enter_async_context(port.running())
            tasks = [asyncio.create_task(self._follow(feed)) for feed in self.feeds]
            tasks.append(asyncio.create_task(self._turns()))
            try:
                yield
            finally:
                self.clients.close()
                for task in tasks:
                    task.cancel()
                for task in tasks:
                    with suppress(asyncio.CancelledError):
                        await task

    async def _follow(self, feed: Feed) -> None:
        while True:
            try:
                await feed.run(self.tell)
            except Exception:  # noqa: BLE001 - what one message brings about must not end what all others tell
                _log.exception("the %s is not followed any more; it is begun again", feed.origin)
            await asyncio.sleep(_FOLLOW_AGAIN_S)

    async def _turns(self) -> None:
        while True:
            try:
                self.tick()
            except Exception:  # noqa: BLE001 - what is shown of one row must not end what is shown of all others
                _log.exception("a turn of the dashboard failed; it goes on with the next")
            await asyncio.sleep(TICK_S)

    def _sample(self, now: float) -> None:
        board = self.board
        board.sample(now)
        metrics, statistics = board.metrics.model, board.barrier_statistics.model
        points = board.figures.points(metrics, statistics, board.goodput.model, board.functions.model.queued)
        if self.source != "live":
            points |= {"active_workers": None, "failed_workers": None}
        if not self._plane.connected:
            points["queued_tasks"] = None
        self.history.append(now, points)
        at = int(now) * 1000
        for name, value in points.items():
            self._points.setdefault(name, []).append((at, value))
        board.alerts.put(self._alerts.look(self._facts(now)))

    def _facts(self, now: float) -> Facts:
        board, core, plane = self.board, self._core, self._plane
        job = core.picture.job if core.connected else None
        if job is None or not job.pending:
            self._pending_since = None
        elif self._pending_since is None:
            self._pending_since = now
        ended, failed = board.figures.function_ends()
        return Facts(
            now=now,
            core_now=core.picture.at,
            coordinator=core.picture,
            coordinator_address=core.address,
            coordinator_heard_at=core.heard_at,
            coordinator_connected=core.connected,
            dispatcher_address=plane.address,
            dispatcher_heard_at=plane.heard_at,
            dispatcher_connected=plane.connected,
            aborted=tuple(board.aborted.values()),
            barrier_p99_s=board.figures.barrier_wait(0.99),
            goodput=board.goodput.model,
            goodput_covered_s=board.times.covered_s,
            pending_since=self._pending_since,
            ended=ended,
            failed=failed,
        )

    def _notice_sources(self, now: float) -> None:
        """Note it as an event where a core has gone or is back."""
        for feed in self.feeds:
            before, after = self._sources[feed.origin], source_of(feed)
            if before == after:
                continue
            self._sources[feed.origin] = after
            gone = after == "stale"
            text = f"the {feed.origin} at {feed.address} " + (
                "says nothing any more" if gone else "was heard" if before == "waiting" else "is heard again"
            )
            level = "error" if gone else "info"
            kind = f"{feed.origin}_gone" if gone else f"{feed.origin}_heard"
            at = millis(feed.heard_at if gone else now)
            self.board.note(
                Event(number=0, at=at, kind=kind, level=level, text=text, subject="", worker_id="", origin="api")  # type: ignore[arg-type]
            )

    # ---- messages ----------------------------------------------------------------------------------------------------

    def _changes(self) -> dict[str, object]:
        changes: dict[str, object] = {}
        gone: dict[str, list[str]] = {}
        for name in Dashboard.__struct_fields__:
            part = getattr(self.board, name, None)
            if isinstance(part, Rows):
                rows, keys = part.take()
                if rows:
                    changes[name] = rows
                if keys:
                    gone[name] = keys
            elif isinstance(part, Value):
                value = part.take()
                if value is not None:
                    changes[name] = value
            elif isinstance(part, Lines):
                lines = part.take()
                if lines:
                    changes[name] = lines
        if gone:
            changes["gone"] = gone
        return changes

    def _message(self, changes: dict[str, object], points: dict[str, list[tuple[int, float | None]]]) -> Message:
        said = {"type": "changes", "life": self.life, "number": self.number, "at": millis(self.at), "changes": changes}
        if points:
            said["points"] = points
        return Message(encode(said), self.number)

    def _snapshot(self) -> Message:
        if self._first is None:
            head = encode({"type": "snapshot", "life": self.life, "number": self.number})
            self._first = Message(head[:-1] + b',"state":' + self.dashboard() + b"}", self.number)
        return self._first


def _of(feeds: Sequence[Feed], origin: str) -> Feed | None:
    return next((feed for feed in feeds if feed.origin == origin), None)
