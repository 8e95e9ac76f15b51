"""The seeded simulation: the real core, conversation and checkpoint store under simulated time, network and crashes."""

from __future__ import annotations

from .faulty import InvariantError
from .simulation import Outcome, Simulation, simulate

__all__ = ["InvariantError", "Outcome", "Simulation", "simulate"]
