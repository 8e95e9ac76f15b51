"""One life of a simulated worker: the real conversation and session, and a program in place of training code.

It has no socket, no thread and no clock; the fleet brings the time and moves the messages.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from random import Random
from typing import Any

import msgspec

from strata_zmq.errors import DeadlineExceededError, StrataError, UnavailableError
from strata_zmq.protocol import messages as wire
from strata_zmq.workers import operations
from strata_zmq.workers.conversation import Conversation, Ticket
from strata_zmq.workers.operations import Ask, SessionState
from strata_zmq.workers.votes import Votes

from .plan import FleetPlan
from .training import Pause, training

__all__ = ["SimulatedWorker"]

_NEVER = float("inf")
_MIB = 1 << 20


class SimulatedWorker:
    """One process life's worth of a worker. `incarnation` must be new for every life."""

    def __init__(
        self, worker_id: str, incarnation: str, plan: FleetPlan, random: Random, clock: Callable[[], float]
    ) -> None:
        self.worker_id = worker_id
        self.session = SessionState(worker_id, clock)
        votes = Votes()
        self.finished = False
        """Whether it has left on purpose."""
        self._incarnation = incarnation
        self._plan = plan
        self._random = random
        self._memory = random.randrange(512, 8192) * _MIB
        self._program: Any = training(self.session, votes, plan, random)
        self._leaving = False
        self._frozen_until = float("-inf")
        self._wake_at = float("-inf")
        self._ticket: Ticket | None = None
        self._ask: Ask | None = None
        self._deadline = _NEVER
        self.conversation = Conversation(
            wire.Hello(role="worker"),
            random,
            introduce=self._registration,
            heartbeat=self._report,
            on_command=lambda command: votes.take(command, self.conversation.commands_seen),
        )

    @property
    def failure(self) -> StrataError | None:
        """Why the coordinator does not take it, if it does not."""
        return self.conversation.failure

    def outgoing(self, now: float) -> list[Any]:
        """Go on with the program as far as it goes, and return the messages to send."""
        if self.conversation.introduced and now >= self._frozen_until:
            self._go_on(now)
        return self.conversation.outgoing(now)

    def next_due(self, now: float) -> float:
        """Return when `outgoing` has something to do, as far as is known now."""
        due = self.conversation.next_due(now)
        if self.conversation.introduced:
            waits = self._deadline if self._ticket is not None and not self._ticket.done else self._wake_at
            due = min(due, max(waits, self._frozen_until))
        return max(due, now)

    def leave(self) -> None:
        """Deregister at the next opportunity; `finished` tells when."""
        if not self._leaving:
            self._leaving = True
            self._drop_ticket()
            self._program.close()
            self._program = operations.leave(self.session)
            self._wake_at = self._frozen_until = float("-inf")

    def freeze(self, until: float) -> None:
        """Let the training loop stand still; heartbeats go on."""
        self._frozen_until = until

    def _go_on(self, now: float) -> None:
        while not self.finished:
            if self._ticket is None:
                if now < self._wake_at:
                    return
                self._resume(now)
            elif self._ticket.done:
                ticket, self._ticket = self._ticket, None
                self._resume(now, ticket.reply, ticket.error)
            elif now >= self._deadline:
                self._drop_ticket()
                tag = self._ask.request.__struct_config__.tag if self._ask is not None else ""
                late = DeadlineExceededError(f"the coordinator did not answer {tag!r}", missing=("coordinator",))
                self._resume(now, error=late)
            else:
                return

    def _resume(self, now: float, value: Any = None, error: StrataError | None = None) -> None:
        try:
            effect = self._program.send(value) if error is None else self._program.throw(error)
        except StopIteration:
            self.finished = True
            return
        except StrataError as unexpected:
            self.conversation.stop(unexpected)
            self.finished = True
            return
        if isinstance(effect, Pause):
            self._wake_at = now + effect.seconds
        else:
            self._ask = effect
            self._deadline = now + effect.timeout_s + effect.patience_s
            self._ticket = self.conversation.submit(effect.request)

    def _drop_ticket(self) -> None:
        if self._ticket is not None:
            self.conversation.cancel(self._ticket)
            self._ticket = None

    def _registration(self) -> wire.RegisterWorker:
        return wire.RegisterWorker(
            worker_id=self.worker_id,
            incarnation=self._incarnation,
            hostname="simulated",
            pid=os.getpid(),
            gpu_count=self._plan.gpus,
            memory_bytes=16 * 1024 * _MIB,
            metadata={"simulated": "true"},
        )

    def _report(self) -> wire.Heartbeat:
        """Return a heartbeat with made-up figures of what such a worker might use."""
        busy = self.session.state == "TRAINING"
        load = self._random.uniform(80, 100) if busy else self._random.uniform(0, 20)
        gpus = self._plan.gpus
        return msgspec.structs.replace(
            self.session.report(),
            task="simulated",
            resources=wire.Resources(
                cpu_percent=load,
                memory_bytes=self._memory,
                gpu_percent=[load] * gpus,
                gpu_memory_bytes=[self._memory] * gpus,
                gpu_celsius=[40 + load / 3] * gpus,
            ),
        )

    def give_up(self) -> None:
        """End without a word, as a killed process does."""
        self._program.close()
        self.conversation.stop(UnavailableError("the simulated process was killed"))
