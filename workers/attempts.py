"""When a save that failed is tried again, and after how long; it knows errors and numbers, and saves nothing."""

from __future__ import annotations

import random

from strata_zmq.errors import (
    DeadlineExceededError,
    DurabilityError,
    ResourceExhaustedError,
    StaleGenerationError,
    StrataError,
)

__all__ = ["ATTEMPTS_MAX", "Attempts"]

ATTEMPTS_MAX = 4
_BACK_OFF_S = 0.1
_BACK_OFF_MAX_S = 10.0
_FINAL = (DurabilityError, DeadlineExceededError, ResourceExhaustedError, StaleGenerationError)
"""What trying again at once does not mend, although the same call may succeed one day."""


class Attempts:
    """The rule: at most `ATTEMPTS_MAX`, each wait twice as long as the one before, a random part of it left out."""

    def __init__(self) -> None:
        self._random = random.Random()  # noqa: S311 - spreads retries, no secret

    @staticmethod
    def may_help(attempts: int, error: StrataError) -> bool:
        """Say whether another attempt may end otherwise than the last one, which was number `attempts`."""
        return attempts < ATTEMPTS_MAX and error.retryable and not isinstance(error, _FINAL)

    def wait_s(self, attempts: int) -> float:
        """Return how long to wait after attempt number `attempts`, in seconds."""
        whole: float = min(_BACK_OFF_S * 2 ** (attempts - 1), _BACK_OFF_MAX_S)
        return whole * self._random.uniform(0.5, 1.0)
