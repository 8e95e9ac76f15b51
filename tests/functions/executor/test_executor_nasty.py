"""A function may do to its process what it likes: its future says what it was, and the executor goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from functionkit import errands
from functionkit.nasty import NASTY, Nasty

from strata_zmq import WorkerFailure

if TYPE_CHECKING:
    from tests.functions.executor.conftest import MakeExecutor


@pytest.mark.parametrize("case", NASTY, ids=lambda case: case.name)
def test_a_nasty_functions_future_says_what_it_was(executor: MakeExecutor, case: Nasty) -> None:
    pool = executor(2)
    before = [pool.submit(errands.add, n) for n in range(20)]
    nasty = pool.submit_with(case.limits, case.function, *case.args)
    after = [pool.submit(errands.add, n) for n in range(20, 40)]
    error = nasty.exception(timeout=60)
    if case.kind == "ok":
        assert error is None
    elif case.kind == "error":
        assert type(error) is case.error
        assert "nasty.py" in str(error.__cause__)
    else:
        assert isinstance(error, WorkerFailure)
        assert error.cause == case.cause
        assert case.text in str(error)
        assert (error.exit_code, error.signal) == (case.exit_code, case.signal or error.signal)
    assert [future.result(timeout=60) for future in before + after] == list(range(40))
