"""Jobs that are started through the API: asked for by the operator's list, started through an agent, found again.

A job's workers join the coordinator that this API shows. Its processes are not this one's children: they outlive it,
and whoever looks after the same folder next finds them there. One process at a time looks after a folder.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import shutil
import sys
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from strata_zmq.errors import (
    AlreadyExistsError,
    EnvironmentMismatchError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    StorageError,
)

from .job_file import JobType, Program, found_program, job_type_of, read_job_file
from .job_process import Asked, JobProcess
from .logbook import LogBook
from .models import CreateJob
from .rows import Job, JobStatus, JobTemplate, LogLine

__all__ = ["KEPT", "RUNNING_MAX", "Jobs"]

RUNNING_MAX = 16
KEPT = 200
"""Jobs whose folders stay, of those that have ended the newest."""
_LOOK_S = 0.25
_LIST_S = 1.0
_GRACE_S = 20.0
"""What an agent has from the word to stop until its end; what it gives its workers is half of that."""
_AGENT = (sys.executable, "-m", "strata_zmq", "agent")
_BOOKS_MAX = 24
_SECRETS = ("STRATA_API_TOKEN", "STRATA_SUPERVISOR_TOKEN")
"""Of this process alone: a job's program has no business with them."""
_log = logging.getLogger("strata.jobs")


class Jobs:
    """The jobs of one `folder`, started by the list in `file` at the coordinator `url`; without a list there are none.

    `environment` is added to theirs. `stop_training` stops the coordinator's own run; without it that is refused.
    `agent` is the command that takes an agent's options; it has `grace_s` from the word to stop until its end.
    """

    def __init__(
        self,
        file: Path | None,
        folder: Path | None,
        url: str,
        *,
        environment: Mapping[str, str] | None = None,
        stop_training: Callable[[], Awaitable[None]] | None = None,
        agent: Sequence[str] = _AGENT,
        grace_s: float = _GRACE_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.version = 0
        self._file = file.absolute() if file is not None else None
        self._folder = (folder or Path()).absolute()
        self._url = url
        self._environment = dict(environment or {})
        self._stop_training = stop_training
        self._agent, self._grace_s = tuple(agent), grace_s
        self._starting = 0
        self._clock = clock
        self._types: dict[str, JobType] = read_job_file(self._file) if self._file is not None else {}
        self._stamp = self._stamp_of_list()
        self._listed_at = 0.0
        self._jobs: dict[str, JobProcess] = {}
        """Oldest first."""
        self._books: OrderedDict[str, _Book] = OrderedDict()

    @property
    def stops_training(self) -> bool:
        """Whether the coordinator's own run may be stopped from here."""
        return self._stop_training is not None

    def rows(self) -> Sequence[Job]:
        """Return the jobs that were started here, newest first."""
        return [job.row for job in reversed(self._jobs.values())]

    def templates(self) -> Sequence[JobTemplate]:
        """Return what may be started."""
        return [one.row() for one in self._types.values()]

    async def create(self, asked: CreateJob) -> str:
        """Start a job and return its id."""
        if self._file is None:
            raise EnvironmentMismatchError(
                f"{asked.name!r} is not started: nothing may be, here; name a list of what may with "
                "strata api --jobs FILE"
            )
        job_type = job_type_of(self._types, asked.type)
        program = job_type.prepare(asked)
        problem = found_program(job_type, self._file.parent)
        if problem:
            raise EnvironmentMismatchError(f"{asked.type} cannot be started now: {problem}")
        running = sum(not job.ended for job in self._jobs.values()) + self._starting
        if running >= RUNNING_MAX:
            raise ResourceExhaustedError(f"{running} jobs run already: stop one, or wait until one has ended")
        folder = self._new_folder(asked.name)
        said = Asked(
            id=folder.name,
            name=asked.name,
            type=asked.type,
            dataset_id=asked.dataset_id,
            worker_count=asked.worker_count,
            config=dict(asked.config),
            command=self._command(folder, program),
            created_at=self._clock(),
            grace_s=self._grace_s,
        )
        self._starting += 1
        # Begun once it is begun: a caller that goes away takes nothing back.
        await asyncio.shield(self._start(folder, said, program))
        return folder.name

    async def _start(self, folder: Path, said: Asked, program: Program) -> None:
        assert self._file is not None  # noqa: S101 - the caller has looked
        env = {name: value for name, value in os.environ.items() if name not in _SECRETS}
        env |= {**self._environment, **program.environment}
        try:
            job = await asyncio.to_thread(JobProcess.start, folder, said, env=env, cwd=self._file.parent)
        finally:
            self._starting -= 1
        job.look(self._clock())
        self._jobs[said.id] = job
        self.version += 1
        _log.info("job %s is started: %s with %d workers", said.id, said.type, said.worker_count)

    async def stop(self, job_id: str) -> JobStatus:
        """Ask a job to stop, or the coordinator's own run."""
        job = self._jobs.get(job_id)
        if job is None:
            if self._stop_training is None:
                raise EnvironmentMismatchError(
                    f"{job_id[:128]!r} was not started here: to stop the coordinator's own run, start strata api with "
                    "the coordinator's STRATA_SUPERVISOR_TOKEN"
                )
            await self._stop_training()
            return "running"
        if job.ended:
            raise AlreadyExistsError(f"{job_id} has ended already ({job.row.status}): there is nothing to stop")
        job.ask_to_stop()
        _log.info("job %s is asked to stop", job_id)
        self._look_at(job)
        return job.row.status

    def logs(self, job_id: str) -> LogBook:
        """Return a job's lines."""
        job = self._jobs.get(job_id)
        if job is None:
            raise NotFoundError(f"no job of id {job_id[:128]!r} was started here")
        book = self._books.pop(job_id, None)
        if book is None:
            book = _Book(job)
            book.look()
        self._books[job_id] = book
        while len(self._books) > _BOOKS_MAX:
            self._books.popitem(last=False)
        return book.lines

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look after the jobs while the block runs; they outlive it."""
        async with AsyncExitStack() as stack:
            if self._file is not None:
                stack.callback(os.close, self._claim())
                self._adopt()
            looking = asyncio.create_task(self._look())
            try:
                yield
            finally:
                looking.cancel()
                with suppress(asyncio.CancelledError):
                    await looking

    # ---- looking -----------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        while True:
            try:
                self._turn()
            except Exception:  # noqa: BLE001 - one job's trouble must not end the looking after all others
                _log.exception("a look at the jobs failed; it goes on with the next")
            await asyncio.sleep(_LOOK_S)

    def _turn(self) -> None:
        for job in [one for one in self._jobs.values() if not one.ended]:
            self._look_at(job)
        for book in list(self._books.values()):
            book.look()
        self._forget()
        now = time.monotonic()
        if now - self._listed_at >= _LIST_S:
            self._listed_at = now
            self._read_list()

    def _look_at(self, job: JobProcess) -> None:
        if not job.look(self._clock()):
            return
        self.version += 1
        if job.ended:
            row = job.row
            level = logging.WARNING if row.status == "failed" else logging.INFO
            _log.log(level, "job %s is %s%s", row.id, row.status, f": {row.message}" if row.message else "")

    def _read_list(self) -> None:
        """Read the list again where it has changed; with a mistake in it, what was allowed before stays so."""
        stamp = self._stamp_of_list()
        if self._file is None or stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._types = read_job_file(self._file)
        except InvalidArgumentError as error:
            _log.error("%s; what was allowed before stays so", error)
            return
        self.version += 1
        _log.info("the list of jobs was read again: %s", ", ".join(sorted(self._types)) or "nothing")

    def _stamp_of_list(self) -> tuple[int, int, int] | None:
        try:
            status = self._file.stat() if self._file is not None else None
        except OSError:
            return None
        return (status.st_mtime_ns, status.st_size, status.st_ino) if status is not None else None

    def _forget(self) -> None:
        """Remove the folders of the oldest that have ended, beyond KEPT."""
        surplus = max(0, len(self._jobs) - KEPT)
        for job in [one for one in self._jobs.values() if one.ended][:surplus]:
            del self._jobs[job.row.id]
            self._books.pop(job.row.id, None)
            shutil.rmtree(job.folder, ignore_errors=True)
            self.version += 1

    # ---- starting ----------------------------------------------------------------------------------------------------

    def _command(self, folder: Path, program: Program) -> list[str]:
        return [
            *(*self._agent, "--coordinator", self._url),
            *("-n", str(program.workers), "--writers", str(program.writers), "--host-name", folder.name),
            *("--run-dir", str(folder / "run"), "--grace", f"{self._grace_s / 2:g}", "--progress", "off"),
            *(("--checkpoint-path", program.checkpoint_path) if program.checkpoint_path else ()),
            *(("-m",) if program.module else ()),
            program.program,
            *program.arguments,
        ]

    def _new_folder(self, name: str) -> Path:
        """Make the folder of the next job of that name; that it can be made makes its name its own."""
        number = 1 + sum(job.asked.name == name for job in self._jobs.values())
        while True:
            folder = self._folder / f"{name}-{number}"
            try:
                folder.mkdir(mode=0o700)
            except FileExistsError:
                number += 1
            except OSError as error:
                raise StorageError(f"--jobs-dir {self._folder} cannot be written: {error.strerror}") from None
            else:
                return folder

    def _claim(self) -> int:
        """Make the folder this process's own, for as long as the returned descriptor is open."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(f"--jobs-dir {self._folder} cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise AlreadyExistsError(
                f"--jobs-dir {self._folder} is looked after by another process: name another folder"
            ) from None
        return fd

    def _adopt(self) -> None:
        """Find the jobs that somebody has started in this folder before."""
        found = [JobProcess.found(path) for path in self._folder.iterdir() if path.is_dir()]
        jobs = sorted((job for job in found if job is not None), key=lambda job: job.asked.created_at)
        for job in jobs:
            job.look(self._clock())
            self._jobs[job.row.id] = job
        alive = sum(not job.ended for job in jobs)
        if alive:
            _log.info("%d jobs that were started before are still there", alive)
        self.version += 1


class _Book:
    """A job's lines: those of its processes' logs, or, where it never came to that, what its agent said."""

    def __init__(self, job: JobProcess) -> None:
        self._job = job
        self.lines = LogBook(job.logs)
        self.done = False

    def look(self) -> None:
        """Read what is new."""
        if self.done:
            return
        ended = self._job.ended
        more = self.lines.look()
        if not ended or more:
            return
        self.done = True
        if not self.lines.sources:
            for text in self._job.output():
                at = self._job.row.ended_at or 0
                line = LogLine(number=0, timestamp=at, level="error", source="agent", message=text, fields={})
                self.lines.append(line)
