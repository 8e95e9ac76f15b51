"""Agents' envelopes at the coordinator: a child is a connection like any other, and an answer to many is sent once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.coordinator.core.connections import child_connection, is_child
from strata_zmq.coordinator.core.core import Core
from strata_zmq.coordinator.core.effects import Fanout
from strata_zmq.coordinator.core.world import CoreConfig, Received
from strata_zmq.coordinator.folding import Folding
from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.codec import MAX_FOLDED_BYTES, around_address, decode_downward, decode_reply, encode

AGENT, OTHER = b"\0abcd", b"\0efgh"


class Host:
    """A core behind the folding of a coordinator's shell; what goes to an agent is taken apart as a relay does."""

    def __init__(self, **config: Any) -> None:
        self.core = Core(CoreConfig(lease_s=8.0, heartbeat_s=1.0, **config))
        self.core.start(100.0)
        self.now = 100.0
        self.folding = Folding(self.core.admit, self.core.reject)
        self.frames: list[tuple[bytes, bytes]] = []
        self.direct: list[tuple[bytes, Any]] = []

    def step(self, *events: Received) -> None:
        self._send(self.core.step(list(events), self.now).outbox)

    def hello(self, connection: bytes, role: str = "agent") -> int:
        """Open a session of a connection of its own; return its number."""
        self.step(Received(connection, wire.Hello(role=role, seq=1)))
        _, welcome = self.direct.pop()
        return welcome.session

    def fold(self, agent: bytes, session: int, *parts: tuple[int, Any]) -> None:
        """Have an agent say what its children said, in one frame."""
        bodies = [wire.Part(child, body if isinstance(body, bytes) else encode(body)) for child, body in parts]
        events = list(self.folding.open(agent, wire.Fold(session=session, seq=9, parts=bodies)))
        for event in events:
            if not isinstance(event, Received):
                self._send([event])
        self.step(*(event for event in events if isinstance(event, Received)))

    def told(self) -> dict[int, list[Any]]:
        """What children were told since the last call, by number."""
        found: dict[int, list[Any]] = {}
        for _, frame in self.frames:
            folded = decode_downward(frame)
            assert isinstance(folded, wire.Folded)
            for part in folded.parts:
                found.setdefault(part.child, []).append(decode_reply(part.body))
            for one in folded.shared:
                for whom in one.addressees:
                    body = one.head + encode(whom.session) + encode(whom.seq) + one.tail
                    found.setdefault(whom.child, []).append(decode_reply(body))
        self.frames.clear()
        return found

    def _send(self, outbox: list[Any]) -> None:
        for item in outbox:
            if isinstance(item, Fanout):
                children = [whom for whom in item.recipients if is_child(whom[0])]
                assert len(children) == len(item.recipients)
                self.folding.share(*around_address(item.template), children)
            elif is_child(item[0]):
                self.folding.add(item[0], encode(item[1]))
            else:
                self.direct.append(item)
        self.frames += self.folding.take()


def join(host: Host, agent: bytes, session: int, children: range) -> dict[int, int]:
    """Register a worker on each of these children, all in three frames; return their sessions."""
    host.fold(agent, session, *((child, wire.Hello(role="worker", seq=1)) for child in children))
    sessions = {child: replies[0].session for child, replies in host.told().items()}
    host.fold(
        agent,
        session,
        *(
            (child, wire.RegisterWorker(worker_id=f"w{child}", incarnation=f"i{child}", session=number, seq=2))
            for child, number in sessions.items()
        ),
        *((child, wire.AwaitGeneration(session=number, seq=3, timeout_s=9)) for child, number in sessions.items()),
    )
    return sessions


def test_children_of_two_agents_meet_at_a_barrier_and_each_agent_is_sent_one_frame() -> None:
    host = Host(initial_workers=8)
    first, second = host.hello(AGENT), host.hello(OTHER)
    sessions = join(host, AGENT, first, range(1, 5))
    host.told()
    sessions |= join(host, OTHER, second, range(5, 9))
    generations = {child: replies[-1].generation for child, replies in host.told().items() if child > 4}
    assert set(generations.values()) == {1}

    def arrivals(children: range) -> list[tuple[int, Any]]:
        return [
            (child, wire.Arrive(session=sessions[child], generation=1, seq=4, name="step", step=1))
            for child in children
        ]

    host.fold(AGENT, first, *arrivals(range(1, 5)))
    assert host.told() == {}
    host.fold(OTHER, second, *arrivals(range(5, 9)))
    assert sorted(agent for agent, _ in host.frames) == [AGENT, OTHER]
    assert sum(frame.count(b"released") for _, frame in host.frames) == 2, "what all are told stands once in a frame"
    told = host.told()
    assert {child: [(reply.session, reply.seq) for reply in replies] for child, replies in told.items()} == {
        child: [(session, 4)] for child, session in sessions.items()
    }
    assert {tuple(replies[0].participants) for replies in told.values()} == {
        tuple(f"w{child}" for child in range(1, 9))
    }


def test_two_agents_may_give_their_children_the_same_numbers() -> None:
    host = Host(initial_workers=2)
    for agent in (AGENT, OTHER):
        host.fold(agent, host.hello(agent), (1, wire.Hello(role="worker", seq=1)))
    assert [agent for agent, _ in host.frames] == [AGENT, OTHER]
    sessions = [decode_reply(decode_downward(frame).parts[0].body).session for _, frame in host.frames]
    assert len(set(sessions)) == 2


def test_a_part_that_cannot_be_read_is_answered_to_its_child_and_the_others_count() -> None:
    host = Host()
    session = host.hello(AGENT)
    host.fold(
        AGENT,
        session,
        (1, b"\xc1"),
        (2, wire.Hello(role="worker", seq=1)),
        (3, wire.Fold(session=session, seq=7, parts=[])),
        (4, encode(wire.Heartbeat(seq=5)).replace(b"heartbeat", b"heartbeet")),
    )
    told = host.told()
    assert [type(told[child][0]) for child in (1, 2, 3, 4)] == [wire.ErrorReply, wire.Welcome, *[wire.ErrorReply] * 2]
    assert [(told[child][0].code, told[child][0].seq) for child in (1, 3, 4)] == [
        ("protocol", 0),
        ("protocol", 7),
        ("protocol", 5),
    ]


@pytest.mark.parametrize("role", ["worker", "writer", "client"])
def test_only_an_agent_may_speak_for_others(role) -> None:
    host = Host()
    session = host.hello(AGENT, role)
    host.fold(AGENT, session, (1, wire.Hello(role="worker", seq=1)))
    ((connection, error),) = host.direct
    assert (connection, error.code, error.seq) == (AGENT, "invalid_argument", 9)
    assert host.told() == {}


def test_the_fold_of_an_unknown_session_has_no_effect_and_can_be_sent_again() -> None:
    host = Host()
    host.fold(AGENT, 77, (1, wire.Hello(role="worker", seq=1)))
    ((_, error),) = host.direct
    assert (error.code, error.seq, error.session) == ("unknown_session", 9, 77)
    assert host.told() == {}
    host.direct.clear()
    host.fold(AGENT, host.hello(AGENT), (1, wire.Hello(role="worker", seq=1)))
    assert isinstance(host.told()[1][0], wire.Welcome)


def test_an_agent_whose_children_speak_is_not_forgotten() -> None:
    host = Host()
    session = host.hello(AGENT)
    for _ in range(50):
        host.now += 8.0
        host.fold(AGENT, session, (1, wire.Heartbeat(seq=1)))
    assert host.direct == []


def test_a_worker_that_goes_from_its_agent_to_the_coordinator_is_the_same_process() -> None:
    host = Host()
    join(host, AGENT, host.hello(AGENT), range(1, 2))
    assert host.core.history.generation == 1
    session = host.hello(b"\0wxyz", "worker")
    host.step(Received(b"\0wxyz", wire.RegisterWorker(worker_id="w1", incarnation="i1", session=session, seq=2)))
    assert isinstance(host.direct[-1][1], wire.Registered)
    assert host.core.history.generation == 1


@given(st.integers(0, 2**62), st.binary(min_size=5, max_size=5), st.binary(min_size=1, max_size=255))
def test_no_other_connection_is_taken_for_a_child(child, tail, chosen) -> None:
    generated = b"\0" + tail[1:]
    assert not is_child(generated)
    assert is_child(child_connection(generated, child))
    assert is_child(chosen) == (chosen[0] == 0 and len(chosen) > 5)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3), st.integers(0, 3000)), max_size=40))
def test_no_frame_is_longer_than_an_agent_takes_and_nothing_is_left_out(replies) -> None:
    limit = 4096
    core = Core(CoreConfig())
    folding = Folding(core.admit, core.reject, limit)
    expected: dict[int, list[bytes]] = {}
    for shared, child, length in replies:
        body = encode(wire.Done(seq=1, job="j" * (length % 128))) + b"." * length
        head, tail = body[: length // 2], body[length // 2 :]
        if shared:
            folding.share(head, tail, [(child_connection(AGENT, one), 2**40, 2**40) for one in range(child)])
            for one in range(child):
                expected.setdefault(one, []).append(head + encode(2**40) * 2 + tail)
        else:
            folding.add(child_connection(AGENT, child), body)
            expected.setdefault(child, []).append(body)
    found: dict[int, list[bytes]] = {}
    for agent, frame in folding.take():
        assert agent == AGENT
        assert len(frame) <= limit
        folded = decode_downward(frame)
        for part in folded.parts:
            found.setdefault(part.child, []).append(part.body)
        for one in folded.shared:
            for whom in one.addressees:
                found.setdefault(whom.child, []).append(one.head + encode(whom.session) + encode(whom.seq) + one.tail)
    assert {child: sorted(bodies) for child, bodies in found.items()} == {
        child: sorted(bodies) for child, bodies in expected.items()
    }
    assert list(folding.take()) == []


def test_the_longest_reply_there_is_fits_into_its_envelope() -> None:
    core = Core(CoreConfig())
    folding = Folding(core.admit, core.reject)
    reply = b"." * (16 * 1024 * 1024)
    for child in (1, 2):
        folding.add(child_connection(AGENT, child), reply)
    frames = list(folding.take())
    assert len(frames) == 2
    assert all(len(frame) <= MAX_FOLDED_BYTES for _, frame in frames)


def test_a_frame_full_of_requests_for_the_status_is_answered_with_one_body() -> None:
    """40 KB of requests would otherwise be as many snapshots, and megabytes on the wire."""
    host = Host()
    agent = host.hello(AGENT)
    host.fold(AGENT, agent, (1, wire.Hello(role="client", seq=1)))
    child = host.told()[1][0].session
    host.frames.clear()
    host.fold(AGENT, agent, *((1, wire.GetStatus(session=child, seq=seq)) for seq in range(2, 1402)))
    ((_, frame),) = host.frames
    folded = decode_downward(frame)
    assert isinstance(folded, wire.Folded)
    assert (folded.parts, len(folded.shared)) == ([], 1)
    assert [reply.seq for reply in host.told()[1]] == list(range(2, 1402))
    assert not host.core.postponed
