"""Jobs of real processes to do harm to: everything that a test starts is ended behind it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faultkit.herd import Herd
from faultkit.hosts import Network, lacking
from faultkit.job import PROGRAM, Worker
from faultkit.proxy import TcpProxy
from processkit.coordinator import Coordinator

from strata_zmq.transport.curve import CurveKeys
from strata_zmq.workers.client import CoordinatorClient


@pytest.fixture
def start_coordinator(run_dir: Path) -> Iterator[Callable[..., Coordinator]]:
    """`start_coordinator("--lease-s", "2", control="tcp://127.0.0.1:0")` starts one that serves."""
    with contextlib.ExitStack() as stack:

        def start(*options: str, **where: Any) -> Coordinator:
            coordinator = Coordinator(run_dir, *options, **where)
            stack.callback(coordinator.stop)
            return coordinator.start()

        yield start


@pytest.fixture
def start_worker(run_dir: Path) -> Iterator[Callable[..., Worker]]:
    """`start_worker("worker-1", url, *prefix, epochs=2)` starts a training process."""
    with contextlib.ExitStack() as stack:

        def start(worker_id: str, url: str, *prefix: str, **options: Any) -> Worker:
            worker = Worker(run_dir, worker_id, url, PROGRAM, options, prefix=prefix)
            stack.callback(worker.end)
            return worker

        yield start


@pytest.fixture
def start_proxy() -> Iterator[Callable[..., TcpProxy]]:
    """`start_proxy("tcp://127.0.0.1:5000", seed=1)` listens on a free port, in front of that address."""
    with contextlib.ExitStack() as stack:

        def start(url: str, **options: Any) -> TcpProxy:
            host, port = url.removeprefix("tcp://").rsplit(":", 1)
            proxy = TcpProxy((host, int(port)), **options).start()
            stack.callback(proxy.stop)
            return proxy

        yield start


@pytest.fixture
def start_herd() -> Iterator[Callable[[str, int], Herd]]:
    """`start_herd(url, 1000)` makes so many workers in this process, each on a socket of its own."""
    with contextlib.ExitStack() as stack:
        yield lambda url, count: stack.enter_context(Herd(url, count))


@pytest.fixture
def start_network() -> Iterator[Callable[..., Network]]:
    """`start_network("head", "left", "right")` makes hosts on one switch; skips where that cannot be done."""
    why = lacking()
    if why:
        pytest.skip(why)
    with contextlib.ExitStack() as stack:
        yield lambda *hosts: stack.enter_context(Network(*hosts))


@pytest.fixture
def start_far_coordinator(
    start_coordinator: Callable[..., Coordinator], run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Coordinator]:
    """`start_far_coordinator(network, "head", "--lease-s", "2")` starts one on a host, with real CURVE keys."""

    def start(network: Network, host: str, *options: str) -> Coordinator:
        keys = run_dir / "keys"
        CurveKeys.create(keys)
        monkeypatch.setenv("STRATA_CURVE_KEYS", str(keys))
        address = network.addresses[host]
        return start_coordinator(
            *options,
            control=f"tcp://{address}:50051",
            broadcast=f"tcp://{address}:50052",
            prefix=network.prefix(host),
            dial=lambda url: network.on(host, lambda: CoordinatorClient(url).connect()),
        )

    return start
