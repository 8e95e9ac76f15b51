"""A job's decisions: who is started, restarted, signalled and reported, and with which code the run ends.

Owns the rules as events in, effects out; never knows a process, a socket or a clock (`now` comes in as a value, in
seconds on any steady clock).
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

__all__ = ["Effect", "Finish", "Job", "Limits", "Member", "Phase", "Report", "Say", "Signal", "Spawn", "exit_code"]

Role = Literal["coordinator", "writer", "relay", "worker", "api"]
Stage = tuple[Role, ...]
Ladder = tuple[tuple[signal.Signals, float], ...]

# In this order they start; each stage ends after those behind it. A relay outlives the workers that speak through it.
# The API is started with the workers, waited for by nobody, and ends first.
_STAGES: tuple[Stage, ...] = (("coordinator",), ("writer", "relay"), ("worker",), ("api",))
_EXIT_USAGE = 2


class Phase(Enum):
    """Where the job stands."""

    STARTING = "starting"
    RUNNING = "running"
    ENDING = "ending"
    DONE = "done"


class MemberState(Enum):
    """Where one child process stands."""

    ABSENT = "absent"
    STARTING = "starting"
    UP = "up"
    LOST = "lost"  # dead; its restart waits: a worker's until the coordinator knows, others' for a while
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Limits:
    """How often and how long: restarts as counts per member, everything else in seconds."""

    worker_restarts: int = 3
    service_restarts: int = 3
    ready_s: float = 30.0
    report_s: float = 5.0
    grace_s: float = 10.0
    drain_s: float = 15.0  # more than a writer takes by itself
    terminate_s: float = 3.0
    kill_s: float = 5.0
    relay_wait_s: float = 0.5  # before a relay's or the API's first restart; doubles with each
    relay_wait_max_s: float = 30.0


@dataclass(slots=True)
class Member:
    """One child process over all its lives; `restarts` counts those after the first."""

    name: str
    role: Role
    index: int
    state: MemberState = MemberState.ABSENT
    restarts: int = 0
    ever_ready: bool = False
    born_at: float = 0.0
    deadline: float | None = None
    reason: str = ""
    """Why this life was ended by the supervisor; empty otherwise."""
    code: int = 0

    @property
    def alive(self) -> bool:
        """Whether a process of this name exists."""
        return self.state in {MemberState.STARTING, MemberState.UP}


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start the member's process; `restarts` is 0 for its first life."""

    name: str
    restarts: int


@dataclass(frozen=True, slots=True)
class Signal:
    """Send `signum` to the member's process group."""

    name: str
    signum: signal.Signals


@dataclass(frozen=True, slots=True)
class Report:
    """Tell the coordinator that this worker's process is dead; answer with `Job.reported`."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Say:
    """Tell the person one line."""

    text: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The job is over and no child is left; `code` is the run's exit code."""

    code: int
    outcome: str


Effect = Spawn | Signal | Report | Say | Finish


def exit_code(code: int) -> int:
    """Return the shell's form of a wait status: 128 + signal when `code` is negative, else `code`."""
    return 128 - code if code < 0 else code


def describe_exit(code: int) -> str:
    """Return "was killed by SIGKILL" for -9, "exited with code 3" for 3."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


@dataclass(slots=True)
class Job:
    """The state of one run. Each method takes one event and returns what has to be done, in order.

    A run of its own has a coordinator; a host's part of a larger one has a `host`, which its members are named after.
    `unreported_s` is 0 where deaths are reported; else the seconds after which the coordinator knows by itself.
    A worker that the coordinator gave up has `rejoin_s` to come back by itself.
    """

    workers: int
    writers: int
    limits: Limits = field(default_factory=Limits)
    coordinator: bool = True
    relay: bool = False
    api: bool = False
    host: str = ""
    unreported_s: float = 0.0
    rejoin_s: float = 3.0
    stopped: bool = False
    """Whether the ranks of this run have agreed to stop, as far as the coordinator has told."""
    phase: Phase = Phase.STARTING
    members: dict[str, Member] = field(default_factory=dict)
    code: int = 0
    outcome: str = ""
    _signals: int = 0
    _ladders: dict[Stage, Ladder] = field(default_factory=dict)
    _stage: Stage | None = None
    _rung: int = 0
    _rung_deadline: float | None = None

    def __post_init__(self) -> None:
        writer = f"{self.host}-writer" if self.host else "writer"
        names: list[tuple[str, Role, int]] = [("coordinator", "coordinator", 0)] * self.coordinator
        names += [(f"{writer}-{index}", "writer", index) for index in range(self.writers)]
        names += [("relay", "relay", 0)] * self.relay
        names += [(f"{self.host or 'worker'}-{index}", "worker", index) for index in range(self.workers)]
        names += [("api", "api", 0)] * self.api
        for name, role, index in names:
            self.members[name] = Member(name=name, role=role, index=index)

    def begin(self, now: float) -> list[Effect]:
        """Start the coordinator; writers, the relay and workers follow as those before them are ready."""
        return self._advance(now)

    def ready(self, name: str, now: float) -> list[Effect]:
        """Take in that a service has said that it serves."""
        member = self.members[name]
        if member.state is not MemberState.STARTING:
            return []
        member.state, member.ever_ready, member.deadline = MemberState.UP, True, None
        return self._advance(now)

    def exited(self, name: str, code: int, now: float) -> list[Effect]:
        """Take in that a member's process ended; `code` is negative for a signal, as in `subprocess`."""
        member = self.members[name]
        member.deadline = None
        if self.phase in {Phase.ENDING, Phase.DONE}:
            member.state = MemberState.DONE
            return self._advance(now)
        if member.role == "worker":
            return self._worker_exited(member, code, now)
        if member.role == "relay":
            return self._relay_exited(member, code, now)
        if member.role == "api":
            return self._api_exited(member, code, now)
        return self._service_exited(member, code, now)

    def reported(self, name: str, now: float) -> list[Effect]:
        """Take in that the coordinator knows of a worker's death (or could not be told): restart it."""
        member = self.members[name]
        if self.phase is not Phase.RUNNING or member.role != "worker" or member.state is not MemberState.LOST:
            return []
        if self.stopped:
            return self._leave_ended(member, now)
        return [self._spawn(member, now)]

    def given_up(self, name: str, lost_s: float, reason: str, now: float) -> list[Effect]:
        """Take in that the coordinator gave this worker's process up `lost_s` ago, and has not heard of it since.

        One that is fenced and able comes back by itself, and is given the time. One that hangs or is stopped takes no
        other signal than SIGKILL.
        """
        member = self.members[name]
        mine = member.role == "worker" and member.state is MemberState.UP and now - lost_s >= member.born_at
        if self.phase is not Phase.RUNNING or not mine or member.reason or lost_s < self.rejoin_s:
            return []
        member.reason = f"was given up by the coordinator ({reason})"
        return [
            Say(f"{name} {member.reason} and has not come back within {lost_s:.1f} s: killing it"),
            Signal(name, signal.SIGKILL),
        ]

    def interrupted(self, signum: signal.Signals, now: float) -> list[Effect]:
        """Take in a signal to the supervisor: the first ends the job in order, the second at once."""
        self._signals += 1
        if self.phase is Phase.DONE:
            return []
        if self._signals > 1:
            effects: list[Effect] = [Say(f"{signum.name} again: killing everything")]
            effects += [Signal(member.name, signal.SIGKILL) for member in self.members.values() if member.alive]
            self._ladders = dict.fromkeys(self._ladders, ((signal.SIGKILL, self.limits.kill_s),))
            self._rung, self._rung_deadline = 0, now + self.limits.kill_s
            return effects
        reason = f"{signum.name} received"
        if self.phase is Phase.ENDING:
            self.code, self.outcome = 128 + signum, reason
            return [Say(f"{reason}; the job is ending already, once more kills everything")]
        graceful: Ladder = ((signal.SIGTERM, self.limits.grace_s),)
        if signum is signal.SIGINT:
            graceful = ((signal.SIGINT, self.limits.grace_s), (signal.SIGTERM, self.limits.terminate_s))
        say = Say(f"{reason}: stopping the workers (up to {self.limits.grace_s:g} s; once more kills them)")
        return [say, *self._end(128 + signum, reason, now, graceful)]

    def tick(self, now: float) -> list[Effect]:
        """Act on every deadline that has passed."""
        effects: list[Effect] = []
        for member in self.members.values():
            if member.deadline is None or now < member.deadline:
                continue
            member.deadline = None
            if member.state is MemberState.STARTING:
                member.reason = f"was not ready within {self.limits.ready_s:g} s"
                effects.append(Signal(member.name, signal.SIGKILL))
            elif member.role in {"relay", "api"}:
                effects.append(self._spawn(member, now))
            elif member.state is MemberState.LOST:
                if not self.unreported_s:
                    effects.append(
                        Say(f"the coordinator has not confirmed the loss of {member.name}; restarting it anyway")
                    )
                effects += self.reported(member.name, now)
        if self._rung_deadline is not None and now >= self._rung_deadline:
            effects += self._climb(now)
        return effects

    def next_deadline(self) -> float | None:
        """Return when `tick` has to be called at the latest, or None when nothing is awaited."""
        waits = [member.deadline for member in self.members.values() if member.deadline is not None]
        if self._rung_deadline is not None:
            waits.append(self._rung_deadline)
        return min(waits, default=None)

    # ---- losses --------------------------------------------------------------------------------------------------

    def _worker_exited(self, member: Member, code: int, now: float) -> list[Effect]:
        story, member.reason, member.code = describe_exit(code), "", code
        report: list[Effect] = [] if self.unreported_s else [Report(member.name, story)]
        if code == 0:
            member.state = MemberState.DONE
            return [*report, *self._advance(now)]
        if self.stopped:
            return [*report, Say(f"{member.name} {story}"), *self._leave_ended(member, now)]
        if member.restarts < self.limits.worker_restarts:
            member.state, member.deadline = MemberState.LOST, now + (self.unreported_s or self.limits.report_s)
            left = self.limits.worker_restarts - member.restarts - 1
            when = f" in {self.unreported_s:g} s, when its lease has ended" * bool(self.unreported_s)
            return [*report, Say(f"{member.name} {story}; restarting it{when} ({left} more {_restarts(left)} allowed)")]
        member.state = MemberState.FAILED
        reason = f"{member.name} {story} after {member.restarts} restarts"
        return [*report, Say(f"{reason}; stopping the others"), *self._end(exit_code(code), reason, now)]

    def _leave_ended(self, member: Member, now: float) -> list[Effect]:
        """Let a worker that was lost behind the agreed stop be: the next life would train on alone."""
        member.state, member.deadline = MemberState.FAILED, None
        say = Say(f"{member.name} is not restarted: the ranks have agreed to stop")
        return [say, *self._advance(now)]

    def _relay_exited(self, member: Member, code: int, now: float) -> list[Effect]:
        """Go on without a relay: workers speak to the coordinator themselves until there is one."""
        story = member.reason or describe_exit(code)
        member.reason = ""
        direct = "workers speak to the coordinator themselves"
        if not member.ever_ready:
            member.state = MemberState.FAILED
            return [Say(f"the relay did not start: it {story}; {direct}"), *self._advance(now)]
        wait_s = self._wait_s(member)
        member.state, member.deadline = MemberState.LOST, now + wait_s
        return [Say(f"the relay {story}; restarting it in {wait_s:g} s, until then {direct}"), *self._advance(now)]

    def _api_exited(self, member: Member, code: int, now: float) -> list[Effect]:
        """Go on without the API, however often it dies: people look at the job through it, and the job needs it not."""
        story = member.reason or describe_exit(code)
        member.reason = ""
        if code == _EXIT_USAGE or member.restarts >= self.limits.service_restarts:
            member.state = MemberState.FAILED
            after = f" after {member.restarts} restarts" if member.restarts else "; its log lines above say why"
            return [Say(f"the api {story}{after}; the job goes on without a dashboard")]
        wait_s = self._wait_s(member)
        member.state, member.deadline = MemberState.LOST, now + wait_s
        return [Say(f"the api {story}; restarting it in {wait_s:g} s")]

    def _wait_s(self, member: Member) -> float:
        return min(self.limits.relay_wait_s * 2.0 ** min(member.restarts, 20), self.limits.relay_wait_max_s)

    def _service_exited(self, member: Member, code: int, now: float) -> list[Effect]:
        story = member.reason or describe_exit(code)
        member.reason = ""
        if not member.ever_ready:
            member.state = MemberState.FAILED
            reason = f"the {member.name} did not start: it {story}; its log lines above say why"
            return [Say(reason), *self._end(1, reason, now)]
        if member.restarts < self.limits.service_restarts:
            say = Say(f"the {member.name} {story}; restarting it")
            return [say, self._spawn(member, now)]
        member.state = MemberState.FAILED
        reason = f"the {member.name} {story} after {member.restarts} restarts"
        return [Say(f"{reason}; stopping the job"), *self._end(1, reason, now)]

    def _spawn(self, member: Member, now: float) -> Spawn:
        if member.state is not MemberState.ABSENT:
            member.restarts += 1
        member.born_at = now
        if member.role == "worker":
            member.state, member.deadline = MemberState.UP, None
        else:
            member.state, member.deadline = MemberState.STARTING, now + self.limits.ready_s
        return Spawn(member.name, member.restarts)

    # ---- the order of starting and ending ------------------------------------------------------------------------

    def _of(self, *roles: Role) -> list[Member]:
        return [member for member in self.members.values() if member.role in roles]

    def _advance(self, now: float) -> list[Effect]:
        if self.phase is Phase.STARTING:
            return self._start_next(now)
        if self.phase is Phase.RUNNING:
            workers = self._of("worker")
            if not all(member.state in {MemberState.DONE, MemberState.FAILED} for member in workers):
                return []
            for member in workers:
                if member.state is MemberState.FAILED:
                    story = f"{member.name} {describe_exit(member.code)} behind the stop"
                    return self._end(exit_code(member.code), story, now)
            return self._end(0, f"all {self.workers} workers finished", now)
        if self.phase is Phase.ENDING:
            return self._end_next(now)
        return []

    def _start_next(self, now: float) -> list[Effect]:
        *services, workers, api = _STAGES
        for stage in services:
            members = self._of(*stage)
            if any(member.state is MemberState.ABSENT for member in members):
                return [self._spawn(member, now) for member in members]
            if any(self._holds_up(member) for member in members):
                return []
        self.phase = Phase.RUNNING
        return [self._spawn(member, now) for member in self._of(*workers, *api)]

    @staticmethod
    def _holds_up(member: Member) -> bool:
        """Whether what comes after this service has to wait for it; a relay is waited for once."""
        if member.role == "relay":
            return member.state is MemberState.STARTING and not member.ever_ready
        return member.state is not MemberState.UP

    def _end(self, code: int, outcome: str, now: float, workers: Ladder | None = None) -> list[Effect]:
        self.phase, self.code, self.outcome = Phase.ENDING, code, outcome
        kill = ((signal.SIGKILL, self.limits.kill_s),)
        self._ladders = {
            ("worker",): (*(workers or ((signal.SIGTERM, self.limits.grace_s),)), *kill),
            ("writer", "relay"): ((signal.SIGTERM, self.limits.drain_s), *kill),
            ("coordinator",): ((signal.SIGTERM, self.limits.terminate_s), *kill),
            ("api",): ((signal.SIGTERM, self.limits.terminate_s), *kill),
        }
        for member in self.members.values():
            member.deadline = None
            if member.state is MemberState.LOST:
                member.state = MemberState.DONE
        return self._end_next(now)

    def _end_next(self, now: float) -> list[Effect]:
        """The API first, then workers, writers that drain what they sent, and the coordinator that records it."""
        for stage in reversed(_STAGES):
            if not any(member.alive for member in self._of(*stage)):
                continue
            if stage == self._stage:
                return []
            self._stage, self._rung, self._rung_deadline = stage, -1, None
            return self._climb(now)
        self.phase, self._rung_deadline = Phase.DONE, None
        return [Finish(self.code, self.outcome)]

    def _climb(self, now: float) -> list[Effect]:
        """Send the next signal of the present stage's ladder; past its end give up on who is left."""
        if self._stage is None:
            return []
        self._rung += 1
        ladder = self._ladders[self._stage]
        left = [member for member in self._of(*self._stage) if member.alive]
        if self._rung < len(ladder):
            signum, wait_s = ladder[self._rung]
            self._rung_deadline = now + wait_s
            effects: list[Effect] = [Signal(member.name, signum) for member in left]
            if self._rung > 0:
                names = ", ".join(member.name for member in left)
                effects.insert(0, Say(f"{names} still running: sending {signum.name}"))
            return effects
        for member in left:
            member.state = MemberState.FAILED
        gone = Say(
            f"{', '.join(member.name for member in left)} did not die of SIGKILL within {self.limits.kill_s:g} s"
        )
        return [gone, *self._end_next(now)]


def _restarts(count: int) -> str:
    return "restart" if count == 1 else "restarts"
