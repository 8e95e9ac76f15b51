"""One machine's function service as one command: a dispatcher, its worker and the HTTP interface, kept alive together.

Owns when each of them is started, started again and ended; never knows a task, and speaks to none of them. Each is a
process of its own, leader of its group. A small process beside this one (launcher/warden.py) ends them all should this
one be killed.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from strata_zmq.errors import InvalidArgumentError
from strata_zmq.startup import announce

from .launcher.entry import EXIT_FAILURE
from .launcher.process import Child, Warden
from .launcher.wakeups import SignalInbox

__all__ = ["Fleet", "FleetOptions"]

RESTARTS_MAX = 3
"""More than so many within `RESTARTS_S` seconds, and the fleet gives up."""
RESTARTS_S = 60.0
_READY_BYTES_MAX = 4096
_WARDEN_S = 10.0
_IDLE_S = 60.0
_LAST_S = 2.0
"""What a process gets beyond the grace of its tasks before it is killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetOptions:
    """What is to run. `port` and `api_port` 0 take free ones, which then stay; `grace_s` is for running tasks."""

    mode: Literal["local", "pull", "push"] = "push"
    workers: int = 4
    port: int = 5555
    api_port: int = 8000
    store: str = ""
    task_deadline_s: float = 0.0
    lease_s: float = 5.0
    memory_bytes: int = 0
    gpus: str = ""
    """Devices for tasks with the label `gpu`: 0,1."""
    grace_s: float = 10.0
    ready_fd: int = -1

    def __post_init__(self) -> None:
        if self.mode not in {"local", "pull", "push"}:
            raise InvalidArgumentError(f"mode is {self.mode!r}: it is local, pull or push")
        if not 1 <= self.workers <= 1024:
            raise InvalidArgumentError(f"workers is {self.workers}: it takes 1 to 1024 children")
        if not 0 <= self.grace_s <= 3600:
            raise InvalidArgumentError(f"grace_s is {self.grace_s}: it takes 0 to 3600 seconds")

    def command(self, name: str, endpoint: str, url: str) -> list[str]:
        """Return the command line of a member; the dispatcher is at `endpoint`, HTTP was at `url` ("": not yet)."""
        python = [sys.executable, "-m"]
        ready = ["--ready-fd", Child.READY_FD]
        children = ["--memory-bytes", str(self.memory_bytes), *(("--gpus", self.gpus) if self.gpus else ())]
        if name == "dispatcher":
            return [
                *python,
                "strata_zmq.coordinator.dispatcher",
                *("--endpoint", endpoint or f"tcp://127.0.0.1:{self.port}"),
                *("--mode", self.mode, "--workers", str(self.workers)),
                *("--task-deadline", f"{self.task_deadline_s:g}", "--lease", f"{self.lease_s:g}"),
                *(("--store", self.store) if self.store else ()),
                *(("--grace", f"{self.grace_s:g}", *children) if self.mode == "local" else ()),
                *ready,
            ]
        if name == "worker":
            return [
                *python,
                "strata_zmq.workers.function_worker",
                *("--dispatcher", endpoint, "--mode", self.mode, "--children", str(self.workers)),
                *("--grace", f"{self.grace_s:g}", *children),
                *ready,
            ]
        port = url.rpartition(":")[2] or str(self.api_port)
        durability = "none" if self.store == "none" else "commit"
        return [
            *python,
            "strata_zmq.coordinator.api",
            *("--dispatcher", endpoint, "--port", port, "--durability", durability),
            *ready,
        ]


@dataclass(slots=True)
class _Member:
    """One of the processes, over its lives. `told` is what it said when it served, of this life or the one before."""

    name: str
    grace_s: float
    child: Child | None = None
    told: dict[str, str] = field(default_factory=dict)
    serving: bool = False
    said: bytes = b""
    restarts: deque[float] = field(default_factory=deque)
    kill_at: float = float("inf")


class Fleet:
    """Runs until it is told to end (SIGTERM, SIGINT: code 0) or a member cannot be kept alive (code 1).

    `say` is given one line for people at a time. To be run from the main thread: signals arrive there, and children die
    with the thread that started them.
    """

    def __init__(self, options: FleetOptions, say: Callable[[str], None]) -> None:
        self._options = options
        self._say = say
        names = ("dispatcher", "api") if options.mode == "local" else ("dispatcher", "worker", "api")
        # In local mode the dispatcher has the running tasks.
        graces = {"worker": options.grace_s + _LAST_S, "dispatcher": options.grace_s + _LAST_S, "api": 5 + _LAST_S}
        self._members = {name: _Member(name, graces[name]) for name in names}
        self._ending: list[_Member] | None = None
        self._code = 0
        self._announced = False

    def run(self) -> int:
        """Run to the end and return the exit code."""
        with ExitStack() as stack:
            inbox = stack.enter_context(SignalInbox(signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
            self._selector = stack.enter_context(selectors.DefaultSelector())
            self._selector.register(inbox, selectors.EVENT_READ, partial(self._on_signals, inbox))
            self._warden = Warden()
            stack.callback(self._warden.close, _WARDEN_S)
            self._selector.register(self._warden.pidfd, selectors.EVENT_READ, self._on_warden)
            self._start(self._members["dispatcher"])
            while any(member.child for member in self._members.values()):
                for key, _ in self._selector.select(self._timeout()):
                    # An earlier callback of the same turn may have closed this one's descriptor.
                    if self._selector.get_map().get(key.fileobj) == key:
                        key.data()
                self._kill_overdue()
        return self._code

    def _timeout(self) -> float:
        due = min(member.kill_at for member in self._members.values())
        return min(_IDLE_S, max(0.0, due - time.monotonic()))

    # ---- lives

    def _start(self, member: _Member) -> None:
        endpoint = self._members["dispatcher"].told.get("endpoint", "")
        argv = self._options.command(member.name, endpoint, member.told.get("url", ""))
        child = Child(argv, env=dict(os.environ), warden=self._warden, death_signal=signal.SIGTERM, own_output=False)
        member.child, member.serving, member.said = child, False, b""
        self._selector.register(child.pidfd, selectors.EVENT_READ, partial(self._on_exit, member))
        if child.ready_fd is not None:
            self._selector.register(child.ready_fd, selectors.EVENT_READ, partial(self._on_ready, member, child))

    def _on_ready(self, member: _Member, child: Child) -> None:
        assert child.ready_fd is not None  # noqa: S101 - it was registered
        data = os.read(child.ready_fd, _READY_BYTES_MAX)
        member.said += data
        if data and b"\n" not in member.said and len(member.said) < _READY_BYTES_MAX:
            return
        self._close_ready(child)
        if not member.said:
            return  # it has died, or will be found late
        try:
            member.told = json.loads(member.said)
        except ValueError:
            self._say(f"{member.name} sent a ready line that is not understood: {member.said[:200]!r}")
            child.signal(signal.SIGKILL)
            return
        member.serving = True
        if self._ending is not None:
            return
        for other in self._members.values():
            if other.child is None:  # only the dispatcher is started before all others
                self._start(other)
        if not self._announced and all(one.serving for one in self._members.values()):
            self._announced = True
            url, endpoint = self._members["api"].told["url"], self._members["dispatcher"].told["endpoint"]
            self._say(f"functions over HTTP at {url} (docs: {url}/docs), for StrataExecutor at {endpoint}")
            announce(self._options.ready_fd, url=url, endpoint=endpoint)

    def _close_ready(self, child: Child) -> None:
        if child.ready_fd is not None:
            self._selector.unregister(child.ready_fd)
            os.close(child.ready_fd)
            child.ready_fd = None

    def _on_exit(self, member: _Member) -> None:
        child, member.child = member.child, None
        assert child is not None  # noqa: S101 - it was registered
        self._close_ready(child)
        self._selector.unregister(child.pidfd)
        code = child.reap()
        member.kill_at = float("inf")
        if self._ending is not None:
            self._end_next()
            return
        how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
        now = time.monotonic()
        while member.restarts and now - member.restarts[0] > RESTARTS_S:
            member.restarts.popleft()
        if not member.told:
            self._give_up(f"{member.name} {how} before it served; its last lines say why")
        elif len(member.restarts) >= RESTARTS_MAX:
            self._give_up(f"{member.name} {how} for the {RESTARTS_MAX + 1}th time within {RESTARTS_S:g} s")
        else:
            member.restarts.append(now)
            self._say(f"{member.name} {how}; starting it again")
            self._start(member)

    # ---- the end

    def _on_signals(self, inbox: SignalInbox) -> None:
        for _ in inbox.take():
            if self._ending is None:
                self._end()
            else:
                # Asked for twice: at once.
                for member in self._members.values():
                    member.kill_at = 0.0

    def _give_up(self, why: str) -> None:
        self._say(why)
        self._code = EXIT_FAILURE
        self._end()

    def _end(self) -> None:
        """End what runs: first those with tasks under way, last the one that can still tell of them."""
        order = ("worker", "dispatcher", "api")
        self._ending = [self._members[name] for name in order if name in self._members]
        self._end_next()

    def _end_next(self) -> None:
        assert self._ending is not None  # noqa: S101 - an end is under way
        while self._ending and self._ending[0].child is None:
            self._ending.pop(0)
        if self._ending:
            first = self._ending[0]
            if first.child is not None and first.kill_at == float("inf"):
                first.kill_at = time.monotonic() + first.grace_s
                first.child.ask(signal.SIGTERM)  # the functions that run are its own matter

    def _kill_overdue(self) -> None:
        now = time.monotonic()
        for member in self._members.values():
            if member.child is not None and member.kill_at <= now:
                member.child.signal(signal.SIGKILL)
                member.kill_at = float("inf")

    def _on_warden(self) -> None:
        """It was killed: without another, a death of this process would leave the others behind."""
        self._selector.unregister(self._warden.pidfd)
        self._warden.restart()
        self._selector.register(self._warden.pidfd, selectors.EVENT_READ, self._on_warden)
