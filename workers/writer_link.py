"""One worker's connection to one storage writer: sockets, credits, segments and who is still there; no save's logic.

Used on one thread only. The writer is lost when its connection breaks, or when it answers nothing for a while.
"""

from __future__ import annotations

import logging
import socket
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import zmq
from blake3 import blake3

from strata_zmq.domain.credit import CreditWindow
from strata_zmq.errors import ProtocolError, StrataError
from strata_zmq.feed.segment import send_segment
from strata_zmq.protocol import stream
from strata_zmq.transport.sockets import CONTROL, STREAM, connect, open_socket

from .segment_door import connect_to_door, segment_label
from .session import boot_id

if TYPE_CHECKING:
    from strata_zmq.checkpoint.snapshot import Arena
    from strata_zmq.protocol.messages import WriterInfo
    from strata_zmq.transport.curve import CurveKeys

__all__ = ["Parcel", "WriterLink"]

log = logging.getLogger("strata.checkpoint")

_PING_S = 1.0
_SILENCE_MAX_S = 10.0
_SEGMENT_WAIT_S = 5.0


@dataclass(slots=True)
class Parcel:
    """Bytes on their way to a writer. `offset` is their place in the save's arena, or None outside of it.

    `digest` is the blake3 of the bytes, taken when they are first sent, while others are being written.
    """

    kind: Literal["chunk", "index"]
    number: int
    payload: memoryview
    offset: int | None
    digest: str = ""
    attempts: int = 0
    sent_at: float = 0.0


@dataclass(slots=True)
class WriterLink:
    """One writer, as one save sees it after another. `lost` says why it cannot be used any more."""

    context: zmq.Context[zmq.Socket[bytes]]
    info: WriterInfo
    keys: CurveKeys | None
    client: str
    worker_id: str
    share_memory: bool
    lost: str = ""
    in_flight: dict[int, Parcel] = field(default_factory=dict)
    heard_at: float = 0.0
    window_bytes: int = 0
    _stream: str = ""
    _asked: bool = False
    _opened: bool = False
    _credit: CreditWindow = field(default_factory=CreditWindow)
    _seq: int = 0
    _pinged_at: float = 0.0
    _door: socket.socket | None = None
    _segments: set[int] = field(default_factory=set)
    _offered: dict[int, float] = field(default_factory=dict)
    _dealer: zmq.Socket[bytes] = field(init=False)
    _push: zmq.Socket[bytes] = field(init=False)
    _monitor: Any = field(init=False)

    def __post_init__(self) -> None:
        self._dealer = open_socket(self.context, zmq.DEALER, CONTROL, keys=self.keys)
        self._push = open_socket(self.context, zmq.PUSH, STREAM, keys=self.keys)
        self._monitor = self._dealer.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        connect(self._dealer, self.info.control_endpoint, field="writer's control endpoint")
        connect(self._push, self.info.data_endpoint, field="writer's data endpoint")
        if self.share_memory and self.info.fd_path and self.info.boot_id == boot_id():
            try:
                self._door = connect_to_door(self.info.fd_path)
            except OSError as error:
                # Another container or user on the same kernel: bytes go through the socket instead.
                log.info("writer %s shares no memory with this process: %s", self.info.writer_id, error)

    def sockets(self) -> list[Any]:
        """Return what is readable when there is something to do."""
        return [self._dealer, self._monitor, *([self._door] if self._door is not None else [])]

    @property
    def ready(self) -> bool:
        """Whether the stream is open."""
        return self._opened and not self.lost

    def open_stream(self, now: float) -> None:
        """Begin a save's stream; the writer's answer brings the first credit."""
        self._stream, self._asked, self._opened = uuid.uuid4().hex, False, False
        self._credit, self._seq = CreditWindow(), 0
        self.heard_at = self._pinged_at = now
        self._ask()

    def close_stream(self) -> None:
        """End the stream, so that its credit goes to others."""
        if self._stream and not self.lost:
            self._say(stream.StreamClose(self._stream))
        self._stream, self._asked, self._opened = "", False, False
        self.in_flight.clear()

    def share(self, arena: Arena, now: float) -> None:
        """Hand an arena's memory over, once; chunks refer to it after the writer has mapped it."""
        if self._door is None or arena.number in self._offered:
            return
        try:
            send_segment(self._door, arena.segment, segment_label(self.client, arena.number), timeout_s=2.0)
            self._offered[arena.number] = now
        except StrataError as error:
            log.warning("memory cannot be shared with writer %s any more: %s", self.info.writer_id, error)
            self._close_door()

    def can_take(self, parcel: Parcel, arena: Arena, now: float) -> bool:
        """Say whether the parcel may go out now: the stream is open, there is credit, and the memory is there."""
        if not self.ready or parcel.payload.nbytes > self._credit.available_bytes:
            return False
        if parcel.offset is None or arena.number in self._segments or arena.number not in self._offered:
            return True
        # Handed over and not yet mapped: worth a short wait, not a long one.
        return now - self._offered[arena.number] > _SEGMENT_WAIT_S

    def send(self, parcel: Parcel, arena: Arena, checkpoint_id: str, rank: int, now: float) -> bool:
        """Send one parcel and remember it until it is answered; False when the socket takes nothing now."""
        parcel.digest = parcel.digest or blake3(parcel.payload).hexdigest()
        shared = parcel.offset is not None and arena.number in self._segments
        header = stream.ChunkHeader(
            stream=self._stream,
            seq=self._seq,
            checkpoint_id=checkpoint_id,
            kind=parcel.kind,
            rank=rank,
            number=parcel.number,
            digest=parcel.digest,
            nbytes=parcel.payload.nbytes,
            segment=arena.number if shared else 0,
            offset=parcel.offset or 0 if shared else 0,
        )
        frames: list[Any] = [stream.encode_stream(header)]
        if not shared:
            frames.append(parcel.payload)
        try:
            self._push.send_multipart(frames, zmq.DONTWAIT, copy=False)
        except zmq.Again:
            return False
        self._credit.spend(parcel.payload.nbytes)
        parcel.sent_at = now
        self.in_flight[self._seq] = parcel
        self._seq += 1
        return True

    def receive(self, now: float) -> list[stream.Durable | stream.Refused]:
        """Take what has arrived: answers to parcels are returned, everything else is dealt with here."""
        answers: list[stream.Durable | stream.Refused] = []
        while not self.lost:
            try:
                frames = self._dealer.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                break
            self.heard_at = now
            try:
                reply = stream.decode_stream_reply(frames[0])
            except ProtocolError as error:
                log.warning("writer %s: %s", self.info.writer_id, error)
                continue
            if isinstance(reply, (stream.Durable, stream.Refused)):
                if reply.stream == self._stream:
                    answers.append(reply)
            else:
                self._take(reply)
        self._watch(now)
        return answers

    def reclaim(self, older_than: float = float("inf")) -> list[Parcel]:
        """Return the unanswered parcels that were sent before `older_than`, to be sent to somebody else."""
        late = [seq for seq, parcel in self.in_flight.items() if parcel.sent_at < older_than]
        return [self.in_flight.pop(seq) for seq in late]

    def close(self) -> None:
        """Close the sockets."""
        self._close_door()
        self._dealer.disable_monitor()
        for sock in (self._monitor, self._dealer, self._push):
            sock.close(linger=0)

    def _take(self, reply: stream.StreamOpened | stream.Grant | stream.SegmentReady | stream.StreamFault) -> None:
        if isinstance(reply, stream.SegmentReady):
            if reply.client == self.client:
                self._segments.add(reply.segment)
        elif isinstance(reply, stream.StreamFault):
            if reply.stream in {"", self._stream}:
                self.lost = f"it answered: {reply.message}"
        elif reply.stream == self._stream:
            self._credit.raise_to(reply.granted_bytes)
            if isinstance(reply, stream.StreamOpened):
                self._opened, self.window_bytes = True, reply.window_bytes

    def _watch(self, now: float) -> None:
        """Notice a writer that is gone (its connection breaks) or stuck (it answers no ping)."""
        while self._monitor.poll(0):
            self._monitor.recv_multipart()
            self.lost = self.lost or "its connection broke"
        if self._door is not None and not self.lost:
            try:
                if self._door.recv(1) == b"":
                    self.lost = "its process ended"
            except BlockingIOError:
                pass
            except OSError as error:
                self.lost = f"its process ended: {error.strerror}"
        if self._stream and not self.lost:
            self._ask()
            if now - self.heard_at > _SILENCE_MAX_S:
                self.lost = f"it answered nothing for {_SILENCE_MAX_S:.0f} s"
            elif self._opened and now - self._pinged_at >= _PING_S:
                self._pinged_at = now
                self._say(stream.StreamPing(self._stream))

    def _ask(self) -> None:
        """Ask for the stream, once there is a connection to ask over."""
        if not self._asked:
            self._asked = self._say(stream.StreamOpen(self._stream, self.client, self.worker_id))

    def _say(self, request: stream.StreamRequest) -> bool:
        try:
            self._dealer.send(stream.encode_stream(request), zmq.DONTWAIT)
        except zmq.Again:
            return False
        return True

    def _close_door(self) -> None:
        if self._door is not None:
            self._door.close()
            self._door = None
        self._segments.clear()
