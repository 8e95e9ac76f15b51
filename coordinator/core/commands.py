"""Commands to workers: numbered, journaled, and repeated with every answer to a heartbeat until they are seen.

What a command makes a worker do is the worker's.
"""

from __future__ import annotations

from collections.abc import Sequence

from strata_zmq.errors import NotFoundError, ResourceExhaustedError
from strata_zmq.protocol.messages import Done, SendCommand

from .history import COMMANDS_MAX
from .records import CommandIssued
from .rendezvous import Rendezvous
from .world import Session, Worker, World, shown

__all__ = ["Commands"]


class Commands:
    """The queues of commands, one for each process life of a worker."""

    def __init__(self, world: World, rendezvous: Rendezvous) -> None:
        self._world = world
        self._rendezvous = rendezvous

    def send(self, session: Session, request: SendCommand) -> None:
        """Take a supervisor's command; it is on disk when DONE leaves."""
        world = self._world
        world.check_trusted(session, "send_command")
        names = list(dict.fromkeys(request.workers)) or list(world.workers)
        unknown = [name for name in names if name not in world.workers]
        if unknown or not names:
            raise NotFoundError(
                f"worker_id {shown(unknown)} is not registered; known: {self._rendezvous.known}"
                if unknown
                else "workers: nobody is registered, who could be asked"
            )
        if session.commanded_seq != request.seq:
            self.issue([world.workers[name] for name in names], request.command, request.reason)
            session.commanded_seq = request.seq
        world.reply(session, request.seq, Done)

    def issue(self, workers: Sequence[Worker], command: str, reason: str) -> None:
        """Queue a command for workers, all or none.

        Who was asked the same last and has not seen it is not asked twice.
        """
        world = self._world
        asked = []
        full = []
        for worker in workers:
            waiting, last = self._unseen(worker)
            if len(waiting) >= COMMANDS_MAX:
                full.append(worker.worker_id)
            elif not waiting or waiting[-1] != command:
                # Numbers rise by one while something waits, and never fall, whoever forgot what.
                number = last if waiting else max(last, world.history.commands_issued, worker.commands_seen)
                asked.append((worker.worker_id, worker.incarnation, number + 1))
        if full:
            raise ResourceExhaustedError(
                f"{COMMANDS_MAX} commands wait for {shown(full)}, which is the limit: wait until they are seen"
            )
        if asked:
            queues = world.history.commands
            gone = [name for name, queue in queues.items() if not self._is_live(name, queue.incarnation)]
            world.record(CommandIssued(command=command, workers=asked, reason=reason, gone=gone))
            world.counters[f"commands.{command}"] += len(asked)

    def waiting(self, worker: Worker) -> tuple[list[str], int]:
        """Return commands that a worker has not seen, numbered without a gap, and the number of the last one."""
        unseen, last = self._unseen(worker)
        first = last - len(unseen)
        told: list[str] = []
        for number, command in enumerate(unseen, start=first):
            if command:
                told.append(command)
            elif told:
                # What stands behind a command that was answered comes when this much is seen.
                return told, number
        return told, last

    def _unseen(self, worker: Worker) -> tuple[list[str], int]:
        """Return what a worker has not seen, as its queue has it, and the number of the last one; empty if all of it
        was answered.
        """
        queue = self._world.history.commands.get(worker.worker_id)
        if queue is None or queue.incarnation != worker.incarnation:
            return [], 0
        unseen = queue.after(worker.commands_seen)
        return unseen if any(unseen) else [], queue.last

    def _is_live(self, name: str, incarnation: str) -> bool:
        worker = self._world.workers.get(name)
        return worker is not None and worker.incarnation == incarnation
