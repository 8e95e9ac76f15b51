"""What must hold after any faults, read from the workers' own files and from the coordinator: one checker for all.

It knows nothing of how the faults were made.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from typing import Any

from strata_zmq.domain.shuffle import dataset_checksum
from strata_zmq.protocol import messages as wire

from .job import Worker

__all__ = ["check_acknowledged", "check_barriers", "check_history", "check_models", "check_run"]


def check_run(workers: Sequence[Worker], status: wire.Status, *, total: int, epochs: int) -> None:
    """Check everything that a run which came to its end, on every worker, must show."""
    check_history(workers, status, total=total, epochs=epochs)
    check_models(workers, total=total, epochs=epochs)
    check_barriers(workers)
    check_acknowledged(max(worker.committed for worker in workers), status)


def check_history(workers: Sequence[Worker], status: wire.Status, *, total: int, epochs: int) -> None:
    """Every sample counts exactly once in every epoch: by the coordinator's certificates, and by what workers saw."""
    assert [
        (entry["epoch"], entry["samples"], entry["checksum"], entry["complete"]) for entry in status.certificates
    ] == [(epoch, total, str(dataset_checksum(total)), True) for epoch in range(epochs)]
    seen: dict[int, list[int]] = defaultdict(list)
    for event in _all(workers, "committed"):
        seen[event["epoch"]] += event["ids"]
    for epoch in range(epochs):
        ids = sorted(seen[epoch])
        assert ids == list(range(total)), f"epoch {epoch}: {_difference(ids, total)}"
    generations: dict[int, set[int]] = defaultdict(set)
    for event in _all(workers, "committed"):
        generations[event["step"]].add(event["generation"])
    assert not {step: found for step, found in generations.items() if len(found) > 1}, "a commit point counted twice"
    for worker in workers:
        steps = [event["step"] for event in worker.events("committed")]
        assert steps == sorted(set(steps)), f"{worker.worker_id} was told of a commit point twice"


def check_models(workers: Sequence[Worker], *, total: int, epochs: int) -> None:
    """All ranks end every epoch with the model of a run without faults: a sum over every sample of every epoch."""
    undisturbed = {epoch: epoch * dataset_checksum(total) % 2**64 for epoch in range(1, epochs + 1)}
    for worker in workers:
        models = {event["epoch"]: event["model"] for event in worker.events("epoch")}
        assert models.items() <= undisturbed.items(), f"{worker.worker_id}: {models} instead of {undisturbed}"
        assert epochs in models, f"{worker.worker_id} did not see the end of the last epoch"


def check_barriers(workers: Sequence[Worker]) -> None:
    """Nobody is released from a barrier before the last of its participants has arrived; nobody is released twice."""
    arrived: dict[tuple[Any, ...], dict[str, float]] = defaultdict(dict)
    for worker in workers:
        for event in worker.events("arrive"):
            arrived[_barrier(event)].setdefault(worker.worker_id, event["at"])
    released = 0
    for worker in workers:
        barriers = [_barrier(event) for event in worker.events("released")]
        assert len(barriers) == len(set(barriers)), f"{worker.worker_id} was released twice from one barrier"
        for event in worker.events("released"):
            there = arrived[_barrier(event)]
            missing = set(event["participants"]) - there.keys()
            assert not missing, f"{_barrier(event)} released without {missing}"
            last = max(there[name] for name in event["participants"])
            assert last <= event["at"], f"{_barrier(event)} released {last - event['at']:.6f} s early"
            released += 1
    assert released, "no barrier was released, so nothing was shown"


def check_acknowledged(told: int, status: wire.Status) -> None:
    """A commit point that any worker was told of, before the status was asked for, is in the coordinator's history."""
    assert status.commit_index >= told, f"commit point {told} was acknowledged and is gone: {status.commit_index}"


def _all(workers: Sequence[Worker], kind: str) -> list[dict[str, Any]]:
    return list(chain.from_iterable(worker.events(kind) for worker in workers))


def _barrier(event: dict[str, Any]) -> tuple[Any, ...]:
    return event["generation"], event["name"], event["step"]


def _difference(ids: list[int], total: int) -> str:
    missing = sorted(set(range(total)) - set(ids))
    twice = sorted({one for one in ids if ids.count(one) > 1})
    return f"missing {missing[:20]}, more than once {twice[:20]}"
