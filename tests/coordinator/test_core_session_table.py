"""The table of sessions is bounded: hellos fill no memory, and nobody who takes part is pushed out by them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest

from strata_zmq.coordinator.core import sessions
from strata_zmq.coordinator.core.connections import child_connection
from strata_zmq.coordinator.core.core import Core
from strata_zmq.coordinator.core.world import CoreConfig, Received
from strata_zmq.protocol import messages as wire

AGENT, OTHER = b"\0abcd", b"\0efgh"
HEARTBEAT_S, LEASE_S = 1.0, 8.0


class Hosts:
    """A core, and agents whose children say hello."""

    def __init__(self, **config: float) -> None:
        self.core = Core(CoreConfig(lease_s=LEASE_S, heartbeat_s=HEARTBEAT_S, **config))
        self.now = 100.0
        self.core.start(self.now)

    @property
    def size(self) -> int:
        return len(self.core._world.sessions)

    def ask(self, connection: bytes, message) -> wire.Reply:
        ((_, answer),) = self.core.step([Received(connection, message)], self.now).sends
        return answer

    def hello(self, connection: bytes, role: str = "worker") -> wire.Reply:
        return self.ask(connection, wire.Hello(role=role, seq=1))

    def register(self, connection: bytes, name: str) -> int:
        session = self.hello(connection).session
        request = wire.RegisterWorker(worker_id=name, incarnation=name, session=session, seq=2)
        assert type(self.ask(connection, request)) is wire.Registered
        return session

    def beat(self, connection: bytes, session: int) -> wire.Reply:
        return self.ask(connection, wire.Heartbeat(session=session, seq=3))

    def wait(self, seconds: float, *living: tuple[bytes, int]) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += HEARTBEAT_S
            self.core.step(
                [Received(name, wire.Heartbeat(session=session, seq=4)) for name, session in living], self.now
            )


@pytest.fixture
def few_children(monkeypatch) -> int:
    monkeypatch.setattr(sessions, "CHILDREN_MAX", 20)
    return 20


def test_a_child_behind_an_agent_is_told_the_status_as_others_are() -> None:
    """What it costs is the agent's: one body for all of its children."""
    hosts = Hosts()
    child = child_connection(AGENT, 1)
    requests = [Received(where, wire.GetStatus(session=hosts.hello(where).session, seq=2)) for where in (child, OTHER)]
    (shared,) = hosts.core.step(requests, hosts.now).outbox
    assert [where for where, _, _ in shared.recipients] == [child, OTHER]


def test_a_session_that_only_said_hello_is_forgotten_after_two_leases_and_a_registered_one_is_kept() -> None:
    hosts = Hosts()
    worker = (OTHER, hosts.register(OTHER, "w"))
    for number in range(500):
        hosts.hello(child_connection(AGENT, number))
    hosts.wait(1.5 * LEASE_S, worker)
    assert hosts.size == 501
    hosts.wait(LEASE_S, worker)
    assert hosts.size == 1
    assert type(hosts.beat(*worker)) is wire.HeartbeatAck


def test_who_was_lost_is_remembered_for_longer_so_that_it_hears_that_it_is_fenced() -> None:
    hosts = Hosts()
    worker = (AGENT, hosts.register(AGENT, "w"))
    hosts.wait(10 * LEASE_S)
    assert hosts.beat(*worker).code == "fenced"


def test_one_connection_has_one_session_whatever_it_says() -> None:
    hosts = Hosts()
    for role in ("worker", "client", "writer", "agent") * 100:
        assert type(hosts.hello(AGENT, role)) is wire.Welcome
    assert hosts.size == 1


def test_children_of_one_agent_have_a_limit_and_those_of_another_do_not_feel_it(few_children) -> None:
    hosts = Hosts()
    for number in range(few_children):
        assert type(hosts.hello(child_connection(AGENT, number))) is wire.Welcome
    refused = hosts.hello(child_connection(AGENT, few_children))
    assert refused.code == "resource_exhausted"
    assert "20 sessions of this agent's children" in refused.message
    assert type(hosts.hello(child_connection(AGENT, 0))) is wire.Welcome, "a repeated hello needs no room"
    assert type(hosts.hello(child_connection(OTHER, 1))) is wire.Welcome
    assert hosts.size == few_children + 1


def test_a_silent_child_makes_room_and_a_live_worker_never_does(few_children) -> None:
    """An agent's worker that was started anew many times has as many sessions, one of which is in use."""
    hosts = Hosts(initial_workers=few_children - 1)
    living = []
    for number in range(few_children - 1):
        connection = child_connection(AGENT, number)
        living.append((connection, hosts.register(connection, f"w{number}")))
    for number in range(few_children, 2 * few_children):
        assert type(hosts.hello(child_connection(AGENT, number))) is wire.Welcome
        assert hosts.size == few_children
        hosts.wait(3 * HEARTBEAT_S, *living[:-1])
    assert [type(hosts.beat(*one)) for one in living[:-1]] == [wire.HeartbeatAck] * len(living[:-1])
    hosts.wait(30 * LEASE_S, *living)
    assert [type(hosts.beat(*one)) for one in living[:-1]] == [wire.HeartbeatAck] * len(living[:-1])


def test_a_full_table_is_an_error_that_names_the_limit_and_pushes_out_no_registered_worker() -> None:
    hosts = Hosts(sessions_max=30)
    living = [(bytes([0, 1, 2, 3, n]), hosts.register(bytes([0, 1, 2, 3, n]), f"w{n}")) for n in range(30)]
    refused = hosts.hello(OTHER)
    assert refused.code == "resource_exhausted"
    assert "30 sessions are open" in refused.message
    hosts.wait(3 * HEARTBEAT_S)
    assert hosts.hello(OTHER).code == "resource_exhausted", "silent for a while, and all within their leases"
    assert [type(hosts.beat(*one)) for one in living] == [wire.HeartbeatAck] * 30


def test_a_worker_that_comes_back_finds_a_place_in_a_table_that_strangers_filled() -> None:
    hosts = Hosts(sessions_max=1000)
    worker = (OTHER, hosts.register(OTHER, "w"))
    for number in range(2000):
        hosts.hello(child_connection(AGENT, number))
    assert hosts.size == 1000
    hosts.wait(3 * HEARTBEAT_S, worker)
    hosts.register(b"\0new!", "w")
    assert hosts.size == 1000


class Counted(OrderedDict[bytes, Any]):
    """Counts the sessions that were looked at, and left where they were needed."""

    looked = 0

    def move_to_end(self, key: bytes, last: bool = True) -> None:
        self.looked += 1
        super().move_to_end(key, last)


def test_looking_for_room_costs_the_same_in_a_large_table() -> None:
    """A flood of hellos at a full table must not look at the whole table for each."""
    hosts = Hosts(sessions_max=5000)
    for number in range(5000):
        hosts.hello(b"direct-%d" % number)
    table = hosts.core._world.sessions = Counted(hosts.core._world.sessions)
    for number in range(100):
        assert hosts.hello(b"more-%d" % number).code == "resource_exhausted"
    assert 0 < table.looked <= 100 * 64
