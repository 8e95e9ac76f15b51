"""Waiting with a deadline, for what a test cannot be told of."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

__all__ = ["until"]

T = TypeVar("T")


def until(predicate: Callable[[], T], timeout_s: float = 30.0, message: object = "") -> T:
    """Poll until `predicate()` is true and return its value; fail with `message` where it has not come true in time."""
    deadline = time.monotonic() + timeout_s
    while not (value := predicate()):
        if time.monotonic() >= deadline:
            pytest.fail(f"not within {timeout_s:g} s: {message or predicate}; last value {value!r}")
        time.sleep(0.01)
    return value
