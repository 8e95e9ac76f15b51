"""Who takes part: registration, leases, and the forming and breaking of generations.

It knows nothing of barriers, data or checkpoints; whoever depends on the membership is told through `on_change`.
"""

from __future__ import annotations

from collections.abc import Callable

from strata_zmq.domain.membership import QuorumPending, next_state, quorum
from strata_zmq.domain.names import WORKER_NAME_MAX, check_metadata, check_name
from strata_zmq.errors import (
    AlreadyExistsError,
    DeadlineExceededError,
    FencedError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    StaleGenerationError,
    UnavailableError,
)
from strata_zmq.protocol.messages import (
    AwaitGeneration,
    Deregister,
    Done,
    Heartbeat,
    HeartbeatAck,
    Membership,
    MembershipChanged,
    Registered,
    RegisterWorker,
    ReportLost,
)

from .records import GenerationBroken, GenerationFormed, MemberRecord
from .view import digest
from .world import Parked, Session, Worker, World

__all__ = ["Rendezvous"]

_MEMBERS_MAX = 1000
"""Most names that a broadcast carries; above, its followers go by who joined and left."""


class Rendezvous:
    """Keeps the live workers and decides each generation."""

    def __init__(self, world: World, on_change: Callable[[], None]) -> None:
        self._world = world
        self._on_change = on_change
        self._waiting: dict[str, tuple[Parked, int]] = {}
        self._dirty = False
        self._gathering_since = 0.0

    @property
    def need(self) -> int:
        """How many workers the next generation takes.

        With nobody left of the generation before, it is a beginning again and waits for as many as the first. But for
        one lease at most: who is not back by then may have finished, and will not come.
        """
        world, config = self._world, self._world.config
        history = world.history
        late = history.generation > 0 and world.now - self._gathering_since >= config.lease_s
        return config.min_workers if history.members or late else max(config.initial_workers, config.min_workers)

    def resume(self, now: float) -> None:
        """After a restart: every journaled member has one full lease to say hello again; nobody is declared dead."""
        world = self._world
        # This life may be content with fewer workers than the one that broke the generation.
        self._dirty = not world.history.formed
        for member in world.history.members:
            world.workers[member.worker_id] = Worker(
                worker_id=member.worker_id,
                incarnation=member.incarnation,
                expires_at=now + world.config.lease_s,
                heard_at=now,
                session=None,
                hostname=member.hostname,
                pid=member.pid,
                gpu_count=member.gpu_count,
                memory_bytes=member.memory_bytes,
                metadata=member.metadata,
                state="RECOVERING",
            )

    # ---- requests

    def register(self, session: Session, request: RegisterWorker) -> None:
        """Take a worker in, or take the same process back after a reconnect."""
        world = self._world
        worker_id = check_name("worker_id", request.worker_id, WORKER_NAME_MAX)
        check_metadata("metadata", request.metadata)
        if session.role != "worker":
            raise InvalidArgumentError(f"role is {session.role!r} in HELLO: only a worker registers as a worker")
        own = session.worker
        if own is not None and own.worker_id != worker_id and world.workers.get(own.worker_id) is own:
            raise InvalidArgumentError(
                f"worker_id {worker_id!r}: this connection is {own.worker_id!r}; deregister first or open another"
            )
        held = world.workers.get(worker_id)
        if held is not None and held.incarnation != request.incarnation:
            if held.session is None:
                raise UnavailableError(
                    f"worker_id {worker_id!r} belonged to pid {held.pid} before this coordinator was restarted: "
                    f"it has {held.expires_at - world.now:.1f} s left to come back"
                )
            age = world.now - held.heard_at
            raise AlreadyExistsError(
                f"worker_id {worker_id!r} is held by pid {held.pid} on {held.hostname or 'an unnamed host'}, heard "
                f"{age:.1f} s ago: set another WORKER_ID, or, if that process is dead, wait until its lease of "
                f"{world.config.lease_s:g} s ends"
            )
        if held is None:
            if len(world.workers) >= world.config.max_workers:
                raise ResourceExhaustedError(
                    f"max_workers is {world.config.max_workers} and that many are registered: start the "
                    "coordinator with more"
                )
            if not world.workers:
                self._gathering_since = world.now
            held = Worker(worker_id, request.incarnation, 0.0, world.now, None)
            world.workers[worker_id] = held
            self._dirty = True
        held.session, session.worker = session, held
        held.heard_at, held.expires_at = world.now, world.now + world.config.lease_s
        held.hostname, held.port, held.pid = request.hostname, request.port, request.pid
        held.boot_id, held.gpu_count = request.boot_id, request.gpu_count
        held.memory_bytes, held.metadata = request.memory_bytes, request.metadata
        self._settle()
        need, have = self._quorum_state()
        world.reply(session, request.seq, Registered, worker_id=worker_id, need=need, have=have)

    def await_generation(self, session: Session, request: AwaitGeneration) -> None:
        """Answer with the membership after `after`, now or when it forms."""
        worker = self.caller(session)
        history = self._world.history
        if history.formed and history.generation > request.after and worker.worker_id in history.ranks:
            self._tell(session, request.seq)
            return
        before, _ = self._waiting.get(worker.worker_id, (None, 0))
        parked = self._world.park(session, request.seq, request.timeout_s, before)
        self._waiting[worker.worker_id] = (parked, request.after)

    def deregister(self, session: Session, request: Deregister) -> None:
        """Let the caller go."""
        worker = self.caller(session)
        self.remove(worker, "leave")
        session.worker = None
        self._settle()
        self._world.reply(session, request.seq, Done)

    def heartbeat(self, session: Session, request: Heartbeat) -> None:
        """Note how a worker is and hand over what waits for it. The hot path: no table but the states' is touched."""
        world = self._world
        commands: list[str] = []
        if session.worker is not None:
            worker = self.caller(session)
            if worker.state != request.state:
                worker.state = next_state(worker.worker_id, worker.state, request.state)
            worker.step, worker.epoch, worker.progress = request.step, request.epoch, request.progress
            if request.resources is not None:
                worker.resources = request.resources
            commands, worker.commands = worker.commands, commands
        elif session.writer is not None:
            world.live_writer(session)
        if not commands:
            world.acknowledge(session, request.seq)
            return
        world.reply(session, request.seq, HeartbeatAck, server_time=world.wall_time, commands=commands)

    def report_lost(self, session: Session, request: ReportLost) -> None:
        """Take a supervisor's word that a process is dead."""
        if not session.trusted:
            raise InvalidArgumentError(
                "report_lost: this connection is no supervisor; say hello with role 'supervisor' and the "
                "supervisor's token"
            )
        worker = self._world.workers.get(request.worker_id)
        if worker is None:
            raise NotFoundError(f"worker_id {request.worker_id!r} is not registered; known: {self._known()}")
        if worker.pid == request.pid:
            self.remove(worker, "lost")
            self._settle()
        self._world.reply(session, request.seq, Done)

    def caller(self, session: Session) -> Worker:
        """Return the live worker behind a connection, or say that it was fenced."""
        worker = session.worker
        if worker is None:
            raise StaleGenerationError("this connection has no registered worker: send REGISTER_WORKER first")
        if self._world.workers.get(worker.worker_id) is not worker:
            raise FencedError(
                f"worker {worker.worker_id!r} was declared lost (its lease of {self._world.config.lease_s:g} s ran "
                "out or its "
                "process was reported dead): what it had not committed is void; register again"
            )
        return worker

    def member(self, session: Session, generation: int, what: str) -> Worker:
        """Return the caller if it belongs to the generation that it believes in, which must be the current one."""
        worker = self.caller(session)
        history = self._world.history
        if not history.formed or generation != history.generation:
            raise self._world.membership_error(what)
        if worker.worker_id not in history.ranks:
            raise StaleGenerationError(
                f"{what}: worker {worker.worker_id!r} is not in generation {history.generation} yet"
            )
        return worker

    # ---- time

    def tick(self) -> None:
        """Expire leases and waits, then form what can be formed."""
        world = self._world
        for worker in [worker for worker in world.workers.values() if worker.expires_at <= world.now]:
            world.counters["leases_expired"] += 1
            self.remove(worker, "lost")
        # Time alone lowers what a beginning needs.
        self._dirty = self._dirty or (not world.history.members and len(world.workers) >= self.need)
        self._settle()
        for worker_id, (parked, _) in list(self._waiting.items()):
            if parked.deadline <= world.now:
                del self._waiting[worker_id]
                need, have = self._quorum_state()
                world.fail(
                    parked.session,
                    parked.seq,
                    DeadlineExceededError(
                        f"no new generation yet: {have} of {need} workers are registered ({self._known()}); "
                        "start the missing ones, or the coordinator with fewer (--initial-workers, --min-workers)"
                    ),
                )

    def remove(self, worker: Worker, stimulus: str) -> None:
        """Take a worker out of the live ones; `stimulus` is "leave" or "lost"."""
        worker.state = next_state(worker.worker_id, worker.state, stimulus)
        self._world.workers.pop(worker.worker_id, None)
        self._waiting.pop(worker.worker_id, None)
        self._dirty = True

    # ---- decisions

    def announce(self) -> None:
        """Tell PUB and everybody who waits of the generation that has just begun."""
        world, history = self._world, self._world.history
        change = history.rebalances[-1] if history.rebalances else None
        fresh = change is not None and change.generation == history.generation
        world.publish(
            MembershipChanged,
            members=list(history.member_ids) if len(history.members) <= _MEMBERS_MAX else [],
            joined=list(history.joined),
            left=list(history.left),
            moved=change.moved if change and fresh else 0,
            lower_bound=change.lower_bound if change and fresh else 0,
            epoch=history.epoch,
            formed=history.formed,
            world_size=len(history.members),
            digest=digest(world),
        )
        self._on_change()
        for worker_id, (parked, after) in list(self._waiting.items()):
            if history.generation > after and worker_id in history.ranks:
                del self._waiting[worker_id]
                self._tell(parked.session, parked.seq)

    def _settle(self) -> None:
        """Form, break or keep the generation. Nothing happens unless somebody came or went."""
        if not self._dirty:
            return
        self._dirty = False
        world, history = self._world, self._world.history
        before = history.member_ids
        decision = quorum(before, world.workers, need=self.need)
        if isinstance(decision, QuorumPending):
            left = [worker for worker in before if worker not in world.workers]
            # Also of a broken generation: who comes back as another process is a newcomer, and not rank 0.
            if left:
                world.record(GenerationBroken(left=left))
                self._on_change()
            return
        if history.formed and not decision.joined and not decision.left:
            return
        world.record(
            GenerationFormed(
                generation=history.generation + 1,
                members=[self._record(world.workers[worker]) for worker in decision.members],
                joined=list(decision.joined),
                left=list(decision.left),
            )
        )
        self.announce()

    def _record(self, worker: Worker) -> MemberRecord:
        history = self._world.history
        rank = history.ranks.get(worker.worker_id)
        before = history.members[rank] if rank is not None else None
        return MemberRecord(
            worker.worker_id,
            worker.incarnation,
            worker.hostname,
            worker.pid,
            worker.gpu_count,
            worker.memory_bytes,
            worker.metadata,
            before.since_commit if before and before.incarnation == worker.incarnation else history.commit_index,
        )

    def _tell(self, session: Session, seq: int) -> None:
        history = self._world.history
        worker = self.caller(session)
        self._world.reply(
            session,
            seq,
            Membership,
            members=list(history.member_ids),
            rank=history.ranks[worker.worker_id],
            epoch=history.epoch,
            commit_index=history.commit_index,
            joined=list(history.joined),
            left=list(history.left),
        )

    def _quorum_state(self) -> tuple[int, int]:
        return self.need, len(self._world.workers)

    def _known(self) -> str:
        names = sorted(self._world.workers)
        return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "") if names else "nobody"
