"""Where workers' time goes, by their reports: each one's last minute, and the share of all time that was training.

Owns the differences between reports, and tells the timeline what to paint. It knows no clock: rows say when.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import msgspec

from strata_zmq.protocol.fields import DATA_WAIT_BOUNDS_S, Spent
from strata_zmq.protocol.sight_rows import LostSight, WorkerSight

from .rates import Window
from .rows import Goodput, Phase
from .timeline import PAINTED, TimelineStore

__all__ = ["WINDOW_S", "WorkerTimes"]

WINDOW_S = 60.0
_SPACING_S = 5.0
"""Of a worker's reports one is kept for so long, so that a short heartbeat costs no more memory than a long one."""
_BACK_S = 60.0
"""Times that go back by more are of a core's clock that was set."""
_STATE_PHASES: dict[str, Phase] = {
    "TRAINING": "training",
    "LOADING_DATA": "data",
    "CHECKPOINTING": "checkpoint",
    "RECOVERING": "idle",
    "IDLE": "idle",
    "INITIALIZING": "idle",
}


class _Account:
    """What one incarnation of a worker has reported. `reports` are (heard_at, totals) of the last minute.

    Of the totals the training time is left out in which the worker hung; that is in `hung_s`.
    """

    __slots__ = ("hung_s", "incarnation", "reports", "spent", "told_at")

    def __init__(self, incarnation: str) -> None:
        self.incarnation = incarnation
        self.hung_s = 0.0
        self.spent: Spent | None = None
        self.told_at = 0.0
        self.reports: deque[tuple[float, Spent]] = deque()


class WorkerTimes:
    """The accounts of all workers that are there, their sums over WINDOW_S, and what the timeline is told of them."""

    def __init__(self, timeline: TimelineStore) -> None:
        self._timeline = timeline
        self._accounts: dict[str, _Account] = {}
        self._sums = dict.fromkeys((*PAINTED, "time", "hung", "lost"), 0.0)
        self._window = Window(WINDOW_S)
        self._seats = 0
        self._last_at: float | None = None
        self.data_waits = [0] * (len(DATA_WAIT_BOUNDS_S) + 1)
        """Waits for a batch by length, of all workers that there were since this process began."""

    @property
    def reporting(self) -> int:
        """How many of the workers that are there report where their time goes."""
        return sum(account.spent is not None for account in self._accounts.values())

    def heard(self, row: WorkerSight, heartbeat_s: float, *, hanging: bool = False) -> None:
        """Take a worker's row as it is now. While it hangs, what it says to have trained is lost."""
        account = self._accounts.get(row.worker_id)
        if account is None or account.incarnation != row.incarnation:
            self._timeline.begin(row.worker_id, row.heard_at, row.registered_at)
            account = self._accounts[row.worker_id] = _Account(row.incarnation)
        if row.spent is None:
            phase = "lost" if hanging else _STATE_PHASES.get(row.state, "unknown")
            self._timeline.mark(row.worker_id, row.heard_at, phase)
            return
        spent = _without(row.spent, account.hung_s)
        if account.spent is None:
            account.spent, account.told_at = spent, row.heard_at
            account.reports.append((row.heard_at, spent))
            self._count_waits(spent, None)
        # Other messages move `heard_at`, too: totals that stay the same mean idle time only when a report was due.
        elif spent != account.spent or row.heard_at > account.told_at + 2 * heartbeat_s:
            if hanging:
                account.hung_s += max(0.0, spent.training_s - account.spent.training_s)
                spent = _without(row.spent, account.hung_s)
            self._settle(row.worker_id, account, row.heard_at, spent, hanging=hanging)

    def lost(self, row: LostSight) -> None:
        """Take it that a worker was given up: since its last report its time is lost."""
        account = self._accounts.pop(row.worker_id, None)
        if account is not None and account.spent is not None:
            self._sums["lost"] += max(0.0, row.lost_at - account.told_at)
        self._timeline.end(row.worker_id, row.lost_at, "lost")

    def left(self, worker_id: str, at: float) -> None:
        """Take it that a worker has left, or that a lost one is no longer waited for."""
        self._accounts.pop(worker_id, None)
        self._timeline.end(worker_id, at, "absent")

    def sample(self, at: float, members: int, lost: int, *, live: bool) -> None:
        """Take a second's sums; call it once a second. While the core is not `live`, nothing is known of its lost."""
        # A lost worker whose place another has taken costs nobody time.
        self._seats = members if lost == 0 else max(self._seats, members)
        away = min(lost, max(0, self._seats - members))
        before = self._last_at
        if live and before is not None:
            self._sums["lost"] += away * min(2.0, max(0.0, at - before))
        self._last_at = at
        self._window.sample(at, dict(self._sums))

    def goodput(self, workers: int) -> Goodput:
        """Return the shares of the window; null while nobody has reported within it."""
        changes = {name: self._window.change(name) for name in self._sums}
        risen = {name: change[0] if change else 0.0 for name, change in changes.items()}
        total = risen["time"] + risen["lost"]
        risen["lost"] += risen["hung"]
        measured = risen["time"] > 0

        def share(name: str) -> float | None:
            return min(1.0, risen[name] / total) if measured else None

        training = share("training")
        return Goodput(
            window_s=WINDOW_S,
            percent=None if training is None else training * 100,
            training_share=training,
            data_share=share("data"),
            barrier_share=share("barrier"),
            checkpoint_share=share("checkpoint"),
            lost_share=share("lost"),
            measured_workers=self.reporting,
            workers=workers,
        )

    @property
    def covered_s(self) -> float:
        """How much of the window has been sampled."""
        change = self._window.change("time")
        return change[1] if change else 0.0

    def shares(self, worker_id: str) -> tuple[Mapping[str, float], float | None]:
        """Return the shares of a worker's last minute by phase, and its samples a second; empty, None: not reported."""
        account = self._accounts.get(worker_id)
        if account is None or account.spent is None or not account.reports:
            return {}, None
        before_at, before = account.reports[0]
        length = account.told_at - before_at
        if length <= 0:
            return {}, None
        now = account.spent
        shares = {phase: min(1.0, seconds / length) for phase, seconds in _risen(before, now).items()}
        samples = now.samples - before.samples
        return shares, None if samples < 0 else samples / length

    def _settle(self, worker_id: str, account: _Account, until: float, spent: Spent, *, hanging: bool) -> None:
        before = account.spent
        assert before is not None  # noqa: S101 - the caller has looked
        risen = _risen(before, spent)
        length = until - account.told_at
        if hanging:
            self._timeline.mark(worker_id, until, "lost")
        else:
            self._timeline.paint(worker_id, until, risen)
        if length > 0 and hanging:
            self._sums["hung"] += length
            self._sums["time"] += length
        elif length > 0:
            total = sum(risen.values())
            scale = min(1.0, length / total) if total > 0 else 1.0
            for phase, seconds in risen.items():
                self._sums[phase] += seconds * scale
            self._sums["time"] += length
        self._count_waits(spent, before)
        reports = account.reports
        if until < account.told_at - _BACK_S:
            reports.clear()
            reports.append((until, spent))
            account.told_at = until
        account.spent, account.told_at = spent, max(until, account.told_at)
        if until >= reports[-1][0] + _SPACING_S:
            reports.append((until, spent))
        while len(reports) > 1 and reports[1][0] <= until - WINDOW_S:
            reports.popleft()

    def _count_waits(self, spent: Spent, before: Spent | None) -> None:
        known: Sequence[int] = before.data_waits if before else ()
        for place, count in enumerate(spent.data_waits[: len(self.data_waits)]):
            self.data_waits[place] += max(0, count - (known[place] if place < len(known) else 0))


def _without(spent: Spent, hung_s: float) -> Spent:
    """Return totals without the training time that was none."""
    return msgspec.structs.replace(spent, training_s=max(0.0, spent.training_s - hung_s)) if hung_s else spent


def _risen(before: Spent, now: Spent) -> dict[str, float]:
    return {
        "data": max(0.0, now.data_s - before.data_s),
        "training": max(0.0, now.training_s - before.training_s),
        "barrier": max(0.0, now.barrier_s - before.barrier_s),
        "checkpoint": max(0.0, now.checkpoint_s - before.checkpoint_s),
    }
