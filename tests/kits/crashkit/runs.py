"""Training runs for the power to be cut in, and what must be found afterwards."""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from strata_zmq import CheckpointManager
from strata_zmq.errors import StrataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from strata_zmq.storage import Storage

__all__ = ["CHUNK_BYTES", "HISTORIES", "LATER", "expected_steps", "run", "state_of", "trouble"]

HISTORIES = {
    "two, the first retired": ([1, 2], 1, False, False),
    "three at once, two kept": ([1, 2, 3], 2, False, True),
    "each refers to those before": ([1, 2, 3], 1, True, False),
    "and all at once": ([1, 2, 3, 4], 1, True, True),
}
"""What is saved before everything breaks: the steps, how many are kept, whether saves refer to others, and overlap."""

CHUNK_BYTES = 4096
LATER = 99
"""The step that is saved after the crash."""


def state_of(step: int) -> dict[str, Any]:
    """Return the state of a step: an array that changes, one that does not, and plain values."""
    return {
        "changes": np.full(2048, float(step)),
        "stays": np.arange(2048.0),
        "step": step,
        "note": "x" * step,
    }


def run(
    storage: Storage,
    steps: Sequence[int],
    keep_count: int,
    ack: Callable[[int], None],
    *,
    references: bool = False,
    overlap: bool = False,
) -> None:
    """Save one step after the other; `ack` is called at the moment at which the manager says that one is durable.

    With `references` a save refers to what the one before has stored, so that its folder outlives it. With `overlap`
    a save begins while those before are being written and what they retired is being deleted.
    """
    with CheckpointManager(storage, keep_count, chunk_bytes=CHUNK_BYTES, references=references) as manager:
        for step in steps:
            handle = manager.save_handle(state_of(step), step, 0)
            handle.durable.add_done_callback(partial(_ack_if_durable, ack, step))
            if not overlap:
                manager.wait_pending()


def _ack_if_durable(ack: Callable[[int], None], step: int, durable: Future[str]) -> None:
    if durable.exception() is None:
        ack(step)


def expected_steps(steps: Sequence[int], keep_count: int, acked: int) -> list[list[int]]:
    """Return what may be committed when `acked` was the last step acknowledged: it or a later one, and those kept."""
    first = steps.index(acked) + 1 if acked else 0
    return [list(steps[:count][-keep_count:]) for count in range(first, len(steps) + 1)]


def trouble(storage: Storage, expected: Sequence[list[int]], keep_count: int) -> str | None:
    """Open what is left, read all of it, save once more; return what is wrong with it, or None."""
    try:
        with warnings.catch_warnings(), CheckpointManager(storage, keep_count=keep_count) as manager:
            warnings.simplefilter("error")
            found = manager.all_checkpoints()
            if [info.step for info in found] not in expected:
                return f"committed are {[info.step for info in found]}, expected one of {expected}"
            for info in found:
                if not _equal(manager.load(info.checkpoint_id), state_of(info.step)):
                    return f"step {info.step} came back with other bytes"
            manager.save(state_of(LATER), LATER, 0)
            manager.wait_pending()
            steps = [info.step for info in manager.all_checkpoints()]
            before = [*(info.step for info in found), LATER]
            # What was read whole is kept beside those that count.
            if steps[-keep_count:] != before[-keep_count:] or not set(steps) <= set(before):
                return f"after one more save there are {steps}"
            for step in steps:
                if not _equal(manager.load(step), state_of(step)):
                    return f"after one more save step {step} came back with other bytes"
    except (StrataError, Warning) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _equal(found: Any, wanted: dict[str, Any]) -> bool:
    return (
        found.keys() == wanted.keys()
        and all(found[name].tobytes() == wanted[name].tobytes() for name in ("changes", "stays"))
        and all(found[name] == wanted[name] for name in ("step", "note"))
    )
