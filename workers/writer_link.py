"""One worker's connection to one storage writer: sockets, credits, segments and who is still there; no save's logic.

Used on one thread only. The writer is lost when its connection breaks, or when it answers nothing for a while. One that
answers pings and stores nothing is not lost: `oldest_s` and `pace_s` show it.
"""

from __future__ import annotations

import logging
import socket
import statistics
import uuid
from collections import deque
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
    from strata_zmq.checkpoint.arena import Arena
    from strata_zmq.domain.manifest import ChunkRecord
    from strata_zmq.protocol.messages import WriterInfo
    from strata_zmq.transport.curve import CurveKeys

__all__ = ["Parcel", "Sent", "Will", "WriterLink"]

log = logging.getLogger("strata.checkpoint")

_PING_S = 1.0
_SILENCE_MAX_S = 10.0
_SEGMENT_WAIT_S = 5.0
_PACES_KEPT = 16


@dataclass(slots=True)
class Parcel:
    """Bytes on their way to a writer. `offset` is their place in the save's arena, or None outside of it.

    `digest` is the blake3 of the bytes, taken when they are first sent over a socket: in shared memory the writer is
    the only one to read them. `candidate` is a stored chunk that may be equal.
    """

    kind: Literal["chunk", "index"]
    number: int
    payload: memoryview
    offset: int | None
    candidate: ChunkRecord | None = None
    digest: str = ""
    attempts: int = 0

    def hashed(self) -> str:
        """Return the digest, taken now if it was not before."""
        self.digest = self.digest or blake3(self.payload).hexdigest()
        return self.digest


@dataclass(slots=True)
class Sent:
    """A parcel that a writer has not answered. `doubled`: another writer was given it as well."""

    parcel: Parcel
    at: float
    doubled: bool = False


@dataclass(frozen=True, slots=True)
class Will:
    """Where in a save's arena its last will lies, and what the will does not say itself."""

    checkpoint_id: str
    rank: int
    generation: int
    offset: int
    nbytes: int
    digest: str


@dataclass(slots=True)
class WriterLink:
    """One writer, as one save sees it after another. `lost` says why it cannot be used any more.

    A `slow` one gets nothing more to do. It is `suspect` until it has kept up again: then it gets one parcel at a time.
    """

    context: zmq.Context[zmq.Socket[bytes]]
    info: WriterInfo
    keys: CurveKeys | None
    client: str
    worker_id: str
    share_memory: bool
    lost: str = ""
    slow: bool = False
    suspect: bool = False
    in_flight: dict[int, Sent] = field(default_factory=dict)
    heard_at: float = 0.0
    window_bytes: int = 0
    will_taken: bool = False
    _stream: str = ""
    _kept: str = ""
    _willed: bool = False
    _asked: bool = False
    _opened: bool = False
    _credit: CreditWindow = field(default_factory=CreditWindow)
    _seq: int = 0
    _pinged_at: float = 0.0
    _door: socket.socket | None = None
    _segments: set[int] = field(default_factory=set)
    _taken_ahead: set[str] = field(default_factory=set)
    _offered: dict[int, float] = field(default_factory=dict)
    _paces: deque[float] = field(default_factory=lambda: deque(maxlen=_PACES_KEPT))
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
        self.slow = self.will_taken = self._willed = False
        self.heard_at = self._pinged_at = now
        self._ask()

    def close_stream(self) -> None:
        """End the stream, so that its credit goes to others; the will that was left on it stays until `drop_will`."""
        if self._stream and not self.lost:
            self._say(stream.StreamClose(self._stream, keep_will=self._willed))
        self._kept = self._stream if self._willed else self._kept
        self._stream, self._asked, self._opened = "", False, False
        self.in_flight.clear()

    def drop_will(self) -> None:
        """Say that the will which was left on a stream before is of no use any more."""
        if self._kept and not self.lost:
            self._say(stream.StreamClose(self._kept))
        self._kept = ""

    def leave_will(self, will: Will, arena: Arena) -> bool:
        """Send the will, once the stream is open and the memory mapped; False before that."""
        if not self.ready or arena.number not in self._segments:
            return False
        # A second close of what has no will any more is harmless.
        self.drop_will()
        self._willed = self._say(_message_of(will, arena, self._stream))
        return self._willed

    def leave_will_ahead(self, will: Will, arena: Arena) -> str:
        """Leave the will of a save that has no stream yet; return the name that it has, "" if it cannot be left."""
        if self.lost or arena.number not in self._segments:
            return ""
        name = uuid.uuid4().hex
        for request in (
            stream.StreamOpen(name, self.client, self.worker_id),
            _message_of(will, arena, name),
            stream.StreamClose(name, keep_will=True),
        ):
            if not self._say(request):
                return ""
        return name

    def has_taken(self, name: str) -> bool:
        """Say whether the writer has the will that was left ahead under this name."""
        return name in self._taken_ahead

    def drop_will_ahead(self, name: str) -> None:
        """Say that a will which was left ahead is of no use any more."""
        self._taken_ahead.discard(name)
        if not self.lost:
            self._say(stream.StreamClose(name))

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
        if not self.ready or self.slow or parcel.payload.nbytes > self._credit.available_bytes:
            return False
        if self.suspect and self.in_flight:
            return False
        if parcel.offset is None or arena.number in self._segments or arena.number not in self._offered:
            return True
        # Handed over and not yet mapped: worth a short wait, not a long one.
        return now - self._offered[arena.number] > _SEGMENT_WAIT_S

    def maps(self, parcel: Parcel, arena: Arena) -> bool:
        """Say whether the writer reads the parcel's bytes where they lie."""
        return parcel.offset is not None and arena.number in self._segments

    def send(self, parcel: Parcel, arena: Arena, checkpoint_id: str, rank: int, now: float) -> bool:
        """Send one parcel and remember it until it is answered; False when the socket takes nothing now."""
        shared, wanted = self.maps(parcel, arena), parcel.candidate
        header = stream.ChunkHeader(
            stream=self._stream,
            seq=self._seq,
            checkpoint_id=checkpoint_id,
            kind=parcel.kind,
            rank=rank,
            number=parcel.number,
            digest=parcel.digest if shared else parcel.hashed(),
            nbytes=parcel.payload.nbytes,
            segment=arena.number if shared else 0,
            offset=parcel.offset or 0 if shared else 0,
            epoch=arena.epoch if shared else 0,
            candidate=stream.Candidate(
                wanted.key, wanted.offset, wanted.digest, wanted.nbytes, wanted.codec, wanted.stored
            )
            if wanted is not None and shared
            else None,
        )
        frames: list[Any] = [stream.encode_stream(header)]
        if not shared:
            frames.append(parcel.payload)
        try:
            self._push.send_multipart(frames, zmq.DONTWAIT, copy=False)
        except zmq.Again:
            return False
        self._credit.spend(parcel.payload.nbytes)
        self.in_flight[self._seq] = Sent(parcel, now)
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

    def answered(self, seq: int, now: float) -> Parcel | None:
        """Return the parcel that an answer is about, None for one that is not waited for, and note how long it took."""
        sent = self.in_flight.pop(seq, None)
        if sent is None:
            return None
        self._paces.append(now - sent.at)
        return sent.parcel

    def oldest_s(self, now: float) -> float:
        """Return for how long the parcel that was sent first has been unanswered; 0 when none is."""
        return max((now - sent.at for sent in self.in_flight.values()), default=0.0)

    def pace_s(self, now: float) -> float:
        """Return how long an answer takes here of late, as far as that shows."""
        return max(statistics.median(self._paces) if self._paces else 0.0, self.oldest_s(now))

    def reclaim(self) -> list[Parcel]:
        """Forget the unanswered parcels and return those that nobody else was given, to be sent to somebody else."""
        back = [sent.parcel for sent in self.in_flight.values() if not sent.doubled]
        self.in_flight.clear()
        return back

    def double(self) -> list[Parcel]:
        """Return the unanswered parcels that nobody else was given, to be sent to somebody else as well."""
        late = [sent for sent in self.in_flight.values() if not sent.doubled]
        for sent in late:
            sent.doubled = True
        return [sent.parcel for sent in late]

    def close(self) -> None:
        """Close the sockets."""
        self._close_door()
        self._dealer.disable_monitor()
        for sock in (self._monitor, self._dealer, self._push):
            sock.close(linger=0)

    def _take(
        self, reply: stream.StreamOpened | stream.Grant | stream.SegmentReady | stream.WillTaken | stream.StreamFault
    ) -> None:
        if isinstance(reply, stream.SegmentReady):
            if reply.client == self.client:
                self._segments.add(reply.segment)
        elif isinstance(reply, stream.WillTaken):
            if reply.stream == self._stream:
                self.will_taken = True
            else:
                self._taken_ahead.add(reply.stream)
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


def _message_of(will: Will, arena: Arena, name: str) -> stream.StreamWill:
    return stream.StreamWill(
        stream=name,
        checkpoint_id=will.checkpoint_id,
        rank=will.rank,
        segment=arena.number,
        epoch=arena.epoch,
        offset=will.offset,
        nbytes=will.nbytes,
        digest=will.digest,
        generation=will.generation,
    )
