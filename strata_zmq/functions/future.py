"""A call's future, and how an engine's word becomes its result; never how the call got to a child or back."""

from __future__ import annotations

import threading
from concurrent.futures import Future, InvalidStateError
from typing import Any, TypeVar

from strata_zmq.domain.task import Outcome, OutcomeReport
from strata_zmq.functions.calls import Engine
from strata_zmq.functions.codec import open_outcome

__all__ = ["Delivery", "StrataFuture"]

T = TypeVar("T")

_ASK_S = 5.0
"""How long `cancel` waits for those who know how far a call has come. They answer within milliseconds."""

_UNSEEN = threading.RLock()
"""Held while a future without a condition changes its state or gets one. Re-entrant: a signal may interrupt it."""


class StrataFuture(Future[T]):
    """The future of one call: the standard library's, with a task behind it.

    `report` is what is known of the attempt beyond its result, once the call has ended: what it printed, if that was
    asked for, and the process that ran it. Most calls have none.
    """

    # A future's condition and lists are eleven objects, and a burst of short calls ends before anybody looks at most of
    # their futures. They are made when somebody does; the base class reaches all of them through `_condition`.
    report: OutcomeReport | None = None
    _engine: Engine | None = None
    _id: bytes = b""
    _made: threading.Condition | None = None
    _state: str = "PENDING"
    _result: Any = None
    _exception: BaseException | None = None
    _waiters: Any = ()
    _done_callbacks: Any = ()

    def __init__(self) -> None:
        """Nothing is made yet."""

    @property
    def task_id(self) -> str:
        """The task's id, 32 hexadecimal digits; empty where the call could not even be packed."""
        return self._id.hex()

    def cancel(self, *, running: bool = False) -> bool:
        """Cancel the call if it has not started; True if it will never give a result.

        A call counts as running as soon as it is in a child's hands, and can still be taken back there until the child
        begins with it. With `running` a call that has begun is ended, too: its child is killed, and another takes its
        place. May wait for the answer of those who run it, for milliseconds; False if there is none after 5 s.
        """
        engine = self._engine
        if super().cancel():
            if engine is not None:  # it need not wait for its turn to be forgotten; nobody need wait for that
                engine.cancel(self._id, running=running, timeout_s=0.0)
            return True
        if engine is None or self.done() or not engine.cancel(self._id, running=running, timeout_s=_ASK_S):
            return self.cancelled()
        return self._withdraw()

    def result(self, timeout: float | None = None) -> T:
        """Return what the call returned, or raise what it raised; TimeoutError if it takes longer than `timeout`."""
        if self._state == "FINISHED" and self._exception is None:
            return self._result  # type: ignore[no-any-return]
        return super().result(timeout)

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override] # an attribute there
        if self._made is None:
            with _UNSEEN:
                if self._made is None:
                    self._waiters, self._done_callbacks = [], []
                    # In one step: the signal handler that comes in between may want the same future's.
                    self.__dict__.setdefault("_made", threading.Condition())
        return self._made  # type: ignore[return-value] # it stays

    def _submitted(self, engine: Engine, task_id: bytes) -> None:
        self._engine, self._id = engine, task_id

    def _begin(self) -> bool:
        """As set_running_or_notify_cancel."""
        if self._made is None:
            with _UNSEEN:
                if self._made is None:
                    self._state = "RUNNING"
                    return True
        return self.set_running_or_notify_cancel()

    def _finish(self, value: object, error: BaseException | None) -> None:
        """As set_result or set_exception; nothing where the future has come to an end already."""
        if self._made is None:
            with _UNSEEN:
                if self._made is None:
                    self._result, self._exception = value, error
                    self._state = "FINISHED"
                    return
        try:
            if error is None:
                self.set_result(value)  # type: ignore[arg-type]
            else:
                self.set_exception(error)
        except InvalidStateError:
            pass  # it was cancelled, and nobody waits for this

    def _withdraw(self) -> bool:
        """Become cancelled from any state that is not an end; True if this is cancelled now."""
        with self._condition:
            mine = self._state in ("PENDING", "RUNNING")
            if mine:
                self._state = "CANCELLED"
                self._condition.notify_all()
        if mine:
            self._invoke_callbacks()  # type: ignore[attr-defined]
        if self._state == "CANCELLED":
            self.set_running_or_notify_cancel()
        return self.cancelled()


class Delivery:
    """The engine's side of one future; a Resolver. Whatever the caller did to the future meanwhile is respected."""

    __slots__ = ("_begun", "_future")

    def __init__(self, future: StrataFuture[Any]) -> None:
        self._future = future
        self._begun = False

    def begin(self) -> bool:
        """Mark the future as running; False if it was cancelled. A call that is tried again has begun before."""
        if self._begun:
            return not self._future.cancelled()
        self._begun = True
        return self._future._begin()  # noqa: SLF001 - two halves of one thing

    def resolve(self, outcome: Outcome) -> None:
        """Load the result or the exception and settle the future with it."""
        future = self._future
        if outcome.report is not None:
            future.report = outcome.report
        if outcome.cause == "cancelled":
            future._withdraw()  # noqa: SLF001
        else:
            future._finish(*open_outcome(outcome))  # noqa: SLF001

    def fail(self, error: BaseException) -> None:
        """Settle the future with the engine's own error."""
        self._future._finish(None, error)  # noqa: SLF001
