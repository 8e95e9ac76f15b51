"""What the hub needs of others: log lines, jobs that were started here, what only the store knows. It does nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

from msgspec import Struct

from .models import CreateJob, LogPage
from .rows import Job, JobStatus, JobTemplate, LogLine

__all__ = ["JobsPort", "LogBookPort", "VaultPort", "VaultRow"]


class LogBookPort(Protocol):
    """Lines of logs, numbered from 1 in the order in which they were read."""

    @property
    def wants_events(self) -> bool:
        """Whether the events of cores are to be appended: they are not among the lines that it reads itself."""

    @property
    def sources(self) -> Sequence[str]:
        """The processes that lines came from, in order."""

    def append(self, line: LogLine) -> None:
        """Add a line; its number is replaced."""

    def page(
        self, *, limit: int, level: str = "", source: str = "", search: str = "", before: int | None = None
    ) -> LogPage:
        """Return the last `limit` lines below number `before` that are at least of `level`, of `source` (or of a
        process whose name begins with it and a slash), and hold `search`, newest last.
        """

    def since(self, number: int, limit: int = 200) -> list[LogLine]:
        """Return the newest `limit` of the lines behind `number`, oldest first."""

    def running(self) -> AbstractAsyncContextManager[None]:
        """Read while the block runs."""


class JobsPort(Protocol):
    """Training runs that were started through this process. What is refused is raised as a StrataError."""

    @property
    def version(self) -> int:
        """A number that rises when `rows` or `templates` would answer otherwise than before."""

    @property
    def stops_training(self) -> bool:
        """Whether `stop` may stop the coordinator's own run, by the job's name."""

    def rows(self) -> Sequence[Job]:
        """Return the jobs that were started here, newest first; the coordinator's own is added by the hub."""

    def templates(self) -> Sequence[JobTemplate]:
        """Return what may be started."""

    async def create(self, asked: CreateJob) -> str:
        """Start a job and return its id."""

    async def stop(self, job_id: str) -> JobStatus:
        """Ask a job to stop; NotFoundError where there is none of that id."""

    def logs(self, job_id: str) -> LogBookPort:
        """Return a job's lines; NotFoundError where there is none of that id."""

    def running(self) -> AbstractAsyncContextManager[None]:
        """Look after the jobs while the block runs; they outlive it."""


class VaultRow(Struct, kw_only=True, frozen=True):
    """What the store says of one checkpoint. `verified` is None until somebody has read it again; times in Unix s."""

    path: str
    kind: str
    tier: Literal["near", "far"] | None
    verified: bool | None
    verified_at: float | None
    pinned: bool


class VaultPort(Protocol):
    """Where checkpoints lie."""

    @property
    def version(self) -> int:
        """A number that rises when `rows` would answer otherwise than before."""

    def rows(self) -> Mapping[str, VaultRow]:
        """Return what is known, by checkpoint id."""

    async def verify(self, checkpoint_id: str) -> None:
        """Read a checkpoint again; raises a StrataError where that cannot be done, not where it is damaged."""

    def running(self) -> AbstractAsyncContextManager[None]:
        """Look at the store now and then while the block runs."""
