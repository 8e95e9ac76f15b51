"""The bare echo: poll, drain up to 256 messages, send each back. The least that a server on pyzmq can do.

Run as `python -m strata_zmq.bench.loads.echo --ready-fd N`. Its loop is the coordinator's without a coordinator: the
same poll, drain and low-level calls, one frame in and one out. It is the limit of the coordinator suite.
"""

from __future__ import annotations

import argparse
import json
import os

import zmq

from strata_zmq.transport.sockets import CONTROL, bind, open_socket

__all__ = ["main"]

_DRAIN_MAX = 256
_POLL_MS = 50


def main() -> None:
    """Echo until ended by a signal."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ready-fd", type=int, required=True)
    ready_fd = parser.parse_args().ready_fd
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = open_socket(context, zmq.ROUTER, CONTROL)
    control = bind(router, "tcp://127.0.0.1:0")
    with os.fdopen(ready_fd, "w") as ready:
        ready.write(json.dumps({"control": control}) + "\n")
    _echo(router)


def _echo(router: zmq.Socket[bytes]) -> None:
    receive, send, again = router.recv, router.send, zmq.Again
    later, more_later = int(zmq.DONTWAIT), int(zmq.DONTWAIT | zmq.SNDMORE)
    while True:
        if not router.poll(_POLL_MS, zmq.POLLIN):
            continue
        batch = []
        for _ in range(_DRAIN_MAX):
            try:
                connection = receive(later)
            except again:
                break
            batch.append((connection, receive()))
        for connection, body in batch:
            try:
                send(connection, more_later)
                send(body, later)
            except zmq.ZMQError as error:
                # A client that has closed at the end of its round.
                if error.errno != zmq.EHOSTUNREACH:
                    raise


if __name__ == "__main__":
    main()
