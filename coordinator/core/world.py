"""What the core's rooms share in one process life: who is connected, and what this step will journal and send.

Nothing here outlives the process; what must is in `history.py`.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from strata_zmq.domain.membership import STORY_MAX, Transition, next_state
from strata_zmq.errors import (
    BarrierBrokenError,
    DeadlineExceededError,
    FencedError,
    GenerationChangedError,
    InvalidArgumentError,
    StrataError,
)
from strata_zmq.protocol.messages import (
    Announcement,
    ErrorReply,
    Header,
    HeartbeatAck,
    Resources,
    RetentionRule,
    Spent,
    WriterInfo,
)
from strata_zmq.protocol.sight_rows import SettingSight

from .effects import Effects, Fanout, Happening

if TYPE_CHECKING:
    from .history import History
    from .records import Record

__all__ = ["CoreConfig", "Effects", "Fanout", "Parked", "Received", "Session", "Worker", "World", "Writer", "shown"]

_SHOWN_MAX = 10

R = TypeVar("R", bound=Header)
B = TypeVar("B", bound=Announcement)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreConfig:
    """What an operator decides. Durations in seconds."""

    job: str = "default"
    initial_workers: int = 1
    min_workers: int = 1
    max_workers: int = 10_000
    lease_s: float = 30.0
    heartbeat_s: float = 5.0
    retention: RetentionRule = RetentionRule()  # noqa: RUF009 - frozen
    """Which checkpoints the store keeps."""
    drain_s: float = 15.0
    """How long a writer has to finish the save of a rank that has died."""
    supervisor_token: str = ""
    broadcast_endpoint: str = ""
    server_version: str = ""
    commit_retry_s: float = 5.0
    checkpoint_timeout_s: float = 300.0
    sessions_max: int = 50_000
    join_window_s: float = 0.0
    """How long newcomers are gathered before the next generation forms; the first one and a broken one do not wait."""
    hang_s: float = 60.0
    """A worker that others wait for and that has not moved for so long is found to hang; 0: never."""
    evict_hung: bool = False
    """Whether a worker that hangs is taken for lost."""
    wall_offset_s: float = 0.0
    """Unix time minus the clock that events carry."""
    life: str = ""
    """What tells this life of the process from others, beside its term."""
    settings: tuple[SettingSight, ...] = ()
    """The settings of the process as people are shown them."""


class Received(msgspec.Struct, frozen=True, gc=False):
    """The core's input: one well-formed request and the connection that it came on. One is made per message: it is a
    struct because a dataclass takes six times as long.
    """

    connection: bytes
    message: Any


@dataclass(slots=True)
class Session:
    """One connection that said hello. What it may do follows from here, never from a name in a message."""

    connection: bytes
    number: int
    role: str
    trusted: bool
    heard_at: float
    worker: Worker | None = None
    writer: Writer | None = None
    commanded_seq: int = 0
    """Number of the last request for a command, which is carried out once."""


@dataclass(slots=True)
class Worker:
    """One live worker process. `expires_at` is the end of its lease, `moved_at` when its training loop last moved."""

    worker_id: str
    incarnation: str
    expires_at: float
    heard_at: float
    session: Session | None
    hostname: str = ""
    port: int = 0
    pid: int = 0
    boot_id: str = ""
    run: str = ""
    gpu_count: int = 0
    memory_bytes: int = 0
    metadata: dict[str, str] = field(default_factory=dict)
    state: str = "UNKNOWN"
    story: deque[Transition] = field(default_factory=lambda: deque(maxlen=STORY_MAX))
    step: int = 0
    epoch: int = 0
    progress: int = 0
    task: str = ""
    registered_at: float = 0.0
    moved_at: float = 0.0
    last_at_barriers: int = 0
    """How many barriers in this life of the coordinator waited for it alone at the end."""
    spent: Spent | None = None
    resources: Resources | None = None
    commands_seen: int = 0
    contested: bool = False
    """Whether another process has asked for its name: its successor, as a rule."""
    evicted: bool = False
    """Whether it was taken for lost because it hung."""
    end: str = ""
    """Why it was given up, as a clause; what its process says after that changes nothing."""

    def take(self, stimulus: str, now: float) -> None:
        """Go where the table of states says, or raise InvalidArgumentError and stay."""
        self.state = next_state(self.worker_id, self.state, stimulus, story=self.story, now=now)
        self.story.append(Transition(now, stimulus, self.state))


@dataclass(slots=True)
class Writer:
    """One live storage writer."""

    info: WriterInfo
    session: Session
    expires_at: float
    pid: int = 0
    hostname: str = ""
    store: str = ""


@dataclass(slots=True)
class Parked:
    """A request that waits for others: where its answer goes and until when it may wait."""

    session: Session
    seq: int
    deadline: float
    timeout_s: float = float("inf")
    """How long it was willing to wait when it came."""


class World:
    """The state of one process life, and the outbox of the current step."""

    def __init__(self, config: CoreConfig, history: History) -> None:
        self.config = config
        self.history = history
        self.now = self.lease_end = 0.0
        """The time of this step, and when what is renewed in it ends."""
        self.sessions: OrderedDict[bytes, Session] = OrderedDict()
        """By connection; the order is that in which `sessions.py` looks for room."""
        self.workers: dict[str, Worker] = {}
        self.writers: dict[str, Writer] = {}
        self.effects = Effects()
        self.broadcast_seq = 0
        self.frozen = ""
        """Why no lease ends just now; empty while they do."""
        self.counters: Counter[str] = Counter()
        self.touched: dict[str, Worker] = {}
        """Workers whose rows may be others than those that were shown last; whoever shows them takes them out. It stays
        the same dict: every message writes to it.
        """
        self.refused = 0
        """Requests that were refused since somebody looked, and the latest `refusal`."""
        self.refusal = Happening(0, "refused", "")
        self._acknowledged: list[tuple[bytes, int, int]] = []

    def record(self, record: Record) -> None:
        """Decide something that must last: it changes the state now and is journaled before any reply leaves."""
        self.history.apply(record)
        self.effects.records.append(record)

    def park(self, session: Session, seq: int, timeout_s: float, before: Parked | None) -> Parked:
        """Return the place where a request waits. `before` is the caller's place so far, if it has one.

        Whoever asks again, because no answer has come yet, waits no longer for it.
        """
        again = before is not None and before.seq == seq and before.session.worker is session.worker
        return Parked(session, seq, before.deadline if before and again else self.now + timeout_s, timeout_s)

    def reply(self, session: Session, seq: int, kind: type[R], /, **fields: Any) -> None:
        """Answer the request `seq` of a session."""
        history = self.history
        message = kind(
            job=self.config.job,
            term=history.term,
            generation=history.generation,
            session=session.number,
            seq=seq,
            **fields,
        )
        self.effects.outbox.append((session.connection, message))  # type: ignore[arg-type]

    def reply_all(self, recipients: list[tuple[bytes, int, int]], kind: type[R], /, **fields: Any) -> None:
        """Give many requests, each as (connection, session, seq), the same answer."""
        history = self.history
        connection, session, seq = recipients[0]
        if len(recipients) > 1:
            session = seq = 0
        message: Any = kind(
            job=self.config.job, term=history.term, generation=history.generation, session=session, seq=seq, **fields
        )
        self.effects.outbox.append(Fanout(message, recipients) if len(recipients) > 1 else (connection, message))

    def acknowledge(self, session: Session, seq: int) -> None:
        """Answer a heartbeat that nothing waits for; all those of one step get one answer, at its end."""
        self._acknowledged.append((session.connection, session.number, seq))

    def close_step(self) -> Effects:
        """Return what the step has decided."""
        if self._acknowledged:
            self.reply_all(self._acknowledged, HeartbeatAck, server_time=self.wall_time)
            self._acknowledged = []
        return self.effects

    @property
    def wall_time(self) -> float:
        """Unix time."""
        return self.now + self.config.wall_offset_s

    def fail(self, session: Session, seq: int, error: StrataError) -> None:
        """Answer the request `seq` with an error."""
        self.counters[f"errors.{error.code}"] += 1
        if error.fault in {"caller", "environment"}:
            self.refuse(error, session.worker.worker_id if session.worker else "")
        missing: tuple[str, ...] = error.missing if isinstance(error, DeadlineExceededError) else ()
        joined: tuple[str, ...] = ()
        left: tuple[str, ...] = ()
        if isinstance(error, GenerationChangedError):
            joined, left = error.joined, error.left
        self.reply(
            session,
            seq,
            ErrorReply,
            code=error.code,
            message=str(error),
            missing=list(missing[:1000]),
            joined=list(joined[:1000]),
            left=list(left[:1000]),
        )

    def publish(self, kind: type[B], /, **fields: Any) -> None:
        """Announce something on PUB, with the next sequence number."""
        self.broadcast_seq += 1
        history = self.history
        message = kind(
            job=self.config.job, term=history.term, generation=history.generation, seq=self.broadcast_seq, **fields
        )
        self.effects.broadcasts.append(message)  # type: ignore[arg-type]

    def refuse(self, error: StrataError, worker_id: str = "") -> None:
        """Let it be known that a request was refused."""
        self.refused += 1
        self.refusal = Happening(0, "refused", f"{error.code}: {error}", worker_id=worker_id)

    def note(self, text: str, kind: str = "note", **of: str) -> None:
        """Say something to the log, and to those who look on: `kind` and `of` are as in Happening."""
        self.effects.notes.append(text)
        self.show(kind, text, **of)

    def show(self, kind: str, text: str, **of: str) -> None:
        """Say something to those who look on."""
        self.effects.happenings.append(Happening(len(self.effects.records), kind, text, **of))

    def membership_error(self, what: str, *, broken: bool = False) -> GenerationChangedError:
        """Return the error that tells a caller of `what` that its generation is past."""
        history = self.history
        state = f"is {history.generation} now" if history.formed else "is broken, too few workers are left"
        kind = BarrierBrokenError if broken else GenerationChangedError
        return kind(
            f"{what}: the generation {state} (joined: {shown(history.joined)}; left: {shown(history.left)}); "
            "go back to the last commit point and go on",
            generation=history.generation,
            joined=history.joined,
            left=history.left,
        )

    def check_trusted(self, session: Session, what: str) -> None:
        """Refuse what only a supervisor may ask for."""
        if not session.trusted:
            raise InvalidArgumentError(
                f"{what}: this connection is no supervisor; say hello with role 'supervisor' and the supervisor's token"
            )

    def live_writer(self, session: Session) -> Writer:
        """Return the storage writer behind a connection, or say that it is no longer one."""
        writer = session.writer
        if writer is None:
            raise InvalidArgumentError("this connection is no storage writer: send REGISTER_WRITER first")
        if self.writers.get(writer.info.writer_id) is not writer:
            raise FencedError(
                f"writer {writer.info.writer_id!r} was given up (its lease of {self.config.lease_s:g} s ran out, or "
                "another process took its place): register again with what the store holds"
            )
        return writer


def shown(names: Sequence[str]) -> str:
    """Return the first names of a list as a message shows them."""
    return ", ".join(names[:_SHOWN_MAX]) + (", ..." if len(names) > _SHOWN_MAX else "") if names else "nobody"
