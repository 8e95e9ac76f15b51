"""One worker's session with the coordinator, with a blocking face: the operations, carried out one after the other.

`aio` is its awaitable face over the same state; both may be used on one worker.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import msgspec

from strata_zmq.errors import StrataError
from strata_zmq.protocol import messages as wire

from . import operations
from .client import CoordinatorClient
from .identity import WorkerIdentity, boot_id
from .operations import Operation, SessionState
from .resources import ResourceMeter
from .stacks import fit_stacks
from .view import Cluster
from .votes import Votes

if TYPE_CHECKING:
    from .aio import AsyncWorkerSession

__all__ = ["WorkerIdentity", "WorkerSession", "boot_id"]

P = ParamSpec("P")
R = TypeVar("R")


def _blocking(
    operation: Callable[Concatenate[SessionState, P], Operation[R]],
) -> Callable[Concatenate[WorkerSession, P], R]:
    @functools.wraps(operation)
    def call(session: WorkerSession, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return _carry_out(operation(session, *args, **kwargs), session.client)

    return call


class WorkerSession(SessionState):
    """A registered worker. Methods block with a timeout and raise the StrataError tree; all are thread-safe.

    Without `coordinator_url` COORDINATOR_URL says where the coordinator is, and STRATA_AGENT_URL where the host's agent
    relays to it. `on_command` hears of each command, too, on the client's thread, where it must not block.
    """

    def __init__(
        self,
        identity: WorkerIdentity,
        coordinator_url: str | None = None,
        *,
        on_command: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(identity.worker_id)
        self.identity = identity
        self._on_command = on_command
        self.votes = Votes()
        """The commands that the coordinator has passed on, and the ranks' agreement on them."""
        self.votes.on_stacks = self._report_stacks
        self._meter = ResourceMeter()
        usual = coordinator_url is None or coordinator_url == os.environ.get("COORDINATOR_URL")
        self.client = CoordinatorClient(
            coordinator_url,
            agent_url=os.environ.get("STRATA_AGENT_URL") if usual else None,
            role="worker",
            introduce=self.registration,
            heartbeat=self.report,
            on_introduced=self._take_introduction,
            on_command=self._take_command,
        )

    def report(self) -> wire.Heartbeat:
        """Return the heartbeat that tells how this worker is, and what it uses."""
        return msgspec.structs.replace(super().report(), resources=self._meter.read())

    def registration(self) -> wire.RegisterWorker:
        """Return the message that introduces this worker.

        Its progress tells whether a loop that hung has moved, its generation what this process was part of.
        """
        return msgspec.structs.replace(
            self.identity.registration(), progress=self.registered_progress, generation=self.generation
        )

    def adopt(self, membership: wire.Membership) -> None:
        """Go on in a generation, and let go of the commands that the job has carried out without this worker."""
        super().adopt(membership)
        self.votes.answered(membership.commands_answered)

    def _take_command(self, command: str) -> None:
        self.votes.take(command, self.client.commands_seen)
        if self._on_command is not None:
            self._on_command(command)

    def _report_stacks(self, text: str, command_id: int) -> None:
        self.client.submit(wire.ReportStacks(text=fit_stacks(text), command_id=command_id))

    def connect(self, timeout_s: float = 10.0) -> None:
        """Wait until the coordinator has taken this worker in."""
        self.client.connect(timeout_s)

    join = _blocking(operations.join)
    barrier = _blocking(operations.barrier)
    commit = _blocking(operations.commit)
    register_dataset = _blocking(operations.register_dataset)
    get_shards = _blocking(operations.get_shards)
    advance_epoch = _blocking(operations.advance_epoch)
    latest_checkpoints = _blocking(operations.latest_checkpoints)
    resume = _blocking(operations.resume)
    restore = _blocking(operations.restore)
    heartbeat = _blocking(operations.heartbeat)
    view = _blocking(operations.view)
    status = _blocking(operations.status)

    def close(self, *, leave: bool = True) -> None:
        """Leave the membership, unless the coordinator cannot be reached, and end the connection."""
        if leave and self.client.is_ready:
            _carry_out(operations.leave(self), self.client)
        self.client.close()

    def _take_introduction(self, reply: wire.Reply) -> None:
        if isinstance(reply, wire.Registered) and reply.stopped:
            self.votes.come_late()

    @property
    def aio(self) -> AsyncWorkerSession:
        """The same session with awaitable methods."""
        from .aio import AsyncWorkerSession

        return AsyncWorkerSession(self)

    @property
    def cluster(self) -> Cluster | None:
        """The job as its broadcasts tell it, without asking; None until the first snapshot has come."""
        return self.client.cluster

    @property
    def may_commit(self) -> bool:
        """Whether less than two thirds of the lease have passed since the coordinator was last known to hear us."""
        return self.client.may_commit


def _carry_out(operation: Operation[R], client: CoordinatorClient) -> R:
    """Ask what the operation asks for until it returns."""
    answer: Any = None
    failure: StrataError | None = None
    try:
        while True:
            ask = operation.send(answer) if failure is None else operation.throw(failure)
            answer, failure = None, None
            try:
                answer = client.request(ask.request, ask.timeout_s, ask.patience_s)
            except StrataError as error:
                failure = error
    except StopIteration as end:
        result: R = end.value
        return result
    finally:
        operation.close()
