"""What stands in where nothing may be started and no store is known. It refuses with the way out, and has no rows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from strata_zmq.errors import EnvironmentMismatchError, NotFoundError

from .models import CreateJob
from .ports import LogBookPort, VaultRow
from .rows import Job, JobStatus, JobTemplate

__all__ = ["NoJobs", "NoVault"]


class NoJobs:
    """No list of what may be started was named."""

    version = 0
    stops_training = False

    def rows(self) -> Sequence[Job]:
        """Return nothing."""
        return ()

    def templates(self) -> Sequence[JobTemplate]:
        """Return nothing."""
        return ()

    async def create(self, asked: CreateJob) -> str:
        """Refuse."""
        raise EnvironmentMismatchError(
            f"{asked.name!r} is not started: nothing may be, here; name a list of what may with strata api --jobs FILE"
        )

    async def stop(self, job_id: str) -> JobStatus:
        """Refuse."""
        raise NotFoundError(f"no job of id {job_id!r} was started here")

    def logs(self, job_id: str) -> LogBookPort:
        """Refuse."""
        raise NotFoundError(f"no job of id {job_id!r} was started here")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look after nothing."""
        yield


class NoVault:
    """No store was named: where checkpoints lie, and whether they are whole, is not known."""

    version = 0

    def rows(self) -> Mapping[str, VaultRow]:
        """Return nothing."""
        return {}

    async def verify(self, checkpoint_id: str) -> None:
        """Refuse."""
        raise EnvironmentMismatchError(
            f"checkpoint {checkpoint_id!r} cannot be verified: its store is not known here; name it with "
            "strata api --store PLACE"
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look at nothing."""
        yield
