"""The limits of one dispatcher's core, and the totals that it can be asked for; nothing of how they are kept."""

from __future__ import annotations

from dataclasses import dataclass, fields

from strata_zmq.errors import InvalidArgumentError

__all__ = ["CoreConfig", "CoreCounts"]


@dataclass(frozen=True, slots=True)
class CoreConfig:
    """What a dispatcher allows, and how long it waits. Seconds, bytes and counts; `inf` seconds is never."""

    lease_s: float = 5.0
    """A worker that says nothing for this long is lost."""
    client_lease_s: float = 30.0
    """The same for a client; its shell watches it and says `Detached`."""
    queue_tasks_max: int = 1_000_000
    """How many tasks may be accepted and unfinished."""
    queue_bytes_max: int = 2 * 2**30
    """How many bytes of payload unfinished tasks may have in all."""
    client_tasks_max: int = 0
    """How many unfinished tasks one client may have; 0: as many as all together."""
    results_bytes_max: int = 2**30
    """How many bytes of results are kept; beyond, those that ended first go first."""
    results_max: int = 1_000_000
    """How many results are kept, likewise."""
    tombstone_s: float = 3600.0
    """How long a task whose result is gone is still known, as EXPIRED; 0: not at all."""
    tombstones_max: int = 100_000
    """How many of those at most; the oldest go first."""
    key_keep_s: float = 86_400.0
    """How long an idempotency key stands for its task."""
    keys_max: int = 1_000_000
    """How many keys at most; the oldest go first."""
    unseen_s: float = 86_400.0
    """How long a result with `keep_s` 0 waits for a submitter that does not fetch it."""
    forget_delivered: bool = False
    """Whether what is delivered counts as seen: for clients in this process, to whom no delivery is lost."""
    quarantine_deaths: int = 5
    """How many children have to die in a row in one function, over all tasks, before it is refused."""
    quarantine_s: float = 60.0
    """For how long it is refused; the first death after that begins it anew."""
    stall_s: float = 0.02
    """How long nothing ends at a worker before its prefetched tasks are asked back for idle ones."""
    worker_bytes_max: int = 256 * 2**20
    """How many bytes of payload one worker may hold, unless it holds one task alone."""
    wall_offset_s: float = 0.0
    """What is added to the monotonic clock of `step` to get seconds since the epoch, for records."""

    def __post_init__(self) -> None:
        for field in fields(self):
            least = 1 if field.name in _AT_LEAST_ONE else 0
            value = getattr(self, field.name)
            if field.name != "wall_offset_s" and not value >= least:
                raise InvalidArgumentError(f"{field.name} is {value}: give at least {least}")
        if self.lease_s == 0:
            raise InvalidArgumentError("lease_s is 0: give the seconds after which a silent worker is lost, or inf")


_AT_LEAST_ONE = {"queue_tasks_max", "quarantine_deaths", "results_max"}


@dataclass(frozen=True, slots=True)
class CoreCounts:
    """How much there is: tasks by state (`ended` are those whose result is kept), workers, their slots, bytes, totals.

    Of those that have ended, the ones that neither failed nor were cancelled are completed. `requeued_total` counts how
    often a task that a worker had was put back to wait, `late_results` outcomes that were refused because their attempt
    was no longer the task's.
    """

    queued: int
    running: int
    ended: int
    workers: int
    slots: int
    queued_bytes: int
    result_bytes: int
    accepted_total: int
    ended_total: int
    late_results: int
    failed_total: int
    cancelled_total: int
    requeued_total: int
