"""Real processes on ipc: a coordinator to kill and start again, and training processes that tell what they saw."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq
from processkit.coordinator import Coordinator
from processkit.trainer import Trainer

from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.codec import decode_broadcast, decode_reply, decode_request, encode

PROGRAMS = Path(__file__).parent / "programs"


class Relay:
    """A bus that loses messages: clients connect to `url`, the relay passes on what `loses` lets through.

    `loses(message)` is asked for every request, reply and broadcast.
    """

    def __init__(self, url: str, coordinator: Coordinator, loses: Callable[[Any], bool]) -> None:
        self.url = url
        self._coordinator = coordinator
        self._loses = loses
        self._stopping = threading.Event()
        self._flowing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="relay")

    def start(self) -> Relay:
        """Bind and pass messages on."""
        self._stopping.clear()
        self._flowing.set()
        self._thread = threading.Thread(target=self._run, name="relay")
        self._thread.start()
        return self

    def stop(self) -> None:
        """Cut every connection."""
        self._stopping.set()
        self._flowing.set()
        self._thread.join()

    def freeze(self) -> None:
        """Pass nothing on, and keep every connection."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Pass on what has come in the meantime, and all that follows."""
        self._flowing.set()

    def _run(self) -> None:
        with zmq.Context() as context:
            context.setsockopt(zmq.LINGER, 0)
            front, announce = context.socket(zmq.ROUTER), context.socket(zmq.PUB)
            front.bind(self.url)
            announce.bind(f"{self.url}-pub")
            listen = context.socket(zmq.SUB)
            listen.subscribe(b"")
            listen.connect(self._coordinator.broadcast_url)
            backs: dict[bytes, zmq.Socket[bytes]] = {}
            while self._flowing.wait() and not self._stopping.is_set():
                if front.poll(5):
                    client, body = front.recv_multipart()
                    if client not in backs:
                        backs[client] = context.socket(zmq.DEALER)
                        backs[client].connect(self._coordinator.url)
                    if not self._loses(decode_request(body)):
                        backs[client].send(body)
                for client, back in backs.items():
                    while back.poll(0):
                        self._pass_back(front, client, back.recv())
                while listen.poll(0):
                    frames = listen.recv_multipart()
                    if not self._loses(decode_broadcast(frames[-1])):
                        announce.send_multipart(frames)
            context.destroy(linger=0)

    def _pass_back(self, front: zmq.Socket[bytes], client: bytes, body: bytes) -> None:
        reply = decode_reply(body)
        if isinstance(reply, wire.Welcome):
            reply = msgspec.structs.replace(reply, broadcast_endpoint=f"{self.url}-pub")
        if not self._loses(reply):
            front.send_multipart([client, encode(reply)])


@pytest.fixture
def start_coordinator(run_dir: Path) -> Iterator[Callable[..., Coordinator]]:
    """`start_coordinator("--lease-s", "2", env={...})` starts one that serves; it is stopped after the test."""
    started: list[Coordinator] = []

    def start(*options: str, env: dict[str, str] | None = None) -> Coordinator:
        coordinator = Coordinator(run_dir, *options, env=env)
        started.append(coordinator)
        return coordinator.start()

    yield start
    for coordinator in started:
        coordinator.stop()


@pytest.fixture
def coordinator(start_coordinator: Callable[..., Coordinator]) -> Coordinator:
    """A coordinator whose first generation takes one worker, and whose leases do not end within a test."""
    return start_coordinator("--initial-workers", "1", "--lease-s", "30")


@pytest.fixture
def start_trainer(run_dir: Path) -> Iterator[Callable[..., Trainer]]:
    """`start_trainer(coordinator, "worker-1", program="train_sums.py", **options)`; killed after the test."""
    started: list[Trainer] = []

    def start(coordinator: Coordinator, worker_id: str, *, program: str = "train_sums.py", **options: Any) -> Trainer:
        trainer = Trainer(run_dir, worker_id, coordinator.url, PROGRAMS / program, options)
        started.append(trainer)
        return trainer

    yield start
    for trainer in started:
        trainer.end()


@pytest.fixture
def start_relay(run_dir: Path) -> Iterator[Callable[..., Relay]]:
    """`start_relay(coordinator, loses)` puts a bus that loses messages in front of a coordinator."""
    started: list[Relay] = []

    def start(coordinator: Coordinator, loses: Callable[[Any], bool] = lambda _: False) -> Relay:
        relay = Relay(f"ipc://{run_dir}/relay{len(started)}", coordinator, loses)
        started.append(relay)
        return relay.start()

    yield start
    for relay in started:
        relay.stop()
