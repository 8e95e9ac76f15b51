"""Connections that ask for nothing cost their own place, never the answers to others, the log, or all descriptors."""

from __future__ import annotations

import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from sightkit import HandFeed, NoJobs, NoVault, Pages, serve_app

from strata_zmq.coordinator.api import serving
from strata_zmq.coordinator.api.app import create_app
from strata_zmq.coordinator.api.state.hub import Hub

FILES = 256
HEAD = b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture
def few_files(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Run an API that may open few files; yield its address and its log."""
    log = tmp_path / "api.log"
    command = [sys.executable, "-m", "strata_zmq.coordinator.api.state", "--port", "0"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, "--coordinator", f"ipc://{tmp_path}/nobody"],
            stderr=file,
        )
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (FILES // 2, FILES))  # long before it listens
    try:
        url = None
        while url is None:
            assert process.poll() is None, log.read_text()
            url = re.search(r"http://[0-9.]+:\d+", log.read_text())
        yield url[0], log
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def is_open(one: socket.socket) -> bool:
    """Tell whether the server has left a connection open."""
    one.setblocking(False)
    try:
        return one.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def test_more_connections_than_there_are_files_are_ended_and_others_are_answered_and_nothing_is_logged(
    few_files: tuple[str, Path],
) -> None:
    url, log = few_files
    host, _, port = url.removeprefix("http://").partition(":")
    with ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection((host, int(port)), 5)) for _ in range(2 * FILES)]
        while (left := [one for one in held if is_open(one)]) and len(left) > FILES - serving._OTHER_FILES:
            pass  # those beyond the limit are ended one by one
        assert left, "those within the limit stay"
        for one in left[:8]:
            one.close()
        with httpx.Client(base_url=url, transport=httpx.HTTPTransport(retries=50)) as client:
            assert client.get("/api/health").status_code == 200
    assert "system resource" not in log.read_text()
    assert "Errno" not in log.read_text()


def ended(one: socket.socket) -> bool:
    """Read until the server ends the connection; TimeoutError where it does not."""
    try:
        while one.recv(65_536):
            pass
    except ConnectionResetError:
        pass
    return True


@pytest.mark.parametrize("before", [b"", HEAD + b"\r\n"])
@pytest.mark.parametrize("said", [b"G", HEAD])
def test_a_connection_that_does_not_ask_in_time_is_ended(
    monkeypatch: pytest.MonkeyPatch, before: bytes, said: bytes
) -> None:
    monkeypatch.setattr(serving, "_ASKED_S", 0.2)
    hub = Hub([HandFeed()], logs=Pages(), jobs=NoJobs(), vault=NoVault())
    with serve_app(create_app(None, hub=hub)) as served:
        with socket.create_connection((served.host, served.port), 5) as one:
            if before:
                one.sendall(before)
                assert one.recv(65_536).startswith(b"HTTP/1.1 200")
            one.sendall(said)
            assert ended(one)


def test_a_connection_that_says_nothing_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_ASKED_S", 0.2)
    hub = Hub([HandFeed()], logs=Pages(), jobs=NoJobs(), vault=NoVault())
    with serve_app(create_app(None, hub=hub)) as served:
        with socket.create_connection((served.host, served.port), 5) as one:
            assert ended(one)


def test_a_connection_that_has_asked_and_listens_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_ASKED_S", 0.2)
    hub = Hub([HandFeed()], logs=Pages(), jobs=NoJobs(), vault=NoVault())
    with serve_app(create_app(None, hub=hub)) as served, httpx.Client(base_url=served.url) as client:
        with client.stream("GET", "/api/events") as stream:
            told = stream.iter_lines()
            assert [line for _, line in zip(range(9), told, strict=False) if line.startswith("data:")]
        assert client.get("/api/health").status_code == 200
