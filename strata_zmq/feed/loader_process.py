"""The loader process: opens the reader, answers each request with one slot of the ring, and dies with its trainer.

Knows nothing about what batches are for. It reads one request at a time, in order; a reader that raises costs its
batch, not the process. Started by `Loader` as `python -m strata_zmq.feed.loader_process`.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import select
import signal
import socket
import sys
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from strata_zmq.errors import InvalidArgumentError, PeerLostError, ProtocolError
from strata_zmq.feed.messages import (
    Answer,
    Failure,
    Flush,
    Hello,
    Refusal,
    Request,
    Setup,
    encode_frame,
    loader_frames,
)
from strata_zmq.feed.peer import Peer
from strata_zmq.feed.readers import InPlaceReader, Reader, decode_reader
from strata_zmq.feed.ring import Ring
from strata_zmq.feed.slots import batch_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from strata_zmq.feed.ring import WritableSlot

_RECV_BYTES = 1 << 20
_START_TIMEOUT_S = 60.0
_PR_SET_PDEATHSIG = 1


class LoaderProcess:
    """Serves the trainer at the other end of `sock`, which first names the reader, then sends a ring, then requests."""

    def __init__(self, sock: socket.socket, trainer: Peer) -> None:
        self._socket = sock
        self._trainer = trainer
        self._frames = loader_frames()
        self._requests: deque[Request] = deque()

    def run(self) -> int:
        """Serve until the trainer closes; return the exit status."""
        setup = self._setup()
        if setup is None:
            return 0
        try:
            reader = decode_reader(setup.reader).open()
            hello = Hello(len(reader), _slot_bytes(reader, setup.batch_rows))
        except Exception as error:  # noqa: BLE001 - the user's code may raise anything; the trainer gets to know it
            self._socket.sendall(encode_frame(Refusal(Failure.of(error))))
            return 1
        self._socket.sendall(encode_frame(hello))
        with Ring.recv(self._socket, timeout_s=_START_TIMEOUT_S) as ring:
            self._serve(reader, ring)
        return 0

    def _setup(self) -> Setup | None:
        self._socket.settimeout(_START_TIMEOUT_S)
        while True:
            data = self._socket.recv(_RECV_BYTES)
            if not data:
                return None
            self._frames.feed(data)
            message = self._frames.pop()
            if isinstance(message, Setup):
                return message
            if message is not None:
                raise ProtocolError("loader process: a Setup frame has to come first")

    def _serve(self, reader: Reader, ring: Ring) -> None:
        producer = ring.producer(self._trainer)
        self._socket.setblocking(False)
        while self._take_requests():
            if self._requests and (slot := producer.poll()) is not None:
                _answer(reader, self._requests.popleft(), slot)
                continue
            awaited = [(self._socket.fileno(), select.POLLIN)]
            if self._requests:
                awaited.append((ring.free_fd, select.POLLIN))
            # A trainer may think for hours between two batches: only its death ends this wait.
            self._trainer.wait(awaited, "a request", deadline=None)

    def _take_requests(self) -> bool:
        """Take in what has arrived; False when the trainer has closed."""
        try:
            while data := self._socket.recv(_RECV_BYTES):
                self._frames.feed(data)
        except BlockingIOError:
            closed = False
        except ConnectionResetError:
            return False
        else:
            closed = True
        while (message := self._frames.pop()) is not None:
            if isinstance(message, Request):
                self._requests.append(message)
            elif isinstance(message, Flush):
                self._requests.clear()
            else:
                raise ProtocolError("loader process: a second Setup frame")
        return not closed


def _answer(reader: Reader, request: Request, slot: WritableSlot) -> None:
    try:
        _fill(reader, np.frombuffer(request.indices, np.int64), slot)
        slot.commit(msgspec.msgpack.encode(Answer(request.serial, request.era)))
    except Exception as error:  # noqa: BLE001 - the user's code may raise anything; the trainer gets to know it
        slot.clear()
        slot.commit(msgspec.msgpack.encode(Answer(request.serial, request.era, Failure.of(error))))


def _fill(reader: Reader, indices: NDArray[np.int64], slot: WritableSlot) -> None:
    if isinstance(reader, InPlaceReader):
        out = {name: slot.allocate(name, dtype, (len(indices), *row)) for name, (dtype, row) in reader.rows().items()}
        reader.read_into(indices, out)
        return
    for name, array in _checked_read(reader, indices).items():
        slot.put(name, array)


def _checked_read(reader: Reader, indices: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    arrays = {name: np.asarray(array) for name, array in reader.read(indices).items()}
    if not arrays:
        raise InvalidArgumentError(f"reader {type(reader).__name__}: read returned no arrays")
    for name, array in arrays.items():
        rows = array.shape[0] if array.ndim else 0
        if rows != len(indices):
            raise InvalidArgumentError(
                f"reader {type(reader).__name__}: array {name!r} has {rows} rows, {len(indices)} were asked for"
            )
    return arrays


def _slot_bytes(reader: Reader, batch_rows: int) -> int:
    """Return the bytes of a full batch, from what the reader says of its rows or from its first sample."""
    if len(reader) < 1:
        raise InvalidArgumentError(f"reader {type(reader).__name__}: has no samples")
    if isinstance(reader, InPlaceReader):
        return batch_bytes(batch_rows, reader.rows())
    probe = _checked_read(reader, np.zeros(1, np.int64))
    return batch_bytes(batch_rows, {name: (array.dtype, array.shape[1:]) for name, array in probe.items()})


def _die_with(trainer: Peer) -> None:
    """End this process at once when the trainer ends, also while a reader blocks."""

    def watch() -> None:
        try:
            trainer.wait([], "its end", deadline=None)
        except PeerLostError:
            os._exit(1)

    threading.Thread(target=watch, name="trainer-watch", daemon=True).start()


def main(arguments: list[str] | None = None) -> int:
    """Serve the trainer whose descriptors are named in `arguments`; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m strata_zmq.feed.loader_process", description=__doc__)
    for name in ("socket", "trainer-pidfd", "trainer-pid"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument(
        "--die-with-thread", action="store_true", help="the starting thread lives as long as the trainer"
    )
    options = parser.parse_args(arguments)
    # Ctrl-C reaches the whole process group; what it means is for the trainer to decide.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if options.die_with_thread:
        # Reaches a reader that keeps the interpreter lock for ever, which the watching thread cannot.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    trainer = Peer("training process", options.trainer_pid, options.trainer_pidfd)
    _die_with(trainer)
    with socket.socket(fileno=options.socket) as sock, suppress(PeerLostError):
        return LoaderProcess(sock, trainer).run()
    return 1


if __name__ == "__main__":
    sys.exit(main())
