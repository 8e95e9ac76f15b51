"""The live feed on real sockets: a snapshot, then what changes, to who reads; who does not costs a bound at most."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from processkit.patience import until
from sightkit import HandFeed, NoJobs, NoVault, Pages, Served, Viewer, job, serve_app, sorted_rows, worker
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from strata_zmq.coordinator.api import serving
from strata_zmq.coordinator.api.app import create_app
from strata_zmq.coordinator.api.state import live
from strata_zmq.coordinator.api.state.hub import Hub
from strata_zmq.coordinator.api.state.live import FanOut, Message
from strata_zmq.errors import ResourceExhaustedError

WAIT_S = 10.0
WORKERS = 1000


@dataclass
class Running:
    """The app over one coordinator, which a test tells what to show."""

    served: Served
    hub: Hub
    core: HandFeed

    def say(self, **changes: object) -> None:
        def on_loop() -> None:
            self.core.say(**changes)

        self.served.call(on_loop)

    def much(self, step: int) -> None:
        """Change every worker, and take a turn."""

        def on_loop() -> None:
            self.core.say(workers=[worker(f"w{rank}", rank, step=step) for rank in range(WORKERS)])
            self.hub.tick()

        self.served.call(on_loop)

    @property
    def live_url(self) -> str:
        return self.served.url.replace("http", "ws") + "/api/live"


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    patch = pytest.MonkeyPatch()
    patch.setattr(live, "SEND_S", 0.5)
    patch.setattr(serving, "_UNREAD_MS", 1000)
    core = HandFeed()
    hub = Hub([core], logs=Pages(), jobs=NoJobs(), vault=NoVault())
    try:
        with serve_app(create_app(None, hub=hub)) as served:
            served.call(lambda: core.begin(job=job(), workers=[worker("w0")]))
            yield Running(served, hub, core)
    finally:
        patch.undo()


def follow(connection: ClientConnection, viewer: Viewer, number: int) -> None:
    """Take messages up to this number."""
    while not viewer.state or viewer.state["number"] < number:
        viewer.take(connection.recv(WAIT_S))


def test_a_listener_gets_a_snapshot_as_text_and_then_only_what_changes(running: Running) -> None:
    viewer = Viewer()
    with connect(running.live_url, max_size=None) as connection:
        first = connection.recv(WAIT_S)
        assert isinstance(first, str)
        assert json.loads(first)["type"] == "snapshot"
        viewer.take(first)
        running.say(workers=[worker("w0", step=41)])
        said = {}
        while "workers" not in said.get("changes", {}):
            text = connection.recv(WAIT_S)
            said = json.loads(text)
            viewer.take(text)
        assert [row["id"] for row in said["changes"]["workers"]] == ["w0"]
        assert said["changes"]["workers"][0]["current_step"] == 41
        assert "datasets" not in said["changes"]


def test_where_nothing_changes_a_message_still_comes_each_second(running: Running) -> None:
    with connect(running.live_url, max_size=None) as connection:
        numbers = [json.loads(connection.recv(2.0))["number"] for _ in range(4)]
        assert numbers == list(range(numbers[0], numbers[0] + 4))


def test_a_listener_that_reads_ends_where_a_dashboard_asked_now_is(running: Running) -> None:
    viewer = Viewer()
    with connect(running.live_url, max_size=None) as connection:
        viewer.take(connection.recv(WAIT_S))
        for step in range(3):
            running.much(step)

        def both() -> tuple[bytes, int]:
            return running.hub.dashboard(), running.hub.number

        shown, number = running.served.call(both)
        follow(connection, viewer, number)
        assert viewer.sorted_state() == sorted_rows(json.loads(shown))


def test_server_sent_events_say_the_same_without_event_names(running: Running) -> None:
    viewer = Viewer()
    with httpx.stream("GET", running.served.url + "/api/events", timeout=WAIT_S) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        number = -1
        for line in answer.iter_lines():
            assert not line or line.startswith(("id: ", "data: "))
            if line.startswith("id: "):
                number = int(line.removeprefix("id: "))
            elif line:
                viewer.take(line.removeprefix("data: "))
                assert viewer.state["number"] == number
            if viewer.messages == 3:
                break
    until(lambda: len(running.hub.clients) == 0, WAIT_S, "the listener has left")


def test_a_websocket_client_that_never_reads_is_dropped_and_its_memory_let_go_of(running: Running) -> None:
    dropped = running.hub.clients.dropped_total
    with silent_websocket(running.served) as sock, connect(running.live_url, max_size=None) as reader:
        viewer = Viewer()
        until(lambda: len(running.hub.clients) == 2, WAIT_S, "both listen")
        for step in range(60):
            running.much(step)
            follow(reader, viewer, running.served.call(lambda: running.hub.number))
            if running.hub.clients.dropped_total > dropped:
                break
        until(lambda: running.hub.clients.dropped_total == dropped + 1, WAIT_S, "the one that does not read is dropped")
        assert len(running.hub.clients) == 1
        until(lambda: running.served.connections == 1, WAIT_S, "its connection is ended, with what was buffered for it")
        assert ended(sock)
        # The other one has missed nothing.
        running.much(99)
        follow(reader, viewer, running.served.call(lambda: running.hub.number))
        assert viewer.state["workers"][0]["current_step"] == 99


def test_a_client_of_events_that_never_reads_is_dropped(running: Running) -> None:
    dropped = running.hub.clients.dropped_total
    with small_socket(running.served) as sock:
        sock.sendall(f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{running.served.port}\r\n\r\n".encode())
        until(lambda: len(running.hub.clients) == 1, WAIT_S, "it listens")
        for step in range(60):
            running.much(step)
            if running.hub.clients.dropped_total > dropped:
                break
        until(lambda: running.hub.clients.dropped_total == dropped + 1, WAIT_S, "it is dropped")
        until(lambda: running.served.connections == 0, WAIT_S, "its connection is ended")
        assert ended(sock)


def test_what_a_client_says_is_limited_and_does_not_end_the_feed(running: Running) -> None:
    with connect(running.live_url, max_size=None) as connection:
        connection.recv(WAIT_S)
        for _ in range(50):
            connection.send("x" * 1000)
        assert json.loads(connection.recv(WAIT_S))["type"] == "changes"
        connection.send("x" * 2000)
        with pytest.raises(ConnectionClosed) as closed:
            read_on(connection)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
    until(lambda: len(running.hub.clients) == 0, WAIT_S, "it has left")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://evil.example:443"])
def test_a_page_of_another_origin_gets_no_feed(running: Running, origin: str) -> None:
    with pytest.raises(InvalidStatus) as refused, connect(running.live_url, origin=origin):  # type: ignore[arg-type]
        pass
    assert refused.value.response.status_code == 403
    assert b"may not speak to this server" in refused.value.response.body


def test_a_page_that_this_server_has_served_gets_the_feed(running: Running) -> None:
    with connect(running.live_url, origin=running.served.url, max_size=None) as connection:  # type: ignore[arg-type]
        assert json.loads(connection.recv(WAIT_S))["type"] == "snapshot"


def test_a_websocket_for_another_host_is_refused(running: Running) -> None:
    with socket.create_connection((running.served.host, running.served.port)) as sock:
        sock.sendall(handshake("evil.example"))
        assert sock.recv(4096).startswith(b"HTTP/1.1 421 ")


def test_beyond_the_limit_nobody_more_is_let_in(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "CLIENTS_MAX", 1)
    with connect(running.live_url, max_size=None) as connection:
        connection.recv(WAIT_S)
        with connect(running.live_url) as second, pytest.raises(ConnectionClosed) as closed:
            second.recv(WAIT_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013
        refused = httpx.get(running.served.url + "/api/events")
        assert (refused.status_code, refused.json()["code"]) == (429, "resource_exhausted")


def test_what_waits_for_one_listener_is_bounded_in_messages_and_in_bytes() -> None:
    async def ends_at(data: bytes) -> int:
        fan_out = FanOut(lambda: Message(b"{}", 0))
        listener = fan_out.join()
        for number in range(1, 1000):
            fan_out.tell(Message(data, number))
            if listener.dropped:
                assert (len(fan_out), await listener.next()) == (0, None)
                return number
        raise AssertionError("it was never dropped")

    assert asyncio.run(ends_at(b"x")) == live.QUEUE_MAX
    assert asyncio.run(ends_at(b"x" * 2**20)) == live.QUEUE_BYTES_MAX // 2**20


class Stuck:
    """A WebSocket whose other side takes the handshake and nothing more."""

    def __init__(self) -> None:
        self.closed: list[int] = []

    async def accept(self) -> None:
        pass

    async def receive(self) -> dict[str, str]:
        await asyncio.Event().wait()
        return {}

    async def send_text(self, text: str) -> None:
        await asyncio.Event().wait()

    async def close(self, code: int, reason: str) -> None:
        self.closed.append(code)
        await asyncio.Event().wait()


def test_one_message_that_is_not_taken_in_time_ends_the_feed_also_where_little_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "SEND_S", 0.01)
    monkeypatch.setattr(live, "_CLOSE_S", 0.01)
    fan_out, stuck = FanOut(lambda: Message(b"{}", 0)), Stuck()
    asyncio.run(asyncio.wait_for(live.serve(stuck, fan_out), WAIT_S))  # type: ignore[arg-type]
    assert (len(fan_out), fan_out.dropped_total, stuck.closed) == (0, 1, [1013])


def test_the_limit_of_listeners_is_named() -> None:
    fan_out = FanOut(lambda: Message(b"{}", 0))

    async def many() -> None:
        for _ in range(live.CLIENTS_MAX):
            fan_out.join()
        with pytest.raises(ResourceExhaustedError, match=str(live.CLIENTS_MAX)):
            fan_out.join()

    asyncio.run(many())


def read_on(connection: ClientConnection) -> None:
    """Read until it ends."""
    while True:
        connection.recv(WAIT_S)


def handshake(host: str) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    lines = (
        "GET /api/live HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def small_socket(served: Served) -> socket.socket:
    """Return a connection whose side takes little before somebody reads."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect((served.host, served.port))
    return sock


def silent_websocket(served: Served) -> socket.socket:
    """Return a connection that has asked for the feed, and reads nothing of it."""
    sock = small_socket(served)
    sock.sendall(handshake(f"127.0.0.1:{served.port}"))
    return sock


def ended(sock: socket.socket) -> bool:
    """Read what the kernel still has, and tell whether the other side has ended the connection."""
    sock.settimeout(WAIT_S)
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        pass
    except TimeoutError:
        return False
    return True
