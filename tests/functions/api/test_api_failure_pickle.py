"""A failure loads as a WorkerFailure with pickle and with dill, in a process that has only the public package."""

from __future__ import annotations

import pickle  # noqa: TID251 - a client loads it
import subprocess
import sys

import dill  # noqa: TID251 - a published client loads it with this
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.domain.task import Outcome, OutcomeReport
from strata_zmq.errors import WorkerFailure
from strata_zmq.functions.failure_pickle import failure_pickle
from strata_zmq.functions.failures import failure_of
from strata_zmq.functions.payload_check import check_pickle

TEXT = st.text(st.characters(exclude_categories=()), max_size=40)
COUNT = st.integers(0, 2**62)


@st.composite
def outcomes(draw: st.DrawFn) -> Outcome:
    report = OutcomeReport(
        text=draw(TEXT),
        traceback=draw(TEXT),
        worker=draw(TEXT),
        pid=draw(COUNT),
        signal=draw(COUNT),
        exit_code=draw(st.integers(-1, 255)),
        rss_bytes=draw(COUNT),
        last_lines=draw(TEXT),
    )
    cause = draw(st.sampled_from(["worker_lost", "deadline", "killed", "exited", "unpicklable_result", ""]))
    task_id = draw(st.binary(min_size=16, max_size=16))
    return Outcome(task_id, draw(COUNT), "failure", None, 0.0, cause, draw(st.none() | st.just(report)))


@given(outcome=outcomes())
def test_it_loads_as_the_failure_that_it_stands_for(outcome: Outcome) -> None:
    written, meant = failure_pickle(outcome), failure_of(outcome)
    check_pickle(written)
    for load in (pickle.loads, dill.loads):
        loaded = load(written)
        assert type(loaded) is WorkerFailure
        assert (str(loaded), vars(loaded)) == (str(meant), vars(meant))


def test_text_that_is_no_unicode_survives() -> None:
    """A file name that Python could not decode, say."""
    outcome = Outcome(bytes(16), 1, "failure", None, report=OutcomeReport(text="no such file: a\udcff"))
    loaded = pickle.loads(failure_pickle(outcome))  # noqa: S301 - it was written here
    assert str(loaded).endswith("no such file: a\udcff")


def test_a_missed_deadline_says_so() -> None:
    report = OutcomeReport(text="exceeded deadline of 2 s")
    written = failure_pickle(Outcome(bytes(16), 1, "failure", None, cause="deadline", report=report))
    loaded = pickle.loads(written)  # noqa: S301 - it was written here
    assert "exceeded deadline" in str(loaded)
    assert loaded.cause == "deadline"


def test_it_needs_nothing_but_the_public_package() -> None:
    """In a process that imports nothing else, the errors are all that is loaded of this project."""
    program = """
import pickle, sys
failure = pickle.loads(bytes.fromhex(sys.argv[1]))
print(type(failure).__name__, failure, failure.cause)
print(*sorted(name for name in sys.modules if name.startswith("strata_zmq")))
"""
    written = failure_pickle(Outcome(bytes(16), 3, "failure", None, cause="worker_lost"))
    done = subprocess.run([sys.executable, "-c", program, written.hex()], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "WorkerFailure its worker was lost while it ran worker_lost",
        "strata_zmq strata_zmq.errors",
    ]
