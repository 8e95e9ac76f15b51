"""What a commit point takes beyond a barrier: that it is due, and cursors that fit history. It decides no release."""

from __future__ import annotations

from collections.abc import Iterable

from strata_zmq.domain.barrier import BarrierKey
from strata_zmq.errors import InvalidArgumentError, NotFoundError, StaleGenerationError
from strata_zmq.protocol.messages import Arrive

from .history import History

__all__ = ["check_due", "check_ranges", "check_whole"]


def check_whole(request: Arrive, world_size: int) -> None:
    """Refuse a commit point of fewer than all, or one that would outlive its generation."""
    if request.expected not in {0, world_size}:
        raise InvalidArgumentError(
            f"barrier {request.name!r}: a commit point takes the whole generation ({world_size}), not "
            f"{request.expected}: expected=0"
        )
    if request.on_change == "reform":
        raise InvalidArgumentError(
            f"barrier {request.name!r}: a commit point's cursors belong to one generation, so it cannot re-form: "
            "on_change='break'"
        )


def check_due(request: Arrive, history: History, open_commits: Iterable[BarrierKey]) -> None:
    """Refuse to open a commit point that is not the next one, or a second one beside it."""
    due = history.commit_index + 1
    if request.step != due:
        raise StaleGenerationError(
            f"commit point {request.step} is not due: committed history stands at {due - 1}; await the generation again"
        )
    for other in open_commits:
        raise InvalidArgumentError(
            f"barrier {request.name!r}: commit point {due} is open under the name {other.name!r}: all ranks must say "
            "the same"
        )


def check_ranges(request: Arrive, worker_id: str, history: History) -> None:
    """Refuse ranges that do not continue what history has seen, or of shards that are not the caller's."""
    if request.ranges and not request.commit:
        raise InvalidArgumentError(f"barrier {request.name!r}: ranges need commit=true")
    for seen in request.ranges:
        dataset = history.datasets.get(seen.dataset_id)
        if dataset is None:
            raise NotFoundError(f"dataset_id {seen.dataset_id!r} is not registered: register it first")
        if seen.epoch != history.epoch:
            raise StaleGenerationError(f"range of epoch {seen.epoch}: the current epoch is {history.epoch}")
        dataset.ledger.check(seen.shard, seen.start, seen.stop, int.from_bytes(seen.checksum, "little"), worker_id)
        owner = dataset.current.owner_of(seen.shard)
        if owner != worker_id:
            raise StaleGenerationError(
                f"shard {seen.shard} of {seen.dataset_id!r} belongs to {owner!r}, not to {worker_id!r}: ask for the "
                "shards again"
            )
    if len({(seen.dataset_id, seen.shard) for seen in request.ranges}) != len(request.ranges):
        raise InvalidArgumentError("ranges: at most one per shard and commit point; join neighbouring ranges")
