"""Owns the producing ends of the feed suite: batches from distinct sources, over the ring, ZeroMQ or a queue, for ever.

Run as `python -m strata_zmq.bench.loads.batches ring|zmq ... --ready-fd N`. A batch is one byte, its mark, throughout,
so that the consumer can tell that the right one arrived whole.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
import zmq

from strata_zmq.errors import PeerLostError
from strata_zmq.feed.peer import Peer
from strata_zmq.feed.ring import Ring
from strata_zmq.transport.sockets import STREAM, connect, open_socket

from .tied import tie_to

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

    from numpy.typing import NDArray

    Batch = NDArray[np.uint8]

__all__ = ["fill_queue", "main", "mark", "sources"]

_MARKS = 251


def mark(sequence: int, number: int) -> int:
    """Return the byte that batch `sequence` is made of when the sources, `number` of them, take turns."""
    return sequence % number % _MARKS


def sources(number: int, batch_bytes: int) -> list[Batch]:
    """Return `number` distinct batches, every page of them touched."""
    return [np.full(batch_bytes, mark(place, number), dtype=np.uint8) for place in range(number)]


def fill_queue(queue: Queue[Batch], parent: int, number: int, batch_bytes: int) -> None:
    """Put batches into a multiprocessing queue until the parent ends."""
    tie_to(parent)
    made = sources(number, batch_bytes)
    for sequence in count():
        queue.put(made[sequence % len(made)])


def main() -> None:
    """Produce until ended by a signal."""
    parser = argparse.ArgumentParser()
    parser.add_argument("transport", choices=("ring", "zmq"))
    parser.add_argument("--number", type=int, required=True)
    parser.add_argument("--batch-bytes", type=int, required=True)
    parser.add_argument("--socket-fd", type=int)
    parser.add_argument("--endpoint")
    parser.add_argument("--ready-fd", type=int, required=True)
    options = parser.parse_args()
    made = sources(options.number, options.batch_bytes)
    with os.fdopen(options.ready_fd, "w") as ready:
        ready.write(json.dumps({"batches": len(made)}) + "\n")
    if options.transport == "ring":
        _fill_ring(made, options.socket_fd)
    else:
        _push(made, options.endpoint)


def _fill_ring(made: list[Batch], socket_fd: int) -> None:
    with socket.socket(fileno=socket_fd) as connection:
        ring = Ring.recv(connection, timeout_s=60.0)
    with ring, Peer.of("benchmark", os.getppid()) as peer:
        producer = ring.producer(peer)
        try:
            for sequence in count():
                slot = producer.reserve(timeout_s=3600.0)
                slot.put("batch", made[sequence % len(made)])
                slot.commit()
        except PeerLostError:
            return


def _push(made: list[Batch], endpoint: str) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    push = open_socket(context, zmq.PUSH, STREAM)
    connect(push, endpoint)
    for sequence in count():
        push.send(made[sequence % len(made)].data, copy=True)


if __name__ == "__main__":
    main()
