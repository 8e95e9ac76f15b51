"""The shell around a job's decisions: one loop over processes, pipes, signals and deadlines that performs its effects.

Owns the running of a whole job on one machine, or of a host's part of one; never decides who is restarted or when a run
has failed (job.py does).
"""

from __future__ import annotations

import json
import os
import secrets
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from strata_zmq.protocol.messages import Status
from strata_zmq.startup import NO_API
from strata_zmq.transport.endpoints import parse_endpoint
from strata_zmq.transport.sockets import raise_file_limit
from strata_zmq.workers.identity import boot_id

from .commands import Commands, Endpoints
from .entry import complain
from .environment import (
    api_environment,
    common_environment,
    coordinator_environment,
    supervisor_token,
    worker_environment,
)
from .folders import make_folders
from .job import Effect, Finish, Job, Member, Phase, Report, Say, Signal, Spawn
from .link import Coordinator, Link, dial, reach
from .logs import LogFiles, LogPump
from .options import RunOptions
from .output import STDERR, STDOUT, Output, on_terminal
from .process import Child, Warden
from .progress import JobView, MemberView, line, table
from .wakeups import SignalInbox, Wake

__all__ = ["Supervisor"]

_TAIL_S = 1.0  # how long a dead child's pipes may still hold something
_FLUSH_S = 5.0  # how long a slow reader of our output is waited for at the end
_WARDEN_S = 10.0
_IDLE_S = 60.0
_SURVEY_S = 1.0
_READY_BYTES_MAX = 4096
_POLL_S = 0.5
_REJOIN_MIN_S = 1.0
_WATCHES = 3  # how often within the time that a lost worker has to come back its being so is looked for
_FILES, _FILES_PER_CHILD = 64, 6
_OWN_LOG = "strata"
_LOG_BYTES_MAX = 16 * 1024 * 1024
"""Of a log file that is kept for the API alone."""


class Supervisor:
    """Runs one job to its end, or a host's part of a job whose coordinator runs elsewhere.

    `commands` spells the children's command lines, `connect` reaches a coordinator that is one of them.
    """

    def __init__(
        self,
        options: RunOptions,
        commands: Commands | None = None,
        connect: Callable[[str, str], Coordinator] = dial,
    ) -> None:
        self._options = options
        self._commands = commands or Commands()
        self._connect = connect
        self._job = Job(
            options.workers,
            options.writers,
            options.limits,
            coordinator=not options.coordinator_url,
            relay=options.relay,
            api=options.api_port != NO_API,
            host=options.host,
            rejoin_s=max(options.lease_s, _REJOIN_MIN_S),
        )
        self._boot_id = boot_id()
        self._run_id = secrets.token_hex(16)
        # Who names one can give the running workers commands.
        self._token = supervisor_token() or secrets.token_hex(16)
        self._live = options.progress == "live" or (options.progress == "auto" and on_terminal())
        self._plain = not self._live and options.progress != "off"
        self._children: dict[str, Child] = {}
        self._pids: dict[str, int] = {}
        self._ready: dict[str, bytes] = {}
        self._pumps: set[LogPump] = set()
        self._paused = False
        self._dashboard = ""
        self._link: Link | None = None
        self._remote: Coordinator | None = None
        self._began = time.monotonic()
        self._poll_due = float("inf")
        self._judged: Status | None = None
        self._line_due = self._began + options.progress_interval_s
        self._drain_by = float("inf")

    def run(self) -> int:
        """Run to the end and return the exit code; raises StrataError when nothing could be started.

        To be called from the main thread: signals arrive there, and children die with the thread that started them.
        """
        options = self._options
        raise_file_limit(_FILES + _FILES_PER_CHILD * len(self._job.members))
        self._store = options.store()
        with ExitStack() as stack:
            job_name = self._reach(stack)
            inbox = stack.enter_context(SignalInbox(signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
            self._selector = stack.enter_context(selectors.DefaultSelector())
            self._selector.register(inbox, selectors.EVENT_READ, partial(self._on_signals, inbox))
            self._folders = make_folders(options.run_dir, self._store if options.writers else None)
            if self._folders.lock_fd is not None:
                stack.callback(os.close, self._folders.lock_fd)
            self._wake = Wake()
            stack.callback(self._wake.close)
            self._selector.register(self._wake, selectors.EVENT_READ, self._wake.clear)
            lock_fd = self._folders.lock_fd
            self._warden = Warden(hold_fds=() if lock_fd is None else (lock_fd,))
            stack.callback(self._close_warden)
            self._warden.folder(self._folders.scratch)
            self._folders.open()
            self._selector.register(self._warden.pidfd, selectors.EVENT_READ, self._on_warden)
            self._logs = self._log_files()
            stack.callback(self._logs.close)
            self._output = Output(self._wake.set, (lambda: table(self._view())) if self._live else None)
            self._output.start()
            stack.callback(self._output.close, _FLUSH_S)
            stack.callback(self._close_link)
            self._prepare(job_name)
            self._loop()
            self._summarise()
        return self._job.code

    def _log_files(self) -> LogFiles:
        if self._folders.kept:
            return LogFiles(self._log_folder)
        return LogFiles(self._log_folder if self._options.api_port != NO_API else None, _LOG_BYTES_MAX)

    @property
    def _log_folder(self) -> Path:
        return self._folders.run / "logs"

    def _reach(self, stack: ExitStack) -> str:
        """Connect to a coordinator that runs elsewhere; return the job's name."""
        options = self._options
        if not options.coordinator_url:
            return options.job_name
        token = supervisor_token()
        coordinator = reach(options.coordinator_url, token, options.job)
        stack.callback(coordinator.close)
        self._remote = coordinator
        lease_s = coordinator.welcome.lease_s
        self._job.rejoin_s = max(lease_s, _REJOIN_MIN_S)
        if not token:
            self._job.unreported_s = lease_s
        return coordinator.welcome.job

    def _prepare(self, job_name: str) -> None:
        options, scratch, port = self._options, self._folders.scratch, self._options.port
        agent = f"ipc://{scratch}/agent" if options.relay else ""
        if self._remote is not None:
            self._endpoints = Endpoints(parse_endpoint(options.coordinator_url), agent=agent)
            self._link = Link(self._remote, self._wake.set)
            self._poll_due = time.monotonic()
        elif options.tcp:
            second = port + 1 if port else 0
            self._endpoints = Endpoints(f"tcp://127.0.0.1:{port}", f"tcp://127.0.0.1:{second}", agent)
        else:
            self._endpoints = Endpoints(f"ipc://{scratch}/control", f"ipc://{scratch}/broadcast", agent)
        self._common = common_environment(job_name, self._folders.run, self._store, self._run_id)

    # ---- the loop ------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        self._perform(self._job.begin(time.monotonic()))
        while True:
            now = time.monotonic()
            if self._job.phase is Phase.DONE:
                self._drain_by = min(self._drain_by, now + _FLUSH_S)
                if not self._pumps or now >= self._drain_by:
                    break
            for key, _ in self._selector.select(self._timeout(now)):
                # An earlier callback of the same turn may have closed this one's descriptor.
                if self._selector.get_map().get(key.fileobj) == key:
                    key.data()
            now = time.monotonic()
            if self._link is not None:
                # A snapshot before the reports that it was taken after.
                reported = self._link.take_reported()
                self._judge(self._link, now)
                for name in reported:
                    self._perform(self._job.reported(name, now))
            self._perform(self._job.tick(now))
            self._tend_pumps(now)
            self._show_figures(now)
        for pump in list(self._pumps):
            self._drop(pump)

    def _timeout(self, now: float) -> float:
        waits = [now + _IDLE_S, self._drain_by, self._poll_due]
        deadline = self._job.next_deadline()
        if deadline is not None:
            waits.append(deadline)
        if self._live or self._plain:
            waits.append(self._line_due)
        if not self._paused:
            waits += [pump.close_by for pump in self._pumps if pump.close_by is not None]
        return max(0.0, min(waits) - now)

    def _judge(self, link: Link, now: float) -> None:
        """See in a new snapshot which of the workers here were given up, and whether the run was stopped."""
        latest = link.latest()
        if latest is None or latest[1] is self._judged:
            return
        self._judged = status = latest[1]
        self._job.stopped = self._run_id in status.stopped_runs
        for row in status.lost:
            # A row of the life before, or of a process elsewhere, says nothing about the child that runs now.
            if row.worker_id in self._children and row.pid == self._pids[row.worker_id] and self._is_here(row.boot_id):
                self._perform(self._job.given_up(row.worker_id, row.lost_s, row.reason, now))

    def _is_here(self, boot_id: str) -> bool:
        return boot_id in {"", self._boot_id}

    def _perform(self, effects: list[Effect]) -> None:
        pending = deque(effects)
        while pending:
            match pending.popleft():
                case Spawn(name, restarts):
                    pending.extend(self._spawn(name, restarts))
                case Signal(name, signum):
                    if name == "coordinator" and self._job.code == 0 and self._link is not None:
                        self._link.refresh(_SURVEY_S)  # the summary's figures, while there is somebody to ask
                    if name in self._children:
                        self._children[name].signal(signum)
                case Report(name, reason):
                    if self._link is not None:
                        self._link.report(name, self._pids[name], reason)
                case Say(text):
                    self._say(text)
                case Finish():
                    self._line_due = self._poll_due = float("inf")

    # ---- children ------------------------------------------------------------------------------------------------

    def _spawn(self, name: str, restarts: int) -> list[Effect]:
        member = self._job.members[name]
        argv, env, death_signal = self._command(member, restarts)
        try:
            child = Child(argv, env=env, warden=self._warden, death_signal=death_signal)
        except OSError as error:
            self._pids[name] = 0
            self._say(f"{name} cannot be started: {error.strerror}")
            return self._job.exited(name, 1, time.monotonic())
        self._children[name] = child
        self._pids[name] = child.pid
        self._selector.register(child.pidfd, selectors.EVENT_READ, partial(self._on_exit, name))
        if child.ready_fd is not None:
            self._ready[name] = b""
            self._selector.register(child.ready_fd, selectors.EVENT_READ, partial(self._on_ready, name, child.ready_fd))
        for fd, stream in ((child.out_fd, STDOUT), (child.err_fd, STDERR)):
            served = member.role != "worker" and stream == STDERR
            pump = LogPump(fd, name, partial(self._output.post, stream), self._keep, served=served)
            self._pumps.add(pump)
            if not self._paused:
                self._selector.register(fd, selectors.EVENT_READ, partial(self._on_output, pump))
        return []

    def _command(self, member: Member, restarts: int) -> tuple[list[str], dict[str, str], signal.Signals]:
        """Return a child's arguments, environment, and what it gets when this process dies."""
        options, commands, endpoints = self._options, self._commands, self._endpoints
        if member.role == "coordinator":
            journal = self._folders.run / "journal.sqlite"
            argv = commands.coordinator(endpoints, journal, options)
            return argv, coordinator_environment(self._common, self._token), signal.SIGTERM
        if member.role == "writer":
            # SIGTERM: it drains what its workers have staged, for a bounded time.
            argv = commands.writer(endpoints.control, self._store, member.name, options)
            return argv, self._common, signal.SIGTERM
        if member.role == "relay":
            return commands.relay(endpoints.control, endpoints.agent), self._common, signal.SIGKILL
        if member.role == "api":
            argv = commands.api(endpoints, self._log_folder, self._store, options)
            return argv, api_environment(self._common), signal.SIGTERM
        env = worker_environment(
            self._common, endpoints, options, worker_id=member.name, index=member.index, restarts=restarts
        )
        return commands.worker(options), env, signal.SIGKILL

    def _on_ready(self, name: str, fd: int) -> None:
        data = os.read(fd, _READY_BYTES_MAX)
        self._ready[name] += data
        if data and b"\n" not in self._ready[name] and len(self._ready[name]) < _READY_BYTES_MAX:
            return
        told = self._ready[name]
        self._close_ready(name)
        if not told:
            return  # it has died, or will be found late
        try:
            ready = json.loads(told)
            if name == "coordinator":
                self._endpoints = replace(self._endpoints, control=ready["control"], broadcast=ready["broadcast"])
            if name == "api":
                note = ready.get("note", "")
                self._dashboard = str(ready["url"])
                self._say(f"dashboard at {self._dashboard}{f' ({note})' if note else ''}")
        except (ValueError, KeyError, TypeError):
            self._say(f"{name} sent a ready line that is not understood: {told[:200]!r}")
            self._children[name].signal(signal.SIGKILL)
            return
        if name == "coordinator" and self._link is None:
            if self._live or self._plain:
                self._say(f"on a terminal: strata status --watch --coordinator {self._endpoints.control}")
            self._link = Link(self._connect(self._endpoints.control, self._token), self._wake.set)
            self._poll_due = time.monotonic()
            if self._folders.kept:
                # A journal may remember the workers of a run that was killed. The lock on the folder says that they are
                # gone; without this word their successors would be refused until the leases end.
                self._link.bury(self._job.members, "its run has ended", _SURVEY_S)
        self._perform(self._job.ready(name, time.monotonic()))

    def _close_ready(self, name: str) -> None:
        child = self._children[name]
        self._ready.pop(name, None)
        if child.ready_fd is not None:
            self._selector.unregister(child.ready_fd)
            os.close(child.ready_fd)
            child.ready_fd = None

    def _on_exit(self, name: str) -> None:
        self._close_ready(name)
        child = self._children.pop(name)
        self._selector.unregister(child.pidfd)
        code = child.reap()
        if name == "api":
            self._dashboard = ""
        now = time.monotonic()
        for pump in self._pumps:
            if pump.fd in {child.out_fd, child.err_fd}:
                pump.close_by = now + _TAIL_S
        self._perform(self._job.exited(name, code, now))

    def _on_warden(self) -> None:
        self._selector.unregister(self._warden.pidfd)
        self._warden.restart()
        self._selector.register(self._warden.pidfd, selectors.EVENT_READ, self._on_warden)

    def _on_signals(self, inbox: SignalInbox) -> None:
        for signum in inbox.take():
            self._perform(self._job.interrupted(signum, time.monotonic()))

    # ---- output --------------------------------------------------------------------------------------------------

    def _on_output(self, pump: LogPump) -> None:
        if not pump.pump():
            self._drop(pump)
        elif self._output.full and not self._paused:
            self._paused = True
            for each in self._pumps:
                self._selector.unregister(each.fd)

    def _tend_pumps(self, now: float) -> None:
        """Go on reading when there is room, and stop waiting for the pipes of the dead."""
        if self._paused:
            if self._output.full:
                return
            self._paused = False
            for pump in self._pumps:
                self._selector.register(pump.fd, selectors.EVENT_READ, partial(self._on_output, pump))
                pump.close_by = pump.close_by and now + _TAIL_S
        for pump in [pump for pump in self._pumps if pump.close_by is not None and now >= pump.close_by]:
            self._drop(pump)

    def _drop(self, pump: LogPump) -> None:
        self._pumps.discard(pump)
        if not self._paused:
            self._selector.unregister(pump.fd)
        pump.close()

    def _keep(self, name: str, data: bytes) -> None:
        try:
            self._logs.write(name, data)
        except OSError as error:
            self._logs.give_up()
            self._say(f"log files end here: {error.strerror}")

    def _say(self, text: str) -> None:
        self._show(text)
        self._keep(_OWN_LOG, f"{text}\n".encode(errors="backslashreplace"))

    def _show(self, text: str) -> None:
        self._output.post(STDERR, f"[strata] {text}\n".encode(errors="backslashreplace"))

    def _show_figures(self, now: float) -> None:
        if self._link is not None and now >= self._poll_due:
            watch_s = self._job.rejoin_s / _WATCHES
            self._poll_due = now + (min(_POLL_S, watch_s) if self._live or self._plain else watch_s)
            self._link.poll()
        if self._plain and now >= self._line_due:
            self._line_due = now + self._options.progress_interval_s
            self._show(line(self._view()))

    def _view(self) -> JobView:
        """Return this moment; called from the output thread, too, and therefore reads only what is replaced whole."""
        members = tuple(
            MemberView(
                name=member.name,
                role=member.role,
                state=member.state.value,
                pid=self._pids.get(member.name, 0) if member.alive else 0,
                restarts=member.restarts,
            )
            for member in self._job.members.values()
        )
        link = self._link
        age_s, status = (link and link.latest()) or (0.0, None)
        elapsed_s = time.monotonic() - self._began
        return JobView(elapsed_s, self._job.phase.value, members, status, age_s, self._dashboard)

    def _summarise(self) -> None:
        view, job = self._view(), self._job
        parts = [f"{job.outcome} in {view.elapsed_s:.1f} s"]
        lost = sum(member.restarts for member in job.members.values())
        if lost:
            parts.append(f"{lost} restart{'s' * (lost > 1)}")
        if view.status is not None and view.status.checkpoints:
            newest = max(view.status.checkpoints, key=lambda checkpoint: checkpoint.created_at)
            parts.append(f"{len(view.status.checkpoints)} checkpoints in {self._store}, newest of step {newest.step}")
        if job.code:
            parts.append(f"exit code {job.code}")
        self._say(", ".join(parts))

    # ---- the end -------------------------------------------------------------------------------------------------

    def _close_link(self) -> None:
        if self._link is not None:
            self._link.close()

    def _close_warden(self) -> None:
        if not self._warden.close(_WARDEN_S):
            complain("cleaning up takes long; it goes on in the background")
