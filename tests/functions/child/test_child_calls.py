"""A child performs calls in their order and tells what came of each; nothing that a call does spoils the next."""

from __future__ import annotations

import os
import pickle  # noqa: TID251 - a client loads what a child sends
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import cloudpickle  # noqa: TID251 - what remote clients send
import dill  # noqa: TID251 - what published clients send
import pytest
from functionkit import errands, nasty
from functionkit.bare_child import BareChild, interrupt_a_childs_child
from processkit.patience import until

from strata_zmq.functions.pool import packets
from strata_zmq.functions.pool.blackbox import RUNNING

DIGEST = b"0123456789abcdef"


@pytest.fixture(scope="module")
def child() -> Iterator[BareChild]:
    with BareChild() as child:
        yield child.ready()


def test_calls_of_a_packet_come_back_in_their_order(child: BareChild) -> None:
    calls = [child.call(errands.add, n, 1, kwargs={"more": n}) for n in range(8)]
    child.send(*calls)
    answers = child.answers(8)
    assert [answer.result.n for answer in answers] == [call.n for call in calls]
    assert [answer.value for answer in answers] == [2 * n + 1 for n in range(8)]
    assert child.run(errands.add, 1).value == 1
    until(lambda: not child.rescued(), message="what is sent is in the outbox no more")
    assert all(answer.result.kind == "ok" and answer.report is None for answer in answers)
    assert all(0 < answer.result.service_ns < 10**10 for answer in answers)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_child_runs_calls_however_it_was_started(method: str) -> None:
    with BareChild(method, initializer=os.putenv, initargs=("STRATA_TEST", "1")) as child:
        child.ready()
        assert child.run(errands.pid).value == child.started.pid
        child.started.ours.shutdown(1)
        assert child.death() == 0


def test_a_function_is_sent_once_and_forgotten_on_demand(child: BareChild) -> None:
    arguments = pickle.dumps(((2, 3), {}))
    child.order(packets.encode_keep(packets.Keep(DIGEST, pickle.dumps(errands.add))))
    child.send(child.packed(DIGEST, arguments), child.packed(DIGEST, arguments))
    assert [answer.value for answer in child.answers(2)] == [5, 5]
    child.order(packets.encode_forget([DIGEST]))
    child.send(child.packed(DIGEST, arguments))
    [answer] = child.answers(1)
    assert (answer.result.kind, answer.result.cause) == ("failure", "unloadable_call")
    assert answer.report is not None
    assert DIGEST.hex() in answer.report.text


def test_an_exception_comes_back_as_itself_with_the_functions_own_traceback(child: BareChild) -> None:
    answer = child.run(errands.boom, "why")
    assert answer.result.kind == "error"
    assert type(answer.value) is LookupError
    assert answer.value.args == ("why",)
    assert answer.report is not None
    assert (answer.report.type_name, answer.report.text, answer.report.pid) == (
        "LookupError",
        "why",
        child.started.pid,
    )
    frames = [line for line in answer.report.traceback.splitlines() if line.startswith("  File")]
    assert len(frames) == 1
    assert "errands.py" in frames[0]


def test_a_call_with_wrong_arguments_is_told_as_the_functions_exception(child: BareChild) -> None:
    answer = child.run(errands.gate)
    assert type(answer.value) is TypeError
    assert answer.report is not None
    assert "strata_zmq" not in answer.report.traceback


def test_very_long_texts_are_cut_where_they_are_told_and_whole_in_the_exception(child: BareChild) -> None:
    answer = child.run(nasty.raise_huge)
    assert len(answer.value.args[0]) == 4 * nasty.MIB
    assert answer.report is not None
    assert len(answer.report.text) <= 8 * 1024
    assert len(answer.report.traceback) <= 64 * 1024
    assert "characters left out" in answer.report.traceback


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps(5), pickle.dumps((1, 2, 3, 4))])
def test_a_payload_that_is_no_call_fails_alone(child: BareChild, content: bytes) -> None:
    child.send(child.packed(bytes(16), content), child.call(errands.add, 1))
    broken, fine = child.answers(2)
    assert (broken.result.kind, broken.result.cause) == ("failure", "unloadable_call")
    assert broken.report is not None
    assert broken.report.text
    assert fine.value == 1


@pytest.mark.parametrize("arguments", [5, (1,), (1, 2), ((1,), {}, 3)])
def test_arguments_of_another_form_are_told_the_published_one(child: BareChild, arguments: object) -> None:
    child.order(packets.encode_keep(packets.Keep(DIGEST, pickle.dumps(errands.add))))
    child.send(child.packed(DIGEST, pickle.dumps(arguments), dill=True), child.call(errands.add, 1))
    broken, fine = child.answers(2)
    assert (broken.result.kind, broken.result.cause) == ("failure", "unloadable_call")
    assert broken.report is not None
    assert "pack ((args...), {kwargs})" in broken.report.text
    assert fine.value == 1


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize(("dill", "told"), [(True, "pack with dill.dumps"), (False, "define it before the first call")])
def test_a_name_that_the_childs_main_program_lacks_is_told_with_the_way_out(method: str, dill: bool, told: str) -> None:
    with BareChild(method) as child:
        child.ready()
        child.order(packets.encode_keep(packets.Keep(DIGEST, b"c__main__\nnobody\n.")))
        child.send(child.packed(DIGEST, pickle.dumps(((), {})), dill=dill))
        [answer] = child.answers(1)
        assert answer.report is not None
        assert told in answer.report.text
        assert "'nobody'" in answer.report.text


def test_the_published_form_is_understood_and_answered_in_plain_pickle(child: BareChild) -> None:
    def outer(number: int) -> dict[str, int]:
        return {"twice": 2 * number}

    keep = packets.Keep(b"dill" * 4, dill.dumps(outer, recurse=True))
    child.order(packets.encode_keep(keep))
    child.send(child.packed(keep.digest, dill.dumps(((21,), {})), dill=True))
    [answer] = child.answers(1)
    assert isinstance(answer.payload, bytes)
    assert pickle.loads(answer.payload) == {"twice": 42}  # noqa: S301 - as above
    assert answer.payload[:2] == b"\x80" + bytes([pickle.DEFAULT_PROTOCOL])


def test_what_plain_pickle_cannot_say_is_answered_by_dill_in_the_published_form(child: BareChild) -> None:
    child.send(child.packed(bytes(16), dill.dumps((nasty.return_function, (2,), {})), dill=True))
    [answer] = child.answers(1)
    assert isinstance(answer.payload, bytes)
    assert dill.loads(answer.payload)(40) == 42  # noqa: S301 - the test's own


def test_a_class_that_came_by_value_comes_back_as_the_same_class(child: BareChild) -> None:
    local = type("Local", (Exception,), {"__module__": "__main__"})

    def fail() -> None:
        raise local("mine")

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        body = cloudpickle.dumps((fail, (), {}))
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    child.send(child.packed(bytes(16), body))
    [answer] = child.answers(1)
    assert answer.result.kind == "error", answer
    assert type(answer.value) is local


def test_ctrl_c_interrupts_a_function_and_leaves_an_idle_child_alone(tmp_path: Path) -> None:
    with BareChild() as child:
        child.ready()
        os.kill(child.started.pid, signal.SIGINT)
        assert child.run(errands.add, 1).value == 1
        child.send(child.call(errands.gate, str(tmp_path), "in"))
        errands.wait_for(str(tmp_path / "in"))
        os.kill(child.started.pid, signal.SIGINT)
        [answer] = child.answers(1)
        assert answer.result.kind == "error"
        assert type(answer.value) is KeyboardInterrupt
        assert child.run(errands.add, 2).value == 2


def test_a_function_may_have_children_of_its_own(child: BareChild) -> None:
    assert child.run(interrupt_a_childs_child, errands.add, 40, 2).value == 42
    assert child.run(errands.pid).value == child.started.pid


def test_a_process_that_a_function_forks_does_not_answer_for_the_child() -> None:
    with BareChild() as child:
        child.ready()
        for _ in range(3):
            assert child.run(nasty.fork_and_return).value == child.started.pid
        assert child.run(nasty.fork_and_leave).value == 3
        assert child.run(errands.pid).value == child.started.pid


SURVIVED = [case for case in nasty.NASTY if not case.lethal and case.function is not nasty.close_everything]


@pytest.mark.parametrize("case", SURVIVED, ids=lambda case: case.name)
def test_a_nasty_function_comes_to_the_end_that_it_deserves(case: nasty.Nasty) -> None:
    with BareChild() as child:
        child.ready()
        limits = case.limits
        answer = child.run(
            case.function,
            *case.args,
            capture=limits.capture,
            memory_bytes=limits.memory_bytes,
            result_bytes_max=limits.result_bytes_max,
        )
        assert (answer.result.kind, answer.result.cause) == (case.kind, case.cause), answer.report
        if case.kind != "ok":
            assert answer.report is not None
            assert case.text in answer.report.text
        if case.error is not None:
            assert type(answer.value) is case.error
        assert child.run(errands.pid).value == child.started.pid


def test_a_function_that_closes_the_childs_connections_has_its_result_all_the_same() -> None:
    with BareChild() as child:
        assert child.ready().run(errands.add, 1).value == 1
        child.send(child.call(nasty.close_everything))
        assert child.death() == 1
        assert [(result.n, result.kind) for result in child.rescued()] == [(2, "ok")]


def test_a_child_of_a_parent_that_dies_ends_even_while_it_holds_the_interpreter(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import sys, time
        from functionkit import nasty
        from functionkit.bare_child import BareChild

        child = BareChild(sys.argv[1]).ready()
        child.send(child.call(nasty.hold_on))
        while child.box.look().phase != 2:
            time.sleep(0.001)
        print(child.started.pid, flush=True)
        sys.stdin.read()
        """
    )
    assert RUNNING == 2
    script = tmp_path / "parent.py"
    script.write_text(f'if __name__ == "__main__":\n{textwrap.indent(program, "    ")}')
    for method in ("fork", "spawn", "forkserver"):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        parent = subprocess.Popen(
            [sys.executable, str(script), method],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        with parent:
            assert parent.stdout is not None
            pidfd = os.pidfd_open(int(parent.stdout.readline()))
            parent.kill()
            parent.wait()
        ended = select.select([pidfd], [], [], 20.0)[0]
        os.close(pidfd)
        assert ended, f"the child of a dead parent lives ({method})"
