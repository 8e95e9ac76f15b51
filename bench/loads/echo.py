"""The bare echo: poll, drain up to 256 messages, send each back. The least that a server on pyzmq can do.

Run as `python -m strata_zmq.bench.loads.echo --ready-fd N [--journal FILE]`. Its loop is the coordinator's without a
coordinator: the same poll, drain and low-level calls, one frame in and one out; with `--journal`, every drained batch
is on disk before it is sent back. It is the limit of the coordinator suite.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
from typing import TYPE_CHECKING

import zmq

from strata_zmq.transport.sockets import CONTROL, bind, open_socket, raise_file_limit

if TYPE_CHECKING:
    from collections.abc import Callable

    Keep = Callable[[list[tuple[bytes, bytes]]], None]

__all__ = ["main"]

_DRAIN_MAX = 256
_POLL_MS = 50
_FILES = 4096


def main() -> None:
    """Echo until ended by a signal."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ready-fd", type=int, required=True)
    parser.add_argument("--journal", help="keep every batch in this SQLite file before it is sent back")
    options = parser.parse_args()
    raise_file_limit(_FILES)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = open_socket(context, zmq.ROUTER, CONTROL)
    control = bind(router, "tcp://127.0.0.1:0")
    keep = _journal(options.journal) if options.journal else None
    with os.fdopen(options.ready_fd, "w") as ready:
        ready.write(json.dumps({"control": control}) + "\n")
    _echo(router, keep)


def _journal(path: str) -> Keep:
    """Return what writes a batch as one durable transaction: the write-ahead log, flushed at every commit."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE kept (id INTEGER PRIMARY KEY, body BLOB)")

    def keep(batch: list[tuple[bytes, bytes]]) -> None:
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO kept (body) VALUES (?)", [(body,) for _, body in batch])
        connection.execute("COMMIT")

    return keep


def _echo(router: zmq.Socket[bytes], keep: Keep | None) -> None:
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
        if keep is not None:
            keep(batch)
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
