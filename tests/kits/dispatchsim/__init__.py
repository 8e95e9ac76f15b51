"""The dispatcher's core in a simulated cluster: clients, workers, faults and crashes, each run from one seed."""

from __future__ import annotations

from .simulation import BrokenPromiseError, Run, simulate

__all__ = ["BrokenPromiseError", "Run", "simulate"]
