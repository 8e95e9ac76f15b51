"""When one worker saves without being asked by its own code, and what its saves cost the training loop.

It looks at the clock and at the saves' handles. Whether a save is due is its policy's; all ranks agree on it elsewhere.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from strata_zmq.domain.manifest import Kind, check_metrics
from strata_zmq.domain.names import check_metadata
from strata_zmq.domain.policy import Manual, Policy, SaveCost, parse_policy
from strata_zmq.errors import InvalidArgumentError, SupersededError, UnavailableError

from .preemption import GRACE_S, Preemption

if TYPE_CHECKING:
    from strata_zmq.checkpoint.handle import SaveHandle

__all__ = ["SaveOptions", "Saving", "given_up", "taken_back"]

_ENVIRONMENT = "STRATA_CHECKPOINT_POLICY"
_GRACE_ENVIRONMENT = "STRATA_GRACE_S"
_CLOSE_S = 60.0


@dataclass(frozen=True, slots=True)
class SaveOptions:
    """What a save says of itself, checked; `rng`: whether the state of the random number generators goes with it."""

    kind: Kind
    metadata: Mapping[str, str]
    metrics: Mapping[str, float]
    rng: bool

    def __post_init__(self) -> None:
        check_metadata("metadata", self.metadata)
        check_metrics(self.metrics)

    def random_state(self) -> Any:
        """Return the generators' present state as plain values, or None."""
        if not self.rng:
            return None
        from strata_zmq.checkpoint.rng import capture
        from strata_zmq.checkpoint.tree import plain_skeleton

        return plain_skeleton(capture())


class Saving:
    """The saves of one worker, as its loop sees them. Used by the training thread alone."""

    def __init__(self, policy: Policy | str | None = None) -> None:
        self.policy: Policy = Manual()
        self.cost = SaveCost()
        self._preemption: Preemption | None = None
        self._under_way: list[SaveHandle] = []
        self.follow(policy if policy is not None else os.environ.get(_ENVIRONMENT) or "manual")

    def follow(self, policy: Policy | str) -> None:
        """Take another policy, or what `strata run --policy` takes."""
        self.policy = parse_policy(policy) if isinstance(policy, str) else policy

    def listen(self, signals: Iterable[int], obeyed: Callable[[], bool]) -> None:
        """Take these signals for a preemption from now on, where `obeyed` says that a loop runs. Again is harmless."""
        if self._preemption is None and (numbers := tuple(signals)):
            self._preemption = Preemption(obeyed, _grace_s())
            self._preemption.install(numbers)

    def listen_no_more(self) -> None:
        """Leave the signals to whoever had them before."""
        if self._preemption is not None:
            self._preemption.remove()

    @property
    def preempted(self) -> bool:
        """Whether this process is to save and to leave."""
        return self._preemption is not None and self._preemption.told

    @property
    def patience_s(self) -> float:
        """How long a worker that leaves waits for saves under way."""
        left_s = None if self._preemption is None else self._preemption.left_s
        return _CLOSE_S if left_s is None else min(left_s, _CLOSE_S)

    def due(self, step: int) -> bool:
        """Whether this rank wants a save behind commit point `step`."""
        return self.policy.due(step, time.monotonic()) or self.preempted

    def stepped(self) -> None:
        """Take note of a commit point."""
        was_under_way = bool(self._under_way)
        self._look()
        self.cost.stepped(time.monotonic(), under_way=was_under_way)
        if was_under_way and not self._under_way:
            self._learn()

    def interrupted(self) -> None:
        """Take note that the loop has ended or goes back."""
        self.cost.interrupted()

    def agreed(self, step: int) -> None:
        """Take note that all ranks save behind commit point `step`."""
        self.policy.saved(step, time.monotonic())

    def began(self, handle: SaveHandle, step: int) -> None:
        """Take note of a save that was called for in commit point `step`."""
        self.policy.saved(step, time.monotonic())
        self.cost.began(handle.stall_s)
        self._under_way.append(handle)

    def slowdown_s(self) -> float | None:
        """Return the median of what saves have cost training, in seconds each; None before the first has ended."""
        self._look()
        if not self._under_way:
            self._learn()
        return median(self.cost.costs_s) if self.cost.costs_s else None

    def _look(self) -> None:
        self._under_way = [handle for handle in self._under_way if not handle.done]

    def _learn(self) -> None:
        for cost_s in self.cost.ended():
            self.policy.learned(cost_s)


def given_up(step: int, epoch: int) -> SaveHandle:
    """Return the handle of a save by a worker that has left."""
    from strata_zmq.checkpoint.handle import SaveHandle

    handle = SaveHandle(step, epoch)
    handle.fail(UnavailableError(f"the checkpoint of step {step} is not saved by this worker: it was drained"))
    return handle


def taken_back(step: int, epoch: int) -> SaveHandle:
    """Return the handle of a save whose batch did not become history."""
    from strata_zmq.checkpoint.handle import SaveHandle

    handle = SaveHandle(step, epoch)
    handle.fail(
        SupersededError(
            f"the checkpoint of step {step} is skipped: the membership changed and took the batch in hand back; the "
            "loop comes to that step again"
        )
    )
    return handle


def _grace_s() -> float:
    text = os.environ.get(_GRACE_ENVIRONMENT, "")
    try:
        grace_s = float(text) if text else GRACE_S
    except ValueError:
        grace_s = -1.0
    if not 0 <= grace_s <= 86_400:
        raise InvalidArgumentError(f"{_GRACE_ENVIRONMENT} is {text!r}: give 0 to 86400 seconds")
    return grace_s
