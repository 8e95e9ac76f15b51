"""The one error of the simulation: something that must always hold did not."""

from __future__ import annotations

__all__ = ["InvariantError", "require"]


class InvariantError(AssertionError):
    """A promise was broken; the message says which."""


def require(true: bool, otherwise: str) -> None:
    """Raise InvariantError unless it is true."""
    if not true:
        raise InvariantError(otherwise)
