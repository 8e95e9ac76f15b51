"""Bare sockets of the transport layer, closed after each test, and folders that are short enough for ipc paths."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from strata_zmq.transport.sockets import CONTROL, open_socket

Open = Callable[..., "zmq.Socket[bytes]"]


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    """A context that ends after all of the test's sockets."""
    context: zmq.Context[Any] = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def opened(context: zmq.Context[Any]) -> Iterator[Open]:
    """`opened(kind, **options)` gives a socket made by open_socket, by default with the control plane's limits."""
    made: list[zmq.Socket[bytes]] = []

    def make(kind: int, **options: Any) -> zmq.Socket[bytes]:
        made.append(open_socket(context, kind, options.pop("limits", CONTROL), **options))
        return made[-1]

    yield make
    for socket in made:
        socket.close()


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A private folder with a short name: a socket's path has 107 bytes at most."""
    folder = Path(tempfile.mkdtemp(prefix="st-"))
    yield folder
    shutil.rmtree(folder)
