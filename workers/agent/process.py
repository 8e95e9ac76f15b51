"""`python -m strata_zmq.workers relay`: one relay in a process of its own, so that nothing else delays a barrier.

Owns its options and signals; never knows who supervises it.
"""

from __future__ import annotations

import signal

import zmq

from strata_zmq.startup import Parser, add_coordinator, announce, log_to_stderr
from strata_zmq.transport.curve import CurveKeys
from strata_zmq.transport.endpoints import parse_endpoint
from strata_zmq.transport.sockets import raise_file_limit

from .server import Relays, RelayServer

__all__ = ["main"]

_FILES = 2048


def main(argv: list[str]) -> int:
    """Serve until SIGINT or SIGTERM; returns 0, or raises the error with which the coordinator refused the relay."""
    parser = Parser(prog="relay", description="Speak to the coordinator once for the workers of this host.")
    parser.add_argument(
        "--listen", action="append", required=True, help="where a host's workers connect, ipc:///path; again for more"
    )
    add_coordinator(parser)
    parser.add_argument("--job", default="", help="refuse to speak to the coordinator of another job")
    parser.add_argument("--ready-fd", type=int, default=-1, help="write one JSON line here when serving")
    options = parser.parse_args(argv)
    log_to_stderr()
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
        relays.serve(lambda: announce(options.ready_fd, listen=relays.endpoints))
    finally:
        relays.close()
        context.term()
    return 0
