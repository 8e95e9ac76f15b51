"""A result is loaded as it was, an exception raised as its own type, and anything else is a WorkerFailure."""

from __future__ import annotations

import pickle  # noqa: TID251 - what a child sends
import traceback
from concurrent.futures import BrokenExecutor

import numpy as np
import pytest

from strata_zmq.domain.task import Outcome, OutcomeReport
from strata_zmq.errors import InvalidArgumentError, WorkerFailure
from strata_zmq.functions.codec import Codec, RemoteTraceback, load_result
from strata_zmq.functions.refs import Ref, collected

ID = bytes(16)


class Bomb:
    """Cannot be loaded where it arrives; with `exits`, loading it ends the process that lets it."""

    def __init__(self, *, exits: bool) -> None:
        self.exits = exits

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return (explode, (self.exits,))


def explode(exits: bool) -> None:
    raise SystemExit(3) if exits else LookupError("not here")


def test_a_result_is_loaded_with_its_buffers() -> None:
    assert load_result(Outcome(ID, 1, "ok", pickle.dumps([1, "two"]))) == [1, "two"]
    parts: list[pickle.PickleBuffer] = []
    stream = pickle.dumps(np.arange(4), 5, buffer_callback=parts.append)
    assert load_result(Outcome(ID, 1, "ok", (stream, *map(memoryview, parts)))).sum() == 6  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", [KeyError("k"), SystemExit(4), InvalidArgumentError("limit 3")])
def test_an_exception_is_raised_as_its_own_type_with_the_traceback_there(error: BaseException) -> None:
    report = OutcomeReport(traceback="Traceback: line 3, in there")
    with pytest.raises(type(error)) as caught:
        load_result(Outcome(ID, 1, "error", pickle.dumps(error), report=report))
    assert caught.value.args == error.args
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "line 3, in there" in "".join(traceback.format_exception(caught.value))


def test_a_failure_is_a_worker_failure_that_says_what_is_known() -> None:
    report = OutcomeReport(text="exceeded deadline of 2 s", pid=77, signal=9, last_lines="step 4")
    with pytest.raises(WorkerFailure, match="exceeded deadline of 2 s") as caught:
        load_result(Outcome(ID, 3, "failure", None, cause="deadline", report=report))
    assert isinstance(caught.value, BrokenExecutor)
    assert (caught.value.cause, caught.value.attempt, caught.value.pid) == ("deadline", 3, 77)
    assert (caught.value.signal, caught.value.last_lines) == (9, "step 4")


@pytest.mark.parametrize("exits", [False, True])
@pytest.mark.parametrize(("kind", "what"), [("ok", "result"), ("error", "exception")])
def test_what_cannot_be_loaded_here_fails_its_own_call_alone(exits: bool, kind: str, what: str) -> None:
    body = pickle.dumps(Bomb(exits=exits))
    with pytest.raises(WorkerFailure, match=f"its {what} cannot be loaded here"):
        load_result(Outcome(ID, 1, kind, body))  # type: ignore[arg-type]


def test_an_exception_that_is_none_is_told_and_not_raised() -> None:
    with pytest.raises(WorkerFailure, match="int is no exception"):
        load_result(Outcome(ID, 1, "error", pickle.dumps(3)))


def test_a_ref_cannot_leave_the_arguments_of_a_call() -> None:
    ref = Ref(bytes(16), 8)
    with pytest.raises(InvalidArgumentError, match="only in the arguments of a call"):
        pickle.dumps(ref)
    with pytest.raises(InvalidArgumentError, match="put values that hold none"):
        Codec(by_value=False).pack_value([ref])


def test_refs_are_collected_for_one_packing_only() -> None:
    with collected() as outer:
        with collected() as inner:
            pass
        assert inner == {}
    assert outer == {}
    assert repr(Ref(b"\1" * 16, 8)) == "Ref(01010101010101010101010101010101, 8 bytes)"
