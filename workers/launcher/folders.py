"""The folders of a run: made, checked for writing, locked against a second run, and removable as one.

Owns paths and their errors; never knows what is kept in them.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from strata_zmq.errors import AlreadyExistsError, InvalidArgumentError, StorageError
from strata_zmq.storage import local_folders

__all__ = ["MAX_SOCKET_PATH_BYTES", "Folders", "make_folders"]

MAX_SOCKET_PATH_BYTES = 107  # unix(7): sun_path holds 108 bytes with its NUL
_LONGEST_SOCKET_NAME = 32
_LOCK_WAIT_S = 8.0  # longer than a warden needs to end what a killed supervisor has left


@dataclass(frozen=True, slots=True)
class Folders:
    """Where a run keeps things.

    `scratch` (0700) holds sockets and is removed at the end; `run` holds the journal and, when it is kept, logs. It
    lies in `scratch` unless a place for it was named. `lock_fd` holds the lock on a kept folder.
    """

    scratch: Path
    run: Path
    kept: bool
    lock_fd: int | None

    def open(self) -> None:
        """Make `scratch`, apart from `make_folders`, so that somebody can be told of it before it is there."""
        try:
            self.scratch.mkdir(mode=0o700)
            self.run.mkdir(exist_ok=True)
        except OSError as error:
            base = self.scratch.parent
            raise StorageError(
                f"TMPDIR {base} cannot be written: {error.strerror}; set TMPDIR to a folder that can"
            ) from None


def make_folders(run_dir: Path | None, store: str | None) -> Folders:
    """Choose a run's folders and make those that are kept: `run_dir`, and the local ones of `store` for checkpoints.

    Raises StorageError for what cannot be written, and AlreadyExistsError when another run holds `run_dir`.
    """
    run, lock_fd = None, None
    if run_dir is not None:
        run = _writable(run_dir, "--run-dir")
    for folder in local_folders(store) if store is not None else ():
        _writable(folder, "--checkpoint-path")
    if run is not None:
        lock_fd = _lock(run)
    scratch = _scratch()
    return Folders(scratch=scratch, run=run or scratch / "run", kept=run is not None, lock_fd=lock_fd)


def _writable(path: Path, option: str) -> Path:
    """Make `path` a folder that can be written and return its absolute form; raises StorageError naming `option`."""
    path = path.absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise StorageError(f"{option} {path} cannot be written: {error.strerror}; name a folder that can") from None
    return path


def _scratch() -> Path:
    base = Path(tempfile.gettempdir()).absolute()
    scratch = base / f"strata-{secrets.token_hex(6)}"
    length = len(os.fsencode(scratch)) + 1 + _LONGEST_SOCKET_NAME
    if length > MAX_SOCKET_PATH_BYTES or "\n" in str(base):
        raise InvalidArgumentError(
            f"TMPDIR {str(base)!r} is too long for socket paths of {MAX_SOCKET_PATH_BYTES} bytes, or holds a line "
            "break: set TMPDIR to a shorter path such as /tmp"
        )
    return scratch


def _lock(run: Path) -> int:
    """Lock the folder for one run; when its last supervisor is dead, waits a few seconds for the warden to let go."""
    lock_fd = os.open(run / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock_fd, 32, 0).decode(errors="replace").strip()
            if time.monotonic() < deadline and not _runs(holder):
                time.sleep(0.05)
                continue
            os.close(lock_fd)
            raise AlreadyExistsError(
                f"--run-dir {run} is in use by process {holder}: wait for it, stop it, or name another folder"
            ) from None
        os.ftruncate(lock_fd, 0)
        os.pwrite(lock_fd, b"%d\n" % os.getpid(), 0)
        return lock_fd


def _runs(pid: str) -> bool:
    try:
        state = Path(f"/proc/{int(pid)}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (OSError, ValueError, IndexError):
        return False
    return state not in {b"Z", b"X"}  # proc(5): dead, whether or not its parent has taken notice
