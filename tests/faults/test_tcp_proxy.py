"""The wire that misbehaves does what it was told to, and nothing else: shown on a plain ZeroMQ echo."""

from __future__ import annotations

import itertools
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq
from faultkit.proxy import Behaviour, Decision
from faultkit.zmtp import Splitter, bodies, one_frame
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.setsockopt(zmq.LINGER, 0)
    yield context
    context.destroy(linger=0)


@pytest.fixture
def echo(context: zmq.Context[zmq.Socket[bytes]]) -> Iterator[str]:
    """The address of a ROUTER that sends everything back."""
    router, ending = context.socket(zmq.ROUTER), threading.Event()
    port = router.bind_to_random_port("tcp://127.0.0.1")

    def run() -> None:
        while not ending.is_set():
            if router.poll(10):
                router.send_multipart(router.recv_multipart())
        router.close()

    thread = threading.Thread(target=run)
    thread.start()
    yield f"tcp://127.0.0.1:{port}"
    ending.set()
    thread.join()


@pytest.fixture
def dial(context: zmq.Context[zmq.Socket[bytes]]) -> Iterator[Callable[[str], zmq.Socket[bytes]]]:
    """`dial(url)` returns a connected DEALER whose receives give up after 10 s."""
    dealers: list[zmq.Socket[bytes]] = []

    def connect(url: str) -> zmq.Socket[bytes]:
        dealer = context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.RCVTIMEO, 10_000)
        dealer.setsockopt(zmq.RECONNECT_IVL, 20)
        dealer.connect(url)
        dealers.append(dealer)
        return dealer

    yield connect
    for dealer in dealers:
        dealer.close()


def exchange(dealer: Any, count: int, replies: int) -> list[int]:
    """Send the numbers up to `count` and return `replies` that come back."""
    for number in range(count):
        dealer.send(str(number).encode())
    return [int(dealer.recv()) for _ in range(replies)]


@given(st.data(), st.lists(st.lists(st.binary(max_size=700), min_size=1, max_size=3), max_size=5))
def test_messages_are_found_however_the_stream_is_cut(data: Any, messages: list[list[bytes]]) -> None:
    """Whatever pieces the bytes come in, what is passed on is the same bytes, and each message is whole."""
    frames = [
        bytes([one_frame(part)[0] | (number < len(message) - 1)]) + one_frame(part)[1:]
        for message in messages
        for number, part in enumerate(message)
    ]
    stream = bytes(range(64)) + b"\x04\x05READY" + b"".join(frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    splitter = Splitter()
    pieces = [
        piece
        for start, stop in itertools.pairwise([0, *cuts, len(stream)])
        for piece in splitter.feed(stream[start:stop])
    ]
    assert b"".join(piece.raw for piece in pieces) == stream
    assert [bodies(piece.raw) for piece in pieces if piece.kind == "message"] == messages
    assert [piece.raw for piece in pieces if piece.kind == "command"] == [b"\x04\x05READY"]


def test_without_faults_everything_passes_as_it_is(echo: str, start_proxy: Callable[..., Any], dial: Any) -> None:
    """Frames of every size, in order, and messages of several frames."""
    dealer = dial(start_proxy(echo).url)
    sent = [[random.Random(size).randbytes(size), b"", b"end"] for size in (0, 1, 255, 256, 70_000, 1_000_000)]
    for message in sent:
        dealer.send_multipart(message)
    assert [dealer.recv_multipart() for _ in sent] == sent


def test_what_is_slow_arrives_late_and_in_order(echo: str, start_proxy: Callable[..., Any], dial: Any) -> None:
    """Delay and jitter change when, never in which order; a narrow wire takes its time for the bytes."""
    proxy = start_proxy(echo)
    proxy.up.delay_s, proxy.up.jitter_s = 0.1, 0.1
    dealer = dial(proxy.url)
    dealer.send(b"a first one ends the handshake")
    dealer.recv()
    started = time.monotonic()
    assert exchange(dealer, 20, 20) == list(range(20))
    assert time.monotonic() - started >= 0.1
    proxy.up.delay_s = proxy.up.jitter_s = 0.0
    proxy.down.bytes_per_s = 100_000
    started = time.monotonic()
    # What was written before it has to be through first.
    for body in (bytes(30_000), b""):
        dealer.send(body)
        dealer.recv()
    assert time.monotonic() - started >= 0.3


def test_messages_are_lost_repeated_and_swapped_as_the_seed_says(
    echo: str, start_proxy: Callable[..., Any], dial: Any
) -> None:
    """The stream stays well formed: ZeroMQ delivers exactly what the decisions left, each message whole."""
    proxy = start_proxy(echo, seed=7)
    dealer = dial(proxy.url)
    proxy.up = Behaviour(loses=0.2, duplicates=0.2, reorders=0.2, hold_s=0.05)
    decisions = [proxy.up.decide("7:0:up", number) for number in range(100)]
    expected = [number for number, decision in enumerate(decisions) for _ in range(decision.copies)]
    got = exchange(dealer, 100, len(expected))
    assert sorted(got) == expected
    assert got != expected, "nothing was overtaken"
    held = {number for number, decision in enumerate(decisions) if decision.hold_s}
    in_order = [number for number in expected if number not in held]
    assert [number for number in got if number not in held] == in_order, "what was not held back changed places"
    counts = proxy.counts["up"]
    assert (counts.messages, counts.lost) == (100, sum(decision.copies == 0 for decision in decisions))
    assert dealer.poll(100) == 0, "something came that was not expected"


def test_one_seed_decides_the_same_again() -> None:
    """A decision hangs on the seed, the connection and the number alone, and not on what was decided before."""
    behaviour = Behaviour(loses=0.3, duplicates=0.3, reorders=0.3)
    numbers = list(range(200))
    first = {number: behaviour.decide("1:0:up", number) for number in numbers}
    random.Random(0).shuffle(numbers)
    assert {number: behaviour.decide("1:0:up", number) for number in numbers} == first
    assert {number: behaviour.decide("2:0:up", number) for number in numbers} != first
    assert set(first.values()) >= {Decision(0, 0.0), Decision(1, 0.0), Decision(2, 0.0), Decision(1, 0.05)}


def test_a_stalled_direction_keeps_what_it_was_given(echo: str, start_proxy: Callable[..., Any], dial: Any) -> None:
    """Nothing passes while it is stalled, one way or the other; nothing is missing when it flows again."""
    proxy = start_proxy(echo)
    dealer = dial(proxy.url)
    assert exchange(dealer, 3, 3) == [0, 1, 2]
    for direction in ("up", "down"):
        proxy.stall(direction)
        exchange(dealer, 5, 0)
        assert dealer.poll(150) == 0
        proxy.flow(direction)
        assert [int(dealer.recv()) for _ in range(5)] == list(range(5))


def test_a_cut_connection_is_reset_and_another_may_be_made(echo: str, start_proxy: Callable[..., Any]) -> None:
    """The peer sees RST at once, not an orderly end; where nobody listens, it is refused."""
    proxy = start_proxy(echo)

    def greeted() -> socket.socket:
        plain = socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
        plain.sendall(b"\xff\0\0\0\0\0\0\0\1\x7f\3")
        assert plain.recv(10) == b"\xff\0\0\0\0\0\0\0\1\x7f"
        return plain

    with greeted() as plain:
        assert proxy.cut() == 1
        with pytest.raises(ConnectionResetError):
            list(iter(lambda: plain.recv(100), b""))
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        greeted()
    proxy.accept()
    greeted().close()


def test_a_half_open_connection_is_accepted_and_says_nothing(
    echo: str, start_proxy: Callable[..., Any], dial: Any
) -> None:
    """As with a host that has hung: a connection, and not a byte on it. Others, made before, go on."""
    proxy = start_proxy(echo)
    before = dial(proxy.url)
    assert exchange(before, 1, 1) == [0]
    proxy.half_open = True
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=0.2) as plain:
        plain.sendall(b"\xff\0\0\0\0\0\0\0\1\x7f\3")
        with pytest.raises(TimeoutError):
            plain.recv(1)
    assert exchange(before, 1, 1) == [0]
