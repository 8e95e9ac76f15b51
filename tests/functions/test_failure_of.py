"""The error that stands for an outcome which is neither a result nor an exception."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor
from typing import get_args

import pytest

from strata_zmq.domain.task import Cause, Outcome, OutcomeReport
from strata_zmq.errors import StrataError, WorkerFailure
from strata_zmq.functions.failures import failure_of

ID = bytes(range(16))
CAUSES = [cause for cause in get_args(Cause) if cause]


def outcome(cause: Cause, report: OutcomeReport | None = None) -> Outcome:
    return Outcome(ID, 3, "failure", None, cause=cause, report=report)


@pytest.mark.parametrize("cause", CAUSES)
def test_every_cause_says_in_words_what_happened(cause: Cause) -> None:
    failure = failure_of(outcome(cause))
    assert failure.cause == cause
    assert " " in str(failure), "a name is no sentence"
    assert str(failure) != str(failure_of(outcome("")))


def test_a_missed_deadline_says_so_in_the_published_words() -> None:
    assert "exceeded deadline" in str(failure_of(outcome("deadline")))
    told = failure_of(outcome("deadline", OutcomeReport(text="exceeded deadline of 0.5 s")))
    assert str(told) == "exceeded deadline of 0.5 s"


def test_the_report_is_appended_to_what_happened_and_its_facts_are_attributes() -> None:
    report = OutcomeReport(
        text="signal 11",
        type_name="ignored",
        traceback="Traceback: ...",
        worker="host-1",
        pid=77,
        signal=11,
        exit_code=-11,
        rss_bytes=2**20,
        last_lines="about to go",
    )
    failure = failure_of(outcome("killed", report))
    assert str(failure) == "its process was killed: signal 11"
    assert (failure.task_id, failure.attempt, failure.worker, failure.pid) == (ID.hex(), 3, "host-1", 77)
    assert (failure.signal, failure.exit_code, failure.rss_bytes) == (11, -11, 2**20)
    assert (failure.last_lines, failure.remote_traceback) == ("about to go", "Traceback: ...")


def test_code_written_for_the_stock_pool_catches_it() -> None:
    with pytest.raises(BrokenExecutor):
        raise failure_of(outcome("worker_lost"))
    assert isinstance(failure_of(outcome("exited")), StrataError)
    assert isinstance(failure_of(outcome("")), WorkerFailure)
