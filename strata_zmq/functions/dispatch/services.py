"""How long functions take, as measured, for as many as are worth remembering."""

from __future__ import annotations

from collections.abc import Sequence

from strata_zmq.domain.service import ServiceTime, credit

__all__ = ["Services"]

_FUNCTIONS_MAX = 10_000
_SAMPLES_MAX = 32
"""Of one batch; what came before them has no weight any more."""


class Services:
    """Service times by function; those that were measured longest ago are forgotten first."""

    def __init__(self) -> None:
        self._times: dict[bytes, ServiceTime] = {}

    def add(self, function: bytes, seconds: Sequence[float]) -> None:
        """Take the times of some calls of one function, in their order."""
        times = self._times
        # Taken out and put in again: the dict's order is that of the last measurement.
        service = times.pop(function, None)
        if service is None:
            service = ServiceTime()
            if len(times) >= _FUNCTIONS_MAX:
                del times[next(iter(times))]
        times[function] = service
        service.add_all(seconds if len(seconds) <= _SAMPLES_MAX else seconds[-_SAMPLES_MAX:])

    def credit(self, slots: int, function: bytes) -> int:
        """Return how many tasks a worker with `slots` children may hold when the next one is of this function."""
        return credit(slots, self._times.get(function))

    def expected_s(self, function: bytes) -> float:
        """Return how long a call takes, cautiously; 0.0 where nothing is known."""
        service = self._times.get(function)
        return service.expected_s if service is not None else 0.0
