"""What the tests of a dispatcher's clients share."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from remotekit import RouterDouble

from strata_zmq.domain.task import Outcome
from strata_zmq.functions.remote.engine import RemoteEngine


class Resolved:
    """A future's side of an engine: keeps what it is told."""

    def __init__(self, *, wanted: bool = True) -> None:
        self.wanted = wanted
        self.told: list[Outcome | BaseException] = []
        self._done = threading.Event()

    def begin(self) -> bool:
        return self.wanted

    def resolve(self, outcome: Outcome) -> None:
        self.told.append(outcome)
        self._done.set()

    def fail(self, error: BaseException) -> None:
        self.told.append(error)
        self._done.set()

    @property
    def done(self) -> bool:
        return self._done.is_set()

    def outcome(self, timeout_s: float = 30.0) -> Outcome:
        """Wait for the end; an error is raised."""
        assert self._done.wait(timeout_s), "no end was told"
        (told,) = self.told
        if isinstance(told, BaseException):
            raise told
        return told


@pytest.fixture
def resolver() -> type[Resolved]:
    return Resolved


@pytest.fixture
def router() -> Iterator[RouterDouble]:
    with RouterDouble() as double:
        yield double


@pytest.fixture
def engine(router: RouterDouble) -> Iterator[RemoteEngine]:
    made = RemoteEngine(router.endpoint)
    yield made
    made.shutdown(wait=True, cancel_pending=True)
