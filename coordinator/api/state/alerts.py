"""What a person should look at now, and what to do about it: one rule a function. It knows no clock and no page.

The rules are docs/sight.md's. Each is a condition of facts; since when it holds is kept here where they do not say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from strata_zmq.protocol.sight_rows import CheckpointSight

from .picture import Picture
from .rows import Alert, AlertKind, Goodput
from .translate import millis

__all__ = ["AlertBook", "Facts"]

WORKER_LOST_S = 600.0
CHECKPOINT_OLD_S = 600.0
CHECKPOINT_OLD_GAPS = 3.0
ABORTED_S = 600.0
BARRIER_SLOW_S = 10.0
BARRIER_SLOW_TIMES = 10.0
GOODPUT_LOW_PERCENT = 50.0
QUORUM_S = 5.0
FAILURE_SHARE = 0.05
FAILURES_OF = 20
_ALERTS_MAX = 200
"""Of one look: more of them say nothing that these do not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the rules look at. `now` is this process's Unix time, `core_now` the coordinator's. `ended` and `failed`
    count function calls of the last minute, None: not known.
    """

    now: float
    core_now: float
    coordinator: Picture
    coordinator_address: str
    coordinator_heard_at: float
    coordinator_connected: bool
    dispatcher_address: str
    dispatcher_heard_at: float
    dispatcher_connected: bool
    aborted: Sequence[tuple[float, CheckpointSight]]
    """Checkpoints that were given up, and when that was told."""
    barrier_p99_s: float | None
    goodput: Goodput
    goodput_covered_s: float
    pending_since: float | None
    """Since when, of this process's time, the job has waited for workers; None: it does not."""
    ended: float | None
    failed: float | None


@dataclass(frozen=True, slots=True)
class _Found:
    kind: AlertKind
    level: str
    text: str
    way_out: str
    subject: str = ""
    since: float | None = None
    """Unix seconds; None: since it was first found."""


class AlertBook:
    """The alerts of the last look, and since when each has been there."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def look(self, facts: Facts) -> list[Alert]:
        """Return the alerts that hold, errors first, the oldest first."""
        alerts, since = [], {}
        for rule in _RULES:
            for found in rule(facts):
                name = f"{found.kind}:{found.subject}"
                began = found.since if found.since is not None else self._since.get(name, facts.now)
                since[name] = began
                alerts.append(
                    Alert(
                        id=name,
                        kind=found.kind,
                        level="error" if found.level == "error" else "warning",
                        text=found.text,
                        way_out=found.way_out,
                        subject=found.subject,
                        since=millis(began),
                    )
                )
        self._since = since
        alerts.sort(key=lambda alert: (alert.level != "error", alert.since, alert.id))
        return alerts[:_ALERTS_MAX]


def _live(facts: Facts) -> Picture | None:
    """Return the coordinator's picture where it is of now: what was true when it went says nothing of now."""
    picture = facts.coordinator
    return picture if picture.job is not None and facts.coordinator_connected else None


def _coordinator_gone(facts: Facts) -> Iterator[_Found]:
    if facts.coordinator_heard_at and not facts.coordinator_connected:
        yield _Found(
            "coordinator_gone",
            "error",
            f"The coordinator at {facts.coordinator_address} says nothing any more.",
            "Look at its process and its log; started again on the same folder it goes on where it was.",
            since=facts.coordinator_heard_at,
        )


def _hangs(facts: Facts) -> Iterator[_Found]:
    picture = _live(facts)
    for row in picture.tables["hangs"].values() if picture else ():
        yield _Found(
            "hang",
            "error",
            f"{row.worker_id} does not move, and {row.waiter_count} wait for it at {row.where}.",
            "Read its stacks (Workers, this worker), then end the process: it is started again where it was started "
            "with restarts.",
            row.worker_id,
            row.since,
        )


def _workers_lost(facts: Facts) -> Iterator[_Found]:
    picture = _live(facts)
    for row in picture.tables["lost"].values() if picture else ():
        if facts.core_now - row.lost_at < WORKER_LOST_S:
            waits = bool(picture and picture.job.pending)
            yield _Found(
                "worker_lost",
                "error" if waits else "warning",
                f"{row.worker_id} on {row.hostname} was given up: {row.reason}."
                + (" The job waits for it." if waits else ""),
                "Read its log; start it again under the same id, or another in its place.",
                row.worker_id,
                row.lost_at,
            )


def _checkpoint_old(facts: Facts) -> Iterator[_Found]:
    picture = _live(facts)
    rows = picture.tables["checkpoints"].values() if picture else ()
    durable = sorted(_when(row) for row in rows if row.status == "durable")
    if not durable:
        return
    last = durable[-6:]
    gaps = [after - before for before, after in pairwise(last)]
    limit = max(CHECKPOINT_OLD_S, CHECKPOINT_OLD_GAPS * median(gaps) if gaps else 0.0)
    age = facts.core_now - durable[-1]
    if age > limit:
        yield _Found(
            "checkpoint_old",
            "warning",
            f"The last durable checkpoint is {age / 60:.0f} minutes old; it is late after {limit / 60:.0f}.",
            "See whether saves fail (Checkpoints, Activity) or are not asked for: strata checkpoint asks for one now.",
            since=durable[-1] + limit,
        )


def _checkpoint_aborted(facts: Facts) -> Iterator[_Found]:
    for at, row in facts.aborted:
        if facts.now - at < ABORTED_S:
            yield _Found(
                "checkpoint_aborted",
                "warning",
                f"The checkpoint of step {row.step} was given up: {row.reason or 'no reason was told'}.",
                "The one before it stands; the next save tries again. If it happens again, read the writers' logs.",
                row.checkpoint_id,
                at,
            )


def _barrier_slow(facts: Facts) -> Iterator[_Found]:
    picture = _live(facts)
    limit = max(BARRIER_SLOW_S, BARRIER_SLOW_TIMES * (facts.barrier_p99_s or 0.0))
    for row in picture.tables["barriers"].values() if picture else ():
        if facts.core_now - row.opened_at > limit:
            missing = ", ".join(row.missing[:3]) + (" and others" if row.total - row.arrived > 3 else "")
            yield _Found(
                "barrier_slow",
                "warning",
                f"{row.arrived} of {row.total} have waited at {row.name}, step {row.step}, for over {limit:.0f} s.",
                f"It waits for {missing or 'workers that are not named'}: see what they do (Workers, Timeline).",
                row.barrier_id,
                row.opened_at + limit,
            )


def _goodput_low(facts: Facts) -> Iterator[_Found]:
    percent = facts.goodput.percent
    if _live(facts) is None or percent is None or facts.goodput_covered_s < facts.goodput.window_s - 1:
        return
    if percent < GOODPUT_LOW_PERCENT:
        shares = {
            "waits for data": facts.goodput.data_share,
            "waits at barriers": facts.goodput.barrier_share,
            "saves": facts.goodput.checkpoint_share,
            "lost workers": facts.goodput.lost_share,
        }
        known = {name: share for name, share in shares.items() if share}
        most = max(known, key=lambda name: known[name]) if known else ""
        yield _Found(
            "goodput_low",
            "warning",
            f"{percent:.0f} % of the last minute went to training.",
            f"The largest part of the rest is {most} ({known[most] * 100:.0f} %): see the timeline."
            if most
            else "The rest was idle, or not told: see the timeline.",
        )


def _leases_frozen(facts: Facts) -> Iterator[_Found]:
    picture = _live(facts)
    if picture and picture.job.frozen:
        yield _Found(
            "leases_frozen",
            "warning",
            f"No lease ends now: {picture.job.frozen}.",
            "It ends by itself when workers are heard again; until then nobody is given up.",
        )


def _quorum_pending(facts: Facts) -> Iterator[_Found]:
    picture, since = _live(facts), facts.pending_since
    if picture and since is not None and facts.now - since > QUORUM_S:
        job = picture.job
        yield _Found(
            "quorum_pending",
            "warning",
            f"The job waits for workers: {job.have} are there, {job.need} are needed ({job.pending}).",
            "Start the missing ones, or start the coordinator with a smaller --min-workers.",
            since=since,
        )


def _dispatcher_gone(facts: Facts) -> Iterator[_Found]:
    if facts.dispatcher_heard_at and not facts.dispatcher_connected:
        yield _Found(
            "dispatcher_gone",
            "error",
            f"The dispatcher at {facts.dispatcher_address} says nothing any more.",
            "Look at its process and its log; with a store it goes on where it was.",
            since=facts.dispatcher_heard_at,
        )


def _function_failures(facts: Facts) -> Iterator[_Found]:
    ended, failed = facts.ended, facts.failed
    if ended is None or failed is None or ended < FAILURES_OF or not facts.dispatcher_connected:
        return
    if failed / ended > FAILURE_SHARE:
        yield _Found(
            "function_failures",
            "warning",
            f"{failed:.0f} of the {ended:.0f} function calls that ended in the last minute failed.",
            "See Functions for which ones and why.",
        )


def _when(row: CheckpointSight) -> float:
    return row.durable_at if row.durable_at is not None else row.created_at


_RULES: tuple[Callable[[Facts], Iterator[_Found]], ...] = (
    _coordinator_gone,
    _hangs,
    _workers_lost,
    _checkpoint_old,
    _checkpoint_aborted,
    _barrier_slow,
    _goodput_low,
    _leases_frozen,
    _quorum_pending,
    _dispatcher_gone,
    _function_failures,
)
