"""A right that expires unless renewed: plain arithmetic on times that the caller brings; reads no clock itself.

Times and durations are seconds on one process's monotonic clock: only durations mean anything in another process.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from strata_zmq.errors import InvalidArgumentError

__all__ = ["FREEZE_WORKERS_MIN", "Freeze", "Lease", "correlated_silence"]


@dataclass(frozen=True, slots=True)
class Lease:
    """A right that ends at `expires_at` and lasts `duration` seconds from each renewal."""

    expires_at: float
    duration: float

    def __post_init__(self) -> None:
        if not 0 < self.duration < float("inf"):
            raise InvalidArgumentError(f"duration is {self.duration} s: a lease needs a finite number above 0")

    @classmethod
    def grant(cls, now: float, duration: float) -> Lease:
        """Return a lease of `duration` seconds that starts at `now`."""
        return cls(now + duration, duration)

    def renew(self, now: float) -> Lease:
        """Return the lease as renewed at `now`; a late message never shortens it."""
        return Lease(max(self.expires_at, now + self.duration), self.duration)

    @property
    def commit_deadline(self) -> float:
        """The time after which the holder must not commit: two thirds of the way from renewal to expiry.

        The last third covers what the holder cannot see: the way of its last renewal, and the grantor's own delay.
        """
        return self.expires_at - self.duration / 3


FREEZE_WORKERS_MIN = 4
"""Fewer workers may well fall silent together by chance."""


@dataclass(frozen=True, slots=True)
class Freeze:
    """No lease ends before `until`: it is more likely that the grantor cannot hear than that all holders are gone."""

    until: float
    reason: str


def correlated_silence(now: float, expires_at: Iterable[float], duration: float, *, heard: int = 0) -> Freeze | None:
    """Decide whether leases of `duration` seconds should be frozen at `now`, when the first of them would end.

    Who is alive renews at least twice in a lease, so that a holder past the middle of its lease is silent. When most
    of at least four are silent and one of them would be lost now, the common cause is more likely here (a network
    that is cut, a machine that slept) than in each of them: everybody gets one more lease.

    `heard` counts further holders from whose places there was a sign, though not from themselves: their successors
    have come. They are gone, and they can be heard.
    """
    holders, silent, ended = heard, 0, 0
    for end in expires_at:
        holders += 1
        silent += end - now < duration / 2
        ended += end <= now
    if not ended or holders < FREEZE_WORKERS_MIN or silent * 2 <= holders:
        return None
    return Freeze(
        until=now + duration,
        reason=f"{silent} of {holders} workers are silent at once: it may be this coordinator that cannot hear, so "
        f"that nobody is declared lost for one more lease of {duration:g} s",
    )
