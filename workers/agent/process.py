"""`python -m strata_zmq.workers relay`: one relay in a process of its own, so that nothing else delays a barrier.

Owns its options and signals; never knows who supervises it.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
from typing import NoReturn

import zmq

from strata_zmq.errors import InvalidArgumentError
from strata_zmq.transport.curve import CurveKeys
from strata_zmq.transport.endpoints import parse_endpoint
from strata_zmq.transport.sockets import raise_file_limit

from .server import Relays, RelayServer

__all__ = ["main"]

_FILES = 2048


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InvalidArgumentError(f"{message} ({self.prog} --help)")


def main(argv: list[str]) -> int:
    """Serve until SIGINT or SIGTERM; returns 0, or raises the error with which the coordinator refused the relay."""
    parser = _Parser(prog="relay", description="Speak to the coordinator once for the workers of this host.")
    parser.add_argument(
        "--listen", action="append", required=True, help="where a host's workers connect, ipc:///path; again for more"
    )
    parser.add_argument("--coordinator-url", default=os.environ.get("COORDINATOR_URL", "localhost:50051"))
    parser.add_argument("--job", default="", help="refuse to speak to the coordinator of another job")
    parser.add_argument("--ready-fd", type=int, default=-1, help="write one JSON line here when serving")
    options = parser.parse_args(argv)
    level = os.environ.get("STRATA_LOG", "info").upper()
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        level=level if level in {"DEBUG", "INFO", "WARNING", "ERROR"} else "INFO",
    )
    raise_file_limit(_FILES)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 2 * len(options.listen) + 16)
    relays = Relays()
    try:
        for listen in options.listen:
            relays.add(
                RelayServer(
                    context,
                    parse_endpoint(listen, field="--listen", default_port=0),
                    parse_endpoint(options.coordinator_url),
                    job=options.job,
                    keys=CurveKeys.from_environment(),
                )
            )
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: relays.stop())
        relays.serve(lambda: _announce(options.ready_fd, relays.endpoints))
    finally:
        relays.close()
        context.term()
    return 0


def _announce(ready_fd: int, endpoints: list[str]) -> None:
    if ready_fd < 0:
        return
    try:
        with os.fdopen(ready_fd, "w") as ready:
            ready.write(json.dumps({"listen": endpoints, "pid": os.getpid()}) + "\n")
    except OSError as error:
        raise InvalidArgumentError(f"--ready-fd {ready_fd} cannot be written: {error.strerror}") from None
