"""Executors for tests: made with what a test asks for, and ended even when it fails."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from strata_zmq import StrataExecutor

if TYPE_CHECKING:
    from collections.abc import Iterator


class MakeExecutor(Protocol):
    """`executor(2)`, or with any argument of StrataExecutor; `context` names a start method."""

    def __call__(self, workers: int = 2, *, context: str = "fork", **options: Any) -> StrataExecutor: ...


@pytest.fixture
def executor() -> Iterator[MakeExecutor]:
    """Make executors; each is shut down at the end."""
    made: list[StrataExecutor] = []

    def make(workers: int = 2, *, context: str = "fork", **options: Any) -> StrataExecutor:
        made.append(StrataExecutor(workers, mp_context=multiprocessing.get_context(context), **options))
        return made[-1]

    yield make
    for one in made:
        one.shutdown(cancel_futures=True)
