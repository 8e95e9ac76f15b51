"""A storage writer: chunks in, durable acknowledgements out, commits when the coordinator says so.

The loop owns the sockets, the credits and the streams; other threads write bytes, from where they lie, and step back
behind those of training. It decides nothing about when a checkpoint is complete.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq

from strata_zmq.checkpoint.background import BackgroundLoop
from strata_zmq.checkpoint.codec import Codec
from strata_zmq.checkpoint.packs import PackWriter
from strata_zmq.checkpoint.tiers import TieredStore, open_store
from strata_zmq.domain.credit import CreditGrantor
from strata_zmq.errors import InvalidArgumentError, NotFoundError, ProtocolError, ResourceExhaustedError, StrataError
from strata_zmq.failpoints import failpoint
from strata_zmq.protocol import messages as wire
from strata_zmq.protocol import stream
from strata_zmq.startup import announce, log_to_stderr
from strata_zmq.transport.curve import CurveKeys, accept_job_key_only
from strata_zmq.transport.endpoints import ipc_path
from strata_zmq.transport.sockets import CONTROL, STREAM, bind, open_socket

from .chunk_sink import ChunkSink, Outcome, refusal
from .committer import Committer
from .last_will import Executor, unchanged
from .segment_door import SegmentDoor
from .session import boot_id
from .writer_config import WriterConfig, parse_options

__all__ = ["StorageWriter", "main"]

log = logging.getLogger("strata.writer")

_POLL_MS = 200
_DRAIN_MESSAGES_MAX = 64
_SILENT_S = 2.5
_STREAMS_MAX = 10_000
_NICENESS = 5
_END_S = 2.0


@dataclass(slots=True)
class _Stream:
    connection: bytes
    client: str
    worker_id: str
    heard_at: float


class StorageWriter:
    """One writer: bound sockets, an open store, a registered connection to the coordinator, and the loop."""

    def __init__(self, config: WriterConfig) -> None:
        self.config = config
        self.counters: Counter[str] = Counter()
        self._stopping = False
        self._streams: dict[str, _Stream] = {}
        self._credits = CreditGrantor(config.inflight_bytes_max, config.window_bytes)
        self._segments_ready: deque[tuple[str, int]] = deque()
        self._gone: deque[str] = deque()
        self._writing: Counter[str] = Counter()
        """Chunks being stored, of each stream."""
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._background = BackgroundLoop("strata-writer-storage")
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._gate: Any = None
        self._door: SegmentDoor | None = None
        self._committer: Committer | None = None
        self._executor: Executor | None = None
        self._packs: PackWriter | None = None
        self._bound: list[str] = []
        try:
            self._open()
        except BaseException:
            self._close()
            raise

    def _open(self) -> None:
        config = self.config
        keys = CurveKeys.from_environment()
        self._gate = accept_job_key_only(self._context, keys) if keys else None
        self._background.run(_step_back())
        self._store = open_store(config.path)
        self._background.run(self._begin_storage())
        self._packs = PackWriter(self._store, codec=Codec.for_name(config.compression))
        self._sink = ChunkSink(self._store, self._packs, self._background, self._poke)
        data, control = config.endpoints()
        self._pull = open_socket(self._context, zmq.PULL, STREAM, keys=keys, server=True)
        self._bound.append(bind(self._pull, data, field="--listen"))
        self._router = open_socket(self._context, zmq.ROUTER, CONTROL, keys=keys, server=True)
        self._bound.append(bind(self._router, control, field="--listen"))
        self._door = SegmentDoor(self._on_segment, self._on_gone)
        self.info = wire.WriterInfo(
            writer_id=config.writer_id,
            incarnation=uuid.uuid4().hex,
            data_endpoint=config.advertised(self._bound[0]),
            control_endpoint=config.advertised(self._bound[1]),
            boot_id=boot_id(),
            fd_path=self._door.path,
        )
        self._committer = Committer(config.coordinator_url, self.info, self._store, self._background)
        self._executor = Executor(self._store, self._packs, self._background, self._committer.client.submit)
        self._committer.client.connect(config.connect_timeout_s)

    def stop(self) -> None:
        """Ask the loop to drain and end; safe in a signal handler."""
        self._stopping = True
        self._poke()

    def serve(self) -> None:
        """Serve until `stop`, or until the supervisor is gone; then finish what was received, for a bounded time."""
        poller = zmq.Poller()
        for waited in (self._pull, self._router, self._wake):
            poller.register(waited, zmq.POLLIN)
        supervisor = _pidfd(self.config.supervisor_pid)
        if supervisor is not None:
            poller.register(supervisor, zmq.POLLIN)
        log.info("serving %s on %s", self._store.storage.url, ", ".join(self._bound))
        drain_until = float("inf")
        try:
            while True:
                ready = dict(poller.poll(_POLL_MS))
                if supervisor in ready and supervisor is not None:
                    log.warning("the supervisor is gone: finishing what was received")
                    poller.unregister(supervisor)
                    self._stopping = True
                if self._wake in ready:
                    os.eventfd_read(self._wake)
                self._turn()
                now = time.monotonic()
                if self._stopping:
                    drain_until = min(drain_until, now + self.config.drain_s)
                    if now >= drain_until or (self._idle() and not ready):
                        return
                self._forget_silent(now)
        finally:
            if supervisor is not None:
                os.close(supervisor)
            log.info("ended: %s", ", ".join(f"{n} {name}" for name, n in sorted(self.counters.items())) or "no chunks")
            self._close()

    # ---- one turn of the loop -----------------------------------------------------------------------------------

    def _turn(self) -> None:
        self._take_requests()
        while self._segments_ready:
            client, number = self._segments_ready.popleft()
            for held in list(self._streams.values()):
                if held.client == client:
                    self._send(held.connection, stream.SegmentReady(client, number))
        self._take_chunks()
        while self._sink.outcomes:
            outcome = self._sink.outcomes.popleft()
            self._writing[outcome.header.stream] -= 1
            self._writing += Counter()  # drops those that are at 0
            self._settle(outcome)
        self._carry_out_wills()

    def _carry_out_wills(self) -> None:
        executor = self._executor
        for client in list(self._gone) if executor is not None else ():
            # What is being stored for it need not be stored again.
            if executor is not None and not any(self._writing[name] for name in executor.streams_of(client)):
                self._gone.remove(client)
                executor.client_gone(client)

    def _take_requests(self) -> None:
        for _ in range(_DRAIN_MESSAGES_MAX):
            try:
                connection, *frames = self._router.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            try:
                if len(frames) != 1:
                    raise ProtocolError(f"a stream request is one frame, this one has {len(frames)}")
                self._handle(connection, stream.decode_stream_request(frames[0]))
            except StrataError as error:
                self.counters["requests_refused"] += 1
                log.warning("a stream request was refused: %s", error)
                self._send(connection, stream.StreamFault(error.code, str(error)[:4096]))

    def _handle(self, connection: bytes, request: stream.StreamRequest) -> None:
        now = time.monotonic()
        name = request.stream
        if isinstance(request, stream.StreamOpen):
            if name in self._streams:
                raise InvalidArgumentError(f"stream {name!r} is open: give every stream its own name")
            if len(self._streams) >= _STREAMS_MAX:
                raise ResourceExhaustedError(f"{_STREAMS_MAX} streams are open here: start another writer")
            self._streams[name] = _Stream(connection, request.client, request.worker_id, now)
            granted = self._credits.open(name)
            self._send(
                connection,
                stream.StreamOpened(
                    name, self.info.writer_id, self.info.incarnation, granted, self.config.window_bytes
                ),
            )
            # Memory may have been handed over before there was a stream to say so on.
            for number in self._door.numbers(request.client) if self._door is not None else ():
                self._send(connection, stream.SegmentReady(request.client, number))
            return
        held = self._streams.get(name)
        # A stream belongs to the connection that opened it.
        mine = held is not None and held.connection == connection
        if isinstance(request, stream.StreamClose):
            if mine:
                self._end_stream(name)
            if self._executor is not None and (mine or held is None):
                self._executor.close(name, keep_will=request.keep_will)
        elif held is None or not mine:
            fault = f"stream {name!r} is not open here: open it again"
            self._send(connection, stream.StreamFault(NotFoundError.code, fault, name))
        else:
            held.heard_at = now
            if isinstance(request, stream.StreamWill):
                self._take_will(request, held)
                self._send(connection, stream.WillTaken(name))
                return
            self._send(connection, stream.Grant(name, self._credits.granted_bytes(name)))

    def _take_will(self, request: stream.StreamWill, held: _Stream) -> None:
        segment = self._door.find(held.client, request.segment) if self._door is not None else None
        if segment is None or self._executor is None:
            raise NotFoundError(f"segment {request.segment} was not handed over: a will needs the memory it is about")
        self._executor.take(request, held.client, held.worker_id, segment)

    def _take_chunks(self) -> None:
        for _ in range(_DRAIN_MESSAGES_MAX):
            try:
                frames = self._pull.recv_multipart(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                return
            try:
                header = stream.decode_header(frames[0].bytes)
            except ProtocolError as error:
                # PULL knows no sender; a worker that meant well gets no answer, and sends the chunk elsewhere.
                self.counters["chunks_not_understood"] += 1
                log.warning("a chunk was dropped: %s", error)
                continue
            self._take_chunk(header, frames[1:])

    def _take_chunk(self, header: stream.ChunkHeader, frames: list[zmq.Frame]) -> None:
        held = self._streams.get(header.stream)
        try:
            self._credits.receive(header.stream, header.nbytes)
        except ProtocolError as error:
            self.counters["chunks_refused"] += 1
            log.warning("a chunk of %s was refused: %s", header.checkpoint_id, error)
            if held is not None:
                self._send(held.connection, refusal(header, error))
            return
        if held is None:
            return
        held.heard_at = time.monotonic()
        failpoint("writer.chunk.received")
        try:
            data, valid = self._bytes_of(header, held, frames)
        except StrataError as error:
            self._settle(Outcome(header, refusal(header, error)))
            return
        self._writing[header.stream] += 1
        self._sink.put(header, data, valid)

    def _bytes_of(
        self, header: stream.ChunkHeader, held: _Stream, frames: list[zmq.Frame]
    ) -> tuple[memoryview, Callable[[], bool]]:
        """Return where the chunk's bytes are, and what says whether they still are."""
        if header.segment == 0:
            if len(frames) != 1 or len(frames[0].buffer) != header.nbytes:
                sizes = [len(frame.buffer) for frame in frames]
                raise ProtocolError(f"chunk {header.seq}: one frame of {header.nbytes} bytes is expected, got {sizes}")
            return frames[0].buffer, _always
        if frames:
            raise ProtocolError(f"chunk {header.seq}: it names segment {header.segment} and brings bytes as well")
        segment = self._door.find(held.client, header.segment) if self._door is not None else None
        if segment is None:
            raise NotFoundError(f"chunk {header.seq}: segment {header.segment} was not handed over: send the bytes")
        if header.offset + header.nbytes > segment.size:
            raise ProtocolError(
                f"chunk {header.seq}: bytes {header.offset} to {header.offset + header.nbytes} of a segment of "
                f"{segment.size}"
            )
        return segment.view[header.offset : header.offset + header.nbytes], unchanged(segment, header.epoch)

    def _settle(self, outcome: Outcome) -> None:
        answer, name = outcome.answer, outcome.header.stream
        held = self._streams.get(name)
        if isinstance(answer, stream.Durable):
            self.counters["chunks_referred" if answer.referred else "chunks_durable"] += 1
            if self._executor is not None:
                self._executor.note(outcome.header, answer, open_here=held is not None)
        else:
            self.counters["chunks_refused"] += 1
        if held is not None:
            failpoint("writer.ack.before")
            self._send(held.connection, answer)
            failpoint("writer.ack.after")
        self._tell_grants(self._credits.release(name, outcome.header.nbytes))

    def _tell_grants(self, risen: dict[str, int]) -> None:
        for name, granted in risen.items():
            self._send(self._streams[name].connection, stream.Grant(name, granted))

    def _end_stream(self, name: str) -> None:
        self._streams.pop(name, None)
        self._tell_grants(self._credits.close(name))

    def _forget_silent(self, now: float) -> None:
        """End the streams of workers that are gone: their credit belongs to the living, who ping every second."""
        for name, held in list(self._streams.items()):
            silent_s = now - held.heard_at
            if silent_s < _SILENT_S:
                continue
            # The newest grant once more: ROUTER knows at once when nobody is there to get it.
            reached = self._send(held.connection, stream.Grant(name, self._credits.granted_bytes(name)))
            if not reached or silent_s > self.config.stream_timeout_s:
                log.warning("stream %s is closed: its worker is gone, or was silent for %.0f s", name, silent_s)
                self._end_stream(name)
                if self._executor is not None:
                    self._executor.lost(name)

    def _idle(self) -> bool:
        drained = not self._gone and (self._executor is None or self._executor.idle)
        return not self._writing and drained and (self._committer is None or self._committer.idle)

    def _send(self, connection: bytes, reply: stream.StreamReply) -> bool:
        """Send a reply; False when its receiver is gone, or too slow to read what it is sent."""
        try:
            self._router.send_multipart([connection, stream.encode_stream(reply)], zmq.DONTWAIT)
        except zmq.ZMQError as error:
            # It asks again when it is back.
            if error.errno not in {zmq.EHOSTUNREACH, zmq.EAGAIN}:
                raise
            return False
        return True

    async def _begin_storage(self) -> None:
        await self._store.storage.prepare()
        if isinstance(self._store, TieredStore):
            # What a writer before this one had not copied to the far tier.
            self._store.drain_soon()

    async def _end_storage(self, packs: PackWriter) -> None:
        await packs.close()
        await self._store.storage.close()

    def _on_segment(self, client: str, number: int) -> None:
        self._segments_ready.append((client, number))
        self._poke()

    def _on_gone(self, client: str) -> None:
        self._gone.append(client)
        self._poke()

    def _poke(self) -> None:
        with suppress(OSError):
            os.eventfd_write(self._wake, 1)

    def _close(self) -> None:
        if self._committer is not None:
            self._committer.close()
        if self._door is not None:
            self._door.close()
        if self._packs is not None:
            with suppress(StrataError, FutureTimeoutError):
                self._background.submit(self._end_storage(self._packs)).result(_END_S)
        self._background.stop()
        for endpoint in self._bound:
            path = ipc_path(endpoint)
            if path is not None:
                Path(path).unlink(missing_ok=True)
        if self._gate is not None:
            self._gate.stop()
        self._context.destroy(linger=200)
        os.close(self._wake)
        self._wake = -1


def _always() -> bool:
    """Say of memory of this process that nobody else uses it."""
    return True


async def _step_back() -> None:
    """Let the storage threads yield to training: Linux has a niceness for each thread, and new ones inherit it."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def _pidfd(pid: int) -> int | None:
    if not pid:
        return None
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        # Gone already: a descriptor that is readable at once says the same.
        reading, writing = os.pipe()
        os.close(writing)
        return reading


def main(argv: list[str]) -> int:
    """Run a storage writer until SIGINT, SIGTERM or the end of its supervisor; returns the exit status."""
    log_to_stderr()
    config = parse_options(argv)
    writer = StorageWriter(config)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: writer.stop())
    info = writer.info
    announce(
        config.ready_fd,
        writer_id=info.writer_id,
        data=info.data_endpoint,
        control=info.control_endpoint,
        fd_path=info.fd_path,
    )
    writer.serve()
    return 0
