"""Who is alive: heartbeats, leases that end, and the cases in which the coordinator doubts itself first.

It decides that a worker is lost; what follows from that is `rendezvous.py`'s.
"""

from __future__ import annotations

from dataclasses import replace
from math import isfinite

from strata_zmq.domain.lease import Freeze, correlated_silence
from strata_zmq.errors import InvalidArgumentError
from strata_zmq.protocol.messages import Heartbeat, HeartbeatAck, Resources

from .commands import Commands
from .rendezvous import Rendezvous
from .world import Session, World

__all__ = ["Leases"]

_LATE_S_MIN = 0.5


class Leases:
    """Renews and ends the leases of workers; a writer's are ended by `checkpoints.py`, under the same freeze."""

    def __init__(self, world: World, rendezvous: Rendezvous, commands: Commands) -> None:
        self._world = world
        self._rendezvous = rendezvous
        self._commands = commands
        self._freeze: Freeze | None = None
        self._caught_up_at = float("-inf")

    def heartbeat(self, session: Session, request: Heartbeat) -> None:
        """Note how a worker is and hand over what waits for it. The hot path: no table but the states' is touched."""
        world = self._world
        commands: list[str] = []
        command_id = 0
        if session.worker is not None:
            worker = self._rendezvous.caller(session)
            if request.resources is not None:
                _check_finite(request.resources)
                worker.resources = request.resources
            if request.spent is not None:
                worker.spent = request.spent
            if worker.state != request.state:
                worker.take(request.state, world.now)
            if request.progress > worker.progress or request.step > worker.step:
                worker.moved_at = world.now
            worker.step, worker.epoch, worker.progress = request.step, request.epoch, request.progress
            worker.task = request.task
            if request.commands_seen > worker.commands_seen:
                worker.commands_seen = request.commands_seen
            if world.history.commands:
                commands, command_id = self._commands.waiting(worker)
        elif session.writer is not None:
            world.live_writer(session)
        if not commands:
            world.acknowledge(session, request.seq)
            return
        world.reply(
            session,
            request.seq,
            HeartbeatAck,
            server_time=world.wall_time,
            commands=commands,
            command_id=command_id,
        )

    def note_step(self, gap_s: float, *, backlog: bool) -> bool:
        """Judge the coordinator itself, before a step's requests are taken.

        `gap_s` is the time since the step before: one that did not run for long (a stopped process, a slow disk)
        extends every lease by that time, and nobody can have been seen to move in it. `backlog` says that requests are
        left unread: what they renew is not known. Returns whether it was late.
        """
        world = self._world
        late = gap_s > max(world.config.lease_s / 3, _LATE_S_MIN)
        if late:
            for worker in world.workers.values():
                worker.expires_at += gap_s
                worker.moved_at += gap_s
            for writer in world.writers.values():
                writer.expires_at += gap_s
            if self._freeze is not None:
                self._freeze = replace(self._freeze, until=self._freeze.until + gap_s)
            world.counters["late_steps"] += 1
            world.touched.update(world.workers)
            world.note(
                f"this coordinator did not run for {gap_s:.1f} s: every lease is extended by that", "coordinator_late"
            )
        if not backlog:
            self._caught_up_at = world.now
        return late

    def tick(self) -> None:
        """End the leases that ran out, unless there is reason to doubt it."""
        world = self._world
        world.frozen, thawed = self._doubt()
        ended = [worker for worker in world.workers.values() if worker.expires_at <= world.now]
        if world.frozen or not ended:
            return
        if not thawed and (freeze := self._silence()):
            self._freeze, world.frozen = freeze, freeze.reason
            world.counters["freezes"] += 1
            world.note(freeze.reason, "leases_frozen")
            return
        for worker in ended:
            world.counters["leases_expired"] += 1
            silent_s = world.now - worker.heard_at
            world.note(
                f"worker {worker.worker_id} is lost: not heard for {silent_s:.1f} s, its lease is "
                f"{world.config.lease_s:g} s",
                "worker_lost",
                worker_id=worker.worker_id,
            )
            self._rendezvous.remove(worker, "lost", f"its lease is over, it was not heard for {silent_s:.1f} s")

    def _silence(self) -> Freeze | None:
        world = self._world
        ends = [worker.expires_at for worker in world.workers.values() if not worker.contested]
        return correlated_silence(world.now, ends, world.config.lease_s, heard=len(world.workers) - len(ends))

    def _doubt(self) -> tuple[str, bool]:
        """Return why no lease may end now, and whether a freeze has just ended: who is silent after it is lost."""
        world = self._world
        behind_s = world.now - self._caught_up_at
        if 0.0 < behind_s <= world.config.lease_s:
            return f"requests are left unread for {behind_s:.1f} s: they may renew what would end", False
        if self._freeze is None:
            return "", False
        if world.now < self._freeze.until:
            return self._freeze.reason, False
        self._freeze = None
        return "", True


def _check_finite(resources: Resources) -> None:
    """Refuse what is no number: whoever shows it as JSON could not."""
    if not isfinite(resources.cpu_percent):
        raise InvalidArgumentError(f"resources.cpu_percent is {resources.cpu_percent}: give a finite number")
    for name in ("gpu_percent", "gpu_celsius"):
        for value in getattr(resources, name):
            if not isfinite(value):
                raise InvalidArgumentError(f"resources.{name} holds {value}: give finite numbers")
