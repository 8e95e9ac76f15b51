"""Ports that have nothing, and a log book that keeps what it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from strata_zmq.coordinator.api.state.models import CreateJob, LogPage
from strata_zmq.coordinator.api.state.ports import VaultRow
from strata_zmq.coordinator.api.state.rows import Job, JobStatus, JobTemplate, LogLine
from strata_zmq.errors import AlreadyExistsError, NotFoundError


class Pages:
    """A log book without files."""

    def __init__(self, *, wants_events: bool = True) -> None:
        self.lines: list[LogLine] = []
        self.wants_events = wants_events

    @property
    def sources(self) -> list[str]:
        return list(dict.fromkeys(line.source for line in self.lines))

    def append(self, line: LogLine) -> None:
        line.number = len(self.lines) + 1
        self.lines.append(line)

    def page(
        self, *, limit: int, level: str = "", source: str = "", search: str = "", before: int | None = None
    ) -> LogPage:
        found = [
            line
            for line in self.lines
            if (not source or line.source == source)
            and (not level or line.level == level)
            and search in line.message
            and (before is None or line.number < before)
        ][-limit:]
        return LogPage(lines=found, before=found[0].number if found else None, sources=self.sources)

    def since(self, number: int, limit: int = 200) -> list[LogLine]:
        return [line for line in self.lines if line.number > number][-limit:]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        yield


class NoJobs:
    """Nothing may be started."""

    version = 0
    stops_training = False

    def rows(self) -> Sequence[Job]:
        return ()

    def templates(self) -> Sequence[JobTemplate]:
        return ()

    async def create(self, asked: CreateJob) -> str:
        raise AlreadyExistsError(f"no job may be started here, {asked.name!r} neither: start with --jobs FILE")

    async def stop(self, job_id: str) -> JobStatus:
        raise NotFoundError(f"no job has the id {job_id!r}")

    def logs(self, job_id: str) -> Pages:
        raise NotFoundError(f"no job has the id {job_id!r}")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        yield


class NoVault:
    """No store is known."""

    version = 0

    def __init__(self) -> None:
        self.known: dict[str, VaultRow] = {}

    def rows(self) -> Mapping[str, VaultRow]:
        return self.known

    async def verify(self, checkpoint_id: str) -> None:
        raise NotFoundError(f"{checkpoint_id!r} cannot be read: start with --store PLACE")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        yield
