"""The coordinator's one entry: `step(batch, now)` turns events into effects. It has no clock, no socket and no file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from strata_zmq.errors import InvalidArgumentError, StrataError, UnknownSessionError
from strata_zmq.protocol import messages as wire

from .answers import Answers
from .barriers import Barriers
from .checkpoints import Checkpoints
from .commands import Commands
from .datasets import Datasets
from .deadlocks import Deadlocks
from .hangs import Hangs
from .history import History
from .leases import Leases
from .records import TermStarted
from .rendezvous import Rendezvous
from .restores import Restores
from .resume import resume
from .sessions import Sessions
from .sight import Sight
from .sight_releases import Releases
from .stacks import HangReports
from .status import report
from .view import digest, view
from .world import CoreConfig, Effects, Received, Session, World

__all__ = ["Core"]

_TICK_S = 0.1


class Core:
    """All decisions of one coordinator. The same events give the same effects, on any machine, in any year."""

    def __init__(self, config: CoreConfig, history: History | None = None) -> None:
        self._world = World(config, history or History())
        self._sessions = Sessions(self._world)
        self._renew = self._sessions.renew
        self._rendezvous = Rendezvous(self._world, self._on_change)
        self._commands = Commands(self._world, self._rendezvous)
        self._leases = Leases(self._world, self._rendezvous, self._commands)
        releases = Releases(self._world)
        self._barriers = Barriers(self._world, self._rendezvous, releases.ended)
        self._datasets = Datasets(self._world, self._rendezvous, self._barriers.void_commits)
        self._checkpoints = Checkpoints(self._world, self._rendezvous)
        self._restores = Restores(self._world, self._rendezvous, self._on_restore)
        reports = HangReports(self._world, self._rendezvous)
        self._hangs = Hangs(
            self._world,
            self._rendezvous,
            self._commands,
            barriers=self._barriers,
            datasets=self._datasets,
            checkpoints=self._checkpoints,
            reports=reports,
        )
        self._deadlocks = Deadlocks(self._world, self._rendezvous, barriers=self._barriers, datasets=self._datasets)
        self._sight = Sight(
            self._world,
            self._rendezvous,
            barriers=self._barriers,
            hangs=self._hangs,
            releases=releases,
            stacks=reports.rows,
            settings=config.settings,
        )
        self.measured = self._sight.measured
        """Takes durations that the shell has measured, to be shown."""
        self._answers = Answers(
            self._world,
            each={
                wire.GetShards: self._datasets.get_shards,
                wire.AwaitGeneration: self._rendezvous.await_generation,
                wire.CheckpointBegin: self._checkpoints.begin,
                wire.Restore: self._restores.restore,
                wire.LatestCheckpoint: self._checkpoints.latest,
                wire.ResumeFrom: partial(resume, self._world, self._rendezvous),
            },
            shared={
                wire.GetStatus: partial(report, self._world, self._barriers, self._rendezvous, self._hangs),
                wire.GetView: partial(view, self._world),
                wire.GetSight: self._sight.ask,
            },
        )
        self._ticked_at = self._stepped_at = float("-inf")
        self._handlers: dict[type, Callable[[Session, Any], None]] = {
            wire.Heartbeat: self._leases.heartbeat,
            wire.Arrive: self._barriers.arrive,
            wire.GetShards: self._answers.ask,
            wire.RegisterWorker: self._rendezvous.register,
            wire.AwaitGeneration: self._answers.ask,
            wire.Deregister: self._rendezvous.deregister,
            wire.ReportLost: self._rendezvous.report_lost,
            wire.RegisterDataset: self._datasets.register,
            wire.AdvanceEpoch: self._datasets.advance_epoch,
            wire.RegisterWriter: self._checkpoints.register_writer,
            wire.CheckpointBegin: self._answers.ask,
            wire.CheckpointStaged: self._checkpoints.drains.staged,
            wire.CheckpointArrive: self._checkpoints.arrive,
            wire.CheckpointCommitted: self._checkpoints.committed,
            wire.CheckpointFailed: self._checkpoints.failed,
            wire.Restore: self._answers.ask,
            wire.LatestCheckpoint: self._answers.ask,
            wire.ResumeFrom: self._answers.ask,
            wire.SendCommand: self._commands.send,
            wire.ReportStacks: reports.take,
            wire.GetStatus: self._answers.ask,
            wire.GetView: self._answers.ask,
            wire.GetSight: self._get_sight,
        }

    @property
    def history(self) -> History:
        """The durable state."""
        return self._world.history

    @property
    def postponed(self) -> bool:
        """Whether requests wait for the next step, which should come at once."""
        return self._answers.waiting > 0

    @property
    def watched(self) -> bool:
        """Whether somebody looks on."""
        return self._sight.watched

    def name_of(self, connection: bytes) -> str:
        """Return who is behind a connection: a worker's or a writer's id, else its role; empty if nobody is."""
        session = self._world.sessions.get(connection)
        if session is None:
            return ""
        if session.worker is not None:
            return session.worker.worker_id
        return session.role if session.writer is None else session.writer.info.writer_id

    def start(self, now: float) -> Effects:
        """Begin a life: the term rises, and everybody known gets one lease of grace."""
        world = self._world
        world.effects = Effects()
        world.now = now
        world.record(TermStarted(term=world.history.term + 1))
        self._rendezvous.resume(now)
        self._ticked_at = self._stepped_at = now
        self._sight.start()
        self._sight.note(world.effects)
        return world.effects

    def step(self, batch: Sequence[Received], now: float, *, backlog: bool = False) -> Effects:
        """Take a batch of events at time `now` (seconds of any clock that never goes back) and return the effects.

        `backlog` says that more may wait unread: what it holds could renew leases, so that none ends meanwhile.
        """
        world = self._world
        world.effects = Effects()
        world.now, world.lease_end = now, now + world.config.lease_s
        world.counters["requests"] += len(batch)
        gap, self._stepped_at = now - self._stepped_at, now
        if self._leases.note_step(gap, backlog=backlog):
            self._hangs.forgive(gap)
            self._deadlocks.forgive(gap)
        self._answers.begin()
        for event in batch:
            self._take(event)
        if now - self._ticked_at >= _TICK_S:
            self._tick()
        # One generation for all who came and went in one batch.
        self._rendezvous.settle()
        self._sight.note(world.effects)
        self._answers.close()
        effects = world.close_step()
        effects.shown = self._sight.flush()
        return effects

    def admit(self, connection: bytes, fold: wire.Fold) -> wire.ErrorReply | None:
        """Return why an agent's envelope is refused as a whole; None: its parts may come in, each for itself."""
        session = self._world.sessions.get(connection)
        error: StrataError
        if session is None or session.number != fold.session:
            error = UnknownSessionError(
                f"session {fold.session} is not known here (term {self.history.term}): say hello"
            )
        elif session.role != "agent":
            error = InvalidArgumentError(f"fold: this session's role is {session.role!r}, only an agent may send one")
        else:
            session.heard_at = self._world.now
            return None
        return self.reject(connection, error, fold.seq, fold.session)

    def reject(self, connection: bytes, error: StrataError, seq: int = 0, claimed: int = 0) -> wire.ErrorReply:
        """Return the answer to a frame that could not be taken; it is counted and changes nothing else.

        `seq` is the request's, and `claimed` the session it named, where that much could be read.
        """
        self._world.counters[f"rejected.{error.code}"] += 1
        self._world.refuse(error)
        session = self._world.sessions.get(connection)
        return wire.ErrorReply(
            job=self._world.config.job,
            term=self.history.term,
            generation=self.history.generation,
            session=claimed or (session.number if session else 0),
            seq=seq,
            code=error.code,
            message=str(error),
        )

    def pulse(self) -> wire.Tick:
        """Return the broadcast that repeats the last sequence number, so that a gap shows in quiet times."""
        history = self.history
        return wire.Tick(
            job=self._world.config.job,
            term=history.term,
            generation=history.generation,
            seq=self._world.broadcast_seq,
            digest=digest(self._world),
        )

    def _take(self, event: Received) -> None:
        world = self._world
        message = event.message
        if type(message) is wire.Hello:
            self._sessions.hello(event.connection, message)
            return
        session = world.sessions.get(event.connection)
        term = world.history.term
        if session is None or session.number != message.session or message.term > term:
            stranger = Session(event.connection, message.session, "client", False, world.now)
            error = UnknownSessionError(
                f"session {message.session} of term {message.term} is not known here (term {term}): say hello"
            )
            world.fail(stranger, message.seq, error)
            return
        self._renew(session)
        try:
            self._handlers[type(message)](session, message)
        except StrataError as error:
            world.fail(session, message.seq, error)

    def _get_sight(self, session: Session, request: wire.GetSight) -> None:
        if request.renew:
            self._sight.renew(session, request)
        else:
            self._answers.ask(session, request)

    def _on_restore(self) -> None:
        self._barriers.break_all()
        self._datasets.go_back()

    def _on_change(self) -> None:
        self._barriers.change()
        self._checkpoints.on_change()
        self._datasets.settle()

    def _tick(self) -> None:
        world = self._world
        self._ticked_at = world.now
        self._leases.tick()
        # What is told of members from here on is of those who are there.
        self._rendezvous.settle()
        self._rendezvous.tick()
        self._barriers.tick()
        self._datasets.tick()
        self._checkpoints.tick()
        self._hangs.tick()
        self._deadlocks.tick()
        self._sessions.tick()
