"""The dashboard as sections, kept in step with what cores show. It knows no socket, no listener and no clock.

`fold` takes what messages have changed, row by row. `sample` is called once a second for what depends on time alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Any

from strata_zmq import __version__
from strata_zmq.protocol.sight_rows import CheckpointSight, ReleaseSight, WorkerSight

from . import translate
from .feed import Feed
from .figures import Figures
from .goodput import WorkerTimes
from .picture import Touched
from .ports import JobsPort, LogBookPort, VaultPort
from .rows import (
    Barrier,
    BarrierStatistics,
    Coordinator,
    Event,
    Functions,
    LogLine,
    Setting,
    ShardShare,
    Source,
    Worker,
)
from .sections import Lines, Rows, Value
from .timeline import TimelineStore
from .translate import millis

__all__ = ["BARRIERS_MAX", "EVENTS_MAX", "LOGS_MAX", "RELEASES_KEPT", "Board", "source_of"]

BARRIERS_MAX = 256
"""Ended barriers in the list; the timeline and the figures know more of them."""
EVENTS_MAX = 1000
LOGS_MAX = 200
RELEASES_KEPT = 20_000
"""Ended barriers for the timeline's marks."""
_ABORTED_MAX = 32
_LAST_MAX = 5
_LOGS_A_TURN = 200
_UNRANKED = 2**62


def source_of(feed: Feed) -> Source:
    """Tell whether what is known of a core is of now, of then, or nothing."""
    if not feed.heard_at:
        return "waiting"
    return "live" if feed.connected else "stale"


class Board:
    """All sections of a dashboard, by the names that `models.Dashboard` has for them."""

    def __init__(
        self,
        coordinator: Feed,
        dispatcher: Feed,
        *,
        logs: LogBookPort,
        jobs: JobsPort,
        vault: VaultPort,
        settings: Sequence[Setting],
        timeline: TimelineStore,
    ) -> None:
        self._coordinator, self._dispatcher = coordinator, dispatcher
        self._logs, self._jobs, self._vault = logs, jobs, vault
        self._own_settings = list(settings)
        self.figures = Figures()
        self.times = WorkerTimes(timeline)
        self.releases: deque[ReleaseSight] = deque(maxlen=RELEASES_KEPT)
        self.aborted: dict[str, tuple[float, CheckpointSight]] = {}
        """The last checkpoints that were given up, and when that was told."""
        self._known: dict[str, WorkerSight] = {}
        """The last row of each worker that is there or lost."""
        self._read: dict[str, tuple[str, int]] = {}
        """By log of a core: of which life, and up to which number it was read."""
        self._ended: deque[str] = deque()
        self._event_number = 0
        self.event_counts: dict[str, int] = {}
        """Events of each kind that this process has seen."""
        self._log_number = 0
        self._jobs_version = self._vault_version = -1
        self.coordinator = Value(self._coordinator_row(0.0))
        self.workers = Rows(_by_rank)
        self.datasets = Rows()
        self.checkpoints = Rows(lambda row: (-row.created_at, row.id))
        self.barriers = Rows(_open_first)
        self.metrics = Value(self.figures.metrics([], None))
        self.tasks = Rows(lambda row: (row.origin != "coordinator", -(row.created_at or 0), row.id))
        self.logs = Lines(LOGS_MAX)
        self.goodput = Value(self.times.goodput(0))
        self.alerts = Value([])
        self.barrier_statistics = Value(self._statistics([]))
        self.hangs = Value([])
        self.rebalances = Value([])
        self.certificates = Value([])
        self.events = Lines(EVENTS_MAX)
        self.functions = Value(self._functions_row())
        self.settings = Value(self._own_settings)
        self.templates = Value([])

    # ---- what messages have changed --------------------------------------------------------------------------------

    def fold(self, touched: Touched, now: float) -> None:
        """Take the changes of both cores' pictures."""
        self._fold_workers(touched, now)
        self._fold_rows(touched)
        self._fold_checkpoints(touched.get("checkpoints", set()))
        self._fold_barriers(touched)
        if "events" in touched:
            for feed in (self._coordinator, self._dispatcher):
                self._read_events(feed)
        if touched.keys() & {"functions", "function_workers"}:
            self.functions.put(self._functions_row())
        if "settings" in touched:
            told = [
                translate.setting(row, feed.origin)
                for feed in (self._coordinator, self._dispatcher)
                for row in feed.picture.tables["settings"].values()
            ]
            self.settings.put([*told, *self._own_settings])

    def _fold_workers(self, touched: Touched, now: float) -> None:
        picture = self._coordinator.picture
        workers, lost, hangs = (picture.tables[name] for name in ("workers", "lost", "hangs"))
        heartbeat_s = picture.job.heartbeat_s if picture.job is not None else 5.0
        told = touched.get("workers", set())
        for key in sorted(told | touched.get("lost", set()) | touched.get("hangs", set())):
            row = workers.get(key)
            if row is not None:
                if key in told:
                    self._known[key] = row
                    self.times.heard(row, heartbeat_s, hanging=key in hangs)
                shares, samples = self.times.shares(key)
                self.workers.put(key, translate.worker(row, hanging=key in hangs, shares=shares, samples_per_s=samples))
            elif key in lost:
                self.times.lost(lost[key])
                self.workers.put(key, translate.lost_worker(lost[key], self._known.get(key)))
            elif key in self._known or key in self.workers.models:
                self._known.pop(key, None)
                self.times.left(key, now)
                self.workers.drop(key)

    def _fold_rows(self, touched: Touched) -> None:
        tables = self._coordinator.picture.tables
        for key in sorted(touched.get("datasets", ())):
            row = tables["datasets"].get(key)
            if row is None:
                self.datasets.drop(key)
            else:
                self.datasets.put(key, translate.dataset(row))
        if touched.keys() & {"hangs", "stacks"}:
            stacks = tables["stacks"]
            self.hangs.put([translate.hang(row, stacks.get(key)) for key, row in sorted(tables["hangs"].items())])
        if "rebalances" in touched:
            rows = sorted(tables["rebalances"].values(), key=lambda row: row.generation)
            self.rebalances.put([translate.rebalance(row) for row in rows])
        if "certificates" in touched:
            rows = sorted(tables["certificates"].values(), key=lambda row: (row.dataset_id, row.epoch))
            self.certificates.put([translate.certificate(row) for row in rows])

    def notice(self, touched: Touched, now: float) -> Touched:
        """Take what a message has told that the next one may take away again; called at each. Returns what else the
        next fold has to look at. Nothing that is shown changes before it.
        """
        passed = set()
        for key in sorted(touched.get("checkpoints", ())):
            row = self._coordinator.picture.tables["checkpoints"].get(key)
            if row is None or row.status != "aborted" or key in self.aborted:
                continue
            self.aborted[key] = (now, row)
            if len(self.aborted) > _ABORTED_MAX:
                oldest = next(iter(self.aborted))
                del self.aborted[oldest]
                passed.add(oldest)
        return {"checkpoints": passed} if passed else {}

    def _fold_checkpoints(self, keys: set[str]) -> None:
        stored = self._vault.rows()
        for key in sorted(keys):
            row = self._coordinator.picture.tables["checkpoints"].get(key)
            if row is None and key in self.aborted:
                row = self.aborted[key][1]  # it was told once, and stays in sight while it is among the last of them
            if row is None:
                self.checkpoints.drop(key)
            else:
                self.checkpoints.put(key, translate.checkpoint(row, stored.get(key)))

    def _fold_barriers(self, touched: Touched) -> None:
        picture = self._coordinator.picture
        for key in sorted(touched.get("barriers", ())):
            row = picture.tables["barriers"].get(key)
            if row is not None:
                self.barriers.put(key, translate.barrier_open(row))
            elif (shown := self.barriers.models.get(key)) is not None and shown.status == "waiting":
                self.barriers.drop(key)
        if "releases" in touched:
            for release in self._unread("releases", self._coordinator):
                self.releases.append(release)
                self.figures.released(release)
                if release.barrier_id in picture.tables["barriers"]:
                    continue  # it was opened again
                if release.barrier_id not in self._ended:
                    self._ended.append(release.barrier_id)
                self.barriers.put(release.barrier_id, translate.barrier_release(release))
            while len(self._ended) > BARRIERS_MAX:
                oldest = self._ended.popleft()
                shown = self.barriers.models.get(oldest)  # opened again and gone without a word, it is there no more
                if shown is not None and shown.status == "complete":
                    self.barriers.drop(oldest)

    def _read_events(self, feed: Feed) -> None:
        for row in self._unread("events", feed):
            self.note(translate.event(row, self._event_number + 1, feed.origin))

    def note(self, event: Event) -> None:
        """Add an event under the next number."""
        self._event_number += 1
        self.event_counts[event.kind] = self.event_counts.get(event.kind, 0) + 1
        event.number = self._event_number
        self.events.append(event)
        if self._logs.wants_events:
            fields = {"kind": event.kind, "subject": event.subject}
            self._logs.append(
                LogLine(
                    number=0,
                    timestamp=event.at,
                    level=event.level,
                    source=event.origin,
                    message=event.text,
                    fields={name: value for name, value in fields.items() if value},
                )
            )

    def _unread(self, log: str, feed: Feed) -> list[Any]:
        """Return the rows of a log that were not read yet: after a gap, a snapshot tells many again."""
        rows = feed.picture.logs[log]
        life, number = self._read.get(f"{feed.origin}/{log}", ("", 0))
        if life != feed.picture.life:
            number = 0
        new = []
        for row in reversed(rows):
            if row.number <= number:
                break
            new.append(row)
        if rows:
            self._read[f"{feed.origin}/{log}"] = (feed.picture.life, rows[-1].number)
        new.reverse()
        return new

    # ---- what time alone changes -------------------------------------------------------------------------------------

    @property
    def outdated(self) -> bool:
        """Whether jobs or the store have something new: it is shown with the next turn."""
        return (self._jobs.version, self._vault.version) != (self._jobs_version, self._vault_version)

    def read_ports(self) -> None:
        """Take what the log book, the jobs and the store have that is new."""
        lines = self._logs.since(self._log_number, _LOGS_A_TURN)
        for line in lines:
            self.logs.append(line)
        if lines:
            self._log_number = lines[-1].number
        if self._jobs.version != self._jobs_version:
            self._jobs_version = self._jobs.version
            self.templates.put(list(self._jobs.templates()))
        if self._vault.version != self._vault_version:
            self._vault_version = self._vault.version
            stored = self._vault.rows()
            for key, row in self._coordinator.picture.tables["checkpoints"].items():
                self.checkpoints.put(key, translate.checkpoint(row, stored.get(key)))
        rows = {row.id: row for row in self._jobs.rows()}
        own = self._coordinator.picture.job
        if own is not None and own.job not in rows:
            live = source_of(self._coordinator) == "live"
            members = self._members()
            rows[own.job] = translate.training(own, members, live=live, stoppable=self._jobs.stops_training)
        for key in self.tasks.models.keys() - rows.keys():
            self.tasks.drop(key)
        for key, job in rows.items():
            self.tasks.put(key, job)

    def show_cores(self, now: float) -> None:
        """Take whether the cores are there."""
        self.coordinator.put(self._coordinator_row(now))
        self.functions.put(self._functions_row())

    def sample(self, now: float) -> None:
        """Take one second's figures."""
        live = source_of(self._coordinator) == "live"
        picture, plane = self._coordinator.picture, self._dispatcher.picture
        self.figures.sample(now, picture if live else None, self.times.data_waits)
        self.figures.sample_functions(now, plane if self._dispatcher.connected else None)
        lost = len(picture.tables["lost"])
        self.times.sample(now, self._members(), lost, live=live)
        workers = list(self.workers.models.values())
        self.goodput.put(self.times.goodput(len(workers)))
        self.metrics.put(self.figures.metrics(workers, picture if live else None))
        self.barrier_statistics.put(self._statistics(workers))
        self.functions.put(self._functions_row())

    def _members(self) -> int:
        return sum(row.rank >= 0 for row in self._coordinator.picture.tables["workers"].values())

    def _statistics(self, workers: Sequence[Worker]) -> BarrierStatistics:
        counted = [one for one in workers if one.last_at_barriers]
        counted.sort(key=lambda one: (-one.last_at_barriers, one.id))
        most = [ShardShare(worker_id=one.id, shards=one.last_at_barriers) for one in islice(counted, _LAST_MAX)]
        return self.figures.barrier_statistics(most)

    def _coordinator_row(self, now: float) -> Coordinator:
        feed = self._coordinator
        job, source = feed.picture.job, source_of(feed)
        at = now if source == "live" else feed.heard_at
        return Coordinator(
            connected=source == "live",
            address=feed.address,
            uptime=None if job is None else float(max(0, int(at - job.started_at))),
            version=job.version if job else None,
            since=millis(feed.heard_at) if source == "stale" else None,
            source=source,
            simulated=feed.simulated or self._dispatcher.simulated,
            job=job.job if job else None,
            term=job.term if job else None,
            generation=job.generation if job else None,
            formed=job.formed if job else None,
            epoch=job.epoch if job else None,
            commit_index=job.commit_index if job else None,
            world_size=job.world_size if job else None,
            need=job.need if job else None,
            have=job.have if job else None,
            pending=job.pending if job else "",
            frozen=job.frozen if job else "",
            lease_s=job.lease_s if job else None,
            heartbeat_s=job.heartbeat_s if job else None,
            started_at=millis(job.started_at) if job else None,
            api_version=__version__,
            dispatcher=self._dispatcher.address or None,
        )

    def _functions_row(self) -> Functions:
        feed = self._dispatcher
        row, source = feed.picture.functions, source_of(feed)
        workers = feed.picture.tables["function_workers"]
        told = [translate.function_worker(one) for one in workers.values()]
        told.sort(key=lambda one: (one.worker_id, one.id))
        accepted, completed, failed = self.figures.function_rates()
        return Functions(
            connected=source == "live",
            address=feed.address,
            since=millis(feed.heard_at) if source == "stale" else None,
            mode=row.mode if row else None,
            store=row.store if row else None,
            queued=row.queued if row else None,
            running=row.running if row else None,
            ended=row.ended if row else None,
            slots=row.slots if row else None,
            queued_bytes=row.queued_bytes if row else None,
            result_bytes=row.result_bytes if row else None,
            accepted_total=row.accepted_total if row else None,
            completed_total=row.completed_total if row else None,
            failed_total=row.failed_total if row else None,
            cancelled_total=row.cancelled_total if row else None,
            requeued_total=row.requeued_total if row else None,
            late_results=row.late_results if row else None,
            accepted_per_s=accepted,
            completed_per_s=completed,
            failed_per_s=failed,
            workers=told,
        )


def _by_rank(row: Worker) -> tuple[int, str]:
    return (row.rank if row.rank is not None else _UNRANKED, row.id)


def _open_first(row: Barrier) -> tuple[bool, int, str]:
    return (row.status != "waiting", -(row.ended_at or row.created_at), row.id)
