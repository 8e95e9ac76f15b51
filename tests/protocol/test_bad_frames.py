"""Whatever arrives on the coordinator's sockets, it lives, says what was wrong where it can, and goes on serving."""

from __future__ import annotations

import random
import socket
import struct
from typing import Any

import msgpack
import pytest
import zmq

from strata_zmq.protocol import codec
from strata_zmq.protocol import messages as wire

TIMEOUT_MS = 10_000


@pytest.fixture(scope="module")
def hello() -> bytes:
    return codec.encode(wire.Hello(role="worker", seq=1))


@pytest.fixture
def coordinator(lasting_coordinator, new_socket, hello):
    """A coordinator that must still serve after the test."""
    yield lasting_coordinator
    dealer = new_socket(zmq.DEALER)
    dealer.connect(lasting_coordinator.control)
    assert answer(dealer, hello)[0] == "welcome"


@pytest.fixture
def dealer(coordinator, new_socket) -> zmq.Socket[bytes]:
    made = new_socket(zmq.DEALER)
    made.connect(coordinator.control)
    return made


def answer(dealer: zmq.Socket[bytes], *frames: bytes) -> list[Any]:
    dealer.send_multipart(frames)
    assert dealer.poll(TIMEOUT_MS), "no answer"
    (frame,) = dealer.recv_multipart()
    return msgpack.unpackb(frame)


def refused(reply: list[Any], *words: str, seq: int = 0) -> None:
    assert (reply[0], reply[5], reply[6]) == ("error", seq, "protocol"), reply
    for word in words:
        assert word in reply[7], reply


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x00",
        b"\xc1",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 1000,
        b"\x90",
        b"\x91" * 5000 + b"\xc0",
        b"\xdd\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xffabc",
        msgpack.packb({"tag": "hello"}),
        msgpack.packb([]),
        msgpack.packb([1, 2, 3]),
        msgpack.packb([b"hello"]),
        msgpack.packb(["hello", "\0" * 200]),
        b"\x92\xa5hello\xa2\xff\xfe",
    ],
    ids=range(15),
)
def test_bytes_that_are_no_message_are_answered_by_name(dealer, frame: bytes) -> None:
    refused(answer(dealer, frame), "not understood")


def test_an_unknown_tag_is_answered_under_its_number(dealer) -> None:
    refused(answer(dealer, msgpack.packb(["grant_root", "", 0, 0, 0, 77])), "grant_root", seq=77)


def test_a_field_outside_its_limits_is_answered_under_its_number(dealer) -> None:
    body = ["register_worker", "", 0, 0, 0, 78, "w" * 5000, "life"]
    refused(answer(dealer, msgpack.packb(body)), "4096", seq=78)
    assert answer(dealer, msgpack.packb(["heartbeat", "", 0, 0, 0, 79, "DANCING"]))[5:7] == [79, "protocol"]


def test_a_message_cut_off_anywhere_is_answered_by_name(dealer, hello) -> None:
    for length in range(len(hello)):
        refused(answer(dealer, hello[:length]))
    assert answer(dealer, hello)[0] == "welcome"


def test_a_message_of_several_frames_is_answered_by_name(dealer, hello) -> None:
    refused(answer(dealer, hello, b""), "one frame", "2", seq=1)
    refused(answer(dealer, b"", hello), "one frame", "2")
    refused(answer(dealer, *[b"x"] * 100), "one frame", "100")


def test_a_req_peer_is_not_served_and_does_no_harm(coordinator, new_socket, hello) -> None:
    request = new_socket(zmq.REQ)
    request.connect(coordinator.control)
    request.send(hello)
    assert not request.poll(500)


@pytest.mark.parametrize("kind", [zmq.PUB, zmq.SUB, zmq.PUSH, zmq.PULL, zmq.ROUTER, zmq.PAIR])
def test_a_peer_of_another_kind_does_no_harm(coordinator, new_socket, dealer, hello, kind: int) -> None:
    stranger = new_socket(kind)
    stranger.connect(coordinator.control)
    if kind in {zmq.PUB, zmq.PUSH, zmq.PAIR}:
        for _ in range(10):
            try:
                stranger.send(hello, zmq.DONTWAIT)
            except zmq.Again:
                break
    assert answer(dealer, hello)[0] == "welcome"


def test_what_is_sent_to_the_broadcast_socket_does_no_harm(coordinator, new_socket, hello) -> None:
    for kind in (zmq.DEALER, zmq.XSUB, zmq.PUB):
        stranger = new_socket(kind)
        stranger.connect(coordinator.broadcast)
        try:
            for body in (hello, b"\x01" * 300, b"\xff" * 70_000):
                stranger.send(body, zmq.DONTWAIT)
        except zmq.Again:
            continue
    subscriber = new_socket(zmq.SUB)
    subscriber.setsockopt(zmq.SUBSCRIBE, b"tick")
    subscriber.connect(coordinator.broadcast)
    assert subscriber.poll(TIMEOUT_MS)
    assert codec.decode_broadcast(subscriber.recv_multipart()[1]).job == "default"


def test_an_oversized_frame_ends_its_connection_and_nobody_elses(coordinator, new_socket, dealer, hello) -> None:
    bad = new_socket(zmq.DEALER)
    monitor = bad.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    try:
        bad.connect(coordinator.control)
        assert answer(bad, hello)[0] == "welcome"
        bad.send(b"\x00" * (codec.MAX_REQUEST_BYTES + 1))
        assert monitor.poll(TIMEOUT_MS), "the connection was not cut"
    finally:
        bad.disable_monitor()
        monitor.close()
    assert answer(dealer, hello)[0] == "welcome"


def test_a_frame_of_exactly_the_limit_is_read(dealer) -> None:
    body = msgpack.packb(["heartbeat", "", 0, 0, 0, 80, "IDLE", 0, 0, 0, "", None, 0, None, b""])
    padding = codec.MAX_REQUEST_BYTES - len(body) - 1
    body = msgpack.packb(["heartbeat", "", 0, 0, 0, 80, "IDLE", 0, 0, 0, "", None, 0, None, b"\0" * padding])
    assert len(body) == codec.MAX_REQUEST_BYTES
    assert answer(dealer, body)[5:7] == [80, "unknown_session"]


@pytest.mark.parametrize(
    "greeting",
    [
        b"",
        b"\x00" * 10,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        # ZMTP 3.1, NULL, then a READY command that announces a frame of 2^63 - 1 bytes.
        b"\xff" + b"\x00" * 8 + b"\x7f\x03\x01NULL".ljust(55, b"\x00") + b"\x06" + struct.pack(">Q", 2**63 - 1),
    ],
    ids=["silence", "zeros", "another protocol", "a frame without end"],
)
def test_a_peer_that_does_not_speak_zeromq_does_no_harm(coordinator, dealer, hello, greeting: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(coordinator.control.removeprefix("ipc://"))
        stranger.sendall(greeting)
        assert answer(dealer, hello)[0] == "welcome"


def test_a_storm_of_noise_from_many_peers_hides_nobody(coordinator, new_socket, hello) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    valid = [hello, codec.encode(wire.GetStatus(seq=5)), codec.encode(wire.Heartbeat(seq=6))]
    noisy = [new_socket(zmq.DEALER) for _ in range(8)]
    for one in noisy:
        one.connect(coordinator.control)
    for _ in range(400):
        body = bytearray(chance.choice(valid))
        for _ in range(chance.randrange(4)):
            body[chance.randrange(len(body))] = chance.randrange(256)
        chance.choice(noisy).send_multipart([bytes(body)] * chance.choice([1, 1, 1, 3]))
    calm = new_socket(zmq.DEALER)
    calm.connect(coordinator.control)
    assert answer(calm, hello)[0] == "welcome"
    for one in noisy:
        while one.poll(200):
            codec.decode_reply(one.recv())


def test_a_peer_that_reads_no_answers_stalls_nobody(coordinator, new_socket, dealer, hello) -> None:
    deaf = new_socket(zmq.DEALER)
    deaf.setsockopt(zmq.RCVHWM, 1)
    deaf.setsockopt(zmq.RCVBUF, 4096)
    deaf.connect(coordinator.control)
    request = codec.encode(wire.GetStatus(seq=1))
    for _ in range(20_000):
        try:
            deaf.send(request, zmq.DONTWAIT)
        except zmq.Again:
            break
    assert answer(dealer, hello)[0] == "welcome"


def test_every_refusal_is_counted(dealer, hello) -> None:
    welcome = answer(dealer, hello)

    def counted() -> int:
        return answer(dealer, msgpack.packb(["get_status", "", 1, 0, welcome[4], 9]))[17].get("rejected.protocol", 0)

    before = counted()
    for _ in range(3):
        answer(dealer, b"\xc1")
    assert counted() == before + 3
