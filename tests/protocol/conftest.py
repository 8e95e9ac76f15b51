"""A real coordinator in a process of its own, for clients that know the protocol and nothing else of Strata."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq
from processkit.served import Served

Start = Callable[..., "Coordinator"]


class Coordinator(Served):
    """One coordinator process; `control` and `broadcast` are its endpoints."""

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(
            folder / "log",
            *("strata_zmq.coordinator", "--journal", str(folder / "journal.sqlite")),
            *("--control", f"ipc://{folder}/control", "--broadcast", f"ipc://{folder}/broadcast"),
            *options,
        )
        self.control, self.broadcast = self.told["control"], self.told["broadcast"]
        assert self.told["pid"] == self.pid


@contextmanager
def coordinators() -> Iterator[Start]:
    folder = Path(tempfile.mkdtemp(prefix="st-"))  # short: a socket's path has 107 bytes at most
    started: list[Coordinator] = []

    def start(*options: str) -> Coordinator:
        started.append(Coordinator(folder, *options))
        return started[-1]

    try:
        yield start
    finally:
        for one in started:
            one.kill()
        shutil.rmtree(folder)


@pytest.fixture
def start_coordinator() -> Iterator[Start]:
    """`start_coordinator(*options)` starts one in a folder that all of a test's coordinators share."""
    with coordinators() as start:
        yield start


@pytest.fixture(scope="module")
def lasting_coordinator() -> Iterator[Coordinator]:
    """One coordinator for all tests of a file; in the end it must stop when it is asked to, without a traceback."""
    with coordinators() as start:
        one = start()
        yield one
        assert one.process.poll() is None
        one.stop()


@pytest.fixture
def new_socket() -> Iterator[Callable[[int], zmq.Socket[bytes]]]:
    """`new_socket(kind)` gives a bare ZeroMQ socket that is closed after the test."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    made: list[zmq.Socket[bytes]] = []

    def make(kind: int) -> zmq.Socket[bytes]:
        made.append(context.socket(kind))
        made[-1].setsockopt(zmq.LINGER, 0)
        return made[-1]

    yield make
    for socket in made:
        socket.close()
    context.term()
