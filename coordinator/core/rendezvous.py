"""Who takes part: registration, and the forming and breaking of generations.

It ends no lease, and knows nothing of barriers, data or checkpoints; whoever depends on the membership is told through
`on_change`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence

from strata_zmq.domain.membership import QuorumPending, quorum
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
    Membership,
    MembershipChanged,
    Registered,
    RegisterWorker,
    ReportLost,
)

from .records import GenerationBroken, GenerationChanged, MemberRecord
from .view import digest
from .world import Parked, Session, Worker, World, shown

__all__ = ["Rendezvous"]

_MEMBERS_MAX = 1000
"""Most names that a broadcast carries; above, its followers go by who joined and left."""
_MEMBERS_PER_UNIT = 2
"""Names of members that are told for a unit of the cost in `answers.py`."""
_DESCRIBED_MAX = 20
_NOTE_EVERY_S = 1.0
# A job that begins or ends lacks workers, too, for less than this.
_NOTE_AFTER_S = 5.0
_GONE_MAX = 1000
"""How many workers that are gone are remembered, with their stories."""


class Rendezvous:
    """Keeps the live workers and decides each generation."""

    def __init__(self, world: World, on_change: Callable[[], None]) -> None:
        self._world = world
        self._on_change = on_change
        self.moves = 0
        """How often somebody came or went."""
        self._waiting: dict[str, tuple[Parked, int]] = {}
        self._gone: OrderedDict[str, Worker] = OrderedDict()
        self._renewed: dict[str, None] = {}
        """Members that registered again with another description."""
        self._told: tuple[tuple[str, ...], list[str], list[str], list[str]] = ((), [], [], [])
        self._noted: QuorumPending | None = None
        self._note_at = 0.0
        self._dirty = False
        self._bereft = False
        """Whether a member is gone, and the generation does not say so yet."""
        self._settle_at = 0.0
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
        goes_on = any(name in world.workers for name in history.ranks)
        return config.min_workers if goes_on or late else max(config.initial_workers, config.min_workers)

    @property
    def pending(self) -> QuorumPending | None:
        """Why there is no generation now; None while there is one."""
        return None if self._world.history.formed else QuorumPending(self.need, len(self._world.workers))

    @property
    def settled(self) -> bool:
        """Whether nobody has come or gone since the generation was formed."""
        return not self._dirty

    def resume(self, now: float) -> None:
        """After a restart: every journaled member has one full lease to say hello again; nobody is declared dead."""
        world = self._world
        self._note_at = now + _NOTE_AFTER_S
        # This life may be content with fewer workers than the one that broke the generation.
        self._dirty = not world.history.formed
        for member in world.history.members:
            recalled = world.workers[member.worker_id] = Worker(
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
                moved_at=now,
                run=member.run,
                registered_at=now,
            )
            recalled.take("recall", now)
        for member in world.history.lost.values():
            given_up = self._gone[member.worker_id] = Worker(
                worker_id=member.worker_id,
                incarnation=member.incarnation,
                expires_at=now,
                heard_at=now,
                session=None,
                hostname=member.hostname,
                pid=member.pid,
            )
            given_up.take("recall", now)
            given_up.take("lost", now)
            given_up.end = "it was given up before the coordinator was restarted"

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
            held.contested = True
            world.touched[worker_id] = held
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
            held = self._admit(worker_id, request)
        held.take("register", world.now)
        world.touched[worker_id] = held
        if held.session is not session:
            # Nobody listens any more where it waited; it asks again from here.
            self._waiting.pop(worker_id, None)
        held.session, session.worker = session, held
        held.heard_at, held.expires_at = world.now, world.now + world.config.lease_s
        held.hostname, held.port, held.pid = request.hostname, request.port, request.pid
        held.boot_id, held.gpu_count = request.boot_id, request.gpu_count
        held.memory_bytes, held.metadata, held.run = request.memory_bytes, request.metadata, request.run
        if worker_id in world.history.ranks and self._record(held) != self._member(worker_id):
            self._renewed[worker_id] = None
        history = world.history
        world.reply(
            session,
            request.seq,
            Registered,
            worker_id=worker_id,
            need=self.need,
            have=len(world.workers),
            stopped=request.run in history.stopped_runs or 0 < request.generation <= history.stopped_generation,
        )

    def _admit(self, worker_id: str, request: RegisterWorker) -> Worker:
        """Take a newcomer in, or say why not. It becomes a member when the step is over, or its join window."""
        world, config = self._world, self._world.config
        if worker_id in world.history.ranks:
            # Its former life has left in this step: nobody inherits a rank.
            self.settle_leaves()
        before = self._gone.get(worker_id)
        if (
            before is not None
            and before.evicted
            and before.incarnation == request.incarnation
            and request.progress <= before.progress
        ):
            raise UnavailableError(
                f"worker_id {worker_id!r} was taken for lost because its training loop hangs: this process (pid "
                f"{request.pid}) is taken back when its loop has moved, another process at once"
            )
        if len(world.workers) >= config.max_workers:
            fixed = config.min_workers == config.max_workers
            raise ResourceExhaustedError(
                f"{'the job has a fixed size, ' if fixed else ''}max_workers is {config.max_workers} and that many "
                f"are registered: start the coordinator with more ({'--fixed' if fixed else '--max-workers'})"
            )
        if not world.workers:
            self._gathering_since = world.now
        if not self._dirty:
            self._settle_at = world.now + (config.join_window_s if world.history.formed else 0.0)
        self._dirty = True
        worker = Worker(
            worker_id, request.incarnation, 0.0, world.now, None, moved_at=world.now, registered_at=world.now
        )
        self.moves += 1
        world.show(
            "worker_joined",
            f"worker {worker_id} registered: pid {request.pid} on {request.hostname}",
            worker_id=worker_id,
        )
        if before is not None:
            del self._gone[worker_id]
            worker.state = before.state
            worker.story.extend(before.story)
        world.workers[worker_id] = worker
        return worker

    def await_generation(self, session: Session, request: AwaitGeneration) -> int:
        """Answer with the membership after `after`, now or when it forms; returns what that has cost by now."""
        worker = self.caller(session)
        history = self._world.history
        if history.formed and history.generation > request.after and worker.worker_id in history.ranks:
            self._tell(session, request.seq)
            return len(history.members) // _MEMBERS_PER_UNIT
        before, _ = self._waiting.get(worker.worker_id, (None, 0))
        parked = self._world.park(session, request.seq, request.timeout_s, before)
        self._waiting[worker.worker_id] = (parked, request.after)
        return 0

    def deregister(self, session: Session, request: Deregister) -> None:
        """Let the caller go. The generation without it begins when the step is over, for all who leave in it."""
        worker = self.caller(session)
        self._show_end(worker, "worker_left", "left", request.reason)
        self.remove(worker, "leave")
        session.worker = None
        self._world.reply(session, request.seq, Done)

    def report_lost(self, session: Session, request: ReportLost) -> None:
        """Take a supervisor's word that a process is dead."""
        self._world.check_trusted(session, "report_lost")
        worker = self._world.workers.get(request.worker_id)
        if worker is None:
            raise NotFoundError(f"worker_id {request.worker_id!r} is not registered; known: {self.known}")
        if worker.pid == request.pid:
            self._show_end(worker, "worker_lost", "is lost: its process was reported dead", request.reason)
            self.remove(worker, "lost", "its process was reported dead")
        self._world.reply(session, request.seq, Done)

    def caller(self, session: Session) -> Worker:
        """Return the live worker behind a connection, or say that it was fenced."""
        worker = session.worker
        if worker is None:
            raise StaleGenerationError("this connection has no registered worker: send REGISTER_WORKER first")
        if self._world.workers.get(worker.worker_id) is not worker:
            raise FencedError(
                f"worker {worker.worker_id!r} was declared lost (its lease of {self._world.config.lease_s:g} s ran "
                "out, or its process was reported dead or found to hang): what it had not committed is void; "
                "register again"
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
        """End the waits that ran out, and form what time alone allows."""
        world = self._world
        # Time alone lowers what a beginning needs.
        self._dirty = self._dirty or (not world.history.members and len(world.workers) >= self.need)
        pending = self.pending
        if pending is None:
            self._noted, self._note_at = None, world.now + _NOTE_AFTER_S
        elif pending != self._noted and world.now >= self._note_at:
            self._noted, self._note_at = pending, world.now + _NOTE_EVERY_S
            world.note(f"no generation: {pending}")
        late = [name for name, (parked, _) in self._waiting.items() if parked.deadline <= world.now]
        if not late:
            return
        why = f"{pending} ({self.known})" if pending else f"generation {world.history.generation} has not changed"
        error = DeadlineExceededError(
            f"no new generation yet: {why}; start the missing ones, or the coordinator with fewer (--initial-workers, "
            "--min-workers)"
        )
        for name in late:
            parked, _ = self._waiting.pop(name)
            world.fail(parked.session, parked.seq, error)

    def remove(self, worker: Worker, stimulus: str, why: str = "") -> None:
        """Take a worker out of the live ones; `stimulus` is "leave", or "lost" with a clause that says why."""
        worker.take(stimulus, self._world.now)
        worker.end = why
        self.moves += 1
        self._world.touched[worker.worker_id] = worker
        self._world.workers.pop(worker.worker_id, None)
        self._waiting.pop(worker.worker_id, None)
        self._renewed.pop(worker.worker_id, None)
        self._gone[worker.worker_id] = worker
        if len(self._gone) > _GONE_MAX:
            self._gone.popitem(last=False)
        self._dirty = True
        self._bereft = self._bereft or worker.worker_id in self._world.history.ranks
        self._settle_at = self._world.now

    # ---- decisions

    def announce(self) -> None:
        """Tell PUB and everybody who waits of the generation that has just begun."""
        history = self._world.history
        change = history.rebalances[-1] if history.rebalances else None
        fresh = change is not None and change.generation == history.generation
        self._publish(change.moved if change and fresh else 0, change.lower_bound if change and fresh else 0)
        self._on_change()
        for worker_id, (parked, after) in list(self._waiting.items()):
            if history.generation > after and worker_id in history.ranks:
                del self._waiting[worker_id]
                self._tell(parked.session, parked.seq)

    def settle(self) -> None:
        """Form one generation without all who are gone, and with all who have come in this step or the join window."""
        if self._dirty and self._world.now >= self._settle_at:
            self._settle()

    def settle_leaves(self) -> None:
        """Let the generation say now who is gone: what follows in this step depends on who is still there."""
        if self._bereft:
            self._settle()

    def _show_end(self, worker: Worker, kind: str, what: str, reason: str) -> None:
        why = f": {reason}" if reason else ""
        self._world.show(kind, f"worker {worker.worker_id} {what}{why}", worker_id=worker.worker_id)

    def _settle(self) -> None:
        """Form, break or keep the generation."""
        self._dirty = self._bereft = False
        world, history = self._world, self._world.history
        before = history.member_ids
        decision = quorum(before, world.workers, need=self.need)
        if isinstance(decision, QuorumPending):
            left = [worker for worker in before if worker not in world.workers]
            # Also of a broken generation: who comes back as another process is a newcomer, and not rank 0.
            if left:
                world.record(GenerationBroken(left=left, lost=self._given_up(left)))
                self._publish(0, 0)
                self._on_change()
            return
        if history.formed and not decision.joined and not decision.left:
            return
        updated = [self._record(world.workers[worker]) for worker in self._renewed]
        self._renewed.clear()
        world.record(
            GenerationChanged(
                generation=history.generation + 1,
                joined=[self._record(world.workers[worker]) for worker in decision.joined],
                left=list(decision.left),
                updated=updated,
                lost=self._given_up(decision.left),
            )
        )
        self.announce()

    def _publish(self, moved: int, lower_bound: int) -> None:
        world, history = self._world, self._world.history
        world.publish(
            MembershipChanged,
            members=list(history.member_ids) if len(history.members) <= _MEMBERS_MAX else [],
            joined=list(history.joined),
            left=list(history.left),
            moved=moved,
            lower_bound=lower_bound,
            epoch=history.epoch,
            formed=history.formed,
            world_size=len(history.members),
            digest=digest(world),
        )

    def _given_up(self, names: Sequence[str]) -> list[str]:
        lost = {worker.worker_id for worker in self.lost}
        return [name for name in names if name in lost]

    def _member(self, worker_id: str) -> MemberRecord | None:
        history = self._world.history
        rank = history.ranks.get(worker_id)
        return None if rank is None else history.members[rank]

    def _record(self, worker: Worker) -> MemberRecord:
        before = self._member(worker.worker_id)
        return MemberRecord(
            worker.worker_id,
            worker.incarnation,
            worker.hostname,
            worker.pid,
            worker.gpu_count,
            worker.memory_bytes,
            worker.metadata,
            before.since_commit
            if before and before.incarnation == worker.incarnation
            else self._world.history.commit_index,
            worker.run,
        )

    def _tell(self, session: Session, seq: int) -> None:
        history = self._world.history
        worker = self.caller(session)
        if self._told[0] is not history.member_ids:
            self._told = (history.member_ids, list(history.member_ids), list(history.joined), list(history.left))
        # A thousand members share these lists.
        _, members, joined, left = self._told
        queue = history.commands.get(worker.worker_id)
        self._world.reply(
            session,
            seq,
            Membership,
            members=members,
            rank=history.ranks[worker.worker_id],
            epoch=history.epoch,
            commit_index=history.commit_index,
            joined=joined,
            left=left,
            lineage=history.lineage,
            commands_answered=queue.answered if queue and queue.incarnation == worker.incarnation else 0,
        )

    @property
    def lost(self) -> Iterator[Worker]:
        """Who was given up and has not come back, the latest first."""
        return (worker for worker in reversed(self._gone.values()) if worker.state == "FAILED")

    @property
    def waiting(self) -> Collection[str]:
        """Who waits for another generation."""
        return self._waiting.keys()

    @property
    def known(self) -> str:
        """The live workers, as a message names them."""
        return shown(sorted(self._world.workers))

    def describe_missing(self, names: Sequence[str]) -> str:
        """Tell of each member that is waited for its rank, its state and step, and how long it has been quiet."""
        told = [self._describe(name) for name in names[:_DESCRIBED_MAX]]
        return ", ".join(told) + (", ..." if len(names) > len(told) else "")

    def _describe(self, name: str) -> str:
        world = self._world
        worker, rank = world.workers[name], world.history.ranks[name]
        now = world.now
        heard = "not heard since a restart" if worker.session is None else f"heard {now - worker.heard_at:.1f} s ago"
        waits = ", waits for a generation" if name in self._waiting else ""
        return (
            f"{name} (rank {rank}, {worker.state} at step {worker.step}, {heard}, moved "
            f"{now - worker.moved_at:.1f} s ago{waits})"
        )
