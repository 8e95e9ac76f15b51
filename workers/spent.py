"""Where one worker's time goes, by its own account: a running total of seconds for each phase. It decides nothing.

The training thread says which phase begins; heartbeats read the totals on another thread.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from threading import Lock
from typing import Literal

from strata_zmq.protocol.fields import DATA_WAIT_BOUNDS_S, Spent, WorkerState

__all__ = ["Phase", "SpentMeter", "phase_of"]

Phase = Literal["training", "data", "barrier", "checkpoint", "other"]
"""A step's own work; waiting for a batch; waiting for the other ranks; the call of a save; none of these."""

_OF_STATE: dict[WorkerState, Phase] = {"TRAINING": "training", "LOADING_DATA": "data", "CHECKPOINTING": "checkpoint"}


def phase_of(state: WorkerState) -> Phase:
    """Return the phase in which a worker of this state is, while it does not wait for the others."""
    return _OF_STATE.get(state, "other")


class SpentMeter:
    """Adds up the time between changes of phase. `clock` returns seconds and only rises; thread-safe."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = Lock()
        self._phase: Phase = "other"
        self._since: float | None = None
        self._totals: dict[Phase, float] = dict.fromkeys(("training", "data", "barrier", "checkpoint", "other"), 0.0)
        self._samples = 0
        self._batches = 0
        self._waits = [0] * (len(DATA_WAIT_BOUNDS_S) + 1)

    def enter(self, phase: Phase) -> Phase:
        """Begin a phase and return the one that it ends."""
        with self._lock:
            before = self._phase
            if phase != before:
                self._settle()
                self._phase = phase
            return before

    def waited_for_data(self, seconds: float) -> None:
        """Count one wait for a batch by its length."""
        with self._lock:
            self._waits[bisect_left(DATA_WAIT_BOUNDS_S, seconds)] += 1

    def handed_out(self, samples: int) -> None:
        """Count a batch that the training code was given."""
        with self._lock:
            self._batches += 1
            self._samples += samples

    def report(self) -> Spent | None:
        """Return the totals up to now, the phase that goes on included; None before the first phase."""
        with self._lock:
            if self._since is None:
                return None
            self._settle()
            totals = self._totals
            return Spent(
                training_s=totals["training"],
                data_s=totals["data"],
                barrier_s=totals["barrier"],
                checkpoint_s=totals["checkpoint"],
                samples=self._samples,
                batches=self._batches,
                data_waits=list(self._waits),
            )

    def _settle(self) -> None:
        now = self._clock()
        if self._since is not None:
            self._totals[self._phase] += max(0.0, now - self._since)
        self._since = now
