"""Which of several ways to the coordinator a client takes: the host's agent while it answers, else the next.

It knows endpoints and times, no sockets: the client tells it what it sees, and is told when to change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

__all__ = ["Route"]

_CONNECT_S = 0.5
"""How long a way may take to have a connection before the next is tried."""
_OPENING_S = 1.0
"""How long it may take to answer on a connection before the client is taken in."""
_SILENCE_MIN_S = 1.0
_RETURN_FIRST_S = 2.0
_RETURN_MAX_S = 60.0
_STEADY_S = 10.0
_NEVER = float("inf")


class Route:
    """The endpoints in order of preference, and the one in use.

    A way that has no connection, or gives no answer, is left for the next; the first is tried again after a while,
    later each time that it does not hold. `reachable` looks whether an endpoint could be there at all.
    """

    def __init__(
        self, endpoints: Sequence[str], random: Random, now: float, reachable: Callable[[str], bool] = lambda _: True
    ) -> None:
        self._endpoints = tuple(endpoints)
        self._random = random
        self._reachable = reachable
        self._at = 0
        self._since = now
        self._down_since = now
        self._return_s = _RETURN_FIRST_S
        self._return_at = _NEVER
        if len(self._endpoints) > 1 and not reachable(self.endpoint):
            self._move(now)

    @property
    def endpoint(self) -> str:
        """The one in use."""
        return self._endpoints[self._at]

    def connected(self) -> None:
        """Hear that there is a connection."""
        self._down_since = _NEVER

    def disconnected(self, now: float) -> None:
        """Hear that there is none any more."""
        self._down_since = min(self._down_since, now)

    def check(self, now: float, *, introduced: bool, silent_s: float, heartbeat_s: float) -> bool:
        """Return whether the client has to go on with another endpoint, which is then the one in use.

        `silent_s` says for how long nothing was heard although something was asked.
        """
        if len(self._endpoints) == 1:
            return False
        limit_s = max(2 * heartbeat_s, _SILENCE_MIN_S) if introduced else _OPENING_S
        if now - self._down_since >= _CONNECT_S or min(silent_s, now - self._since) >= limit_s:
            if self._at == 0 and now - self._since >= _STEADY_S:
                self._return_s = _RETURN_FIRST_S
            self._move(now)
            return True
        if now >= self._return_at:
            if self._reachable(self._endpoints[0]):
                self._at, self._since, self._down_since, self._return_at = 0, now, now, _NEVER
                return True
            self._plan_return(now)
        return False

    def next_due(self, now: float) -> float:
        """Return when `check` has to be asked again at the latest."""
        if len(self._endpoints) == 1:
            return _NEVER
        return max(now, min(self._return_at, self._down_since + _CONNECT_S, now + _CONNECT_S))

    def _move(self, now: float) -> None:
        for _ in self._endpoints:
            self._at = (self._at + 1) % len(self._endpoints)
            if self._reachable(self.endpoint):
                break
        self._since = self._down_since = now
        if self._at == 0:
            self._return_at = _NEVER
        elif self._return_at == _NEVER:
            self._plan_return(now)

    def _plan_return(self, now: float) -> None:
        self._return_at = now + self._return_s * self._random.uniform(0.75, 1.25)
        self._return_s = min(self._return_s * 2, _RETURN_MAX_S)
