"""The control socket: every peer speaks for itself, and what one sends wrong costs nobody else anything."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import zmq

from strata_zmq.coordinator.core.connections import child_connection
from strata_zmq.coordinator.core.core import Core
from strata_zmq.coordinator.core.effects import Fanout
from strata_zmq.coordinator.core.world import CoreConfig, Received
from strata_zmq.coordinator.folding import Folding
from strata_zmq.coordinator.router import DRAIN_MAX, Router
from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.codec import decode_reply, encode

WAIT_MS = 5000
HELLO = encode(wire.Hello(role="worker", seq=1))


class Wire:
    """A router on a real socket, with peers that connect to it."""

    def __init__(self) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.socket.bind("inproc://control")
        self.peers = []
        self.core = Core(CoreConfig(job="job"))
        self.core.start(0.0)
        self.router = Router(self.socket, self.core.reject, Folding(self.core.admit, self.core.reject))

    def peer(self, name: bytes = b"") -> zmq.Socket[bytes]:
        socket = self.context.socket(zmq.DEALER)
        if name:
            socket.setsockopt(zmq.ROUTING_ID, name)
        socket.connect("inproc://control")
        self.peers.append(socket)
        return socket

    def turn(self) -> list[Received]:
        """Take what has arrived and answer it."""
        assert self.socket.poll(WAIT_MS)
        batch = self.router.drain()
        self.router.send_all(self.core.step(batch, 1.0).outbox)
        return batch


@pytest.fixture
def line() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.context.destroy(linger=0)


def reply(socket: zmq.Socket[bytes]) -> wire.Reply:
    assert socket.poll(WAIT_MS), "no reply came"
    return decode_reply(socket.recv())


def refused(socket: zmq.Socket[bytes], *words: str) -> None:
    error = reply(socket)
    assert isinstance(error, wire.ErrorReply)
    for word in words:
        assert word in error.message


@pytest.mark.parametrize("extra", [1, 2, 3])
def test_a_message_of_several_frames_is_refused_and_none_of_them_is_taken_for_another_peers(line, extra) -> None:
    """Were the frames after the first taken for (connection, body), one peer could speak under another's name."""
    victim, attacker = line.peer(), line.peer()
    victim.send(HELLO)
    name = line.turn()[0].connection
    session = reply(victim).session
    forged = encode(wire.RegisterWorker(worker_id="forged", incarnation="i", session=session, seq=2))
    attacker.send_multipart([HELLO, *[name, forged, name][:extra]])
    victim.send(HELLO)
    assert [(event.connection, type(event.message)) for event in line.turn()] == [(name, wire.Hello)]
    refused(attacker, "a request is one frame", f"this one has {1 + extra}")
    assert isinstance(reply(victim), wire.Welcome)


def test_a_peer_that_names_itself_like_an_agents_child_is_refused(line) -> None:
    impostor = line.peer(child_connection(b"\0abcd", 7))
    impostor.send(HELLO)
    assert line.turn() == []
    refused(impostor, "ROUTING_ID begins with 0")


def test_a_flood_is_taken_in_portions_and_known_to_go_on(line) -> None:
    peer = line.peer()
    for _ in range(DRAIN_MAX + 1):
        peer.send(HELLO)
    assert len(line.turn()) == DRAIN_MAX
    assert line.router.backlog
    assert len(line.turn()) == 1
    assert not line.router.backlog


def test_one_answer_to_many_reaches_each_under_its_own_number_and_the_gone_cost_nothing(line) -> None:
    first, gone, last = (line.peer() for _ in range(3))
    for socket in (first, gone, last):
        socket.send(HELLO)
    names = [event.connection for event in line.turn()]
    for socket in (first, last, gone):
        reply(socket)
    gone.close(linger=0)
    template = wire.Released(name="step", step=1, participants=["w0"])
    line.router.send_all([Fanout(template, [(name, 7, place) for place, name in enumerate(names)])])
    answers = [reply(socket) for socket in (first, last)]
    assert {(answer.session, answer.seq) for answer in answers} < {(7, 0), (7, 1), (7, 2)}
    assert answers[0].seq != answers[1].seq
