"""What a worker's session can do, written once: each operation yields the requests it needs and receives the replies.

It sends nothing and waits for nothing itself: `session.py` carries an operation out blocking, `aio.py` awaits it, and a
simulation drives it under its own time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec

from strata_zmq.domain.lineage import UNKNOWN, same_lineage
from strata_zmq.domain.names import check_seconds
from strata_zmq.errors import (
    DeadlineExceededError,
    GenerationChangedError,
    HistoryChangedError,
    InvalidArgumentError,
    StaleGenerationError,
    StrataError,
)
from strata_zmq.protocol import messages as wire

from .spent import SpentMeter, phase_of
from .view import Cluster

__all__ = ["Ask", "Operation", "SessionState", "Values", "dataset_request"]

R = TypeVar("R")

Values = Mapping[str, tuple[wire.Reduction, float]]
"""What an arrival brings along, by name: how it is reduced over all ranks, and this rank's value."""

_COMMIT = "commit"
_ANSWER_S = 30.0
_FAREWELL_S = 2.0


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, the seconds in which the coordinator answers it, and how much longer to wait for that answer here."""

    request: wire.Request
    timeout_s: float
    patience_s: float = 5.0


Operation = Generator[Ask, Any, R]


class SessionState:
    """What a worker knows of itself and has adopted; all faces of one session share it.

    The adopted membership changes only when the training code is told: what it sends in between carries the old
    generation and is refused, so that nothing stale is ever committed.
    """

    def __init__(self, worker_id: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.worker_id = worker_id
        self.clock = clock
        self.spent = SpentMeter(clock)
        """Where the time goes; what changes `state` changes the phase with it."""
        self._state: wire.WorkerState = "IDLE"
        self.step = 0
        """How many commit points history has, as far as this worker has seen."""
        self.lineage = UNKNOWN
        """Which past that history has, see PROTOCOL.md."""
        self.remembered: tuple[int, int] | None = None
        """The commit point, and its lineage, that this process's training state is of; None while it is of none."""
        self.epoch = 0
        self.progress = 0
        self.asking = 0
        """How many calls wait for the coordinator's answer."""
        self.reported_step = 0
        self.reported_epoch = 0
        self.adopted: wire.Membership | None = None
        self.met: dict[str, tuple[int, int]] = {}
        """By barrier name the (generation, step) that was released last."""

    @property
    def state(self) -> wire.WorkerState:
        """What the worker is at, as its heartbeats tell."""
        return self._state

    @state.setter
    def state(self, state: wire.WorkerState) -> None:
        self._state = state
        self.spent.enter(phase_of(state))

    @property
    def membership(self) -> wire.Membership:
        """The generation that the training code has adopted."""
        if self.adopted is None:
            raise StaleGenerationError("no generation is adopted yet: call join() first")
        return self.adopted

    @property
    def generation(self) -> int:
        """The adopted generation; 0 before the first."""
        return self.adopted.generation if self.adopted else 0

    @property
    def astray(self) -> HistoryChangedError | None:
        """Why this process's training state is not of the adopted history, as an error; None while it may be."""
        if self.remembered is None:
            return None
        step, lineage = self.remembered
        if step < self.step or (step == self.step and same_lineage(lineage, self.lineage)):
            return None
        return HistoryChangedError(
            f"worker {self.worker_id!r} has trained up to {_point(step, lineage)}, and history stands at "
            f"{_point(self.step, self.lineage)}: it was taken back, so what the model has seen since is dealt again. "
            "Restore the latest checkpoint (restore_checkpoint(), in on_membership where a loop runs, or start this "
            "worker anew), or take over the model of a member that is in line and say agreed()"
        )

    def agreed(self) -> None:
        """Say that the training state is that of the adopted commit point: it was taken over from another member.

        A state that was restored, or has come here by commit points, needs no such word.
        """
        if self.remembered is None or self.astray is not None:
            self.remembered = (self.step, self.lineage)

    def adopt(self, membership: wire.Membership) -> None:
        """Go on in a generation, at the point where its history stands.

        Where that is behind what was remembered, or somewhere else, `astray` tells. Where it is ahead, others went on
        meanwhile, and this process has to take over their state.
        """
        self.adopted = membership
        self.epoch, self.step, self.lineage = membership.epoch, membership.commit_index, membership.lineage
        if self.remembered is not None and self.astray is None:
            self.remembered = (self.step, self.lineage)

    @property
    def may_commit(self) -> bool:
        """Whether less than two thirds of the lease have passed since the coordinator was last known to hear us."""
        return True

    @property
    def registered_progress(self) -> int:
        """The progress that a registration tells: a loop that waits for the coordinator itself does not hang."""
        return self.progress + (1 if self.asking else 0)

    def report(self) -> wire.Heartbeat:
        """Return the heartbeat that tells how this worker is."""
        return wire.Heartbeat(
            state=self.state,
            step=max(self.step, self.reported_step),
            epoch=max(self.epoch, self.reported_epoch),
            progress=self.progress,
            generation=self.generation,
            spent=self.spent.report(),
        )


def join(session: SessionState, timeout_s: float = 300.0, *, newer: bool = False) -> Operation[wire.Membership]:
    """Adopt the current generation, or with `newer` the first after the adopted one; waits for the quorum.

    HistoryChangedError when it is adopted and its history is not the one that this process has trained in: it was taken
    back, by a restore or with a damaged journal. Nothing is committed before `restore`, or `agreed`.
    """
    membership = yield from _adopt(session, timeout_s, session.generation if newer else 0)
    if session.astray is not None:
        raise session.astray
    return membership


def barrier(
    session: SessionState,
    name: str,
    step: int,
    *,
    expected: int = 0,
    timeout_s: float = 300.0,
    values: Values | None = None,
    on_change: Literal["break", "reform"] = "break",
) -> Operation[wire.Released]:
    """Wait until all ranks of the adopted generation have arrived at (name, step).

    `values` are reduced over all arrivals, which have to bring the same names: `{"loss": ("mean", 0.3)}` is found in
    the answer's `reduced["loss"]` on every rank. Raises GenerationChangedError when the membership has changed, also
    when that was this worker's own loss; with `on_change="reform"` the barrier goes on with the members that there are
    then. InvalidArgumentError for a step that this worker was just released from: nobody would be waited for.
    """
    if name == _COMMIT:
        raise InvalidArgumentError(f"barrier name {name!r} is what commit points are called: choose another")
    place = (session.generation, step)
    if session.met.get(name) == place:
        raise InvalidArgumentError(
            f"barrier {name!r} step {step} is released already in generation {session.generation}, nobody would be "
            "waited for: give every meeting a step of its own"
        )
    request = wire.Arrive(
        name=name,
        step=step,
        expected=expected,
        timeout_s=timeout_s,
        on_change=on_change,
        values=_values(values),
        generation=session.generation,
    )
    try:
        released = yield from _arrive(session, request)
    except StaleGenerationError as error:
        raise GenerationChangedError(str(error), left=(session.worker_id,)) from error
    session.met[name] = place
    return released


def commit(
    session: SessionState, ranges: Sequence[wire.SeenRange], *, timeout_s: float = 300.0, values: Values | None = None
) -> Operation[wire.Released]:
    """Arrive at the next commit point with what this rank has seen; on release all ranks' ranges are committed.

    `values` are reduced over all arrivals, as at a barrier. A worker that has not been heard for two thirds of its
    lease does not commit before it has heard from the coordinator again; FencedError says that it was given up, and
    GenerationChangedError that the membership is another: what it has not committed is void. HistoryChangedError where
    the training state is not of the adopted history, see `join`.
    """
    if session.astray is not None:
        raise session.astray
    deadline = session.clock() + check_seconds("timeout_s", timeout_s)
    if not session.may_commit:
        yield from _hear(session, timeout_s)
    left_s = max(deadline - session.clock(), 0.0)
    released = yield from _arrive(
        session,
        wire.Arrive(
            name=_COMMIT,
            step=session.step + 1,
            timeout_s=left_s,
            commit=True,
            ranges=list(ranges),
            values=_values(values),
            generation=session.generation,
        ),
    )
    session.step, session.lineage = session.remembered = released.commit_index, released.lineage
    return released


def register_dataset(
    session: SessionState,
    dataset_id: str,
    total_samples: int,
    shard_size: int,
    *,
    shuffle: bool = True,
    seed: int = 42,
    path: str = "",
    metadata: dict[str, str] | None = None,
) -> Operation[int]:
    """Register a dataset and return how many shards it has. The same again is harmless."""
    reply: wire.DatasetRegistered = yield from _ask(
        session, dataset_request(dataset_id, total_samples, shard_size, shuffle, seed, path, metadata), _ANSWER_S
    )
    return int(reply.total_shards)


def get_shards(
    session: SessionState, dataset_id: str, *, worker_id: str = "", epoch: int = -1
) -> Operation[wire.Shards]:
    """Return what a worker (by default this one) owns in an epoch (by default the current one)."""
    reply: wire.Shards = yield from _ask(
        session, wire.GetShards(dataset_id=dataset_id, worker_id=worker_id, epoch=epoch), _ANSWER_S
    )
    return reply


def advance_epoch(session: SessionState, *, timeout_s: float = 300.0) -> Operation[int]:
    """Say that this worker has finished its epoch, wait for the others, and return the epoch that has begun.

    Where history was taken back meanwhile, that is the epoch that it stands in: its data are there again.
    """
    finished, deadline = session.epoch, session.clock() + check_seconds("timeout_s", timeout_s)
    before = session.spent.enter("barrier")
    try:
        return (yield from _advance(session, finished, deadline))
    finally:
        session.spent.enter(before)


def latest_checkpoints(session: SessionState, limit: int = 1) -> Operation[list[wire.CheckpointSummary]]:
    """Return committed checkpoints, newest first."""
    reply: wire.CheckpointTaken = yield from _ask(session, wire.LatestCheckpoint(limit=limit), _ANSWER_S)
    return list(reply.checkpoints)


def resume(session: SessionState) -> Operation[wire.Resume]:
    """Return where this worker goes on: the newest committed checkpoint, its step, the epoch and this worker's shards.

    It changes nothing; `restore` takes the data position back.
    """
    reply: wire.Resume = yield from _ask(session, wire.ResumeFrom(), _ANSWER_S)
    return reply


def restore(session: SessionState, checkpoint_id: str, ledger: bytes) -> Operation[bool]:
    """Take the data position back to a manifest's; False if other members carry a later history.

    Every rank may call it; it happens once, and makes a new generation. The training state is taken for the
    checkpoint's from then on, or for one that is to be taken over from the others.
    """
    reply: wire.Restored = yield from _ask(session, wire.Restore(checkpoint_id=checkpoint_id, ledger=ledger), _ANSWER_S)
    session.remembered = _point_of(ledger) if reply.rewound else None
    if session.remembered is not None:
        session.step, session.lineage = session.remembered
    return reply.rewound


def heartbeat(session: SessionState) -> Operation[bool]:
    """Renew the lease now; True when the coordinator has answered."""
    yield from _ask(session, session.report(), 10.0)
    return True


def view(session: SessionState) -> Operation[Cluster]:
    """Return the members, the generation, the epoch and the latest checkpoint as they are now."""
    reply: wire.View = yield from _ask(session, wire.GetView(), _ANSWER_S)
    return Cluster.of(reply)


def status(session: SessionState) -> Operation[wire.Status]:
    """Return the coordinator's snapshot of everything that a person would want to see."""
    reply: wire.Status = yield from _ask(session, wire.GetStatus(), _ANSWER_S)
    return reply


def leave(session: SessionState) -> Operation[None]:
    """Leave the membership, if the coordinator can be reached: a lease ends by itself."""
    try:
        yield Ask(wire.Deregister(reason="closed"), _FAREWELL_S, 0.0)
    except StrataError:
        return


def dataset_request(
    dataset_id: str,
    total_samples: int,
    shard_size: int,
    shuffle: bool,
    seed: int,
    path: str,
    metadata: dict[str, str] | None,
) -> wire.RegisterDataset:
    """Return the registration message, or say which field cannot be sent at all."""
    for name, value in (("total_samples", total_samples), ("shard_size", shard_size), ("seed", seed)):
        if not _is_int64(value):
            raise InvalidArgumentError(f"{name} is {value!r}: give an integer of at most 64 bits")
    return wire.RegisterDataset(
        dataset_id=dataset_id,
        total_samples=total_samples,
        shard_size=shard_size,
        shuffle=shuffle,
        seed=seed,
        path=path,
        metadata=metadata or {},
    )


def _advance(session: SessionState, finished: int, deadline: float) -> Operation[int]:
    while True:
        left_s = max(deadline - session.clock(), 0.0)
        request = wire.AdvanceEpoch(epoch=finished, timeout_s=left_s, generation=session.generation)
        try:
            reply: wire.EpochAdvanced = yield from _ask(session, request, left_s)
        except (GenerationChangedError, StaleGenerationError):
            # What it finished is committed, so it says so again in the new generation, as a newcomer if it was fenced.
            stood_at = session.step
            membership = yield from _adopt(session, max(deadline - session.clock(), 0.0))
            if session.astray is not None or (membership.epoch, membership.commit_index) < (finished, stood_at):
                return int(membership.epoch)
            continue
        session.epoch = reply.epoch
        return int(reply.epoch)


def _adopt(session: SessionState, timeout_s: float, after: int = 0) -> Operation[wire.Membership]:
    membership: wire.Membership = yield from _ask(
        session, wire.AwaitGeneration(after=after, timeout_s=timeout_s), timeout_s
    )
    session.adopt(membership)
    return membership


def _ask(session: SessionState, request: wire.Request, timeout_s: float) -> Operation[Any]:
    session.progress += 1
    session.asking += 1
    try:
        return (yield Ask(request, timeout_s))
    finally:
        session.asking -= 1


def _arrive(session: SessionState, request: wire.Arrive) -> Operation[wire.Released]:
    before = session.spent.enter("barrier")
    adopted = session.adopted
    try:
        released: wire.Released = yield from _ask(session, request, request.timeout_s)
    finally:
        session.spent.enter(before)
    if released.ranks and adopted is not None:
        # Of a large barrier, the ranks in the generation that the arrival named stand for the names.
        participants = [adopted.members[rank] for rank in released.ranks]
        released = msgspec.structs.replace(released, participants=participants)
    return released


def _hear(session: SessionState, timeout_s: float) -> Operation[None]:
    try:
        yield from _ask(session, session.report(), timeout_s)
    except DeadlineExceededError as error:
        raise DeadlineExceededError(
            f"commit point {session.step + 1}: two thirds of this worker's lease have passed without a word from the "
            f"coordinator, so it commits nothing, and {timeout_s:g} s more brought none: is it running?",
            missing=error.missing,
        ) from None


def _values(values: Values | None) -> list[wire.Value]:
    if not isinstance(values or {}, Mapping):
        raise InvalidArgumentError(f'values is {values!r}: give a mapping such as {{"loss": ("mean", 0.3)}}')
    found = []
    for name, told in (values or {}).items():
        try:
            op, value = told
            found.append(wire.Value(name, op, float(value)))
        except (TypeError, ValueError, OverflowError):
            raise InvalidArgumentError(
                f'values[{name!r}] is {told!r}: give how to reduce it and a number, as in ("mean", 0.3)'
            ) from None
    return found


class _Position(msgspec.Struct):
    """Where a manifest's ledger stands."""

    commit_index: int
    lineage: int = UNKNOWN


def _point_of(ledger: bytes) -> tuple[int, int]:
    # The coordinator has read the whole of it before it answered.
    position = msgspec.json.decode(ledger, type=_Position)
    return position.commit_index, position.lineage


def _point(step: int, lineage: int) -> str:
    return f"commit point {step}" + (f" of lineage {lineage:016x}" if lineage != UNKNOWN else "")


def _is_int64(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
