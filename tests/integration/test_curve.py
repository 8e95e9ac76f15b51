"""One key folder secures a job: its workers talk as always, and nobody else is heard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from strata_zmq import TrainingOrchestrator
from strata_zmq.errors import UnavailableError
from strata_zmq.protocol import messages as wire
from strata_zmq.transport.curve import CurveKeys
from strata_zmq.workers.client import CoordinatorClient


@pytest.fixture
def secured(
    start_coordinator: Callable[..., Any], run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, pytest.MonkeyPatch]:
    """A coordinator with keys, and this process with the same keys in its environment."""
    keys = run_dir / "keys"
    CurveKeys.create(keys)
    monkeypatch.setenv("STRATA_CURVE_KEYS", str(keys))
    return start_coordinator(env={"STRATA_CURVE_KEYS": str(keys)}), monkeypatch


def test_a_worker_with_the_keys_trains_and_hears_broadcasts(
    secured: tuple[Any, pytest.MonkeyPatch], eventually: Callable[..., Any]
) -> None:
    """Requests, replies and broadcasts all pass, each through CURVE."""
    coordinator, _ = secured
    heard: list[Any] = []
    with (
        CoordinatorClient(coordinator.url, on_broadcast=heard.append) as listener,
        TrainingOrchestrator(coordinator.url, "worker-0") as worker,
    ):
        listener.connect()
        worker.register_dataset("numbers", total_samples=50, shard_size=5)
        assert sum(len(batch) for batch in worker.batches("numbers", 20)) == 50
        eventually(lambda: heard, message="no broadcast: not even a tick")
        assert worker.advance_epoch() == 1
        eventually(lambda: any(isinstance(message, wire.EpochStarted) for message in heard))


def test_a_client_without_the_keys_is_not_heard(secured: tuple[Any, pytest.MonkeyPatch], run_dir: Path) -> None:
    """Without keys, or with another job's, the handshake fails; the error says what to set, and nobody was let in."""
    coordinator, environment = secured
    coordinator.status()
    environment.delenv("STRATA_CURVE_KEYS")
    with pytest.raises(UnavailableError, match="if it has CURVE keys, name their folder in STRATA_CURVE_KEYS"):
        TrainingOrchestrator(coordinator.url, "plain").connect(timeout_s=0.5)
    CurveKeys.create(run_dir / "others")
    environment.setenv("STRATA_CURVE_KEYS", str(run_dir / "others"))
    with pytest.raises(UnavailableError, match="its keys must be those in STRATA_CURVE_KEYS"):
        TrainingOrchestrator(coordinator.url, "stranger").connect(timeout_s=0.5)
    assert coordinator.status().workers == []


def test_knowing_the_public_key_is_not_enough(secured: tuple[Any, pytest.MonkeyPatch], run_dir: Path) -> None:
    """A stranger who encrypts to the coordinator's key, with a key pair of its own, is turned away unheard."""
    coordinator, _ = secured
    job = CurveKeys.load(run_dir / "keys")
    public, secret = zmq.curve_keypair()
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket, socket.get_monitor_socket() as monitor:
        socket.setsockopt(zmq.LINGER, 0)
        socket.curve_serverkey, socket.curve_publickey, socket.curve_secretkey = job.public, public, secret
        socket.connect(coordinator.url)
        seen: set[int] = set()
        while zmq.EVENT_HANDSHAKE_FAILED_AUTH not in seen:
            assert monitor.poll(10_000), f"no verdict on the handshake, only {seen}"
            seen.add(int(recv_monitor_message(monitor)["event"]))
        assert zmq.EVENT_HANDSHAKE_SUCCEEDED not in seen
        socket.disable_monitor()
    assert coordinator.status().workers == []
