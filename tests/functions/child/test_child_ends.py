"""However a child ends, its parent can tell which call it was in, and loses none that was finished before."""

from __future__ import annotations

import os
import signal
import time

import pytest
from functionkit import errands, nasty
from functionkit.bare_child import BareChild

from strata_zmq.functions.pool import packets
from strata_zmq.functions.pool.blackbox import IDLE, LOADING, PACKING, RUNNING, Look

DEADLINE_S = 20.0
LETHAL = [case for case in nasty.NASTY if case.cause in ("killed", "exited")]


def until_running(child: BareChild, n: int) -> Look:
    """Return what the black box says once call `n` runs."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        look = child.box.look()
        if look.n == n and look.phase == RUNNING:
            return look
        assert time.monotonic() < deadline, look
        os.sched_yield()


@pytest.mark.parametrize("case", LETHAL, ids=lambda case: case.name)
def test_the_black_box_names_the_call_that_ended_the_process(case: nasty.Nasty) -> None:
    with BareChild() as child:
        child.ready()
        finished = child.run(errands.add, 1).result.n
        fatal = child.call(case.function, *case.args)
        child.send(fatal, child.call(errands.add, 2))
        code = child.death()
        assert code == (-case.signal if case.signal else case.exit_code)
        look = child.box.look()
        assert (look.n, look.phase) == (fatal.n, PACKING if case.function is nasty.dies_when_packed else RUNNING)
        assert fatal.n not in [result.n for result in child.rescued()]
        assert finished < fatal.n
        if case.signal in (signal.SIGSEGV, signal.SIGABRT):
            assert "nasty.py" in child.box.fault_text()
            assert case.function.__name__ in child.box.fault_text()
        else:
            assert child.box.fault_text() == ""


def test_a_call_whose_arguments_end_the_process_is_named_as_loading() -> None:
    with BareChild() as child:
        child.ready()
        child.send(child.call(nasty.identity, nasty.dies_when_loaded()))
        assert child.death() == 9
        assert child.box.look() == Look(1, LOADING, 0)


def test_results_of_a_packet_survive_a_later_call_that_ends_the_process() -> None:
    with BareChild() as child:
        child.ready()
        child.run(errands.add, 0)
        child.run(nasty.identity, 0)
        fine = [child.call(errands.add, n) for n in range(5)]
        child.send(*fine, child.call(nasty.exit_hard, 7), child.call(errands.add, 99))
        assert child.death() == 7
        known = {result.n for result in child.rescued()}
        while (received := packets.receive(child.started.ours)) is not None and received[0]:
            answer = packets.decode_answer(received[0])
            assert isinstance(answer, list)
            known |= {result.n for result in answer}
        assert known == {call.n for call in fine}


def test_a_result_of_a_packet_can_be_read_while_the_next_call_runs() -> None:
    with BareChild() as child:
        child.ready()
        child.run(errands.add, 0)
        child.run(nasty.identity, 0)
        first, second = child.call(errands.add, 1), child.call(nasty.never_return)
        child.send(first, second)
        look = until_running(child, second.n)
        assert 0 < look.started_ns <= time.monotonic_ns()
        assert [result.n for result in child.rescued()] == [first.n]


def test_a_child_ends_by_itself_when_its_pool_closes() -> None:
    with BareChild() as child:
        child.ready()
        child.send(child.call(errands.add, 1))
        child.started.ours.shutdown(1)
        assert child.answers(1)[0].value == 1
        assert child.death() == 0
        assert child.box.look().phase == IDLE


def test_an_initializer_that_fails_is_told_and_ends_the_child(capfd: pytest.CaptureFixture[str]) -> None:
    with BareChild("spawn", initializer=errands.boom, initargs=("no licence",)) as child:
        packet, _ = child.packet()
        assert packets.decode_answer(packet) == packets.Broken("LookupError: no licence")
        assert child.death() == 0
    assert "Exception in initializer:" in capfd.readouterr().err


def test_an_initializer_runs_once_before_the_first_call() -> None:
    with BareChild(initializer=nasty.keep_argument, initargs=("ready",)) as child:
        child.ready()
        assert child.run(nasty.kept).value == ["ready"]


@pytest.mark.parametrize("bounded", ["child", "call"])
def test_memory_is_bounded_for_the_child_or_the_call_and_given_back(bounded: str) -> None:
    allowance = 300 * nasty.MIB
    with BareChild(memory_bytes=allowance if bounded == "child" else 0) as child:
        child.ready()
        call_bytes = allowance if bounded == "call" else 0
        answer = child.run(nasty.eat_memory, memory_bytes=call_bytes)
        assert (answer.result.kind, answer.result.cause) == ("failure", "out_of_memory"), answer.report
        assert answer.report is not None
        assert str(allowance) in answer.report.text
        assert child.run(nasty.return_much, 100 * nasty.MIB, memory_bytes=call_bytes).result.kind == "ok"
        twice = child.run(nasty.return_much, 2 * allowance, result_bytes_max=2**30)
        assert twice.result.cause == ("out_of_memory" if bounded == "child" else "")


def test_a_call_may_narrow_the_bound_of_its_child_and_not_widen_it() -> None:
    with BareChild(memory_bytes=400 * nasty.MIB) as child:
        child.ready()
        own, narrow, wide, again = (
            child.run(nasty.data_limit, memory_bytes=asked * nasty.MIB).value for asked in (0, 300, 500, 0)
        )
        assert 0 < narrow < own
        assert wide == again
        assert abs(wide - own) < 8 * nasty.MIB
    with BareChild() as child:
        child.ready()
        bound, free = (child.run(nasty.data_limit, memory_bytes=asked).value for asked in (400 * nasty.MIB, 0))
        assert bound > 0
        assert free == -1


def test_a_memory_error_without_a_limit_is_the_functions_own() -> None:
    with BareChild() as child:
        answer = child.ready().run(nasty.raise_memory_error)
        assert answer.result.kind == "error"
        assert type(answer.value) is MemoryError
