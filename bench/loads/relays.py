"""Owns how the relays of many hosts are started to be measured: a few processes that hold some each; knows no barrier.

A process for each host would measure how one machine shares itself between a hundred of them.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from .process import child_process

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["relays"]

_PROCESSES = 2


@contextmanager
def relays(coordinator_url: str, hosts: int) -> Iterator[list[str]]:
    """Run a relay for each of so many hosts, and yield where each listens.

    The sockets lie in the system's folder for temporary files: a socket's path is short.
    """
    with tempfile.TemporaryDirectory(prefix="st-") as folder, ExitStack() as stack:
        endpoints: list[str] = []
        for process in range(_PROCESSES):
            listen = [f"--listen=ipc://{folder}/{host}" for host in range(process, hosts, _PROCESSES)]
            if listen:
                command = ("relay", f"--coordinator-url={coordinator_url}", *listen)
                endpoints += stack.enter_context(child_process("strata_zmq.workers", *command)).ready["listen"]
        yield endpoints
