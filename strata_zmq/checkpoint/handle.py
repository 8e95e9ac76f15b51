"""One save as its caller sees it: how far it is, two futures and an error; it knows nothing of how a save is made.

The same handle serves a manager and a worker. Whoever carries the save out reports through `stage`, `begin`,
`retry`, `reach` and `fail`, from any thread.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from typing import TYPE_CHECKING, Any, Literal

from strata_zmq.errors import DeadlineExceededError, StrataError, SupersededError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["SaveHandle", "SaveState"]

SaveState = Literal["STAGING", "STAGED", "STREAMING", "RETRYING", "DURABLE", "FAILED", "SKIPPED"]
"""Being copied; copied and waiting; being stored; waiting to be tried again; and the three ends."""

_ENDS = frozenset({"DURABLE", "FAILED", "SKIPPED"})


class SaveHandle:
    """One save.

    `staged` is done when the caller may change the state again, `durable` when the checkpoint is committed: then its
    result is the checkpoint's id. Where there are several tiers of storage, `tiers` has a future for each, and
    `durable` is that of the first. All of them carry the error of a save that has failed (`error`; None before), and a
    SupersededError for one that was skipped.

    `checkpoint_id` is "" until it is given. `nbytes` is the size of the state, `written_bytes` what was new of it and
    had to be written, `attempts` how often the save was begun; `stall_s` is how long the call held training up and
    `durable_s` how long it took until `durable`, in seconds.
    """

    def __init__(
        self, step: int, epoch: int, *, checkpoint_id: str = "", tiers: Sequence[str] = ("local",), nbytes: int = 0
    ) -> None:
        self.step = step
        self.epoch = epoch
        self.checkpoint_id = checkpoint_id
        self.nbytes = nbytes
        self.written_bytes = 0
        self.attempts = 0
        self.stall_s = 0.0
        self.durable_s = 0.0
        self.error: StrataError | None = None
        self.waits_for: Callable[[], tuple[str, ...]] = tuple
        """Asks whose bytes are not durable yet."""
        self.staged: Future[None] = _running()
        self.tiers: Mapping[str, Future[str]] = {name: _running() for name in tiers}
        self._first = next(iter(self.tiers))
        self._state: SaveState = "STAGING"
        self._began = time.monotonic()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<SaveHandle step {self.step} {self.state} {self.checkpoint_id}>"

    @property
    def durable(self) -> Future[str]:
        """Done when the checkpoint is committed; its result is the checkpoint's id."""
        return self.tiers[self._first]

    @property
    def state(self) -> SaveState:
        """How far the save has come."""
        return self._state

    @property
    def done(self) -> bool:
        """Whether the save has ended, well or not."""
        return self.durable.done()

    @property
    def is_durable(self) -> bool:
        """Whether the checkpoint is committed: every rank's bytes are durable and HEAD reaches them."""
        return self._state == "DURABLE"

    def wait(self, timeout_s: float = 300.0) -> bool:
        """Wait for the end of the save and return `is_durable`; DeadlineExceededError if it takes longer."""
        if not wait_for([self.durable], timeout_s).done:
            missing = self.waits_for()
            raise DeadlineExceededError(
                f"the checkpoint of step {self.step} is not durable after {timeout_s:g} s, missing: "
                f"{', '.join(missing[:20])}; wait longer, or look at them: every rank has to save this step",
                missing=missing,
            )
        return self.is_durable

    def result(self, timeout_s: float = 300.0) -> str:
        """Wait and return the id of the committed checkpoint, or raise what the save failed with."""
        self.wait(timeout_s)
        return self.durable.result()

    # ---- for who carries it out -----------------------------------------------------------------------------------

    def begin(self) -> None:
        """Note that the bytes are being stored, once more if they were before."""
        with self._lock:
            self.attempts += 1
            self._move("STREAMING")

    def retry(self, error: StrataError) -> None:
        """Note that an attempt has failed with `error` and another one follows."""
        with self._lock:
            if self._state not in _ENDS:
                self.error = error
                self._move("RETRYING")

    def stage(self, stall_s: float | None = None) -> None:
        """Note that the state is copied, and how long the caller was held up for it."""
        with self._lock:
            if stall_s is not None:
                self.stall_s = stall_s
            if self._state == "STAGING":
                self._move("STAGED")
        _resolve(self.staged, None)

    def reach(self, tier: str = "", checkpoint_id: str = "") -> None:
        """Note that the checkpoint is committed in `tier`, the first one if none is named."""
        with self._lock:
            self.checkpoint_id = checkpoint_id or self.checkpoint_id
            if tier in {"", self._first}:
                self.error = None
                self.durable_s = time.monotonic() - self._began
                self._move("DURABLE")
        _resolve(self.staged, None)
        _resolve(self.tiers[tier or self._first], self.checkpoint_id)

    def fail(self, error: StrataError, tier: str = "") -> None:
        """Note that the save has failed with `error`; of one that is committed already, only in the named tier."""
        with self._lock:
            if not tier and self._state not in _ENDS:
                self.error = error
                self._move("SKIPPED" if isinstance(error, SupersededError) else "FAILED")
        concerned: list[Future[Any]] = [self.tiers[tier]] if tier else [self.staged, *self.tiers.values()]
        for future in concerned:
            _refuse(future, error)

    def _move(self, state: SaveState) -> None:
        # An end stays: what comes late is about an attempt that nobody waits for any more.
        if self._state not in _ENDS:
            self._state = state


def _running() -> Future[Any]:
    future: Future[Any] = Future()
    # Whoever waits cannot cancel what others wait for, too.
    future.set_running_or_notify_cancel()
    return future


def _resolve(future: Future[Any], value: object) -> None:
    if not future.done():
        future.set_result(value)


def _refuse(future: Future[Any], error: StrataError) -> None:
    if not future.done():
        future.set_exception(error)
