"""The dispatcher's core by hand: one call an event, and a clock that only the test moves."""

from __future__ import annotations

from .driver import Driver, call, named

__all__ = ["Driver", "call", "named"]
