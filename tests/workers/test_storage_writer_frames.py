"""Whatever arrives on a storage writer's sockets, the process lives, stores nothing wrong, and says what was wrong."""

from __future__ import annotations

import os
import socket
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import zmq
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.errors import PeerLostError, ProtocolError
from strata_zmq.feed.segment import MemfdSegment, send_segment
from strata_zmq.protocol import stream
from strata_zmq.workers.segment_door import connect_to_door, segment_label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PAYLOAD = b"some bytes of a checkpoint" * 100
CHECKPOINT = "step-000000000001-g1-t1"


class Peer:
    """A hand-made client of one writer: it may say anything."""

    def __init__(self, told: dict[str, str], store: Path) -> None:
        self.told, self.store = told, store
        self.context: zmq.Context[Any] = zmq.Context()
        self.dealer = self._socket(zmq.DEALER, told["control"])
        self.push = self._socket(zmq.PUSH, told["data"])
        self.client, self.stream, self.seq = uuid.uuid4().hex, uuid.uuid4().hex, 0

    def _socket(self, kind: int, endpoint: str) -> Any:
        made = self.context.socket(kind)
        made.linger = 0
        made.connect(endpoint)
        return made

    def another(self) -> Peer:
        """Return a client of the same writer."""
        return Peer(self.told, self.store)

    def stored(self) -> list[Path]:
        """Return the chunks on disk."""
        return list(self.store.rglob("pack-*"))

    def say(self, *frames: bytes) -> None:
        self.dealer.send_multipart(frames)

    def hear(self, timeout_s: float = 10.0) -> Any:
        """Return the next reply."""
        assert self.dealer.poll(timeout_s * 1000), "no answer"
        return stream.decode_stream_reply(self.dealer.recv())

    def open(self) -> stream.StreamOpened:
        self.say(stream.encode_stream(stream.StreamOpen(self.stream, self.client, "w")))
        return self.hear()

    def header(self, **changes: Any) -> stream.ChunkHeader:
        self.seq += 1
        good = stream.ChunkHeader(
            stream=self.stream,
            seq=self.seq,
            checkpoint_id=CHECKPOINT,
            kind="chunk",
            rank=0,
            number=self.seq,
            digest=blake3(PAYLOAD).hexdigest(),
            nbytes=len(PAYLOAD),
        )
        return msgspec.structs.replace(good, **changes)

    def answer(self) -> Any:
        """Return the next DURABLE or REFUSED, passing over grants."""
        deadline = time.monotonic() + 10.0
        while time.monotonic() < deadline:
            found = self.hear()
            if isinstance(found, (stream.Durable, stream.Refused)):
                return found
        pytest.fail("no answer")

    def send(self, *payload: bytes, **changes: Any) -> Any:
        """Send a chunk and return its answer."""
        header = self.header(**changes)
        self.push.send_multipart([stream.encode_stream(header), *payload])
        found = self.answer()
        assert found.seq == header.seq
        return found

    def close(self) -> None:
        self.say(stream.encode_stream(stream.StreamClose(self.stream)))
        self.vanish()

    def vanish(self) -> None:
        """End without a word."""
        self.dealer.close(linger=2000)
        self.context.destroy(linger=0)


def has_all_credit(peer: Peer) -> bool:
    """Tell whether nobody holds a part of the writer's two windows any more."""
    probes = [peer.another(), peer.another()]
    try:
        return [probe.open().granted_bytes for probe in probes] == [2**20, 2**20]
    finally:
        for probe in probes:
            probe.close()


@pytest.fixture
def peer(one_writer: Any, eventually: Callable[..., object]) -> Iterator[Peer]:
    """A client of the module's writer, whose store is empty and whose credit is all free."""
    writer = one_writer.writers["one"]
    assert writer.process.poll() is None, "the writer died"
    made = Peer(writer.told, one_writer.store)
    for path in made.stored():
        path.unlink()
    eventually(lambda: has_all_credit(made))
    yield made
    made.close()
    assert writer.process.poll() is None, "the writer died"


def assert_serves(peer: Peer) -> None:
    """The writer still does its work, for this peer and for a new one."""
    before = len(peer.stored())
    other = peer.another()
    try:
        other.open()
        for one in (peer, other):
            assert isinstance(one.send(PAYLOAD), stream.Durable)
    finally:
        other.close()
    assert len(peer.stored()) > before


def test_a_chunk_is_acknowledged_when_it_is_on_disk(peer: Peer) -> None:
    assert peer.open().granted_bytes == 2**20
    found = peer.send(PAYLOAD)
    assert isinstance(found, stream.Durable)
    assert (peer.store / found.key).read_bytes() == PAYLOAD


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([b""], "protocol"),
        ([b"\xc1noise"], "protocol"),
        ([msgspec.msgpack.encode(["open", "s"])], "protocol"),
        ([msgspec.msgpack.encode(["surprise", "s"])], "protocol"),
        ([msgspec.msgpack.encode({"open": 1})], "protocol"),
        ([msgspec.msgpack.encode(["ping", 5])], "protocol"),
        ([msgspec.msgpack.encode(["open", "x" * 300, "c", "w"])], "protocol"),
        ([b"\x91" * 5000], "protocol"),
        ([b"a", b"b"], "protocol"),
        ([msgspec.msgpack.encode(["ping", "unknown"])], "not_found"),
    ],
    ids=["empty", "noise", "truncated", "unknown", "map", "type", "long", "deep", "two frames", "unknown stream"],
)
def test_a_request_that_is_not_understood_is_answered_with_its_error(
    peer: Peer, frames: list[bytes], code: str
) -> None:
    peer.open()
    peer.say(*frames)
    fault = peer.hear()
    assert isinstance(fault, stream.StreamFault)
    assert fault.code == code
    assert fault.message
    assert_serves(peer)


def test_a_stream_that_is_open_cannot_be_taken_over(peer: Peer) -> None:
    peer.open()
    thief = peer.another()
    thief.stream = peer.stream
    fault = thief.open()
    thief.close()
    assert isinstance(fault, stream.StreamFault)
    assert "is open" in fault.message
    assert_serves(peer)


@pytest.mark.parametrize(
    ("payload", "changes", "code", "reason"),
    [
        ([PAYLOAD[:-1] + b"?"], {}, "checkpoint_corrupt", "it was damaged on its way"),
        ([PAYLOAD[:-1]], {}, "protocol", "one frame of 2600 bytes is expected"),
        ([], {}, "protocol", "one frame of 2600 bytes is expected"),
        ([PAYLOAD, b""], {}, "protocol", "one frame of 2600 bytes is expected"),
        ([PAYLOAD], {"segment": 1}, "protocol", "brings bytes as well"),
        ([], {"segment": 9}, "not_found", "segment 9 was not handed over"),
        ([PAYLOAD], {"nbytes": 2**30}, "protocol", "exceed its credit"),
        ([PAYLOAD], {"checkpoint_id": "../../etc"}, "invalid_argument", "checkpoint_id"),
        ([PAYLOAD], {"checkpoint_id": ".hidden"}, "invalid_argument", "checkpoint_id"),
        ([PAYLOAD], {"kind": "index"}, "checkpoint_corrupt", "does not begin as a rank-index does"),
    ],
)
def test_a_chunk_that_is_wrong_is_refused_by_name_and_not_stored(
    peer: Peer, payload: list[bytes], changes: dict[str, Any], code: str, reason: str
) -> None:
    peer.open()
    found = peer.send(*payload, **changes)
    assert isinstance(found, stream.Refused)
    assert (found.code, reason in found.message) == (code, True), found
    assert peer.stored() == []
    assert_serves(peer)


def test_chunks_that_nobody_can_be_told_about_are_dropped_and_logged(peer: Peer, one_writer: Any) -> None:
    """PULL knows no sender: what has no readable header, or no open stream, gets no answer, and costs no credit."""
    before = len(one_writer.writers["one"].log.read_text())
    peer.open()
    good = stream.encode_stream(peer.header())
    for frames in (
        [b""],
        [b"noise", PAYLOAD],
        [good[: len(good) // 2], PAYLOAD],
        [b"x" * (stream.HEADER_BYTES_MAX + 1)],
        [b"\x91" * 4000],
        [msgspec.msgpack.encode(["open", "s", "c", "w"])],
        [stream.encode_stream(peer.header(stream="unknown")), PAYLOAD],
        [b"m"] * 1000,
    ):
        peer.push.send_multipart(frames)
    assert_serves(peer)
    assert len(peer.stored()) == 2
    log = one_writer.writers["one"].log.read_text()[before:]
    assert log.count("a chunk was dropped") == 7
    assert "unknown stream" in log


def test_an_oversized_frame_costs_its_sender_the_connection_only(peer: Peer) -> None:
    peer.open()
    peer.push.send_multipart([stream.encode_stream(peer.header()), bytes(65 * 2**20)])
    peer.say(bytes(2**17))
    other = peer.another()
    try:
        other.open()
        assert_serves(other)
    finally:
        other.close()


def test_a_sender_without_credit_is_refused(peer: Peer) -> None:
    granted = peer.open().granted_bytes
    data = bytes(granted)
    headers = [
        peer.header(digest=blake3(data).hexdigest(), nbytes=granted),
        peer.header(),
    ]
    for header, payload in zip(headers, (data, PAYLOAD), strict=True):
        peer.push.send_multipart([stream.encode_stream(header), payload])
    answers = {answer.seq: answer for answer in (peer.answer(), peer.answer())}
    assert isinstance(answers[headers[0].seq], stream.Durable)
    assert isinstance(answers[headers[1].seq], stream.Refused)
    assert "exceed its credit of 0 bytes" in answers[headers[1].seq].message


def test_durable_bytes_give_new_credit_and_a_closed_stream_gives_all_back(peer: Peer) -> None:
    granted = peer.open().granted_bytes
    peer.send(PAYLOAD)
    assert peer.hear() == stream.Grant(peer.stream, granted + len(PAYLOAD))
    others = [peer.another() for _ in range(2)]
    try:
        assert [one.open().granted_bytes for one in others] == [granted, 0]
        peer.say(stream.encode_stream(stream.StreamClose(peer.stream)))
        assert others[1].hear() == stream.Grant(others[1].stream, granted)
    finally:
        for one in others:
            one.close()


def test_a_worker_that_vanishes_leaves_its_credit_to_the_others(peer: Peer) -> None:
    granted = peer.open().granted_bytes
    second, third = peer.another(), peer.another()
    try:
        assert [second.open().granted_bytes, third.open().granted_bytes] == [granted, 0]
        second.dealer.close(linger=0)
        assert third.hear(20.0) == stream.Grant(third.stream, granted)
    finally:
        second.vanish()
        third.close()


# ---- shared memory --------------------------------------------------------------------------------------------------


def hand_over(peer: Peer, number: int = 1) -> MemfdSegment:
    door = connect_to_door(peer.told["fd_path"])
    peer.door = door  # type: ignore[attr-defined]
    segment = MemfdSegment.create("test", 8192)
    segment.view[: len(PAYLOAD)] = PAYLOAD
    send_segment(door, segment, segment_label(peer.client, number))
    assert peer.hear() == stream.SegmentReady(peer.client, number)
    return segment


def test_a_chunk_may_lie_in_memory_that_was_handed_over(peer: Peer) -> None:
    peer.open()
    with hand_over(peer), peer.door:  # type: ignore[attr-defined]
        found = peer.send(segment=1)
        assert isinstance(found, stream.Durable)
        assert (peer.store / found.key).read_bytes() == PAYLOAD
        for changes, reason in [
            ({"offset": 8192 - 100}, "of a segment of 8192"),
            ({"offset": 1}, "it was damaged on its way"),
            ({"segment": 2}, "segment 2 was not handed over"),
        ]:
            refused = peer.send(**{"segment": 1, **changes})
            assert isinstance(refused, stream.Refused)
            assert reason in refused.message
    assert_serves(peer)


def test_memory_goes_when_its_worker_does(peer: Peer, eventually: Callable[..., object]) -> None:
    """A writer holds on to no memory of a worker that has ended."""
    peer.open()
    with hand_over(peer):
        assert isinstance(peer.send(segment=1), stream.Durable)
        peer.door.close()  # type: ignore[attr-defined]
        eventually(lambda: isinstance(peer.send(segment=1), stream.Refused))


def test_memory_of_one_client_is_not_anothers(peer: Peer) -> None:
    peer.open()
    other = peer.another()
    try:
        other.open()
        with hand_over(peer), peer.door:  # type: ignore[attr-defined]
            refused = other.send(segment=1)
    finally:
        other.close()
    assert isinstance(refused, stream.Refused)
    assert "not handed over" in refused.message


def assert_shut(door: socket.socket) -> None:
    """The writer has ended this connection."""
    door.settimeout(10.0)
    with suppress(ConnectionResetError):  # it had not read everything
        assert door.recv(1) == b""


def test_whatever_comes_through_the_door_the_writer_lives(peer: Peer) -> None:
    peer.open()
    reading, writing = os.pipe()
    segment = MemfdSegment.create("test", 4096)
    try:
        for label in (b"", b"no number", b"client x", b"client 0", "ä 1".encode()):
            with connect_to_door(peer.told["fd_path"]) as door:
                with suppress(PeerLostError):  # it may be shut before the last byte of the greeting
                    send_segment(door, segment, label)
                assert_shut(door)
        with connect_to_door(peer.told["fd_path"]) as door:
            socket.send_fds(door, [b"STSG" + bytes(12)], [reading])
            assert_shut(door)
        with connect_to_door(peer.told["fd_path"]) as door:
            door.send(b"x")
    finally:
        segment.close()
        os.close(reading)
        os.close(writing)
    assert_serves(peer)


# ---- the codec ------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=300))
def test_noise_is_a_protocol_error_and_nothing_else(noise: bytes) -> None:
    for decode in (stream.decode_header, stream.decode_stream_request, stream.decode_stream_reply):
        try:
            decode(noise)
        except ProtocolError:
            continue


@given(st.data())
def test_a_damaged_message_decodes_to_a_message_or_a_protocol_error(data: st.DataObject) -> None:
    whole = stream.encode_stream(stream.ChunkHeader("s", 1, "c", "chunk", 0, 0, "ab" * 32, 10, 1, 64))
    position = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:position] + data.draw(st.binary(max_size=4)) + whole[position + 1 :]
    try:
        found = stream.decode_header(damaged)
    except ProtocolError:
        return
    assert len(found.digest) == 64
    assert found.nbytes >= 1


def test_messages_of_a_newer_sender_may_have_more_fields() -> None:
    newer = [*msgspec.msgpack.decode(stream.encode_stream(stream.StreamPing("s"))), "of tomorrow"]
    assert stream.decode_stream_request(msgspec.msgpack.encode(newer)) == stream.StreamPing("s")
