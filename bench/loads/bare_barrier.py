"""The bare barrier: count arrivals, and answer all of them when the count is reached. The least a barrier can do.

Run as `python -m strata_zmq.bench.loads.bare_barrier --expected N --ready-fd N`. A body that begins with "?" is sent
back at once, so that a load can learn that what it sent before has been taken. It is the limit of the barrier suite.
"""

from __future__ import annotations

import argparse
import json
import os

import zmq

from strata_zmq.transport.sockets import CONTROL, bind, open_socket, raise_file_limit

__all__ = ["main"]

_DRAIN_MAX = 256
_POLL_MS = 50


def main() -> None:
    """Serve until ended by a signal."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--expected", type=int, required=True)
    parser.add_argument("--ready-fd", type=int, required=True)
    options = parser.parse_args()
    raise_file_limit(options.expected + 512)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = open_socket(context, zmq.ROUTER, CONTROL)
    control = bind(router, "tcp://127.0.0.1:0")
    with os.fdopen(options.ready_fd, "w") as ready:
        ready.write(json.dumps({"control": control}) + "\n")
    _serve(router, options.expected)


def _serve(router: zmq.Socket[bytes], expected: int) -> None:
    receive, send, again = router.recv, router.send, zmq.Again
    later, more_later = int(zmq.DONTWAIT), int(zmq.DONTWAIT | zmq.SNDMORE)
    arrived: list[bytes] = []
    while True:
        if not router.poll(_POLL_MS, zmq.POLLIN):
            continue
        for _ in range(_DRAIN_MAX):
            try:
                connection = receive(later)
            except again:
                break
            body = receive()
            if body[:1] == b"?":
                send(connection, more_later)
                send(body, later)
                continue
            arrived.append(connection)
            if len(arrived) == expected:
                for waiting in arrived:
                    send(waiting, more_later)
                    send(body, later)
                arrived.clear()


if __name__ == "__main__":
    main()
