"""What the dispatcher shows to people: snapshots, and deltas while somebody follows. Nothing is ever decided from it.

Tasks are counted by the core; each one's end is looked at only while somebody follows.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

from strata_zmq.domain.task import Task
from strata_zmq.functions.dispatch.core import Core
from strata_zmq.functions.dispatch.effects import Effects
from strata_zmq.functions.dispatch.workers import Worker
from strata_zmq.protocol.sight import (
    EVENTS_MAX,
    FLUSH_S,
    LEASE_S,
    QUIET_S,
    ROWS_MAX,
    Changes,
    GetFunctionsSight,
    ShownFunctions,
    SightDelta,
)
from strata_zmq.protocol.sight_rows import (
    FUNCTION_BOUNDS_S,
    EventSight,
    FunctionsSight,
    FunctionWorkerSight,
    HistogramSight,
    SettingSight,
)
from strata_zmq.protocol.sight_tables import Histogram, Log, Table

from .config import DispatcherConfig

__all__ = ["Sight"]

_TEXT_MAX = 1000
_FAILURES_MAX = 32
"""Failed tasks that one delta tells of; the others are counted in one event."""
_WORKERS_MAX = 4096


class Sight:
    """Keeps what only people ask for, and tells those who follow what has changed.

    `publish` sends a delta to whoever listens at `endpoint`. `offset` turns the core's seconds into Unix time.
    """

    def __init__(
        self,
        core: Core,
        config: DispatcherConfig,
        publish: Callable[[SightDelta], None],
        *,
        endpoint: str,
        incarnation: str,
        own_session: int,
        now: float,
        offset: float,
    ) -> None:
        self._core = core
        self._config = config
        self._publish = publish
        self._endpoint = endpoint
        self._incarnation = incarnation
        self._own_session = own_session
        self._now, self._offset = now, offset
        self._started_at = now + offset
        self._version = version("strata-zmq")
        self._number = 0
        self._watched_until = self._due = self._told_at = -math.inf
        self._functions: FunctionsSight | None = None
        self._waits = Histogram("wait", "", FUNCTION_BOUNDS_S)
        self._runs = Histogram("run", "", FUNCTION_BOUNDS_S)
        self._events: Log[EventSight] = Log(EVENTS_MAX)
        self._workers: dict[int, str] = {}
        """Session -> worker id, of those whose coming was told."""
        self._failures = 0
        self._settings = list(_settings(config))
        self._tables = {
            table.name: table
            for table in (
                Table("function_workers", self._worker_rows, always=True),
                Table("histograms", self._histograms, always=True),
                Table("settings", lambda: self._settings),
            )
        }

    @property
    def watched(self) -> bool:
        """Whether somebody follows."""
        return self._now < self._watched_until

    def next_wakeup(self) -> float:
        """Return when `flush` has something to do; inf: while nobody follows."""
        return self._due if self.watched else math.inf

    def answer(self, query: GetFunctionsSight, now: float) -> ShownFunctions:
        """Return a snapshot, or for a renewal only where the deltas come."""
        self._now = now
        if not self.watched:
            self._begin()
        self._watched_until = now + LEASE_S
        return ShownFunctions(
            query.seq,
            life=self._incarnation,
            number=self._number,
            at=now + self._offset,
            endpoint=self._endpoint,
            state=None if query.renew else self._snapshot(),
        )

    def note(self, effects: Effects, enlisted: Sequence[int], now: float) -> None:
        """Take what a step has decided. Every step: it costs nothing where nothing has happened."""
        self._now = now
        if enlisted:
            self._note_workers(enlisted)
        for session, reason in effects.lost:
            name = self._workers.pop(session, None)
            if name is not None:
                self._event("function_worker_lost", "warning", f"worker {name} is gone: {reason}", name, name)
        for line in effects.notes:
            kind = "quarantined" if "quarantine" in line else "note"
            self._event(kind, "warning", line)
        for task in self._core.ended():
            self._note_end(task)

    def flush(self) -> None:
        """Publish the next delta, if somebody follows and it is due."""
        if self._now < self._due:
            return
        if not self.watched:
            self._due = math.inf
            self._core.collect_ended(wanted=False)
            return
        self._due = self._now + FLUSH_S
        if self._failures > _FAILURES_MAX:
            more = self._failures - _FAILURES_MAX
            self._event("task_failed", "warning", f"{more} more tasks have failed")
        self._failures = 0
        changes, missed = self._changes()
        if changes is None and self._now < self._told_at + QUIET_S:
            return
        self._number += 1
        self._told_at = self._now
        self._publish(
            SightDelta(
                life=self._incarnation,
                number=self._number,
                at=self._now + self._offset,
                changes=changes or Changes(),
                missed=missed,
            )
        )

    # ---- what happens

    def _note_workers(self, enlisted: Sequence[int]) -> None:
        wanted = set(enlisted)
        for worker in self._core.workers():
            if worker.session in wanted and worker.session not in self._workers:
                name = self._workers[worker.session] = worker.worker_id
                text = f"worker {name} has enlisted, {worker.mode}, {worker.slots} children, Python {worker.python}"
                self._event("function_worker_joined", "info", text, name, name)

    def _note_end(self, task: Task) -> None:
        outcome = task.outcome
        if task.started_at:
            self._waits.add(max(0.0, task.started_at - task.submitted_at))
            if outcome is not None:
                self._runs.add(outcome.service_s)
        if task.state != "FAILED" or outcome is None:
            return
        self._failures += 1
        if self._failures <= _FAILURES_MAX:
            report = outcome.report
            what = (report.type_name if report is not None else "") or outcome.cause or outcome.kind
            why = report.text.strip().partition("\n")[0] if report is not None else ""
            name = task.task_id.hex()
            text = f"task {name} of {task.client} has failed: {what}" + (f": {why}" if why else "")
            self._event("task_failed", "warning", text, name, report.worker if report is not None else "")

    def _event(self, kind: str, level: str, text: str, subject: str = "", worker_id: str = "") -> None:
        self._events.add(
            EventSight(
                number=self._events.last + 1,
                at=self._now + self._offset,
                kind=kind,
                level=level,
                text=text[:_TEXT_MAX],
                subject=subject,
                worker_id=worker_id,
            )
        )

    # ---- snapshots and deltas

    def _begin(self) -> None:
        # Whoever has followed before has missed something: the numbers have to show it.
        self._number += 1
        self._core.collect_ended(wanted=True)
        for table in self._tables.values():
            table.begin()
        self._events.begin()
        self._functions = None
        self._told_at, self._due = self._now, self._now + FLUSH_S

    def _snapshot(self) -> Changes:
        tables: dict[str, Any] = {name: table.snapshot() for name, table in self._tables.items()}
        return Changes(functions=self._row(), events=self._events.told(), **tables)

    def _changes(self) -> tuple[Changes | None, int]:
        told: dict[str, Any] = {}
        gone: dict[str, list[str]] = {}
        for name, table in self._tables.items():
            rows, keys = table.changes(self._now, ROWS_MAX)
            if rows:
                told[name] = rows
            if keys:
                gone[name] = keys
        events, missed = self._events.changes(ROWS_MAX)
        row = self._row()
        functions = None if row == self._functions else row
        self._functions = row
        if not told and not gone and not events and not missed and functions is None:
            return None, 0
        return Changes(functions=functions, events=events, gone=gone, **told), missed

    # ---- rows

    def _row(self) -> FunctionsSight:
        counts = self._core.counts()
        return FunctionsSight(
            incarnation=self._incarnation,
            version=self._version,
            mode=self._config.mode,
            store=_without_secrets(self._config.store),
            started_at=self._started_at,
            queued=counts.queued,
            running=counts.running,
            ended=counts.ended,
            workers=counts.workers,
            slots=counts.slots,
            queued_bytes=counts.queued_bytes,
            result_bytes=counts.result_bytes,
            accepted_total=counts.accepted_total,
            ended_total=counts.ended_total,
            completed_total=counts.ended_total - counts.failed_total - counts.cancelled_total,
            failed_total=counts.failed_total,
            cancelled_total=counts.cancelled_total,
            requeued_total=counts.requeued_total,
            late_results=counts.late_results,
        )

    def _worker_rows(self) -> Iterator[FunctionWorkerSight]:
        for _, worker in zip(range(_WORKERS_MAX), self._core.workers(), strict=False):
            yield self._worker_row(worker)

    def _worker_row(self, worker: Worker) -> FunctionWorkerSight:
        own = worker.session == self._own_session
        return FunctionWorkerSight(
            session=worker.session,
            worker_id=worker.worker_id,
            mode="local" if own else worker.mode,
            python=worker.python,
            slots=worker.slots,
            held=len(worker.held) + len(worker.ghosts),
            running=worker.started,
            retiring=worker.retiring,
            stalled=worker.stalled,
            moved_at=worker.moved_at + self._offset,
            # A lease is renewed with each word; rows would differ each time for nothing.
            expires_at=None if own else math.ceil(worker.expires_at + self._offset),
        )

    def _histograms(self) -> Iterator[HistogramSight]:
        yield self._waits.row()
        yield self._runs.row()


def _settings(config: DispatcherConfig) -> Iterator[SettingSight]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        source = "default" if value == field.default else "option"
        if field.name == "curve_keys":
            source = "default" if not value else "environment" if os.environ.get("STRATA_CURVE_KEYS") else "option"
        text = ", ".join(value) if isinstance(value, tuple) else str(value)
        yield SettingSight(name=field.name, value=_without_secrets(text), source=source)


def _without_secrets(text: str) -> str:
    """Return a store's place without the password that its URL may carry."""
    if "@" not in text or "://" not in text:
        return text
    parts = urlsplit(text)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
