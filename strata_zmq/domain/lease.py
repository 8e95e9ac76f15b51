"""A right that expires unless renewed: plain arithmetic on times that the caller brings; reads no clock itself.

Times and durations are seconds on one process's monotonic clock: only durations mean anything in another process.
"""

from __future__ import annotations

from dataclasses import dataclass

from strata_zmq.errors import InvalidArgumentError

__all__ = ["Lease"]


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

    def expired(self, now: float) -> bool:
        """Return whether the right has ended at `now`; its last moment is excluded."""
        return now >= self.expires_at

    @property
    def commit_deadline(self) -> float:
        """The time after which the holder must not commit: two thirds of the way from renewal to expiry.

        The last third covers what the holder cannot see: the way of its last renewal, and the grantor's own delay.
        """
        return self.expires_at - self.duration / 3
