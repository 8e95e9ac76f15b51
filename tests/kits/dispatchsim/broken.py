"""The error that says which promise did not hold, and in which run."""

from __future__ import annotations

__all__ = ["BrokenPromiseError"]


class BrokenPromiseError(AssertionError):
    """A promise of the core does not hold. The message names the seed."""
