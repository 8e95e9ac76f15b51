"""Whatever a function does to its process, its call comes to the end that it deserves, and the others to theirs."""

from __future__ import annotations

import pytest
from functionkit import errands
from functionkit.nasty import NASTY, Nasty
from poolkit import Owner

from strata_zmq.functions.codec import load_result


@pytest.mark.parametrize("case", NASTY, ids=lambda case: case.name)
def test_a_nasty_function_ends_as_it_deserves_and_costs_nobody_else_anything(case: Nasty) -> None:
    with Owner(2, "forkserver", worker_name="w1") as owner:
        before = [owner.submit(errands.add, n) for n in range(20)]
        nasty = owner.submit(case.function, *case.args, limits=case.limits)
        after = [owner.submit(errands.add, n) for n in range(20, 40)]
        outcome = owner.outcome(nasty)
        assert (outcome.kind, outcome.cause, outcome.started) == (case.kind, case.cause, True)
        report = outcome.report
        if case.kind == "failure":
            assert report is not None
            assert case.text in report.text
            assert (report.worker, report.signal) == ("w1", case.signal or report.signal)
            assert report.exit_code == case.exit_code
        elif case.error is not None:
            with pytest.raises(case.error) as caught:
                load_result(outcome)
            if case.text:
                assert case.text in str(caught.value)
        if case.limits.capture:
            assert report is not None
            assert report.stdout
            assert report.cut_bytes
        assert [load_result(ended) for ended in owner.ended(before + after)] == list(range(40))
