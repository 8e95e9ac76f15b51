"""A pool of child processes that run calls, as seen by the one thread that owns it; it never loads what it carries.

Calls go in with `offer`, and everything else happens in `turn`: answers are taken, deaths judged, limits enforced,
calls handed out; those that ask (`Runnable.asks`) only after `grant`. No call blocks but `close`. A death costs the
call that the child was in; what was behind it runs elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable, Collection, Iterable
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from typing import Literal

from strata_zmq.domain.service import ServiceTime
from strata_zmq.domain.task import Outcome, Payload, Runnable
from strata_zmq.errors import ProtocolError, StrataError
from strata_zmq.functions.dispatch.events import Held
from strata_zmq.functions.pool import limits, packets
from strata_zmq.functions.pool.assigning import assign
from strata_zmq.functions.pool.backlog import Backlog
from strata_zmq.functions.pool.blackbox import IDLE
from strata_zmq.functions.pool.child_handle import Child
from strata_zmq.functions.pool.gate import ahead
from strata_zmq.functions.pool.options import Attempt, PoolOptions, PoolTurn
from strata_zmq.functions.pool.planner import PoolCall
from strata_zmq.functions.pool.roster import Roster, context_of
from strata_zmq.functions.pool.segments import SharedParts
from strata_zmq.functions.pool.starting import of_this_process
from strata_zmq.functions.pool.verdicts import from_child, of_death
from strata_zmq.functions.pool.warden import Warden

__all__ = ["ChildPool"]

Before = Callable[[list[Attempt]], Collection[Attempt]]

_STUCK_S = 0.005
"""A call that takes this much longer than expected does not keep unread calls behind it."""
_EXIT_CODE_S = 0.25
"""How long the fork server may take to tell how a child ended."""
_LEAVE_S = 5.0
_STRIKES_MAX = 5
"""A call is blamed after so many children that died, in no call, with it next: it, or what it refers to, kills them."""
_FAILED_STARTS_MAX = 8


class ChildPool:
    """Children of one process. One thread owns it; `fileno` is readable when `turn` has something to do.

    Raises ValueError and TypeError for wrong options, as ProcessPoolExecutor does.
    """

    def __init__(self, options: PoolOptions) -> None:
        context = context_of(options)
        self._options = options
        self._epoll = select.epoll()
        self._backlog = Backlog(len(options.gpus), options.worker_name)
        for end in (self._epoll, self._backlog.bell):
            of_this_process(end)
        self._epoll.register(self._backlog.bell.fileno(), select.EPOLLIN)
        self._roster = Roster(options, context, self._epoll)
        self._planner = self._backlog.planner
        self._warden = Warden()
        self._dying: list[Child] = []
        self._oom = limits.OomCounter()
        self._failed_starts = 0
        self._broken = ""
        self._started = False
        self._all_at_once = options.grow == "all" or self._roster.method == "fork"
        self._closed = False
        self._finalizer = Finalize(self, _abandon, args=(self._roster.children,), exitpriority=100)

    def fileno(self) -> int:
        """Return a descriptor that is readable when `turn` has something to do."""
        return self._epoll.fileno()

    def start(self) -> None:
        """Start all children now, in this thread, with grow="all" or a context that forks; nothing otherwise."""
        if self._all_at_once:
            self._started = True
            now = time.monotonic()
            while not self._roster.full:
                self._roster.start(0, now)

    def keep(self, digest: bytes, payload: Payload | SharedParts) -> None:
        """Keep a packed callable or value for the calls that name it, also those that wait for it; again is nothing."""
        self._backlog.keep(digest, payload)

    def has(self, digest: bytes) -> bool:
        """Return whether `digest` is kept."""
        return digest in self._backlog.parking.kept

    def drop(self, digest: bytes) -> None:
        """Keep `digest` no longer; waiting calls that name it lack it from now on."""
        if self._backlog.drop(digest):
            for child in self._roster.children:
                child.forget(digest)

    def give_up(self, digest: bytes) -> None:
        """End the calls that lack `digest`, which nobody has: failures with the cause "unloadable_call"."""
        for call in self._backlog.parking.leave(digest):
            self._backlog.end(call, "unloadable_call", f"{digest.hex()}, which it refers to, is not kept any more")

    # ---- calls -------------------------------------------------------------------------------------------------------

    def offer(self, tasks: Iterable[Runnable], now: float) -> None:
        """Take attempts, in their order; ids and attempt numbers are copied. Their ends come in later turns."""
        self._backlog.add(tasks)

    def turn(self, now: float, before: Before | None = None) -> PoolTurn:
        """Do what there is to do at the monotonic time `now`, and tell what happened.

        `before` is called with the attempts that are about to be handed to a child for the first time, if there are
        any; those that it returns are not (outcome: failure, cause "cancelled", not started).
        """
        turn = PoolTurn()
        self._listen(now)
        self._settle(now)
        self._warden.check(now)
        self._unstick(now)
        self._fill(now)
        while self._hand_out(now, before, turn):
            pass
        if self._broken:
            turn.broken = self._broken
            for call in self._backlog.take_newest(self._backlog.waiting):
                self._backlog.end(call, "initializer", self._broken)
        if self._backlog.gate.count or self._backlog.gate.granted:
            self._mind_gate(now, turn)
        if self._backlog.parking.count:
            turn.lacking = self._backlog.parking.lacking(now)
        turn.outcomes = self._backlog.take_outcomes()
        return turn

    def grant(self, attempts: Iterable[Attempt]) -> None:
        """Let attempts begin that a turn has named in `asking`; the next turn hands them out. Others are nothing."""
        self._backlog.grant(attempts)

    def withdraw(self, count: int) -> list[Attempt]:
        """Give up to `count` of the newest unstarted attempts back, those that lie unread at children included."""
        if self._planner.waiting + self._backlog.gate.count < count:
            for child in self._roster.children:
                self._backlog.put_back(child.steal())
        calls = self._backlog.take_newest(count)
        for call in calls:
            self._backlog.forget(call)
        return [call.key for call in calls]

    def stop(self, task_id: bytes, attempt: int) -> Literal["dropped", "killing", "unknown"]:
        """End an attempt: "dropped" where it had not started, "killing" where its child dies for it.

        A call that its child has read and not begun is "killing", too: it ends when it begins. Its outcome (failure,
        "cancelled") comes in a turn; where the result is there first, that is its outcome.
        """
        call = self._backlog.calls.get((task_id, attempt))
        if call is None:
            return "unknown"
        if call.child is not None:
            self._backlog.put_back(call.child.steal())
        if call.child is not None:
            self._warden.stop(call, time.monotonic())
            return "killing"
        self._backlog.take_out(call)
        self._backlog.end(call, "cancelled", "it was cancelled before it ran")
        return "dropped"

    def phase(self, task_id: bytes, attempt: int) -> Literal["waiting", "handed", "running", "unknown"]:
        """Return how far an attempt has come; "handed": it is at a child that has not begun with it."""
        call = self._backlog.calls.get((task_id, attempt))
        if call is None:
            return "unknown"
        if call.child is None:
            return "waiting"
        return "running" if call.child.box.look().n >= call.n else "handed"

    def held(self) -> list[Held]:
        """Return every attempt in the pool: "running" for those at a child, "waiting" for the others."""
        return [(*key, "waiting" if call.child is None else "running") for key, call in self._backlog.calls.items()]

    @property
    def waiting(self) -> int:
        """How many attempts are at no child."""
        return self._backlog.waiting

    def idle(self) -> int:
        """Return how many more calls could run at once, with the children that may still be started."""
        busy = sum(1 for child in self._roster.children if child.calls)
        return max(0, self._options.children - busy)

    def processes(self) -> dict[int, BaseProcess]:
        """Return the processes of the children that may be handed calls, by process id."""
        return {child.pid: child.process for child in self._roster.children}

    def service(self, function: bytes) -> ServiceTime | None:
        """Return what is known of a function's service time."""
        return self._planner.service(function)

    def next_wakeup(self) -> float | None:
        """Return the monotonic time at which `turn` has something to do though `fileno` is silent; None: never."""
        times = [child.since + self._patience(child) for child in self._roster.children if len(child.calls) > 1]
        if self._dying or self._roster.leaving:
            times += [child.ended_at + _EXIT_CODE_S for child in self._dying]
            times += [child.retired_at + _LEAVE_S for child in self._roster.leaving]
        if self._backlog.gate.granted and (late_at := self._late_at()) is not None:
            times.append(late_at)
        backlog = self._backlog
        for when in (self._warden.next_wakeup(), backlog.parking.next_wakeup(), backlog.gate.next_wakeup()):
            if when is not None:
                times.append(when)
        return min(times) if times else None

    def close(self, *, timeout_s: float = 5.0, kill: bool = False) -> None:
        """End all children and wait for them: after what they run, or after `timeout_s`, or at once with `kill`.

        Attempts that have no outcome yet get none. Calling again is harmless.
        """
        if self._closed:
            return
        self._closed = True
        self._finalizer.cancel()
        children = [*self._roster.children, *self._roster.leaving]
        for child in children:
            if kill:
                limits.kill(child.pidfd)
            elif not child.retired:
                child.steal()
                child.retire(0.0)
        _await(children, 0.0 if kill else timeout_s)
        for child in children:
            self._roster.remove(child)
            child.process.join()
        self._backlog.close()
        for end in (self._epoll, self._backlog.bell):
            of_this_process(end, closed=True)
            end.close()

    # ---- a turn ------------------------------------------------------------------------------------------------------

    def _listen(self, now: float) -> None:
        by_descriptor = self._roster.by_descriptor
        for descriptor, events in self._epoll.poll(0, 256):
            child = by_descriptor.get(descriptor)
            if child is None:
                continue
            if descriptor == child.pidfd:
                child.ended_at = now
                self._roster.ended(child)
                self._dying.append(child)
            elif not child.ended_at:
                if events & select.EPOLLOUT:
                    child.flush()
                    self._roster.listen(child)
                if events & select.EPOLLIN:
                    self._hear(child, now)

    def _hear(self, child: Child, now: float) -> None:
        """Take what a child has said."""
        try:
            while (got := child.receive()) is not None:
                packet, descriptors = got
                if not packet:
                    return
                try:
                    self._take(child, packets.decode_answer(packet), descriptors, now)
                finally:
                    for descriptor in descriptors:
                        os.close(descriptor)
                if not child.calls:
                    break
        except ProtocolError:
            # What runs there writes into its own socket. It can only be ended; the call it is in is blamed.
            limits.kill(child.pidfd)
        if child.left <= 0 and not child.calls and not child.retired and not child.ended_at:
            self._roster.retire(child, now)

    def _take(self, child: Child, answer: packets.Answer, descriptors: list[int], now: float) -> None:
        child.since = now
        if isinstance(answer, packets.Ready):
            child.ready = True
            self._failed_starts = 0
        elif isinstance(answer, packets.Broken):
            self._broken = self._broken or answer.text
        else:
            for result in answer:
                self._result(child, result, descriptors)

    def _result(self, child: Child, result: packets.Result, descriptors: list[int]) -> None:
        if not child.calls or result.n < child.calls[0].n:
            return  # from the outbox of a child that died after it had sent it
        call = child.calls[0]
        if result.n != call.n:
            raise ProtocolError(f"child {child.pid}: result of call {result.n}, {call.n} is next")
        body = packets.result_payload(result, descriptors)
        report = from_child(packets.result_report(result, descriptors), self._options.worker_name, child.pid)
        child.done(call)
        if call.deprived:
            call.deprived = False
            if result.cause == "unloadable_call":
                self._backlog.put_back([call])
                return
        task_id, attempt = call.key
        service_s = result.service_ns / 1e9
        outcome = Outcome(task_id, attempt, result.kind, body, service_s, result.cause, report)
        if result.kind != "failure":
            self._planner.learn(call.function, service_s)
        if call.solo and not result.released and isinstance(call.segment or call.body, SharedParts):
            (call.segment or call.body).kept = True  # type: ignore[attr-defined]
        self._backlog.finish(call, outcome)

    def _settle(self, now: float) -> None:
        """Judge the children that have ended, as soon as it is known how."""
        for child in self._dying[:]:
            self._hear(child, now)
            exit_code = child.process.exitcode
            if exit_code is None and self._roster.method == "forkserver" and now < child.ended_at + _EXIT_CODE_S:
                continue
            self._dying.remove(child)
            self._bury(child, exit_code, now)
        for child in self._roster.leaving:
            if now >= child.retired_at + _LEAVE_S:
                limits.kill(child.pidfd)
                child.retired_at = now

    def _bury(self, child: Child, exit_code: int | None, now: float) -> None:
        """Take a dead child's last results, blame the call that it was in, and queue the others again."""
        self._take_unsent(child, now)
        rest = list(child.calls)
        for call in rest:
            call.child = None
        look = child.box.look()
        if rest and ((look.phase != IDLE and look.n == rest[0].n) or self._struck(child, rest[0])):
            culprit = rest.pop(0)
            oom = self._oom.rose()
            outcome = of_death(child, culprit, exit_code, self._options.worker_name, out_of_memory=oom)
            self._backlog.finish(culprit, outcome)
        if not child.ready:
            self._failed_starts += 1
            if self._failed_starts >= _FAILED_STARTS_MAX:
                self._broken = self._broken or f"children end before they are ready, the last with code {exit_code}"
        self._warden.gone(child)
        self._roster.remove(child)
        self._backlog.put_back(rest)

    def _take_unsent(self, child: Child, now: float) -> None:
        """Take results that wait in a child's outbox: it is dead, or in a long call."""
        with contextlib.suppress(ProtocolError):
            if unsent := child.box.unsent():
                self._take(child, packets.decode_answer(unsent), [], now)

    @staticmethod
    def _struck(child: Child, call: PoolCall) -> bool:
        call.strikes += child.ready
        return call.strikes >= _STRIKES_MAX

    def _patience(self, child: Child) -> float:
        service = self._planner.service(child.calls[0].function)
        return _STUCK_S + (4 * service.expected_s if service is not None else 0.0)

    def _unstick(self, now: float) -> None:
        """Take calls back from children whose present call takes long, and from new ones where others are ready."""
        for child in self._roster.children:
            if not child.ready:
                if child.calls and not self._planner.waiting and any(other.ready for other in self._roster.idle()):
                    self._backlog.put_back(child.steal())
            elif len(child.calls) > 1 and now >= child.since + self._patience(child):
                self._take_unsent(child, now)
                child.stuck, child.since = True, now
                self._backlog.put_back(child.steal())

    def _late_at(self) -> float | None:
        """Return when all children will be in calls that take longer than expected; None while one is free."""
        if not self._roster.full or not all(child.ready and child.calls for child in self._roster.children):
            return None
        return max(child.since + self._patience(child) for child in self._roster.children)

    def _mind_gate(self, now: float, turn: PoolTurn) -> None:
        """Ask for what could begin in a moment; give back what was granted, and will not."""
        gate = self._backlog.gate
        late_at = self._late_at()
        if late_at is not None and now >= late_at:
            turn.returned = self._backlog.give_back()
        head = gate.next()
        most = 0
        if head is not None:
            children, service = self._roster.children, self._planner.service
            busy = [
                child for child in children if child.ready and child.calls and now < child.since + self._patience(child)
            ]
            present = [service(child.calls[0].function) for child in busy]
            free = len(self._roster.idle()) + self._options.children - len(children)
            most = ahead(free, present, service(head.function))
        turn.asking = gate.ask(most, now)

    def _fill(self, now: float) -> None:
        """Start children in place of those that died, where there are to be all at once."""
        if self._started and not self._broken:
            try:
                while not self._roster.full and self._roster.try_start(0, now) is not None:
                    pass
            except Exception as error:  # noqa: BLE001 - whatever stops a process from starting
                self._broken = f"a child cannot be started: {type(error).__name__}: {error}"

    def _hand_out(self, now: float, before: Before | None, turn: PoolTurn) -> bool:
        """Hand waiting calls to children; True where `before` refused some, so that there may be room for others."""
        if not self._planner.waiting or self._broken:
            return False
        try:
            plan = assign(self._planner, self._roster, self._options.packets_ahead, now)
        except Exception as error:  # noqa: BLE001 - whatever stops a process from starting, or its arguments from going
            self._broken = f"a child cannot be started: {type(error).__name__}: {error}"
            return False
        new = [call for _, calls in plan for call in calls if not call.told]
        try:
            refused = set(before([call.key for call in new])) if before is not None and new else set()
        except BaseException:
            for _, calls in reversed(plan):
                self._planner.put_front(calls)
            raise
        for call in new:
            call.told = True
        turn.started += [call.key for call in new if call.key not in refused] if refused else [call.key for call in new]
        for child, planned in plan:
            calls = [call for call in planned if call.key not in refused] if refused else planned
            if calls:
                self._hand(child, calls, now)
        for call in new if refused else ():
            if call.key in refused:
                self._backlog.end(call, "cancelled", "it was cancelled before it ran")
        return bool(refused)

    def _hand(self, child: Child, calls: list[PoolCall], now: float) -> None:
        try:
            child.hand(calls, self._backlog.parking.kept, self._backlog.segments, now)
        except (StrataError, OSError) as error:
            for call in calls:
                self._backlog.end(call, "unloadable_call", f"its payload cannot be handed to a child: {error}")
            return
        granted = self._backlog.gate.granted
        if granted:
            for call in calls:
                granted.pop(call, None)
        self._warden.handed(child, calls, now)
        if child.blocked:
            self._roster.listen(child)


def _abandon(children: list[Child]) -> None:
    """End the children of a pool that nobody closed."""
    for child in children:
        limits.kill(child.pidfd)
        child.close()


def _await(children: list[Child], timeout_s: float) -> None:
    """Wait for the ends of processes; those that have not ended in time are killed, and end."""
    poll = select.poll()
    for child in children:
        poll.register(child.pidfd, select.POLLIN)
    deadline = time.monotonic() + timeout_s
    left = len(children)
    while left:
        ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        for descriptor, _ in ready:
            poll.unregister(descriptor)
        left -= len(ready)
        if not ready and left:
            for child in children:
                limits.kill(child.pidfd)
            deadline = time.monotonic() + 60.0
