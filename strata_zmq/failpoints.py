"""Named places at which a test can kill, stop, delay or fail a real process; nothing happens unless it is told to.

`STRATA_FAILPOINTS="writer.pack.synced=kill@3;commit.head.before=pause:/path"`: when this process comes to the first
place for the third time, it is killed; at the second place it waits until the file is there. Actions: `kill` (SIGKILL),
`stop` (SIGSTOP), `pause:FILE`, `error:EIO` (an OSError of that number); without `@N` they happen at the first time.
Each action is told first, in a line `PID NAME N` of the file STRATA_FAILPOINTS_LOG, so that a test need not guess. With
STRATA_FAILPOINTS_ONCE=1 it happens in one of the processes that share that log, once: not again in the next life.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from strata_zmq.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["failpoint", "parse_failpoints"]

_WAYS = "kill, stop, pause:FILE or error:EIO, each with @N for the N-th time"
_POLL_S = 0.01
_PAUSE_MAX_S = 120.0


@dataclass(slots=True)
class _Armed:
    action: str
    detail: str
    at: int
    hits: int = 0


def parse_failpoints(text: str) -> dict[str, _Armed]:
    """Return what is armed by `text`, by name; InvalidArgumentError where it is not understood."""
    armed: dict[str, _Armed] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, _, what = part.partition("=")
        what, _, at = what.partition("@")
        action, _, detail = what.partition(":")
        if (
            not name
            or not (at or "1").isdecimal()
            or int(at or "1") < 1
            or action not in {"kill", "stop", "pause", "error"}
            or bool(detail) != (action in {"pause", "error"})
            or (action == "error" and not hasattr(errno, detail))
        ):
            raise InvalidArgumentError(f"STRATA_FAILPOINTS: {part!r} is not understood; write NAME={_WAYS}")
        armed[name] = _Armed(action, detail, int(at or "1"))
    return armed


def _from_environment(environ: Mapping[str, str]) -> dict[str, _Armed]:
    text = environ.get("STRATA_FAILPOINTS", "")
    return parse_failpoints(text) if text else {}


_armed = _from_environment(os.environ)
_lock = threading.Lock()


def failpoint(name: str) -> None:
    """Mark a place in the program."""
    if name in _armed:
        _act(name, _armed[name])


def _act(name: str, armed: _Armed) -> None:
    with _lock:
        armed.hits += 1
        if armed.hits != armed.at:
            return
    log = os.environ.get("STRATA_FAILPOINTS_LOG")
    if log:
        if os.environ.get("STRATA_FAILPOINTS_ONCE") == "1":
            try:
                Path(f"{log}.{name}").touch(exist_ok=False)
            except FileExistsError:
                return
        with Path(log).open("a") as file:
            file.write(f"{os.getpid()} {name} {armed.hits}\n")
    if armed.action in {"kill", "stop"}:
        # To this very thread: a signal to the process may reach another one first, and this one runs on for a while.
        signal.pthread_kill(threading.get_ident(), signal.SIGKILL if armed.action == "kill" else signal.SIGSTOP)
    elif armed.action == "error":
        number = getattr(errno, armed.detail)
        raise OSError(number, os.strerror(number), name)
    else:
        deadline = time.monotonic() + _PAUSE_MAX_S
        while not Path(armed.detail).exists() and time.monotonic() < deadline:
            time.sleep(_POLL_S)
