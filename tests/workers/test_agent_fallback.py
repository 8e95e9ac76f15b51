"""A worker's way over its host's agent: taken while it answers, left when it does not, and taken again later."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
import zmq

from strata_zmq.errors import InvalidArgumentError
from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.codec import decode_request, encode
from strata_zmq.workers.identity import WorkerIdentity
from strata_zmq.workers.route import Route
from strata_zmq.workers.session import WorkerSession

HEARTBEAT_S = 0.2


class Peer:
    """A ROUTER that answers as a coordinator does; it parks barriers and remembers what it was asked."""

    def __init__(self, url: str, session: int) -> None:
        self.url = url
        self.asked: list[Any] = []
        self.silent = False
        self._session = session
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._bound = threading.Event()

    def start(self) -> Peer:
        self._stopping.clear()
        self._bound.clear()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._bound.wait(10)
        return self

    def stop(self) -> None:
        """End as a killed process does: connections break, and an ipc path stays behind."""
        path, aside = Path(self.url.removeprefix("ipc://")), Path(f"{self.url.removeprefix('ipc://')}.aside")
        if self._thread.is_alive():
            path.rename(aside)  # closing would remove it
            self._stopping.set()
            self._thread.join()
            aside.rename(path)

    def kinds(self) -> list[type[Any]]:
        return [type(message) for message in self.asked]

    def _run(self) -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
            router.setsockopt(zmq.LINGER, 0)
            router.bind(self.url)
            self._bound.set()
            while not self._stopping.is_set():
                if router.poll(5):
                    connection, body = router.recv_multipart()
                    request = decode_request(body)
                    self.asked.append(request)
                    reply = self._reply(request)
                    if reply is not None and not self.silent:
                        router.send_multipart([connection, encode(reply)])

    def _reply(self, request: Any) -> Any:
        header = {"term": 1, "session": self._session, "seq": request.seq}
        match request:
            case wire.Hello():
                return wire.Welcome(proto=1, lease_s=3.0, heartbeat_s=HEARTBEAT_S, **header)
            case wire.RegisterWorker():
                return wire.Registered(worker_id=request.worker_id, **header)
            case wire.Heartbeat():
                return wire.HeartbeatAck(**header)
            case wire.Arrive():
                return None
            case _:
                return wire.Done(**header)


@pytest.fixture
def peers() -> Iterator[tuple[Peer, Peer]]:
    """An agent and a coordinator, not started."""
    folder = tempfile.mkdtemp(prefix="st-")
    agent, coordinator = Peer(f"ipc://{folder}/agent", 1), Peer(f"ipc://{folder}/control", 2)
    yield agent, coordinator
    for peer in (agent, coordinator):
        peer.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def open_session(peers: tuple[Peer, Peer], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], WorkerSession]]:
    """A worker's session as the launcher's environment makes it."""
    agent, coordinator = peers
    monkeypatch.setenv("STRATA_AGENT_URL", agent.url)
    monkeypatch.setenv("COORDINATOR_URL", coordinator.url)
    opened: list[WorkerSession] = []

    def open_one() -> WorkerSession:
        session = WorkerSession(WorkerIdentity(worker_id="worker-0"))
        opened.append(session)
        session.connect(10)
        return session

    yield open_one
    for session in opened:
        session.close(leave=False)


def incarnations(peer: Peer) -> set[str]:
    return {message.incarnation for message in peer.asked if isinstance(message, wire.RegisterWorker)}


def test_the_agent_is_preferred(peers: tuple[Peer, Peer], open_session: Callable[[], WorkerSession]) -> None:
    """With both there, nothing is said to the coordinator directly."""
    agent, coordinator = (peer.start() for peer in peers)
    session = open_session()
    assert session.heartbeat()
    assert session.client.endpoint == agent.url
    assert coordinator.asked == []


@pytest.mark.parametrize("agent_is", ["absent", "dead", "silent"])
def test_a_worker_starts_without_an_agent_that_answers(
    peers: tuple[Peer, Peer], open_session: Callable[[], WorkerSession], agent_is: str
) -> None:
    """Its path is gone, nobody listens there, or nobody answers: the coordinator is asked directly."""
    agent, coordinator = peers
    coordinator.start()
    if agent_is != "absent":
        agent.start()
        agent.silent = True
    if agent_is == "dead":
        agent.stop()
    session = open_session()
    assert session.heartbeat()
    assert session.client.endpoint == coordinator.url


@pytest.mark.parametrize("agent_is", ["dead", "silent"])
def test_what_is_unanswered_is_asked_again_on_the_other_way(
    peers: tuple[Peer, Peer],
    open_session: Callable[[], WorkerSession],
    eventually: Callable[..., Any],
    agent_is: str,
) -> None:
    """The worker is the same process life to the coordinator, and its barrier is still waited for."""
    agent, coordinator = (peer.start() for peer in peers)
    session = open_session()
    waiting = session.client.submit(wire.Arrive(name="meet", step=1))
    eventually(lambda: wire.Arrive in agent.kinds())
    if agent_is == "dead":
        agent.stop()
    else:
        agent.silent = True
    eventually(lambda: wire.Arrive in coordinator.kinds())
    assert session.client.endpoint == coordinator.url
    assert incarnations(agent) == incarnations(coordinator) == {session.identity.incarnation}
    asked = {message.seq for peer in peers for message in peer.asked if isinstance(message, wire.Arrive)}
    assert len(asked) == 1
    assert not waiting.done()


def test_an_agent_that_is_back_is_used_again(
    peers: tuple[Peer, Peer], open_session: Callable[[], WorkerSession], eventually: Callable[..., Any]
) -> None:
    """After a while, and without anybody's doing."""
    agent, coordinator = (peer.start() for peer in peers)
    session = open_session()
    agent.stop()
    eventually(lambda: session.client.endpoint == coordinator.url)
    assert session.heartbeat()
    agent.asked.clear()
    Path(agent.url.removeprefix("ipc://")).unlink()
    agent.start()
    eventually(lambda: wire.Heartbeat in agent.kinds())
    assert session.client.endpoint == agent.url


def test_a_given_address_is_used_as_it_is(
    peers: tuple[Peer, Peer], open_session: Callable[[], WorkerSession], tmp_path: Path
) -> None:
    """The agent is the way to this run's coordinator, and to no other."""
    agent, coordinator = (peer.start() for peer in peers)
    os.environ["COORDINATOR_URL"] = f"ipc://{tmp_path}/another"
    session = WorkerSession(WorkerIdentity(worker_id="worker-0"), coordinator.url)
    session.connect(10)
    assert session.heartbeat()
    session.close(leave=False)
    assert agent.asked == []
    os.environ["STRATA_AGENT_URL"] = "no endpoint"
    with pytest.raises(InvalidArgumentError, match="STRATA_AGENT_URL"):
        WorkerSession(WorkerIdentity(worker_id="worker-0"))


# ---- the rules, under a simulated clock


def watch(route: Route, now: float, **seen: Any) -> bool:
    return route.check(now, **{"introduced": True, "silent_s": 0.0, "heartbeat_s": 1.0, **seen})


def test_one_way_is_never_left() -> None:
    """There is nowhere else to go."""
    route = Route(["a"], Random(0), 0.0)
    assert not watch(route, 1000.0, introduced=False, silent_s=1000.0)
    assert route.next_due(0.0) == float("inf")


def test_silence_is_measured_in_heartbeats() -> None:
    """Two of them without a word, or a second where they are faster."""
    for heartbeat_s, limit_s in ((1.0, 2.0), (0.1, 1.0)):
        route = Route(["a", "b"], Random(0), 0.0)
        route.connected()
        assert not watch(route, 100.0, silent_s=limit_s - 0.01, heartbeat_s=heartbeat_s)
        assert watch(route, 100.0, silent_s=limit_s, heartbeat_s=heartbeat_s)
        assert route.endpoint == "b"


def test_with_both_away_it_goes_back_and_forth() -> None:
    """Whichever comes back first is found."""
    route, seen, now = Route(["a", "b"], Random(0), 0.0), [], 0.0
    while now < 10:
        now = max(route.next_due(now), now + 0.01)
        if watch(route, now, introduced=False, silent_s=now):
            seen.append(route.endpoint)
    assert seen[:4] == ["b", "a", "b", "a"]


def test_an_agent_that_does_not_hold_is_tried_less_and_less() -> None:
    """From every two seconds to once a minute; one that held for a while is trusted again."""
    route, tried, now = Route(["a", "b"], Random(0), 0.0), [], 0.0
    while now < 600:
        now += 0.05
        if watch(route, now) and route.endpoint == "a":
            tried.append(now)
        if route.endpoint == "b":
            route.connected()
    pauses = [after - before for before, after in pairwise(tried)]
    assert pauses[0] < 6
    assert 45 < pauses[-1] < 76
    assert len(tried) < 20


def test_an_agent_that_held_for_a_while_is_trusted_again() -> None:
    """When it is lost then, the way back is tried as soon as at the beginning."""
    route, now = Route(["a", "b"], Random(0), 0.0), 0.0

    def go_until(endpoint: str) -> None:
        nonlocal now
        while route.endpoint != endpoint:
            now += 0.05
            watch(route, now)
            if route.endpoint == "b":
                route.connected()

    for _ in range(4):
        go_until("b")
        go_until("a")
    route.connected()
    for _ in range(1000):
        now += 0.05
        assert not watch(route, now)
    route.disconnected(now)
    go_until("b")
    left_at = now
    go_until("a")
    assert now - left_at < 4


def test_an_agent_whose_path_is_gone_is_not_tried() -> None:
    """Looking costs nothing; leaving a good connection does."""
    there = {"b"}
    route = Route(["a", "b"], Random(0), 0.0, lambda endpoint: endpoint in there)
    assert route.endpoint == "b"
    route.connected()
    now = 0.0
    while now < 100:
        now += 0.5
        assert not watch(route, now)
    there.add("a")
    while not watch(route, now):
        now += 0.5
    assert route.endpoint == "a"
    assert now < 180
