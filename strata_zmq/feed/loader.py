"""Reading ahead in another process: `submit` sample indices, `receive` their batches in the same order.

Knows nothing about datasets or training. Requests go over a socket pair, batches come back through the ring; neither
is ever pickled. `submit` does not block, and no more batches are under way than the ring has slots.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from strata_zmq.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    PeerLostError,
    ProtocolError,
    ResourceExhaustedError,
)
from strata_zmq.feed.messages import (
    BATCH_ROWS_MAX,
    Flush,
    Hello,
    Refusal,
    Request,
    Setup,
    decode_answer,
    encode_frame,
    trainer_frames,
)
from strata_zmq.feed.peer import Peer
from strata_zmq.feed.readers import ReaderDescription, encode_reader
from strata_zmq.feed.ring import Ring
from strata_zmq.feed.slots import SLOTS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from strata_zmq.feed.ring import Slot

__all__ = ["Batch", "Loader"]

_RECV_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Batch:
    """The samples of one `submit`, in its order; `tag` is the caller's.

    The arrays are read-only views of shared memory, valid until `release`, which makes room for the next batch.
    Leaving a `with` block releases.
    """

    tag: int
    slot: Slot

    @property
    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """By name, arrays whose first axis is the batch."""
        return self.slot.arrays

    def release(self) -> None:
        """Give the slot back; calling again is harmless."""
        self.slot.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Loader:
    """A loader process that reads batches of up to `batch_rows` samples ahead, for one thread of this process.

    `slots` bounds the batches that are under way or held. `slot_bytes` is found from the reader's first sample; give
    it for samples of varying size. The process ends with `close`, with the `with` block, and with this process
    however it dies.

    Raises what kept the reader from opening (NotFoundError for a missing file, ReaderError for an exception of the
    user's code), and ResourceExhaustedError where the ring does not fit in memory.
    """

    def __init__(
        self,
        reader: ReaderDescription,
        *,
        batch_rows: int,
        slots: int = 4,
        slot_bytes: int | None = None,
        start_timeout_s: float = 60.0,
    ) -> None:
        if not 1 <= batch_rows <= BATCH_ROWS_MAX:
            raise InvalidArgumentError(f"loader batch_rows: 1 to {BATCH_ROWS_MAX}, got {batch_rows}")
        if not 1 <= slots <= SLOTS_MAX:
            raise InvalidArgumentError(f"loader slots: 1 to {SLOTS_MAX}, got {slots}")
        setup = encode_frame(Setup(encode_reader(reader), batch_rows))
        self.batch_rows = batch_rows
        self.slots = slots
        self._era = 0
        self._serial = 0
        self._awaited: deque[tuple[int, int]] = deque()  # serial and tag
        self._outbox = bytearray()
        self._ring: Ring | None = None
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            self._process = _start(theirs)
        self._peer = Peer.of("loader process", self._process.pid)
        try:
            self._socket.settimeout(start_timeout_s)
            hello = self._greet(setup, start_timeout_s)
            self.samples = hello.samples
            self._ring = Ring.create("strata-batches", slots, slot_bytes or hello.slot_bytes)
            self._ring.send(self._socket, timeout_s=start_timeout_s)
            self._socket.setblocking(False)
            self._consumer = self._ring.consumer(self._peer)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The loader process."""
        return self._process.pid

    @property
    def room(self) -> int:
        """How many batches can be submitted now: the ring's slots less those awaited or held."""
        return self.slots - len(self._awaited) - self._consumer.held

    def submit(self, indices: NDArray[np.integer[Any]], tag: int = 0) -> None:
        """Ask for the samples `indices` (1 to batch_rows of them, each in [0, samples)); does not block.

        Raises InvalidArgumentError for indices outside these limits and ResourceExhaustedError without `room`.
        """
        self._open_ring()
        wanted = self._checked(indices)
        if self.room < 1:
            raise ResourceExhaustedError(
                f"loader: {len(self._awaited)} batches are under way and {self._consumer.held} held, the ring has "
                f"{self.slots} slots; receive and release one first, or make the loader with more slots"
            )
        self._outbox += encode_frame(Request(self._serial, self._era, wanted.tobytes()))
        self._awaited.append((self._serial, tag))
        self._serial += 1
        self._send()

    def receive(self, timeout_s: float = 60.0) -> Batch:
        """Return the batch of the oldest `submit` that was not received yet.

        Raises ReaderError if the reader failed on it (the next `receive` goes on with the next batch),
        PeerLostError if the loader process died, DeadlineExceededError if it is alive and delivers nothing.
        """
        ring = self._open_ring()
        if not self._awaited:
            raise InvalidArgumentError("loader: nothing to receive, submit indices first")
        deadline = time.monotonic() + timeout_s
        while True:
            self._send()
            slot = self._consumer.poll()
            if slot is None:
                awaited = [(ring.ready_fd, select.POLLIN)]
                if self._outbox:
                    awaited.append((self._socket.fileno(), select.POLLOUT))
                self._wait(awaited, f"the batch with tag {self._awaited[0][1]}", deadline, timeout_s)
            elif (batch := self._taken(slot)) is not None:
                return batch

    def flush(self) -> int:
        """Forget every batch that was submitted and not received, as after a rollback; return how many.

        Batches that are held stay valid. Nothing waits: what the loader process still delivers is dropped later.
        """
        self._open_ring()
        dropped = len(self._awaited)
        self._awaited.clear()
        self._era += 1
        self._outbox += encode_frame(Flush(self._era))
        self._send()
        return dropped

    def stream(
        self, requests: Iterable[tuple[int, NDArray[np.integer[Any]]]], timeout_s: float = 60.0
    ) -> Iterator[Batch]:
        """Yield the batches of (tag, indices) in order, keeping as many under way as there is room for.

        The caller releases each batch. Do not use the iterator on after `flush`.
        """
        source = iter(requests)
        exhausted = False
        while True:
            while not exhausted and self.room > 0:
                request = next(source, None)
                if request is None:
                    exhausted = True
                else:
                    self.submit(request[1], request[0])
            if not self._awaited:
                if exhausted:
                    return
                raise ResourceExhaustedError(
                    f"loader: all {self.slots} slots are held; release each batch before asking for another"
                )
            yield self.receive(timeout_s)

    def close(self, grace_s: float = 2.0) -> None:
        """End the loader process, killing it after `grace_s`; batches that are held stay readable."""
        with suppress(OSError):
            # Not only closed: a forked copy of this socket would keep the connection open.
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._peer.close()
        if self._ring is not None:
            self._ring.close()
            self._ring = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _greet(self, setup: bytes, timeout_s: float) -> Hello:
        """Exchange the first frames."""
        frames = trainer_frames()
        try:
            self._socket.sendall(setup)
            while (message := frames.pop()) is None:
                data = self._socket.recv(_RECV_BYTES)
                if not data:
                    raise self._lost("before it was ready; its messages on standard error say why")
                frames.feed(data)
        except TimeoutError as error:
            raise DeadlineExceededError(
                f"{self._peer} did not open its reader within {timeout_s} s; raise start_timeout_s if it needs longer",
                missing=(str(self._peer),),
            ) from error
        except OSError as error:
            raise self._lost("while starting") from error
        if isinstance(message, Refusal):
            raise message.failure.error(None, "loader")
        return message

    def _checked(self, indices: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        given = np.asarray(indices)
        if given.ndim != 1 or not np.issubdtype(given.dtype, np.integer):
            raise InvalidArgumentError(
                f"loader indices: one axis of integers, got {given.dtype} of shape {given.shape}"
            )
        if not 1 <= given.size <= self.batch_rows:
            raise InvalidArgumentError(f"loader indices: 1 to batch_rows={self.batch_rows} of them, got {given.size}")
        low, high = int(given.min()), int(given.max())
        if low < 0 or high >= self.samples:
            raise InvalidArgumentError(f"loader indices: each in [0, {self.samples}), got {low} to {high}")
        return given.astype(np.int64)

    def _taken(self, slot: Slot) -> Batch | None:
        """Match a slot with what is awaited; None for one that was flushed."""
        try:
            answer = decode_answer(slot.note)
        except ProtocolError:
            slot.release()
            raise
        if answer.era != self._era:
            slot.release()
            return None
        serial, tag = self._awaited.popleft()
        if answer.serial != serial:
            slot.release()
            raise ProtocolError(f"{self._peer}: answered request {answer.serial}, request {serial} was due")
        if answer.failure is not None:
            slot.release()
            raise answer.failure.error(tag, f"loader: batch with tag {tag}")
        return Batch(tag, slot)

    def _send(self) -> None:
        """Send what the socket takes without blocking; the rest goes while `receive` waits."""
        try:
            while self._outbox:
                del self._outbox[: self._socket.send(self._outbox)]
        except BlockingIOError:
            return
        except OSError:
            # The process is gone. What it committed can still be received; after that its pidfd tells.
            self._outbox.clear()

    def _wait(self, awaited: list[tuple[int, int]], what: str, deadline: float, timeout_s: float) -> None:
        try:
            self._peer.wait(awaited, what, deadline=deadline, timeout_s=timeout_s)
        except PeerLostError as error:
            raise self._lost(f"while {what} was awaited") from error

    def _lost(self, when: str) -> PeerLostError:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        return PeerLostError(f"{self._peer} died {when} ({_ending(self._process.returncode)}); make a new Loader")

    def _open_ring(self) -> Ring:
        if self._ring is None:
            raise InvalidArgumentError("loader: closed; use it inside its `with` block")
        return self._ring


def _start(theirs: socket.socket) -> subprocess.Popen[bytes]:
    """Start the loader process with this process's module search path, one socket and a pidfd of this process."""
    pidfd = os.pidfd_open(os.getpid())
    command = [sys.executable, "-P", "-m", "strata_zmq.feed.loader_process", f"--socket={theirs.fileno()}"]
    command += [f"--trainer-pidfd={pidfd}", f"--trainer-pid={os.getpid()}"]
    if threading.current_thread() is threading.main_thread():
        # The kernel's parent-death signal comes when the starting *thread* ends: only the main one lasts.
        command.append("--die-with-thread")
    paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    try:
        return subprocess.Popen(
            command,
            pass_fds=(theirs.fileno(), pidfd),
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": paths},
        )
    finally:
        os.close(pidfd)


def _ending(status: int | None) -> str:
    if status is None:
        return "its end was not seen"
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
