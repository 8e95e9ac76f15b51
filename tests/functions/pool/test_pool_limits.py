"""Limits of time and memory end the call that is over them, and nothing else."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from poolkit import Owner
from poolkit.functions import add, allocate, allocate_unlimited, hold_the_interpreter, kill_me, sleep, touch_and_wait

from strata_zmq.domain.task import NO_LIMITS, TaskLimits
from strata_zmq.functions.codec import load_result
from strata_zmq.functions.pool import limits as kernel
from strata_zmq.functions.pool.limits import OomCounter

MIB = 2**20


@pytest.mark.parametrize(("endless", "arguments"), [(sleep, (60.0,)), (hold_the_interpreter, ())])
def test_a_call_that_exceeds_its_deadline_is_killed(endless: object, arguments: tuple[float, ...]) -> None:
    with Owner(1) as owner:
        began = time.monotonic()
        outcome = owner.outcome(owner.submit(endless, *arguments, limits=TaskLimits(attempt_s=0.2)))  # type: ignore[arg-type]
        assert time.monotonic() - began >= 0.2
        assert (outcome.kind, outcome.cause, outcome.started) == ("failure", "deadline", True)
        assert outcome.report is not None
        assert outcome.report.text == "exceeded deadline of 0.2 s"
        assert owner.call(add, 1, 2) == 3


def test_a_deadline_counts_from_the_start_of_its_call_not_from_its_wait(tmp_path: Path) -> None:
    up, go = str(tmp_path / "up"), str(tmp_path / "go")
    limits = TaskLimits(attempt_s=1.5)  # a machine under load pauses short calls, too
    with Owner(1) as owner:
        for _ in range(20):
            owner.call(touch_and_wait, __file__, __file__)
        long = owner.submit(touch_and_wait, up, go)
        behind = [owner.submit(touch_and_wait, __file__, __file__, limits=limits) for _ in range(4)]
        owner.until(Path(up).exists)
        until = time.monotonic() + 1.6
        owner.until(lambda: time.monotonic() > until)
        Path(go).touch()
        assert all(outcome.kind == "ok" for outcome in owner.ended([long, *behind]))


def test_a_deadline_kills_one_call_of_a_packet_and_the_others_run(tmp_path: Path) -> None:
    up, never = str(tmp_path / "up"), str(tmp_path / "never")
    limits = TaskLimits(attempt_s=1.5)
    with Owner(2) as owner:
        for _ in range(50):
            owner.call(touch_and_wait, __file__, __file__)
        keys = [owner.submit(touch_and_wait, __file__, __file__, limits=limits) for _ in range(30)]
        late = owner.submit(touch_and_wait, up, never, limits=limits)
        keys += [owner.submit(touch_and_wait, __file__, __file__, limits=limits) for _ in range(30)]
        assert owner.outcome(late).cause == "deadline"
        assert all(outcome.kind == "ok" for outcome in owner.ended(keys))


def test_a_deadline_of_a_call_that_died_before_it_concerns_nobody() -> None:
    with Owner(1) as owner:
        outcome = owner.outcome(owner.submit(kill_me, limits=TaskLimits(attempt_s=0.2)))
        assert outcome.cause == "killed"
        until = time.monotonic() + 0.3
        owner.until(lambda: time.monotonic() > until)
        assert owner.call(add, 1, 2) == 3


def test_the_next_wakeup_tells_when_a_deadline_is_due(tmp_path: Path) -> None:
    with Owner(1) as owner:
        assert owner.pool.next_wakeup() is None
        owner.submit(sleep, 60.0, limits=TaskLimits(attempt_s=5.0))
        now = time.monotonic()
        owner.turn()
        wakeup = owner.pool.next_wakeup()
        assert wakeup is not None
        assert now < wakeup <= now + 6.0


@pytest.mark.parametrize("bound", ["child", "call"])
def test_a_call_that_wants_more_memory_than_allowed_is_told_so(bound: str) -> None:
    options = {"memory_bytes": 400 * MIB} if bound == "child" else {}
    limits = TaskLimits(memory_bytes=400 * MIB) if bound == "call" else NO_LIMITS
    with Owner(1, "forkserver", **options) as owner:
        outcome = owner.outcome(owner.submit(allocate, 600 * MIB, limits=limits))
        assert (outcome.kind, outcome.cause) == ("failure", "out_of_memory")
        assert owner.call(allocate, MIB, limits=limits) == MIB


def test_a_child_that_uses_more_memory_than_allowed_is_killed(tmp_path: Path) -> None:
    with Owner(1, "forkserver", memory_bytes=200 * MIB) as owner:
        outcome = owner.outcome(owner.submit(allocate_unlimited, 300 * MIB, str(tmp_path / "never")))
        assert (outcome.kind, outcome.cause, outcome.started) == ("failure", "out_of_memory", True)
        assert outcome.report is not None
        assert outcome.report.rss_bytes > 200 * MIB
        assert "memory_bytes" in outcome.report.text
        assert owner.call(add, 1, 2) == 3


def test_a_child_that_has_gone_on_is_not_killed_for_the_call_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at a child and the signal it may end one call and begin another."""
    up, go = str(tmp_path / "up"), str(tmp_path / "go")
    with Owner(1) as owner:
        long = owner.submit(touch_and_wait, up, go)
        owner.until(Path(up).exists)
        (child,) = owner.pool._roster.children
        freeze = kernel.freeze

        def late(pid: int, pidfd: int) -> bool:
            Path(go).touch()
            while child.current() is not None:
                time.sleep(0.001)
            return freeze(pid, pidfd)

        monkeypatch.setattr(kernel, "freeze", late)
        assert owner.pool.stop(*long) == "killing"
        monkeypatch.undo()
        assert load_result(owner.outcome(long)) == child.pid
        assert owner.call(add, 1, 2) == 3
        assert list(owner.pool.processes()) == [child.pid]


@pytest.mark.parametrize(
    ("line", "file"),
    [("0::/a/b", "sys/fs/cgroup/a/b/memory.events"), ("7:cpu,memory:/a", "sys/fs/cgroup/memory/a/memory.oom_control")],
)
def test_the_kernels_kills_for_memory_are_counted(line: str, file: str, tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(f"3:pids:/x\n{line}\n")
    counts = tmp_path / file
    counts.parent.mkdir(parents=True)
    counts.write_text("low 0\noom_kill 4\n")
    counter = OomCounter(tmp_path)
    assert not counter.rose()
    counts.write_text("low 0\noom_kill 5\n")
    assert counter.rose()
    assert not counter.rose()
    assert not OomCounter(tmp_path / "elsewhere").rose()
