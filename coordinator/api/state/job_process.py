"""One job as its folder and its processes tell of it: started, found again, asked to stop, ended. It keeps no list.

A job is a folder: job.json (what was asked, written first), keeper.json and exit.json (`job_keeper`), `stop` (somebody
asked for it), output.txt (what the agent said), run/ (the agent's own, with run/logs). Everything that is known of a
job is read from there, so whoever comes later knows the same. A process is who it was only if it began when that one
did.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from strata_zmq.errors import StorageError

from . import job_keeper
from .job_keeper import BOOT_ID, started_of
from .rows import Job

__all__ = ["OUTPUT_BYTES_MAX", "Asked", "JobProcess"]

OUTPUT_BYTES_MAX = 16 * 1024 * 1024
"""Of what an agent says; what its workers say is in their logs, too."""
_FILE_BYTES_MAX = 256 * 1024
_STARTING_S = 15.0
"""A job whose keeper has not said who it is after so long was never started."""
_TAIL_BYTES = 4096
_MESSAGE_MAX = 500
_KILL_AFTER_S = 10.0
"""So much later than the keeper should have ended everything, everything is ended from here."""
T = TypeVar("T")


class Asked(msgspec.Struct, kw_only=True, frozen=True):
    """What was asked for, and how it was started; secrets of the environment are not in it."""

    id: str
    name: str
    type: str
    dataset_id: str
    worker_count: int
    config: dict[str, Any]
    command: list[str]
    created_at: float
    grace_s: float


class _Keeper(msgspec.Struct, frozen=True):
    pid: int
    started: int
    boot_id: str
    at: float


class _Exit(msgspec.Struct, frozen=True):
    code: int
    at: float


class JobProcess:
    """One job, as `look` has found it last in its `row`."""

    def __init__(self, folder: Path, asked: Asked) -> None:
        self.folder = folder
        self.asked = asked
        self._keeper: _Keeper | None = None
        self._killed = False
        self.row = Job(
            id=asked.id,
            name=asked.name,
            type=asked.type,
            status="pending",
            dataset_id=asked.dataset_id,
            worker_count=asked.worker_count,
            config=dict(asked.config),
            created_at=_millis(asked.created_at),
            started_at=None,
            ended_at=None,
            exit_code=None,
            pid=None,
            origin="api",
            stoppable=True,
            message="",
        )

    @classmethod
    def found(cls, folder: Path) -> JobProcess | None:
        """Return the job that a folder is of; None where it is of none."""
        asked = _read(folder / "job.json", Asked)
        return cls(folder, asked) if asked is not None and asked.id == folder.name else None

    @classmethod
    def start(cls, folder: Path, asked: Asked, *, env: Mapping[str, str], cwd: Path) -> JobProcess:
        """Start a job in a folder that is there and empty; StorageError where that cannot be done."""
        why = ""
        try:
            (folder / "job.json").write_bytes(msgspec.json.encode(asked))
            begun = subprocess.run(
                _words(folder, asked),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
                timeout=_STARTING_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            why = str(error)
        else:
            if begun.returncode != 0:
                why = begun.stderr.decode(errors="replace").strip().rpartition("\n")[2] or "its keeper has not begun"
        if why:
            if not (folder / "keeper.json").exists():
                shutil.rmtree(folder, ignore_errors=True)
            raise StorageError(f"job {asked.id} cannot be started: {why}")
        return cls(folder, asked)

    @property
    def logs(self) -> Path:
        """Where the agent keeps NAME.log of each of its processes, once it does."""
        return self.folder / "run" / "logs"

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.row.ended_at is not None

    def look(self, now: float) -> bool:
        """Find out how far it is; returns whether that is another state than before."""
        if self.ended:
            return False
        before = self.row
        exited = _read(self.folder / "exit.json", _Exit)
        if exited is None and not self._alive(now):
            exited = _read(self.folder / "exit.json", _Exit)  # it was written in between
            if exited is None:
                self._end(None, now, "its keeper has ended without a word: it was killed, or the machine was")
                return True
        if exited is not None:
            self._end(exited.code, exited.at, "")
        else:
            self._go_on(now)
        return self.row != before

    def ask_to_stop(self) -> None:
        """Ask it to stop: its workers leave at their next commit point, if they have any."""
        (self.folder / "stop").touch(mode=0o600)
        self._signal(signal.SIGTERM)

    def output(self) -> list[str]:
        """Return the last lines that the agent has said."""
        try:
            with (self.folder / "output.txt").open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
                text = file.read(_TAIL_BYTES).decode(errors="replace")
        except OSError:
            return []
        return [line for line in ("".join(filter(_printable, one)) for one in text.splitlines()) if line.strip()]

    def _alive(self, now: float) -> bool:
        keeper = self._keeper = self._keeper or _read(self.folder / "keeper.json", _Keeper)
        if keeper is None:
            return now < self.asked.created_at + _STARTING_S
        return keeper.boot_id == _boot_id() and started_of(keeper.pid) == keeper.started

    def _go_on(self, now: float) -> None:
        keeper = self._keeper
        stop_at = self._stop_at()
        running = self.logs.is_dir() or _size(self.folder / "output.txt") > 0
        self.row = msgspec.structs.replace(
            self.row,
            status="running" if running else "pending",
            started_at=_millis(keeper.at) if keeper is not None else None,
            pid=keeper.pid if keeper is not None else None,
            message="it was asked to stop" if stop_at is not None else "",
        )
        if stop_at is not None and now > stop_at + self.asked.grace_s + _KILL_AFTER_S:
            self._killed = True
            self._signal(signal.SIGKILL, group=True)

    def _end(self, code: int | None, at: float, why: str) -> None:
        stopped = self._stop_at() is not None
        status = "stopped" if stopped else "completed" if code == 0 else "failed"
        if self._killed:
            why = f"it did not end within {self.asked.grace_s + _KILL_AFTER_S:g} s, and was killed"
        elif code not in (0, None) and not stopped:
            said = self.output()
            why = said[-1][:_MESSAGE_MAX] if said else "it has said nothing"
        keeper = self._keeper or _read(self.folder / "keeper.json", _Keeper)
        self.row = msgspec.structs.replace(
            self.row,
            status=status,
            started_at=_millis(keeper.at) if keeper is not None else None,
            ended_at=_millis(at),
            exit_code=code,
            pid=None,
            stoppable=False,
            message=why,
        )

    def _stop_at(self) -> float | None:
        try:
            return (self.folder / "stop").stat().st_mtime
        except OSError:
            return None

    def _signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """Signal the keeper, or all of its group, unless the process of that number is another by now."""
        keeper = self._keeper or _read(self.folder / "keeper.json", _Keeper)
        if keeper is None or keeper.boot_id != _boot_id():
            return
        with suppress(ProcessLookupError):
            fd = os.pidfd_open(keeper.pid)
            try:
                if started_of(keeper.pid) != keeper.started:
                    return
                if group:
                    os.killpg(keeper.pid, number)
                signal.pidfd_send_signal(fd, number)
            finally:
                os.close(fd)


def _words(folder: Path, asked: Asked) -> Sequence[str]:
    keeper = [sys.executable, "-I", "-S", job_keeper.__file__]
    return [*keeper, str(folder), f"{asked.grace_s:g}", str(OUTPUT_BYTES_MAX), *asked.command]


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(_FILE_BYTES_MAX), type=kind)
    except (OSError, msgspec.MsgspecError):
        return None


def _boot_id() -> str:
    return Path(BOOT_ID).read_text().strip()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _printable(one: str) -> bool:
    return one.isprintable()


def _millis(seconds: float) -> int:
    return round(seconds * 1000)
