"""Whatever arrives on a storage writer's sockets, the process lives, stores nothing wrong, and says what was wrong."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from blake3 import blake3
from processkit.stream_peer import CHECKPOINT, PAYLOAD, Peer

from strata_zmq.checkpoint.arena import ArenaPool
from strata_zmq.checkpoint.snapshot import take_snapshot
from strata_zmq.errors import PeerLostError, ProtocolError
from strata_zmq.feed.segment import MemfdSegment, send_segment
from strata_zmq.protocol import stream
from strata_zmq.workers.last_will import encode_will
from strata_zmq.workers.segment_door import connect_to_door, segment_label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from strata_zmq.checkpoint.snapshot import Snapshot


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


# ---- staging memory, references and wills ---------------------------------------------------------------------------


@pytest.fixture
def staged(peer: Peer) -> Iterator[tuple[Peer, Snapshot]]:
    """A client that has handed an arena over, with a state in it."""
    pool = ArenaPool(1)
    snapshot = take_snapshot({"w": np.frombuffer(PAYLOAD, np.uint8)}, pool, with_will=True)
    peer.open()
    with connect_to_door(peer.told["fd_path"]) as door:
        send_segment(door, snapshot.arena.segment, segment_label(peer.client, 1))
        assert peer.hear() == stream.SegmentReady(peer.client, 1)
        yield peer, snapshot
    pool.close()


def place_of(snapshot: Snapshot) -> dict[str, int]:
    return {"segment": 1, "offset": snapshot.layout.slices[0].offset, "epoch": snapshot.epoch}


def test_a_chunk_whose_memory_was_used_again_is_refused(staged: tuple[Peer, Snapshot]) -> None:
    """The epoch is looked at, and not the bytes, which may be anybody's by then; a digest is not needed."""
    peer, snapshot = staged
    found = peer.send(**place_of(snapshot), digest="")
    assert isinstance(found, stream.Durable)
    assert (found.digest, found.nbytes, found.referred) == (blake3(PAYLOAD).hexdigest(), len(PAYLOAD), False)
    stored = (peer.store / found.key).read_bytes()
    assert stored[found.offset : found.offset + found.nbytes] == PAYLOAD
    snapshot.arena.renew()
    refused = peer.send(**place_of(snapshot), digest="")
    assert isinstance(refused, stream.Refused)
    assert refused.code == "stale_generation"
    assert_serves(peer)


def test_memory_that_changes_while_it_is_written_is_not_acknowledged(
    make_cluster: Any, eventually: Callable[..., Any]
) -> None:
    """What a writer had begun to store when the worker went on with another save is not that save's, nor this one's."""
    cluster = make_cluster()
    go, log = cluster.folder / "go", cluster.folder / "failpoints"
    env = {"STRATA_FAILPOINTS": f"storage.sync=pause:{go}@3", "STRATA_FAILPOINTS_LOG": str(log)}
    peer = Peer(cluster.writer("one", env=env).told, cluster.store)
    pool = ArenaPool(1)
    snapshot = take_snapshot({"w": np.frombuffer(PAYLOAD, np.uint8)}, pool)
    peer.open()
    with connect_to_door(peer.told["fd_path"]) as door:
        send_segment(door, snapshot.arena.segment, segment_label(peer.client, 1))
        assert peer.hear() == stream.SegmentReady(peer.client, 1)
        answers: list[Any] = []

        def answered(count: int) -> bool:
            while peer.dealer.poll(0):
                answers.append(peer.hear())
            return sum(isinstance(one, (stream.Durable, stream.Refused)) for one in answers) >= count

        sent = 0
        while not log.exists():
            peer.push.send_multipart([stream.encode_stream(peer.header(**place_of(snapshot), digest=""))])
            sent += 1
            eventually(lambda count=sent: answered(count) or log.exists())
        snapshot.arena.renew()
        go.touch()
        eventually(lambda: answered(sent))
    refused = answers[-1] if isinstance(answers[-1], stream.Refused) else answers[-2]
    assert isinstance(refused, stream.Refused)
    assert refused.code == "stale_generation"
    peer.close()
    pool.close()


def test_a_chunk_that_is_stored_already_is_referred_to(staged: tuple[Peer, Snapshot]) -> None:
    peer, snapshot = staged
    first = peer.send(**place_of(snapshot), digest="")
    known = stream.Candidate(first.key, first.offset, first.digest, first.nbytes)
    before = peer.stored()
    again = peer.send(**place_of(snapshot), digest="", candidate=known)
    assert (again.referred, again.key, again.offset, again.digest) == (True, first.key, first.offset, first.digest)
    assert peer.stored() == before
    other = msgspec.structs.replace(known, digest=blake3(b"others").hexdigest())
    written = peer.send(**place_of(snapshot), digest="", candidate=other)
    assert (written.referred, written.digest) == (False, first.digest)
    assert len(peer.stored()) == len(before) + 1


def test_a_digest_may_be_left_out_only_of_shared_memory(peer: Peer) -> None:
    with pytest.raises(ProtocolError, match="only a segment"):
        stream.decode_header(stream.encode_stream(peer.header(digest="")))


def test_a_will_is_taken_once_it_can_be_read(staged: tuple[Peer, Snapshot]) -> None:
    peer, snapshot = staged
    will = encode_will(
        lambda chunks: snapshot.index(0, chunks), [(one.offset, one.nbytes) for one in snapshot.layout.slices]
    )
    offset, _ = snapshot.room
    snapshot.arena.leave_will(offset, will)
    good = stream.StreamWill(
        stream=peer.stream,
        checkpoint_id=CHECKPOINT,
        rank=0,
        segment=1,
        epoch=snapshot.epoch,
        offset=offset,
        nbytes=len(will),
        digest=blake3(will).hexdigest(),
    )
    for changes, code in [
        ({"segment": 2}, "not_found"),
        ({"epoch": snapshot.epoch + 1}, "checkpoint_corrupt"),
        ({"offset": offset + 1}, "checkpoint_corrupt"),
        ({"nbytes": 2**29}, "protocol"),
        ({"rank": 3}, "protocol"),
    ]:
        peer.say(stream.encode_stream(msgspec.structs.replace(good, **changes)))
        fault = peer.hear()
        assert isinstance(fault, stream.StreamFault)
        assert fault.code == code, fault
    peer.say(stream.encode_stream(good))
    assert peer.hear() == stream.WillTaken(peer.stream)
    assert_serves(peer)


def test_the_threads_for_bytes_step_back_behind_those_of_training(
    staged: tuple[Peer, Snapshot], one_writer: Any
) -> None:
    """The loop, which answers workers, does not; the threads that hash and write do."""
    peer, snapshot = staged
    peer.send(**place_of(snapshot), digest="")
    nice = {}
    for task in Path(f"/proc/{one_writer.writers['one'].pid}/task").iterdir():
        nice[int(task.name)] = int((task / "stat").read_text().rpartition(")")[2].split()[16])
    assert nice[one_writer.writers["one"].pid] == 0
    assert sorted(nice.values())[-3:] == [5, 5, 5]


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
