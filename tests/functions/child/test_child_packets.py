"""What goes over a child's socket arrives as it was, once, at one reader; what is wrong with it is said."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.errors import ProtocolError
from strata_zmq.functions.pool import packets
from strata_zmq.functions.pool.packets import Call, Keep, Place, Result

PLACES = st.builds(Place, st.integers(0, 63), st.integers(0, 2**40), st.integers(0, 2**40))
BODIES = st.binary(max_size=2048) | PLACES
CALLS = st.builds(
    Call,
    n=st.integers(1, 2**60),
    function=st.binary(min_size=16, max_size=16),
    body=BODIES,
    result_bytes_max=st.integers(0, 2**60),
    buffers=st.lists(PLACES, max_size=4),
    dill=st.booleans(),
    capture=st.booleans(),
    memory_bytes=st.integers(0, 2**60),
)
RESULTS = st.builds(
    Result,
    n=st.integers(1, 2**60),
    kind=st.sampled_from(["ok", "error", "failure"]),
    cause=st.sampled_from(["", "deadline", "unpicklable_result"]),
    body=BODIES | st.none(),
    buffers=st.lists(PLACES, max_size=4),
    service_ns=st.integers(0, 2**60),
    released=st.booleans(),
    report=BODIES,
)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = packets.child_socket_pair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = os.memfd_create("test")
    yield descriptor
    os.close(descriptor)


@given(st.lists(CALLS, min_size=1, max_size=8))
def test_orders_arrive_as_they_were(calls: list[Call]) -> None:
    assert packets.decode_order(packets.encode_calls(calls)) == calls
    keep = Keep(calls[0].function, calls[0].body, calls[0].buffers)
    assert packets.decode_order(packets.encode_keep(keep)) == keep
    forgotten = packets.decode_order(packets.encode_forget([call.function for call in calls]))
    assert forgotten == packets.Forget([call.function for call in calls])


@given(st.lists(RESULTS, min_size=1, max_size=8))
def test_answers_arrive_as_they_were(results: list[Result]) -> None:
    assert packets.decode_answer(packets.encode_results(results)) == results


@given(CALLS)
def test_a_call_takes_no_more_of_a_packet_than_foretold(call: Call) -> None:
    assert len(packets.encode_calls([call])) <= packets.call_bytes(call) + 8


@given(st.binary(min_size=1, max_size=200))
def test_bytes_that_are_no_packet_are_a_protocol_error_or_a_packet_never_anything_else(data: bytes) -> None:
    for decode in (packets.decode_order, packets.decode_answer):
        try:
            decode(data)
        except ProtocolError as error:
            assert "packet" in str(error)  # noqa: PT017 - some of these bytes are a packet


def test_a_packet_has_one_reader_the_child_or_the_parent_who_takes_it_back(
    pair: tuple[socket.socket, socket.socket], memory: int
) -> None:
    ours, theirs = pair
    for n in (1, 2, 3):
        assert packets.send(ours, packets.encode_calls([Call(n, bytes(16), b"", 0)]), [memory])
    thief = theirs.dup()
    with thief:
        seen = []
        for reader in (theirs, thief, theirs):
            received = packets.receive(reader)
            assert received is not None
            order = packets.decode_order(received[0])
            assert isinstance(order, list)
            seen.append(order[0].n)
            assert os.fstat(received[1][0]).st_ino == os.fstat(memory).st_ino
            assert not os.get_inheritable(received[1][0])
            os.close(received[1][0])
        assert packets.receive(thief) is None
        assert packets.receive(theirs) is None
    assert seen == [1, 2, 3]


def test_a_socket_whose_buffer_is_full_says_so_and_takes_the_same_packet_later(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    packet = packets.encode_calls([Call(1, bytes(16), b"x" * packets.BODY_BYTES_MAX, 0)])
    sent = 0
    while packets.send(ours, packet):
        sent += 1
        assert sent < 10_000
    assert sent * len(packet) >= packets.PACKET_BYTES_MAX
    for _ in range(sent):
        assert packets.receive(theirs) is not None
    assert packets.send(ours, packet)


def test_the_end_of_a_socket_is_an_empty_packet(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    ours.close()
    assert packets.receive(theirs) == (b"", [])
    with pytest.raises(BrokenPipeError):
        packets.send(theirs, packets.encode_ready(1))


def test_a_packet_over_the_limit_is_refused_at_both_ends(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    with pytest.raises(ProtocolError, match="65536"):
        packets.encode_calls([Call(1, bytes(16), b"x" * packets.PACKET_BYTES_MAX, 0)])
    ours.send(b"C" + b"x" * packets.PACKET_BYTES_MAX)
    with pytest.raises(ProtocolError, match="over 65536 bytes"):
        packets.receive(theirs)


def test_a_long_result_is_writable_memory_of_its_own_whether_it_is_copied_or_mapped(memory: int) -> None:
    content = np.arange(packets.MAPPED_BYTES_MIN, dtype=np.uint8)
    os.pwrite(memory, content.tobytes(), 64)
    for nbytes in (1000, packets.MAPPED_BYTES_MIN):
        result = Result(1, "ok", "", b"head", [Place(0, 64, nbytes)], 0, True, b"")
        payload = packets.result_payload(result, [memory])
        assert isinstance(payload, tuple)
        head, body = payload
        assert isinstance(body, memoryview if nbytes >= packets.MAPPED_BYTES_MIN else bytearray)
        view = memoryview(body)
        assert head == b"head"
        assert not view.readonly
        assert np.array_equal(np.frombuffer(view, np.uint8), content[:nbytes])
        view[:4] = b"mine"
        assert os.pread(memory, 4, 64) == content[:4].tobytes()


def test_a_long_result_can_be_read_by_a_process_that_has_no_descriptor_left(memory: int) -> None:
    os.ftruncate(memory, packets.MAPPED_BYTES_MIN)
    result = Result(1, "ok", "", Place(0, 0, packets.MAPPED_BYTES_MIN), [], 0, True, b"")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(memory)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        payload = packets.result_payload(result, [memory])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert isinstance(payload, tuple)
    assert memoryview(payload[0]).nbytes == packets.MAPPED_BYTES_MIN


@pytest.mark.parametrize("place", [Place(1, 0, 4), Place(0, 0, 4096), Place(0, 4096, 1)])
def test_a_place_that_is_not_there_is_a_protocol_error(place: Place, memory: int) -> None:
    os.pwrite(memory, b"abcd", 0)
    with pytest.raises(ProtocolError, match="descriptor"):
        packets.result_payload(Result(1, "ok", "", place, [], 0, True, b""), [memory])
