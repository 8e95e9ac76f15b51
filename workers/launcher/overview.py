"""A job on one screen: what a person wants to know first, as lines of words, made of what the coordinator shows.

Owns the words and the order. It asks nobody and knows no clock. A figure that nobody has reported is
said to be unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from strata_zmq.protocol.messages import Sight
from strata_zmq.protocol.sight_rows import CheckpointSight, JobSight, WorkerSight

__all__ = ["ROWS_MAX", "Overview", "duration", "figures", "headline", "rows"]

ROWS_MAX = 16
_LINES_MAX = 5
"""Of one kind: hangs, lost workers, open barriers."""
_BARRIER_SLOW_S = 10.0
_LOST_S = 600.0
_NAMES_MAX = 4


@dataclass(frozen=True, slots=True)
class Overview:
    """One moment, and an earlier one of the same life, which rates are taken from; without it they are averages."""

    now: Sight
    before: Sight | None = None

    @property
    def job(self) -> JobSight:
        """The coordinator's own row."""
        job = self.now.state.job
        assert job is not None, "a snapshot has a job"  # noqa: S101
        return job

    @property
    def earlier(self) -> JobSight | None:
        """The same row before; None where there is no earlier moment of this life."""
        if self.before is None or self.before.life != self.now.life or self.now.at <= self.before.at:
            return None
        return self.before.state.job


def headline(view: Overview) -> tuple[str, bool]:
    """Return what the job is and stands at, and whether all is well."""
    job = view.job
    well = job.formed and not any(True for _ in _attention(view))
    parts = [
        f"job {job.job}",
        "healthy" if well else "needs attention" if job.formed else "waiting for workers",
        f"up {duration(view.now.at - job.started_at)}",
        f"term {job.term}",
        f"generation {job.generation}",
        f"epoch {job.epoch}",
        f"{job.commit_index:,} commit points",
    ]
    return " · ".join(parts), well


def figures(view: Overview) -> Iterator[tuple[str, str]]:
    """Yield (what, how it stands), the most important first."""
    for find in (_workers, _goodput, _throughput, _checkpoint, _barriers, _attention):
        yield from find(view)


def rows(view: Overview) -> list[tuple[str, ...]]:
    """Return the first ROWS_MAX workers by rank: id, rank, state, step, shards, host, pid, since when it was heard."""
    workers = sorted(view.now.state.workers, key=lambda row: (row.rank < 0, row.rank, row.worker_id))
    return [
        (
            row.worker_id,
            str(row.rank) if row.rank >= 0 else "",
            row.state,
            str(row.step),
            str(row.shards),
            row.hostname,
            str(row.pid),
            duration(view.now.at - row.heard_at),
        )
        for row in workers[:ROWS_MAX]
    ]


def duration(seconds: float) -> str:
    """Return a length of time in its two largest units: 0.4 s, 35 s, 12 min 5 s, 3 h 2 min, 2 d 4 h."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    left = int(seconds)
    for unit, size, below, small in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60), ("min", 60, "s", 1)):
        if left >= size:
            return f"{left // size} {unit} {left % size // small} {below}"
    return f"{left} s"


def _workers(view: Overview) -> Iterator[tuple[str, str]]:
    job, workers = view.job, view.now.state.workers
    states = Counter(row.state for row in workers)
    told = ", ".join(f"{state} {count}" for state, count in states.most_common())
    text = f"{len(workers)} there, {job.world_size} in this generation"
    yield "workers", f"{text}: {told}" if told else f"{text}; {job.need} are needed"


def _goodput(view: Overview) -> Iterator[tuple[str, str]]:
    reporting = [row for row in view.now.state.workers if row.spent is not None]
    earlier = {row.worker_id: row for row in view.before.state.workers} if view.earlier and view.before else {}
    trained, time, since = 0.0, 0.0, "since they joined"
    for row in reporting:
        before = earlier.get(row.worker_id)
        if before is not None and before.incarnation == row.incarnation and row.heard_at > before.heard_at:
            since = "of late"
            trained += _trained(row) - _trained(before)
            time += row.heard_at - before.heard_at
        elif not earlier:
            trained += _trained(row)
            time += max(0.0, row.heard_at - row.registered_at)
    if not reporting or time <= 0:
        yield "goodput", "unknown: no worker has reported where its time goes"
        return
    share = min(100.0, 100 * trained / time)
    count = len(view.now.state.workers)
    yield "goodput", f"{share:.0f} % of the workers' time {since} was training ({len(reporting)} of {count} report)"


def _trained(row: WorkerSight) -> float:
    return row.spent.training_s if row.spent is not None else 0.0


def _throughput(view: Overview) -> Iterator[tuple[str, str]]:
    job, earlier = view.job, view.earlier
    if earlier is not None and view.before is not None:
        seconds, since = view.now.at - view.before.at, "of late"
    else:
        seconds, since = view.now.at - job.started_at, "on average since the coordinator began"
    if seconds <= 0:
        return

    def rate(of: Callable[[JobSight], int]) -> str:
        risen = of(job) - (of(earlier) if earlier is not None else 0)
        return f"{max(0, risen) / seconds:,.1f}"

    samples, requests = rate(lambda row: row.committed_samples), rate(lambda row: row.requests)
    yield "throughput", f"{samples} samples/s, {requests} requests/s, {since}"


def _checkpoint(view: Overview) -> Iterator[tuple[str, str]]:
    found = view.now.state.checkpoints
    durable = sorted((row for row in found if row.status == "durable"), key=_when)
    writing = [row for row in found if row.status == "writing"]
    parts = []
    if durable:
        newest = durable[-1]
        took = ""
        if newest.began_at is not None and newest.durable_at is not None:
            took = f" in {duration(newest.durable_at - newest.began_at)}"
        word = "durable" if newest.durable_at is not None else "begun"
        age = duration(view.now.at - _when(newest))
        parts.append(
            f"{newest.checkpoint_id} {word} {age} ago, {newest.size_bytes / 1e6:,.1f} MB{took}; {len(durable)} kept"
        )
    parts += [
        f"{row.checkpoint_id} is being written, {row.arrived} of {row.world_size} ranks are done"
        for row in writing[:_LINES_MAX]
    ]
    yield "checkpoint", "; ".join(parts) if parts else "none yet"


def _when(row: CheckpointSight) -> float:
    return row.durable_at if row.durable_at is not None else row.created_at


def _barriers(view: Overview) -> Iterator[tuple[str, str]]:
    barriers = view.now.state.barriers
    for row in barriers[:_LINES_MAX]:
        text = f"{row.name} at step {row.step}: {row.arrived} of {row.total} have come"
        yield "barrier", f"{text} in {duration(view.now.at - row.opened_at)}{_missing(row.missing)}"
    if len(barriers) > _LINES_MAX:
        yield "barrier", f"and {len(barriers) - _LINES_MAX} more are open"


def _attention(view: Overview) -> Iterator[tuple[str, str]]:
    """Yield what a person should look at."""
    job, state, now = view.job, view.now.state, view.now.at
    if job.pending:
        yield "waiting", job.pending
    if job.frozen:
        yield "frozen", job.frozen
    for hang in state.hangs[:_LINES_MAX]:
        waited = f"{hang.waiter_count} wait for it"
        yield "hang", f"{hang.worker_id} has not moved for {duration(now - hang.since)}, {waited}, {hang.where}"
    lost = sorted((row for row in state.lost if now - row.lost_at < _LOST_S), key=lambda row: -row.lost_at)
    for gone in lost[:_LINES_MAX]:
        yield "lost", f"{gone.worker_id} on {gone.hostname}, {duration(now - gone.lost_at)} ago: {gone.reason}"
    if len(lost) > _LINES_MAX:
        yield "lost", f"and {len(lost) - _LINES_MAX} more"
    for row in state.barriers:
        if now - row.opened_at > _BARRIER_SLOW_S:
            yield "slow", f"barrier {row.name} at step {row.step} is open for {duration(now - row.opened_at)}"
            return


def _missing(names: list[str]) -> str:
    if not names:
        return ""
    return f", missing {', '.join(names[:_NAMES_MAX])}{', ...' * (len(names) > _NAMES_MAX)}"
