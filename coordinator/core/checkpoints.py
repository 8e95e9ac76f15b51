"""Checkpoints as decisions: who takes part, when all are durable, and which writer commits. It touches no storage."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice
from math import isfinite

from strata_zmq.domain.manifest import check_metrics
from strata_zmq.domain.names import WORKER_NAME_MAX, check_metadata, check_name
from strata_zmq.domain.retention import is_milestone
from strata_zmq.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    SupersededError,
    UnavailableError,
    from_wire,
)
from strata_zmq.protocol.messages import (
    CheckpointAnnounced,
    CheckpointArrive,
    CheckpointBegin,
    CheckpointCommitted,
    CheckpointDurable,
    CheckpointFailed,
    CheckpointOpened,
    CheckpointSummary,
    CheckpointTaken,
    CommitCheckpoint,
    Done,
    LatestCheckpoint,
    RankArrival,
    Registered,
    RegisterWriter,
)

from . import records
from .drains import Drains
from .entries import OpenCheckpoint
from .rendezvous import Rendezvous
from .world import Parked, Session, World, Writer

__all__ = ["OPEN_MAX", "Checkpoints"]

OPEN_MAX = 32
"""Open checkpoints: each keeps the ledger of its commit point, which may be megabytes, and so does the journal."""
_DONE_MAX = 1024
_LEDGER_BYTES_PER_UNIT = 10
_SUMMARY_COST = 5
"""Of one checkpoint in a list, in units of `answers.py`."""
_TERM_MAX = 2**29
"""Session numbers carry the term in their upper half and stay below 2**62."""


@dataclass(slots=True)
class _Commit:
    writer_id: str
    asked_at: float


class Checkpoints:
    """Opens, collects and commits checkpoints, and keeps the list that the store is the truth of."""

    def __init__(self, world: World, rendezvous: Rendezvous) -> None:
        self._world = world
        self._rendezvous = rendezvous
        self._waiting: dict[str, dict[tuple[bool, int], Parked]] = {}
        """By checkpoint; each place is a rank's, or that of the writer that has finished a dead rank's save."""
        self.drains = Drains(world, rendezvous)
        self._commits: dict[str, _Commit] = {}
        self._opened_at: dict[str, float] = {}
        self._begun: dict[str, set[int]] = {}
        """The ranks that have begun each checkpoint that was opened in this life."""
        self._head_version = 0
        # Where there were writers, one that is gone for a moment is waited for.
        self._had_writers = bool(
            world.history.checkpoints or world.history.open_checkpoints or world.history.superseded
        )
        self._done: deque[str] = deque(maxlen=_DONE_MAX)
        """Committed in this life, retired ones included: what comes late about them changes nothing."""

    # ---- writers

    def register_writer(self, session: Session, request: RegisterWriter) -> None:
        """Take a storage writer in and reconcile with what its store holds."""
        world, history = self._world, self._world.history
        info = request.writer
        check_name("writer_id", info.writer_id, WORKER_NAME_MAX)
        if session.role != "writer":
            raise InvalidArgumentError(f"role is {session.role!r} in HELLO: only a writer registers as a writer")
        if request.head_term >= _TERM_MAX:
            raise InvalidArgumentError(
                f"head_term is {request.head_term}, terms stay below {_TERM_MAX}: HEAD is damaged"
            )
        held = world.writers.get(info.writer_id)
        # On one host a second writer of the same name is the first one's restart: it could not bind otherwise.
        if held is not None and held.info.incarnation != info.incarnation and not _same_host(held, info.boot_id):
            raise AlreadyExistsError(
                f"writer_id {info.writer_id!r} is held by a live writer elsewhere: choose another --writer-id"
            )
        for summary in request.checkpoints:
            _check_time(summary)
        writer = Writer(
            info,
            session,
            world.now + world.config.lease_s,
            pid=request.pid,
            hostname=request.hostname,
            store=request.store,
        )
        world.writers[info.writer_id] = session.writer = writer
        self._had_writers = True
        truth = {summary.checkpoint_id: summary for summary in request.checkpoints}
        if self._of_another_history(request.head_term, truth):
            # A new journal counts terms from 1 again; below HEAD's fence nothing could ever be committed.
            world.record(records.TermStarted(term=request.head_term + 1, adopted=True))
        # What was read before another writer's commit, and arrives after it, is no longer the truth. A HEAD without
        # any advance is that of an emptied store.
        outdated = 0 < request.head_version < self._head_version
        self._head_version = max(self._head_version, request.head_version)
        if truth != history.checkpoints and not outdated:
            finished = [name for name in truth if name in history.open_checkpoints]
            world.record(records.CheckpointsReconciled(checkpoints=request.checkpoints))
            for name in finished:
                self._tell_durable(name)
        world.reply(session, request.seq, Registered, worker_id=info.writer_id)
        self._ask_for_commits()

    # ---- ranks

    def begin(self, session: Session, request: CheckpointBegin) -> int:
        """Open the checkpoint of (step, generation), or join it; returns what that has cost."""
        world, history = self._world, self._world.history
        what = f"checkpoint of step {request.step}"
        worker = self._rendezvous.caller(session)
        check_metadata("metadata", request.metadata)
        check_metrics(request.metrics)
        stem = f"step-{request.step:012d}-g{request.generation}-"
        known = [
            name
            for name in (*history.checkpoints, *history.open_checkpoints, *history.superseded)
            if name.startswith(stem) and _term_of(name) >= history.first_term
        ]
        # What was opened in an earlier life of the coordinator keeps its id; a new one carries this life's term.
        checkpoint_id = known[0] if known else f"{stem}t{history.term}"
        if not known:
            self._rendezvous.member(session, request.generation, what)
        if checkpoint_id in history.checkpoints or checkpoint_id in self._done:
            raise AlreadyExistsError(
                f"{what} is committed already in generation {history.generation}: save another step"
            )
        if checkpoint_id in history.superseded:
            raise SupersededError(
                f"{what} was given up by a rank that was busy with earlier ones, or did not save it: save a later step"
            )
        if not world.writers and not self._had_writers:
            raise UnavailableError(f"{what}: no storage writer is registered; start one with `strata writer`")
        opened = history.open_checkpoints.get(checkpoint_id)
        at = history.commit_index if opened is None else opened.commit_index
        if request.commit_index not in {-1, at}:
            raise InvalidArgumentError(
                f"{what}: this rank's state is of commit point {request.commit_index}, the checkpoint's ledger of "
                f"{at}: all ranks have to save at the same commit point, before the next one"
            )
        cost = 0
        if opened is None:
            if len(history.open_checkpoints) >= OPEN_MAX:
                raise ResourceExhaustedError(
                    f"{what}: {OPEN_MAX} checkpoints are open, which is the limit: wait until one of them is "
                    "committed, or give it up"
                )
            ledger = history.ledger_state()
            cost = len(ledger) // _LEDGER_BYTES_PER_UNIT
            world.record(
                records.CheckpointBegan(
                    checkpoint_id=checkpoint_id,
                    step=request.step,
                    epoch=request.epoch,
                    kind=request.kind,
                    metadata=request.metadata,
                    generation=history.generation,
                    workers=list(history.member_ids),
                    created_at=world.now + world.config.wall_offset_s,
                    ledger=ledger,
                    metrics=request.metrics,
                    parent=self._parent_of(request.step),
                )
            )
            opened = history.open_checkpoints[checkpoint_id]
            self._begun[checkpoint_id] = set()
        rank = _rank(opened, worker.worker_id)
        self._begun.get(checkpoint_id, set()).add(rank)
        self._abandon_older(opened, worker.worker_id)
        self._opened_at.setdefault(checkpoint_id, world.now)
        world.reply(
            session,
            request.seq,
            CheckpointOpened,
            checkpoint_id=checkpoint_id,
            rank=rank,
            world_size=len(opened.began.workers),
            writers=[writer.info for writer in world.writers.values()],
            parent=opened.began.parent,
        )
        return cost

    def arrive(self, session: Session, request: CheckpointArrive) -> None:
        """Note that a rank is durable, by its own word or a writer's; when all are, have the checkpoint committed."""
        world, history = self._world, self._world.history
        by_writer = session.writer is not None
        worker_id = request.worker_id if by_writer else self._rendezvous.caller(session).worker_id
        if not by_writer and request.worker_id not in {"", worker_id}:
            raise InvalidArgumentError(
                f"worker_id is {request.worker_id!r}: only a writer that has its bytes speaks for another worker"
            )
        checkpoint_id = request.checkpoint_id
        if checkpoint_id in history.checkpoints or checkpoint_id in self._done:
            world.reply(session, request.seq, CheckpointDurable, checkpoint_id=checkpoint_id)
            return
        opened = self._open(checkpoint_id)
        rank = self.drains.rank_of(opened, session, request) if by_writer else _rank(opened, worker_id)
        if rank not in opened.arrivals:
            arrival = RankArrival(
                rank,
                worker_id,
                request.index_key,
                request.digest,
                request.size_bytes,
                refs=request.refs,
                written_bytes=request.written_bytes,
                drained=by_writer,
            )
            world.record(records.RankArrived(checkpoint_id=checkpoint_id, arrival=arrival))
            if by_writer:
                world.counters["ranks_drained"] += 1
        self._waiting.setdefault(checkpoint_id, {})[by_writer, rank] = Parked(session, request.seq, float("inf"))
        self._ask_for_commits()

    def committed(self, session: Session, request: CheckpointCommitted) -> None:
        """Take a writer's word that HEAD has advanced."""
        world, history = self._world, self._world.history
        world.live_writer(session)
        _check_time(request.checkpoint)
        self._head_version = max(self._head_version, request.head_version)
        name = request.checkpoint.checkpoint_id
        if name not in history.checkpoints and name not in self._done:
            world.record(records.CheckpointTaken(checkpoint=request.checkpoint, retained=request.retained))
            world.publish(CheckpointAnnounced, checkpoint=request.checkpoint)
            world.counters["checkpoints_committed"] += 1
        self._tell_durable(name)
        world.reply(session, request.seq, Done)
        self._ask_for_commits()

    def failed(self, session: Session, request: CheckpointFailed) -> None:
        """Give a checkpoint up, and tell every rank why."""
        world = self._world
        opened = world.history.open_checkpoints.get(request.checkpoint_id)
        if session.writer is not None:
            who = f"writer {world.live_writer(session).info.writer_id}"
        else:
            worker_id = self._rendezvous.caller(session).worker_id
            who = f"rank {_rank(opened, worker_id)} ({worker_id})" if opened else worker_id
        if opened is not None:
            self._abort(opened, request.code, f"{who}: {request.message}")
        world.reply(session, request.seq, Done)

    def latest(self, session: Session, request: LatestCheckpoint) -> int:
        """List committed checkpoints, newest first; returns what that has cost."""
        newest = list(islice(reversed(self._world.history.checkpoints.values()), request.limit))
        self._world.reply(session, request.seq, CheckpointTaken, checkpoints=newest)
        return _SUMMARY_COST * len(newest)

    def waiters(self, checkpoint_id: str) -> tuple[int, float]:
        """Return how many ranks wait for an open checkpoint, and since when it is open."""
        return len(self._waiting.get(checkpoint_id, ())), self._opened_at.get(checkpoint_id, self._world.now)

    # ---- membership and time

    def on_change(self) -> None:
        """Abort what can no longer be complete: a rank left before its bytes were durable, or in a writer's reach."""
        for opened in list(self._world.history.open_checkpoints.values()):
            if gone := self.drains.lost_ranks(opened):
                self._abort(opened, "peer_lost", "; ".join(gone))

    def tick(self) -> None:
        """Forget writers whose lease ran out, and ask again for commits that nobody answered."""
        world = self._world
        ended = [] if world.frozen else [one for one in world.writers.values() if one.expires_at <= world.now]
        for writer in ended:
            del world.writers[writer.info.writer_id]
            world.counters["writers_lost"] += 1
        for name, opened in list(world.history.open_checkpoints.items()):
            since = self._opened_at.setdefault(name, world.now)
            if gone := self.drains.overdue(opened):
                self._abort(opened, "peer_lost", "; ".join(gone))
            elif world.now - since >= world.config.checkpoint_timeout_s:
                missing = [one for rank, one in enumerate(opened.began.workers) if rank not in opened.arrivals]
                waits_for = f"missing: {', '.join(missing[:20])}" if missing else "no storage writer committed it"
                self._abort(opened, "deadline_exceeded", f"not durable after {world.now - since:.0f} s, {waits_for}")
        self._ask_for_commits()

    def _abandon_older(self, opened: OpenCheckpoint, worker_id: str) -> None:
        """Give up what was opened before `opened` and has not been begun by this worker, which saves in order."""
        for name, older in list(self._world.history.open_checkpoints.items()):
            if older is opened:
                return
            begun = self._begun.get(name)
            if begun is None or worker_id not in older.began.workers:
                continue
            rank = older.began.workers.index(worker_id)
            if rank not in begun:
                self._abort(
                    older,
                    SupersededError.code,
                    f"rank {rank} ({worker_id}) has gone on to step {opened.began.step} without it: every rank has to "
                    "save the same steps",
                )

    def _ask_for_commits(self) -> None:
        world = self._world
        opens = world.history.open_checkpoints.values()
        for name, opened in world.history.open_checkpoints.items():
            if not opened.complete or not world.writers or self._waits_its_turn(opened):
                continue
            asked = self._commits.get(name)
            if asked and asked.writer_id in world.writers and world.now - asked.asked_at < world.config.commit_retry_s:
                continue
            # The next writer in turn: HEAD's compare-and-swap makes it harmless to ask two.
            names = sorted(world.writers)
            at = names.index(asked.writer_id) + 1 if asked and asked.writer_id in names else 0
            writer = world.writers[names[at % len(names)]]
            self._commits[name] = _Commit(writer.info.writer_id, world.now)
            began = opened.began
            world.reply(
                writer.session,
                0,
                CommitCheckpoint,
                checkpoint_id=name,
                step=began.step,
                epoch=began.epoch,
                kind=opened.kind,
                world_size=len(began.workers),
                created_at=began.created_at,
                metadata=began.metadata,
                ranks=[opened.arrivals[rank] for rank in sorted(opened.arrivals)],
                ledger=began.ledger,
                keep_count=world.config.retention.keep_count,
                parent=began.parent,
                metrics=began.metrics,
                # Its own may go: what this one refers to stays by its manifest.
                pinned=sorted({other.began.parent for other in opens if other is not opened and other.began.parent}),
                retention=world.config.retention,
            )

    def _waits_its_turn(self, opened: OpenCheckpoint) -> bool:
        """Whether an older save is to be committed first: HEAD only goes forward, and would have no place for it.

        A rank saves in order, so what it has brought itself is behind the older ones. Of a dead rank, several writers
        may finish several saves at once.
        """
        drained = {arrival.worker_id for arrival in opened.arrivals.values() if arrival.drained}
        for older in self._world.history.open_checkpoints.values():
            if older is opened:
                break
            awaited = (rank for rank in older.staged if rank not in older.arrivals)
            if older.complete or any(older.began.workers[rank] in drained for rank in awaited):
                return True
        return False

    def _of_another_history(self, head_term: int, truth: dict[str, CheckpointSummary]) -> bool:
        """Tell whether HEAD was advanced by a coordinator whose journal this one did not replay."""
        history = self._world.history
        if head_term != history.term:
            return head_term > history.term
        known = history.checkpoints.keys() | history.open_checkpoints.keys() | set(self._done)
        return bool(truth) and not known & truth.keys()

    def _abort(self, opened: OpenCheckpoint, code: str, reason: str) -> None:
        name = opened.began.checkpoint_id
        self._world.record(records.CheckpointAborted(checkpoint_id=name, reason=reason, code=code))
        self._world.counters["checkpoints_aborted"] += 1
        self._commits.pop(name, None)
        self._opened_at.pop(name, None)
        self._begun.pop(name, None)
        self.drains.forget(name)
        for parked in self._waiting.pop(name, {}).values():
            error = from_wire(code, f"checkpoint {name!r} is given up: {reason}")
            self._world.fail(parked.session, parked.seq, error)

    def _tell_durable(self, name: str) -> None:
        if name not in self._done:
            self._done.append(name)
        self._commits.pop(name, None)
        self._opened_at.pop(name, None)
        self._begun.pop(name, None)
        self.drains.forget(name)
        for parked in self._waiting.pop(name, {}).values():
            self._world.reply(parked.session, parked.seq, CheckpointDurable, checkpoint_id=name)

    def _parent_of(self, step: int) -> str:
        """Return the checkpoint that a save of `step` may refer to, the newest; "" where it has to stand alone."""
        newest = next(reversed(self._world.history.checkpoints.values()), None)
        if newest is None or is_milestone(self._world.config.retention.keep_every, step, newest.step):
            return ""
        return newest.checkpoint_id

    def _open(self, checkpoint_id: str) -> OpenCheckpoint:
        opened = self._world.history.open_checkpoints.get(checkpoint_id)
        if opened is None and checkpoint_id in self._world.history.superseded:
            raise SupersededError(
                f"checkpoint_id {checkpoint_id!r} was given up by a rank that was busy with earlier ones, or did not "
                "save it: save a later step"
            )
        if opened is None:
            known = ", ".join(self._world.history.open_checkpoints) or "none"
            raise NotFoundError(
                f"checkpoint_id {checkpoint_id!r} is not open (open: {known}): it was given up, or never begun; "
                "save again"
            )
        return opened


def _rank(opened: OpenCheckpoint, worker_id: str) -> int:
    if worker_id not in opened.began.workers:
        raise NotFoundError(f"worker {worker_id!r} takes no part in checkpoint {opened.began.checkpoint_id!r}")
    return opened.began.workers.index(worker_id)


def _check_time(summary: CheckpointSummary) -> None:
    """Refuse what is no time: whoever shows it as JSON could not."""
    if not isfinite(summary.created_at):
        raise InvalidArgumentError(
            f"created_at of checkpoint {summary.checkpoint_id!r} is {summary.created_at}: give Unix seconds"
        )


def _term_of(checkpoint_id: str) -> int:
    """Return the term in an id that a coordinator gave; -1 for others that a store may hold."""
    term = checkpoint_id.rpartition("-t")[2]
    return int(term) if term.isdecimal() else -1


def _same_host(writer: Writer, boot_id: str) -> bool:
    return bool(boot_id) and writer.info.boot_id == boot_id
