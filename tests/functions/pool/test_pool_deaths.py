"""A child's death costs the call that it was in one attempt, and nobody else anything."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from poolkit import Owner
from poolkit.functions import (
    add,
    append,
    babble,
    close_everything,
    fault,
    kill_me,
    leave,
    pid,
    say_and_die,
    sleep,
    touch_and_wait,
)
from processkit.patience import until

import strata_zmq.functions.child.main as program
from strata_zmq.domain.task import Outcome, OutcomeReport
from strata_zmq.functions.codec import load_result
from strata_zmq.functions.pool.limits import freeze


def report(outcome: Outcome) -> OutcomeReport:
    assert outcome.kind == "failure"
    assert outcome.report is not None
    return outcome.report


def ran(path: Path) -> Counter[str]:
    return Counter(path.read_text().splitlines()) if path.exists() else Counter()


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_who_is_killed_is_told_so_and_the_pool_goes_on(method: str) -> None:
    with Owner(1, method, worker_name="w1") as owner:
        child = owner.call(pid)
        outcome = owner.outcome(owner.submit(kill_me))
        assert (outcome.cause, outcome.started) == ("killed", True)
        told = report(outcome)
        assert (told.signal, told.exit_code, told.pid, told.worker) == (signal.SIGKILL, -1, child, "w1")
        assert "SIGKILL" in told.text
        assert 2**20 < told.rss_bytes < 2**32, "what its process had held, in bytes"
        assert owner.call(pid) != child


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_who_leaves_in_the_middle_of_a_call_is_told_its_exit_code(method: str) -> None:
    with Owner(1, method) as owner:
        for code in (0, 3):
            outcome = owner.outcome(owner.submit(leave, code))
            assert outcome.cause == "exited"
            assert (report(outcome).exit_code, report(outcome).signal) == (code, 0)


def test_a_fault_is_told_with_the_line_where_it_happened() -> None:
    with Owner(1) as owner:
        outcome = owner.outcome(owner.submit(fault))
        assert outcome.cause == "killed"
        assert report(outcome).signal == signal.SIGSEGV
        assert "in fault" in report(outcome).traceback


def test_the_last_lines_of_who_dies_are_told(capfd: pytest.CaptureFixture[str]) -> None:
    with Owner(1) as owner:
        outcome = owner.outcome(owner.submit(say_and_die, "about to go"))
        assert "about to go" in report(outcome).last_lines


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_death_among_many_short_calls_costs_its_own_call_only(method: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Owner(2, method) as owner:
        keys = [owner.submit(append, str(log), str(n)) for n in range(100)]
        owner.ended(keys)
        keys = [owner.submit(append, str(log), str(n)) for n in range(100, 200)]
        deadly = owner.submit(kill_me)
        keys += [owner.submit(append, str(log), str(n)) for n in range(200, 400)]
        assert all(outcome.kind == "ok" for outcome in owner.ended(keys))
        assert owner.outcome(deadly).cause == "killed"
        assert ran(log) == Counter(str(n) for n in range(400))


def test_children_killed_at_any_moment_lose_no_call_and_repeat_none(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    log = tmp_path / "log"
    kills = 0
    with Owner(2) as owner:
        keys = [owner.submit(append, str(log), str(n)) for n in range(6000)]
        while len(owner.outcomes) < len(keys):
            owner.turn()
            if kills < 60 and chance.random() < 0.2:
                child = chance.choice(list(owner.pool.processes()))
                os.kill(child, signal.SIGKILL)
                kills += 1
            before = len(owner.outcomes)
            owner.until(lambda before=before: len(owner.outcomes) > before or len(owner.outcomes) == len(keys))
        outcomes = owner.ended(keys)
    counts = ran(log)
    assert max(counts.values()) == 1
    blamed = [n for n, outcome in enumerate(outcomes) if outcome.kind == "failure"]
    assert {outcomes[n].cause for n in blamed} <= {"killed"}, [report(outcomes[n]) for n in blamed]
    assert len(blamed) <= kills
    assert not {str(n) for n in range(len(keys))} - set(counts) - {str(n) for n in blamed}


def test_what_a_dead_child_had_not_begun_runs_elsewhere(tmp_path: Path) -> None:
    up, go = tmp_path / "up", tmp_path / "go"
    with Owner(1) as owner:
        for _ in range(100):
            owner.call(touch_and_wait, __file__, __file__)  # short, so that the next ones go ahead, unread
        first = owner.submit(touch_and_wait, str(up), str(go))
        behind = [owner.submit(touch_and_wait, __file__, __file__) for _ in range(8)]
        owner.until(up.exists)
        (child,) = owner.pool.processes()
        os.kill(child, signal.SIGKILL)
        assert owner.outcome(first).cause == "killed"
        assert child not in [load_result(outcome) for outcome in owner.ended(behind)]


def test_what_a_stopped_child_had_not_read_is_not_blamed_for_its_death() -> None:
    with Owner(1) as owner:
        for _ in range(4):
            owner.call(pid)
            (handle,) = owner.pool._roster.children
            child = handle.pid
            assert freeze(child, handle.pidfd)
            key = owner.submit(add, 1, 2)
            owner.turn()
            assert owner.pool.phase(*key) == "handed"
            os.kill(child, signal.SIGKILL)
            assert load_result(owner.outcome(key)) == 3


def test_a_call_that_kills_its_child_before_it_begins_is_blamed_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "decode_order", lambda packet: os._exit(9))  # forked children inherit it
    with Owner(1) as owner:
        outcome = owner.outcome(owner.submit(add, 1, 2))
        assert (outcome.cause, report(outcome).exit_code) == ("exited", 9)
        assert not owner.broken


def test_an_idle_child_that_dies_is_replaced_and_nobody_is_blamed() -> None:
    with Owner(1) as owner:
        child = owner.call(pid)
        os.kill(child, signal.SIGKILL)
        assert owner.call(pid) != child
        assert not [outcome for outcome in owner.outcomes.values() if outcome.kind != "ok"]


_PARENT = """
import sys, time
sys.path[:0] = {path!r}
from poolkit import Owner
from poolkit.functions import sleep
if __name__ == "__main__":
    owner = Owner(2, {method!r}, grow="all")
    owner.pool.start()
    keys = [owner.submit(sleep, 600), owner.submit(sleep, 600)]
    owner.until(lambda: all(owner.pool.phase(*key) == "running" for key in keys))
    print(*owner.pool.processes(), flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_children_end_with_a_parent_that_is_killed(method: str, tmp_path: Path) -> None:
    program = tmp_path / "parent.py"
    program.write_text(_PARENT.format(path=[path for path in sys.path if path.endswith("kits")], method=method))
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            children = [int(word) for word in parent.stdout.readline().split()]
            assert len(children) == 2
        finally:
            parent.kill()
    until(lambda: not any(alive(child) for child in children), message=children)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_who_babbles_into_its_socket_is_ended_and_blamed() -> None:
    with Owner(1) as owner:
        outcome = owner.outcome(owner.submit(babble))
        assert (outcome.kind, outcome.cause) == ("failure", "killed")
        assert owner.call(add, 1, 2) == 3


def test_who_closes_all_descriptors_has_its_result_told_and_the_others_run(capfd: pytest.CaptureFixture[str]) -> None:
    with Owner(1) as owner:
        key = owner.submit(close_everything)
        behind = [owner.submit(pid) for _ in range(3)]
        child = load_result(owner.outcome(key))
        assert child not in [load_result(outcome) for outcome in owner.ended(behind)]


_FORGETFUL = """
import sys
sys.path[:0] = {path!r}
from poolkit import Owner
from poolkit.functions import pid, sleep
if __name__ == "__main__":
    owner = Owner(1, {method!r})
    print(owner.call(pid), flush=True)
    owner.submit(sleep, 600)
    owner.turn()
"""


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_program_that_forgets_its_pool_ends_at_once(method: str, tmp_path: Path) -> None:
    program = tmp_path / "forgetful.py"
    program.write_text(_FORGETFUL.format(path=[path for path in sys.path if path.endswith("kits")], method=method))
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    until(lambda: not alive(int(done.stdout)))


def test_a_pool_that_nobody_closed_leaves_no_child_behind() -> None:
    owner = Owner(1)
    child = owner.call(pid)
    owner.submit(sleep, 600)
    owner.turn()
    del owner
    until(lambda: not alive(child))
