"""A pool runs calls in child processes: each comes to one end, in whatever way children are started."""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from poolkit import Owner
from poolkit.functions import add, environment, pid, raise_in_initializer, sleep, touch_and_wait

from strata_zmq.domain.task import TaskLimits
from strata_zmq.functions.codec import Codec, load_result
from strata_zmq.functions.pool import roster
from strata_zmq.functions.pool.options import PoolOptions
from strata_zmq.functions.pool.pool import ChildPool


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_calls_run_in_children_however_these_are_started(method: str) -> None:
    with Owner(2, method) as owner:
        owner.pool.start()
        keys = [owner.submit(add, n, 1) for n in range(200)]
        assert [load_result(outcome) for outcome in owner.ended(keys)] == list(range(1, 201))
        assert owner.call(pid) in owner.pool.processes()
        assert os.getpid() not in owner.pool.processes()


def test_an_exception_comes_back_as_an_error_with_the_childs_traceback() -> None:
    with Owner(1) as owner:
        outcome = owner.outcome(owner.submit(add, 1, "one"))
        assert outcome.kind == "error"
        with pytest.raises(TypeError):
            load_result(outcome)
        assert owner.call(add, 1, 1) == 2


def test_a_call_is_told_of_before_it_is_handed_out_and_only_once() -> None:
    with Owner(2) as owner:
        told: list[tuple[bytes, int]] = []

        def before(attempts: list[tuple[bytes, int]]) -> list[tuple[bytes, int]]:
            assert not set(attempts) & set(owner.outcomes)
            told.extend(attempts)
            return []

        owner.before = before
        keys = [owner.submit(add, n, n) for n in range(500)]
        owner.ended(keys)
        assert sorted(told) == sorted(keys)
        assert owner.started == told


def test_who_is_refused_before_the_hand_over_never_starts() -> None:
    with Owner(2) as owner:
        keys = [owner.submit(add, n, n) for n in range(40)]
        refused = keys[::3]
        owner.before = lambda attempts: [key for key in attempts if key in refused]
        for key, outcome in zip(keys, owner.ended(keys), strict=True):
            if key in refused:
                assert (outcome.kind, outcome.cause, outcome.started) == ("failure", "cancelled", False)
            else:
                assert outcome.kind == "ok"
        assert not set(owner.started) & set(refused)


def test_an_owner_that_fails_before_the_hand_over_loses_no_call() -> None:
    with Owner(1) as owner:
        key = owner.submit(add, 1, 2)

        def fail(attempts: list[tuple[bytes, int]]) -> list[tuple[bytes, int]]:
            raise ConnectionError

        owner.before = fail
        with pytest.raises(ConnectionError):
            owner.turn()
        assert owner.pool.phase(*key) == "waiting"
        owner.before = None
        assert load_result(owner.outcome(key)) == 3


def test_calls_wait_for_what_they_refer_to_and_it_is_asked_for_once() -> None:
    with Owner(1) as owner:
        task = owner.task(add, 1, 2, keep=False)
        (key,) = owner.offer(task)
        for _ in range(3):
            owner.turn()
        assert owner.lacking == [task.function]
        assert owner.pool.phase(*key) == "waiting"
        assert owner.pool.waiting == 1
        packed = Codec(by_value=False).pack_function(add)
        assert packed is not None
        owner.pool.keep(packed.digest, packed.payload)
        assert load_result(owner.outcome(key)) == 3


def test_calls_that_refer_to_what_nobody_has_can_be_given_up() -> None:
    with Owner(1) as owner:
        task = owner.task(add, 1, 2, keep=False)
        (key,) = owner.offer(task)
        owner.pool.give_up(task.function)
        outcome = owner.outcome(key)
        assert (outcome.cause, outcome.started) == ("unloadable_call", False)
        assert task.function.hex() in outcome.report.text  # type: ignore[union-attr]


def test_what_is_dropped_is_lacked_by_the_calls_that_wait() -> None:
    with Owner(1) as owner:
        assert owner.call(add, 1, 1) == 2
        task = owner.task(add, 1, 2)
        (key,) = owner.offer(task)
        owner.pool.drop(task.function)
        assert not owner.pool.has(task.function)
        owner.turn()
        assert owner.lacking == [task.function]
        owner.submit(add, 3, 4)
        assert load_result(owner.outcome(key)) == 3


def test_a_large_argument_and_a_large_result_arrive_whole() -> None:
    with Owner(2) as owner:
        array = np.arange(3_000_000, dtype=np.float64)
        doubled = owner.call(np.multiply, array, 2.0)
        assert np.array_equal(doubled, array * 2.0)
        doubled[0] = 7.0  # a result belongs to who asked for it
        text = "x" * 5_000_000
        assert owner.call(str.upper, text) == "X" * 5_000_000


def test_a_child_ends_after_its_share_of_calls_and_another_goes_on() -> None:
    with Owner(1, "spawn", max_tasks_per_child=3) as owner:
        keys = [owner.submit(pid) for _ in range(7)]
        pids = [load_result(outcome) for outcome in owner.ended(keys, 60)]
        assert [pids.count(one) for one in dict.fromkeys(pids)] == [3, 3, 1]


def test_with_fork_all_children_are_started_at_once_else_as_calls_come() -> None:
    with Owner(3) as owner:
        owner.pool.start()
        assert len(owner.pool.processes()) == 3
    with Owner(3, "forkserver") as owner:
        owner.pool.start()
        assert not owner.pool.processes()
        for _ in range(3):
            owner.call(add, 1, 1)
        assert len(owner.pool.processes()) == 1
    with Owner(2, "forkserver", grow="all") as owner:
        owner.pool.start()
        assert len(owner.pool.processes()) == 2


def test_idle_counts_what_could_run_at_once(tmp_path: Path) -> None:
    with Owner(2) as owner:
        assert owner.pool.idle() == 2
        key = owner.submit(touch_and_wait, str(tmp_path / "up"), str(tmp_path / "go"))
        owner.until((tmp_path / "up").exists)
        assert owner.pool.idle() == 1
        assert owner.pool.held() == [(*key, "running")]
        (tmp_path / "go").touch()
        owner.outcome(key)
        assert owner.pool.idle() == 2
        assert not owner.pool.held()


def test_a_failing_initializer_breaks_the_pool_and_every_call_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    with Owner(2, initializer=raise_in_initializer) as owner:
        keys = [owner.submit(add, n, n) for n in range(20)]
        for outcome in owner.ended(keys):
            assert (outcome.kind, outcome.cause, outcome.started) == ("failure", "initializer", False)
        assert "no such device" in owner.broken
        assert owner.outcome(owner.submit(add, 1, 1)).cause == "initializer"


def test_an_initializer_runs_before_any_call() -> None:
    with Owner(1, initializer=os.putenv, initargs=("STRATA_TEST_INITIALIZED", "yes")) as owner:
        assert owner.call(os.system, 'test "$STRATA_TEST_INITIALIZED" = yes') == 0


def test_children_that_die_before_they_are_ready_break_the_pool() -> None:
    with Owner(2, "forkserver", initializer=os._exit, initargs=(7,)) as owner:
        outcome = owner.outcome(owner.submit(add, 1, 1))
        assert outcome.cause == "initializer"
        assert "7" in owner.broken


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"children": 0}, ValueError, "max_workers must be greater than 0"),
        ({"children": 1, "initializer": 7}, TypeError, "initializer must be a callable"),
        ({"children": 1, "max_tasks_per_child": 0}, ValueError, "max_tasks_per_child must be >= 1"),
        ({"children": 1, "max_tasks_per_child": "3"}, TypeError, "max_tasks_per_child must be an integer"),
        ({"children": 1, "max_tasks_per_child": 1, "context": "fork"}, ValueError, "incompatible with the 'fork'"),
    ],
)
def test_wrong_options_are_refused_as_the_stock_pool_refuses_them(
    options: dict[str, object], error: type[Exception], text: str
) -> None:
    from poolkit import context

    if "context" in options:
        options = {**options, "context": context(str(options["context"]))}
    with pytest.raises(error, match=text):
        ChildPool(PoolOptions(**options))  # type: ignore[arg-type]


def test_the_descriptor_is_readable_when_a_turn_has_something_to_do() -> None:
    with Owner(1) as owner:
        assert owner.call(add, 1, 1) == 2
        while select.select([owner.pool.fileno()], [], [], 0)[0]:
            owner.turn()
        key = owner.submit(add, 1, 2)
        owner.turn()
        assert select.select([owner.pool.fileno()], [], [], 20)[0]
        assert load_result(owner.outcome(key)) == 3


def test_closing_waits_for_what_runs_and_kills_what_takes_too_long(tmp_path: Path) -> None:
    with Owner(1) as owner:
        owner.submit(touch_and_wait, str(tmp_path / "up"), str(tmp_path / "never"))
        owner.until((tmp_path / "up").exists)
        (process,) = owner.pool.processes().values()
        began = time.monotonic()
        owner.pool.close(timeout_s=0.1)
        assert time.monotonic() - began < 10
        assert process.exitcode == -signal.SIGKILL
        owner.pool.close()
    with Owner(1) as owner:
        owner.submit(sleep, 0.05)
        owner.turn()
        (process,) = owner.pool.processes().values()
        owner.pool.close()
        assert process.exitcode == 0


def test_calls_that_wait_for_devices_end_no_child_that_has_none(tmp_path: Path) -> None:
    up, go, one = str(tmp_path / "up"), str(tmp_path / "go"), TaskLimits(labels={"gpu": 1})
    with Owner(2, gpus=("0",)) as owner:
        plain = owner.call(pid)
        first = owner.submit(touch_and_wait, up, go, limits=one)
        owner.until(Path(up).exists)
        second = owner.submit(pid, limits=one)
        assert owner.call(pid) == plain
        assert owner.call(pid) == plain
        Path(go).touch()
        assert load_result(owner.outcome(first)) == load_result(owner.outcome(second)) != plain


def test_an_attempt_that_is_offered_again_is_the_same_one() -> None:
    with Owner(1) as owner:
        task = owner.task(add, 1, 2)
        (key,) = owner.offer(task)
        owner.offer(task)
        owner.ended([key])
        owner.turn()
        assert not owner.doubled
        assert owner.pool.waiting == 0


def test_values_that_do_not_fit_a_childs_socket_at_once_arrive_as_it_reads() -> None:
    with Owner(1, "spawn") as owner:
        task = owner.task(add, 1, 2)
        values = [bytes([n]) * 30_000 for n in range(120)]
        task.refs = tuple(n.to_bytes(16, "big") for n in range(120))
        for digest, value in zip(task.refs, values, strict=True):
            owner.pool.keep(digest, value)
        (key,) = owner.offer(task)
        owner.turn()
        (child,) = owner.pool._roster.children
        assert child.blocked
        assert load_result(owner.outcome(key)) == 3
        assert not child.blocked


def test_a_packet_that_waits_for_room_can_be_taken_back() -> None:
    with Owner(1, "spawn") as owner:
        task = owner.task(add, 1, 2)
        task.refs = tuple(n.to_bytes(16, "big") for n in range(60))
        for digest in task.refs:
            owner.pool.keep(digest, bytes(40_000))
        (key,) = owner.offer(task)
        owner.turn()
        assert owner.pool.withdraw(1) == [key]
        assert owner.pool.phase(*key) == "unknown"
        (key,) = owner.offer(task)
        assert load_result(owner.outcome(key)) == 3


def test_a_machine_without_room_for_another_process_goes_on_with_those_there_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    up, go = str(tmp_path / "up"), str(tmp_path / "go")
    with Owner(2, "forkserver") as owner:
        owner.submit(touch_and_wait, up, go)
        owner.until(Path(up).exists)

        def full(*_: object) -> None:
            raise BlockingIOError(11, "Resource temporarily unavailable")

        monkeypatch.setattr(roster, "start_child", full)
        keys = [owner.submit(add, n, n) for n in range(5)]
        owner.turn()
        assert owner.pool.waiting == 5
        Path(go).touch()
        assert [load_result(outcome) for outcome in owner.ended(keys)] == [0, 2, 4, 6, 8]
        assert not owner.broken


def test_devices_are_dealt_out_and_shown_to_one_child_each() -> None:
    with Owner(2, gpus=("0", "3")) as owner:
        one, two = TaskLimits(labels={"gpu": 1}), TaskLimits(labels={"gpu": 2})
        assert owner.call(environment, "CUDA_VISIBLE_DEVICES") == ""
        keys = [owner.submit(environment, "CUDA_VISIBLE_DEVICES", limits=one) for _ in range(4)]
        assert {load_result(outcome) for outcome in owner.ended(keys)} <= {"0", "3"}
        assert owner.call(environment, "CUDA_VISIBLE_DEVICES", limits=two) in ("0,3", "3,0")
        assert owner.call(environment, "CUDA_VISIBLE_DEVICES") == ""
        outcome = owner.outcome(owner.submit(pid, limits=TaskLimits(labels={"gpu": 3})))
        assert (outcome.kind, outcome.cause) == ("failure", "unloadable_call")
        assert "3 gpu" in outcome.report.text  # type: ignore[union-attr]
