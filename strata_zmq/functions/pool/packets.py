"""What goes over a child's socket in both directions, and how; it never looks into a payload and never plans.

The socket is a SEQPACKET pair: one message is one packet, read whole by exactly one reader, with its descriptors. A
packet is a letter and msgpack. To the child: `C` calls, `K` a value to keep, `F` digests to forget; the socket's end is
the order to end. From the child: `Y` it is ready, `B` it is broken (its initializer failed), `R` results. What does not
fit inline is named by a Place: a span of one of the packet's descriptors, each a memfd.

The parent holds a descriptor of the child's end, too: `receive(child_end)` takes back what the child has not read,
orders of every kind. Both descriptors are ONE open file: making the parent's non-blocking would make the child's so.
That is why the parent says MSG_DONTWAIT instead, and why the child's socket must never get a timeout.
"""

from __future__ import annotations

import array
import errno
import mmap
import os
import socket
import threading

import msgspec

from strata_zmq.domain.task import Cause, Kind, OutcomeReport, Payload
from strata_zmq.errors import ProtocolError

__all__ = [
    "AT_ONCE",
    "BODY_BYTES_MAX",
    "CALLS_MAX",
    "DESCRIPTORS_MAX",
    "MAPPED_BYTES_MIN",
    "PACKET_BYTES_MAX",
    "Broken",
    "Call",
    "Forget",
    "Keep",
    "Place",
    "Ready",
    "Result",
    "call_bytes",
    "child_socket_pair",
    "decode_answer",
    "decode_order",
    "encode_broken",
    "encode_calls",
    "encode_forget",
    "encode_keep",
    "encode_ready",
    "encode_results",
    "receive",
    "result_payload",
    "result_report",
    "send",
]

PACKET_BYTES_MAX = 64 * 1024
"""The longest packet."""
BODY_BYTES_MAX = 32 * 1024
"""A longer body, or report of a result, lies in a memfd. Parts of less go inline."""
CALLS_MAX = 64
"""Most calls or results in one packet; digests of one `F` packet as well."""
DESCRIPTORS_MAX = 64
"""Most descriptors with one packet; the kernel's own limit is 253."""
MAPPED_BYTES_MIN = 8 * 2**20
"""A shorter part of a result is copied by its reader; every mapped one holds a descriptor as long as it lives."""
AT_ONCE = int(socket.MSG_DONTWAIT)
"""Do not wait: the default of `send` and `receive`."""
_SEND_BUFFER_BYTES = 1024 * 1024
_CALL_OVERHEAD_BYTES = 96
_PLACE_BYTES = 24


class Place(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """`nbytes` bytes at `offset` of the packet's descriptor number `descriptor`."""

    descriptor: int
    offset: int
    nbytes: int


class Call(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One call. `n` rises with every call that a child is sent: results and the black box name it by `n` alone.

    `function` is the digest of a callable sent before in a Keep, or CALL_IN_PAYLOAD. `body` is the pickle, `buffers`
    are its out-of-band buffers in their order. `dill`: the payload has the published form. `capture` catches what is
    printed. `memory_bytes` bounds the child's data while it runs (0: as the child's settings say).
    """

    n: int
    function: bytes
    body: bytes | Place
    result_bytes_max: int
    buffers: list[Place] = []
    dill: bool = False
    capture: bool = False
    memory_bytes: int = 0


class Keep(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A packed callable or value, kept by its digest until it is forgotten; it goes ahead of the calls that need it.

    A Keep that is stolen back with the calls behind it was never seen by the child.
    """

    digest: bytes
    body: bytes | Place
    buffers: list[Place] = []


class Forget(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Digests that no later call needs."""

    digests: list[bytes]


class Ready(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The initializer has run; calls may come."""

    pid: int


class Broken(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The initializer failed and the child ends; `text` says how."""

    text: str


class Result(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """How call `n` ended; the fields are those of `domain.task.Outcome`, `body` None for a failure.

    `buffers` are the body's out-of-band buffers. `service_ns` is from before the call was loaded until the function
    came back. `released`: nothing of the call's own descriptors is mapped any more, its segments may be written again.
    `report` is an encoded OutcomeReport, b"" where there is none; take it with `result_report`.
    """

    n: int
    kind: Kind
    cause: Cause
    body: bytes | Place | None
    buffers: list[Place]
    service_ns: int
    released: bool
    report: bytes | Place


Order = list[Call] | Keep | Forget
Answer = list[Result] | Ready | Broken

_encoder = msgspec.msgpack.Encoder()
_calls_decoder = msgspec.msgpack.Decoder(list[Call])
_keep_decoder = msgspec.msgpack.Decoder(Keep)
_forget_decoder = msgspec.msgpack.Decoder(Forget)
_results_decoder = msgspec.msgpack.Decoder(list[Result])
_ready_decoder = msgspec.msgpack.Decoder(Ready)
_broken_decoder = msgspec.msgpack.Decoder(Broken)
_report_decoder = msgspec.msgpack.Decoder(OutcomeReport)

_CALLS, _KEEP, _FORGET = b"CKF"
_RESULTS, _READY, _BROKEN = b"RYB"


# ---- sockets ---------------------------------------------------------------------------------------------------------


def child_socket_pair() -> tuple[socket.socket, socket.socket]:
    """Return (the parent's end, the child's end) of a new pair, both close-on-exec and blocking."""
    parent, child = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (parent, child):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    return parent, child


def send(
    sock: socket.socket,
    packet: bytes | memoryview,
    descriptors: list[int] | None = None,
    flags: int = AT_ONCE,
) -> bool:
    """Send a packet; False where the socket's buffer is full: send the same again when it is writable.

    Raises BrokenPipeError or ConnectionResetError where the other end is closed. The descriptors stay the caller's.
    """
    try:
        if descriptors:
            rights = array.array("i", descriptors)
            sock.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], flags)
        else:
            sock.send(packet, flags)
    except BlockingIOError:
        return False
    return True


# Plain numbers: combining the library's enumerations takes longer than the system call.
_CLOSE_ON_EXEC = int(socket.MSG_CMSG_CLOEXEC)
_TRUNCATED = int(socket.MSG_TRUNC)


class _Inbox(threading.local):
    """Where packets are received: memory that is used again, for each thread its own."""

    def __init__(self) -> None:
        self.memory = memoryview(bytearray(PACKET_BYTES_MAX))


_inbox = _Inbox()
_ROOM_FOR_DESCRIPTORS = socket.CMSG_SPACE(DESCRIPTORS_MAX * array.array("i").itemsize)


def receive(sock: socket.socket, flags: int = AT_ONCE) -> tuple[bytes, list[int]] | None:
    """Return a packet and its descriptors, which are the caller's now; None where there is none yet.

    b"" is the end of the socket. There are fewer descriptors than were sent where this process has none left: who looks
    for one of them gets a ProtocolError. Raises ProtocolError for a packet over the limit, ConnectionResetError where
    the other end was closed with packets unread.
    """
    memory = _inbox.memory
    try:
        nbytes, rights, seen, _ = sock.recvmsg_into([memory], _ROOM_FOR_DESCRIPTORS, flags | _CLOSE_ON_EXEC)
    except BlockingIOError:
        return None
    packet = bytes(memory[:nbytes])
    descriptors = _descriptors(rights) if rights else []
    if seen & _TRUNCATED:
        for descriptor in descriptors:
            os.close(descriptor)
        raise ProtocolError(f"a packet of a child's socket is over {PACKET_BYTES_MAX} bytes")
    return packet, descriptors


def _descriptors(rights: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in rights:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return found.tolist()


# ---- to the child ----------------------------------------------------------------------------------------------------


def call_bytes(call: Call) -> int:
    """Return an upper bound of what `call` takes in a packet, for filling packets up to PACKET_BYTES_MAX."""
    inline = len(call.body) if isinstance(call.body, bytes) else _PLACE_BYTES
    return _CALL_OVERHEAD_BYTES + inline + _PLACE_BYTES * len(call.buffers)


def encode_calls(calls: list[Call]) -> bytes:
    """Return the packet of some calls, in the order in which they are to run."""
    return _packet(b"C", calls)


def encode_keep(keep: Keep) -> bytes:
    """Return the packet that makes a callable or value known."""
    return _packet(b"K", keep)


def encode_forget(digests: list[bytes]) -> bytes:
    """Return the packet that forgets callables and values."""
    return _packet(b"F", Forget(digests))


def decode_order(packet: bytes) -> Order:
    """Return what a packet orders; ProtocolError where it is none."""
    kind = packet[0]
    try:
        if kind == _CALLS:
            return _calls_decoder.decode(memoryview(packet)[1:])
        if kind == _KEEP:
            return _keep_decoder.decode(memoryview(packet)[1:])
        if kind == _FORGET:
            return _forget_decoder.decode(memoryview(packet)[1:])
    except msgspec.DecodeError as error:
        raise ProtocolError(f"a packet to a child cannot be read: {error}") from error
    raise ProtocolError(f"a packet to a child begins with {packet[:1]!r}; C, K or F is expected")


# ---- from the child --------------------------------------------------------------------------------------------------


def encode_ready(pid: int) -> bytes:
    """Return the packet of a child that can take calls."""
    return _packet(b"Y", Ready(pid))


def encode_broken(text: str) -> bytes:
    """Return the packet of a child whose initializer failed."""
    return _packet(b"B", Broken(text))


def encode_results(results: list[Result]) -> bytes:
    """Return the packet of some results; a child's outbox builds the same bytes one by one."""
    return _packet(b"R", results)


def decode_answer(packet: bytes) -> Answer:
    """Return what a child's packet, or its outbox (`BoxReader.unsent`), says; ProtocolError where it is none."""
    kind = packet[0]
    try:
        if kind == _RESULTS:
            return _results_decoder.decode(memoryview(packet)[1:])
        if kind == _READY:
            return _ready_decoder.decode(memoryview(packet)[1:])
        if kind == _BROKEN:
            return _broken_decoder.decode(memoryview(packet)[1:])
    except msgspec.DecodeError as error:
        raise ProtocolError(f"a packet of a child cannot be read: {error}") from error
    raise ProtocolError(f"a packet of a child begins with {packet[:1]!r}; R, Y or B is expected")


def result_payload(result: Result, descriptors: list[int]) -> Payload | None:
    """Return a result's body, None where it has none; the descriptors may be closed afterwards.

    It is its bytes, or parts in private, writable memory: the long ones as views of what the child wrote, which stays
    as long as they do.
    """
    if result.body is None:
        return None
    if isinstance(result.body, bytes) and not result.buffers:
        return result.body
    first = result.body if isinstance(result.body, bytes) else _read(result.body, descriptors)
    return (first, *[_read(place, descriptors) for place in result.buffers])


def result_report(result: Result, descriptors: list[int]) -> OutcomeReport | None:
    """Return what there is to tell about a result, None where there is nothing."""
    report: bytes | memoryview | bytearray
    report = result.report if isinstance(result.report, bytes) else _read(result.report, descriptors)
    if not report:
        return None
    try:
        return _report_decoder.decode(report)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"a child's report cannot be read: {error}") from error


def _read(place: Place, descriptors: list[int]) -> bytearray | memoryview:
    """Return the bytes of `place`: copied where they are few, since each mapping costs this process a descriptor."""
    descriptor = _at(place.descriptor, descriptors)
    if place.nbytes >= MAPPED_BYTES_MIN:
        try:
            whole = memoryview(mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE))
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
        else:
            return whole[place.offset : place.offset + place.nbytes]
    copy = bytearray(place.nbytes)
    if place.nbytes and os.preadv(descriptor, [copy], place.offset) != place.nbytes:
        raise ProtocolError(f"{place} is beyond the end of its descriptor")
    return copy


def _at(index: int, descriptors: list[int]) -> int:
    if 0 <= index < len(descriptors):
        return descriptors[index]
    raise ProtocolError(f"a packet names descriptor {index} and came with {len(descriptors)}")


def _packet(kind: bytes, content: object) -> bytes:
    packet = kind + _encoder.encode(content)
    if len(packet) > PACKET_BYTES_MAX:
        raise ProtocolError(
            f"a packet of {len(packet)} bytes is over {PACKET_BYTES_MAX}: bodies over {BODY_BYTES_MAX} go in a memfd"
        )
    return packet
