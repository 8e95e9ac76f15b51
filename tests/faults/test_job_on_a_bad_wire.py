"""Training over a wire that delays, loses, repeats and swaps messages, stalls and breaks: one history, exactly once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from faultkit.invariants import check_run
from faultkit.job import let_pass
from faultkit.proxy import Behaviour
from faultkit.zmtp import bodies, one_frame
from processkit.patience import until

from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.codec import decode_reply, encode

TOTAL, EPOCHS = 240, 2
HEALED_S = 10.0
TCP = {"control": "tcp://127.0.0.1:0", "broadcast": "tcp://127.0.0.1:0"}
BAD_WIRES = {
    "slow": {"delay_s": 0.01, "jitter_s": 0.02},
    "losing": {"loses": 0.02},
    "all at once": {"jitter_s": 0.005, "loses": 0.01, "duplicates": 0.2, "reorders": 0.2, "hold_s": 0.02},
}

TOUCHED = {
    "slow": ("messages",),
    "losing": ("messages",),
    "all at once": ("duplicated", "held"),
}


@pytest.fixture
def start_job(
    start_coordinator: Callable[..., Any], start_worker: Callable[..., Any], start_proxy: Callable[..., Any]
) -> Callable[..., Any]:
    """`start_job(2, "--lease-s", "2")` gives a coordinator, the proxy of each worker, and the workers.

    Broadcasts have a proxy of their own, which treats them as the first worker's proxy treats replies.
    """

    def start(count: int, *options: str, behaviour: dict[str, Any] | None = None, **training: Any) -> tuple[Any, ...]:
        coordinator = start_coordinator("--initial-workers", str(count), *options, **TCP)
        broadcast = start_proxy(coordinator.broadcast_url, seed=1)
        proxies = [
            start_proxy(coordinator.url, seed=seed, rewrite=naming(broadcast.url)) for seed in range(2, 2 + count)
        ]
        for proxy in (broadcast, *proxies):
            proxy.down = Behaviour(**(behaviour or {}))
            proxy.up = Behaviour() if proxy is broadcast else Behaviour(**(behaviour or {}))
        workers = [
            start_worker(f"worker-{number}", proxy.url, total=TOTAL, epochs=EPOCHS, **training)
            for number, proxy in enumerate(proxies)
        ]
        return coordinator, proxies, workers

    return start


def naming(broadcast_url: str) -> Callable[[bytes], bytes]:
    """Return what makes the coordinator's WELCOME name another address for its broadcasts."""

    def rewrite(message: bytes) -> bytes:
        (body,) = bodies(message)
        reply = decode_reply(body)
        if not isinstance(reply, wire.Welcome):
            return message
        return one_frame(encode(msgspec.structs.replace(reply, broadcast_endpoint=broadcast_url)))

    return rewrite


def finish(coordinator: Any, workers: list[Any]) -> wire.Status:
    """Wait for the end and check everything that a run must show."""
    for worker in workers:
        worker.finish()
    status: wire.Status = coordinator.status()
    check_run(workers, status, total=TOTAL, epochs=EPOCHS)
    return status


def generations(workers: list[Any]) -> set[int]:
    """Return the generations that anybody trained in."""
    return {event["generation"] for worker in workers for event in worker.events("membership")}


@pytest.mark.parametrize("kind", BAD_WIRES)
def test_whatever_happens_to_messages_history_is_the_same(start_job: Callable[..., Any], kind: str) -> None:
    """Requests, replies and broadcasts arrive late, twice, in another order or never: that costs time only."""
    coordinator, proxies, workers = start_job(2, "--lease-s", "30", behaviour=BAD_WIRES[kind])
    finish(coordinator, workers)
    assert generations(workers) == {1}, "a member was lost"
    counts = [getattr(proxy.counts[way], what) for proxy in proxies for way in ("up", "down") for what in TOUCHED[kind]]
    assert all(counts), f"the wire was good: {counts}"


def test_connections_that_break_again_and_again_cost_nothing_but_time(
    start_job: Callable[..., Any], run_dir: Path
) -> None:
    """Reset in the middle of whatever is on its way, each worker's connection comes back, and so does the worker."""
    coordinator, proxies, workers = start_job(2, "--lease-s", "30", hold_at=24)
    for at, proxy in zip((2, 6, 10, 14, 18, 22), proxies * 3, strict=True):
        until(lambda at=at: workers[0].committed >= at, HEALED_S, f"commit point {at}")
        until(proxy.cut, HEALED_S, "a connection to cut")
    (run_dir / "go").touch()
    finish(coordinator, workers)
    assert generations(workers) == {1}, "a member was lost"


def test_a_worker_that_is_not_heard_is_fenced_and_returns(start_job: Callable[..., Any], run_dir: Path) -> None:
    """Its requests get stuck for longer than a lease: the others go on, and what arrives late changes nothing."""
    coordinator, (_, cut), workers = start_job(2, "--lease-s", "1.5", hold_at=20)
    until(lambda: workers[1].committed >= 5, 20, "training")
    cut.stall("up")
    until(lambda: coordinator.members() == ["worker-0"], HEALED_S, "the silent worker is lost")
    until(lambda: workers[0].committed >= 19, HEALED_S, "the other goes on")
    cut.flow("up")
    until(lambda: coordinator.members() == ["worker-0", "worker-1"], HEALED_S, "it comes back")
    (run_dir / "go").touch()
    status = finish(coordinator, workers)
    assert status.rebalances[1]["left"] == ["worker-1"]
    assert status.rebalances[2]["joined"] == ["worker-1"]


def test_a_worker_that_hears_nothing_is_waited_for(start_job: Callable[..., Any], run_dir: Path) -> None:
    """It is heard itself, so it is alive, and nobody goes on without it; when it hears again, all do."""
    coordinator, (_, cut), workers = start_job(2, "--lease-s", "1.5", hold_at=20)
    until(lambda: workers[1].committed >= 5, 20, "training")
    cut.stall("down")
    let_pass(3.0)
    told = workers[0].committed
    assert coordinator.members() == ["worker-0", "worker-1"]
    (run_dir / "go").touch()
    cut.flow("down")
    until(lambda: workers[0].committed > told, HEALED_S, "training goes on")
    finish(coordinator, workers)
    assert generations(workers) == {1}, "a member was lost"


@pytest.mark.parametrize("fault", ["half-open", "refused"])
def test_a_way_that_is_closed_to_everybody_loses_nobody(
    start_job: Callable[..., Any], run_dir: Path, fault: str
) -> None:
    """Connections break and new ones lead nowhere, for all workers at once and for less than a lease: a pause."""
    coordinator, proxies, workers = start_job(2, "--lease-s", "30", hold_at=20)
    until(lambda: workers[0].committed >= 5, 20, "training")
    if fault == "refused":
        for proxy in proxies:
            proxy.refuse()
    else:
        for proxy in proxies:
            proxy.half_open = True
            proxy.cut()
        until(lambda: all(proxy.connections > 1 for proxy in proxies), HEALED_S, "they try again")
    told = max(worker.committed for worker in workers)
    (run_dir / "go").touch()
    for proxy in proxies:
        proxy.half_open = False
        if fault == "refused":
            proxy.accept()
    until(lambda: workers[0].committed > told + 1, HEALED_S, "training goes on")
    finish(coordinator, workers)
    assert generations(workers) == {1}, "a member was lost"
