"""Attempts that cannot run because a callable or value of theirs is not kept anywhere: how they end, told as that."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from strata_zmq.domain.task import Outcome, OutcomeReport, Runnable

__all__ = ["Unloadable"]


class _Stops(Protocol):
    def stop(self, task_id: bytes, attempt: int) -> object: ...


class Unloadable:
    """Remembers which attempts were given up for that reason, until their pool says that they ended."""

    def __init__(self) -> None:
        self._given_up: dict[tuple[bytes, int], bytes] = {}

    def give_up(self, pool: _Stops, tasks: Iterable[Runnable], missing: Collection[bytes]) -> None:
        """Stop those of `tasks` that need one of the digests in `missing`."""
        for task in tasks:
            for digest in (task.function, *task.refs):
                if digest in missing:
                    self._given_up[(task.task_id, task.attempt)] = digest
                    pool.stop(task.task_id, task.attempt)
                    break

    def amend(self, outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
        """Return a pool's outcomes, those of given up attempts with what was the matter."""
        return [self._amended(outcome) for outcome in outcomes] if self._given_up else outcomes

    def _amended(self, outcome: Outcome) -> Outcome:
        digest = self._given_up.pop((outcome.task_id, outcome.attempt), None)
        if digest is None or outcome.cause != "cancelled":
            return outcome
        text = (
            f"its dispatcher does not keep {digest.hex()} any more, a callable or value that it needs: submit it again "
            "(with durability 'commit' if its client may go before it runs)"
        )
        report = replace(outcome.report or OutcomeReport(), text=text)
        return Outcome(
            *(outcome.task_id, outcome.attempt, "failure", None),
            cause="unloadable_call",
            report=report,
            started=outcome.started,
        )
