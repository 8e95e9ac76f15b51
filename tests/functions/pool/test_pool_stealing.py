"""What a child has not begun can be had back: nobody waits behind a long call, and what was taken never runs there."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from pathlib import Path

import pytest
from poolkit import Owner
from poolkit.functions import add, append, pid, sleep, touch_and_wait

from strata_zmq.functions.codec import load_result
from strata_zmq.functions.dispatch.events import Attempt
from strata_zmq.functions.pool import packets
from strata_zmq.functions.pool.child_handle import Child
from strata_zmq.functions.pool.limits import freeze
from strata_zmq.functions.pool.planner import GROUP


def teach(owner: Owner, path: str = __file__) -> None:
    """Let the pool learn that `touch_and_wait` is short, so that its calls are handed out ahead."""
    for _ in range(50):
        owner.call(touch_and_wait, path, path)


def test_nobody_but_the_rest_of_its_packet_waits_behind_a_long_call(tmp_path: Path) -> None:
    up, go, here = str(tmp_path / "up"), str(tmp_path / "go"), __file__
    with Owner(2) as owner:
        teach(owner)
        short = [owner.submit(touch_and_wait, here, here) for _ in range(200)]
        long = owner.submit(touch_and_wait, up, go)
        short += [owner.submit(touch_and_wait, here, here) for _ in range(199)]
        owner.until(lambda: sum(key in owner.outcomes for key in short) >= len(short) - (GROUP - 1))
        owner.until(Path(up).exists)
        assert long not in owner.outcomes
        assert owner.pool.phase(*long) == "running"
        Path(go).touch()
        owner.ended([*short, long])


def test_what_is_done_before_a_long_call_of_its_packet_is_told_meanwhile(tmp_path: Path) -> None:
    up, go, here = str(tmp_path / "up"), str(tmp_path / "go"), __file__
    with Owner(1) as owner:
        teach(owner)
        before = [owner.submit(touch_and_wait, here, here) for _ in range(GROUP - 1)]
        long = owner.submit(touch_and_wait, up, go)
        owner.ended(before)
        assert long not in owner.outcomes
        Path(go).touch()
        owner.ended([long])


def test_functions_that_are_not_known_or_long_are_not_handed_out_ahead() -> None:
    with Owner(1) as owner:
        keys = [owner.submit(sleep, 0.01) for _ in range(6)]
        owner.turn()
        assert [owner.pool.phase(*key) for key in keys[1:]] == ["waiting"] * 5
        owner.ended(keys)
        keys = [owner.submit(sleep, 0.01) for _ in range(6)]
        owner.turn()
        assert [owner.pool.phase(*key) for key in keys[1:]] == ["waiting"] * 5


def test_the_newest_come_back_first_and_those_at_children_too(tmp_path: Path) -> None:
    up, go, here = str(tmp_path / "up"), str(tmp_path / "go"), __file__
    with Owner(1) as owner:
        teach(owner)
        long = owner.submit(touch_and_wait, up, go)
        keys = [owner.submit(touch_and_wait, here, here) for _ in range(20)]
        owner.until(Path(up).exists)
        assert owner.pool.withdraw(3) == keys[:-4:-1]
        withdrawn = owner.pool.withdraw(100)
        assert withdrawn == [key for key in reversed(keys[:-3]) if key in withdrawn]
        assert len(withdrawn) >= 17 - (GROUP - 1)
        assert owner.pool.waiting == 0
        assert all(owner.pool.phase(*key) == "unknown" for key in withdrawn)
        Path(go).touch()
        owner.ended([long])
        for _ in range(3):
            owner.turn()
        assert not set(owner.outcomes) & {*withdrawn, *keys[-3:]}


def test_ten_thousand_calls_are_stolen_from_under_their_children_and_none_runs_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    stolen = Counter[Attempt]()
    steal = Child.steal

    def counted(child: Child) -> list[object]:
        calls = steal(child)
        stolen.update(call.key for call in calls)
        return calls  # type: ignore[return-value]

    monkeypatch.setattr(Child, "steal", counted)
    log = tmp_path / "log"
    with Owner(2) as owner:
        number: dict[Attempt, int] = {}
        gone: set[Attempt] = set()
        while stolen.total() < 10_000:
            for _ in range(60 - owner.pool.waiting):
                number[owner.submit(append, str(log), str(len(number)))] = len(number)
            owner.turn()
            if chance.random() < 0.9:
                for child in owner.pool._roster.children:
                    owner.pool._backlog.put_back(child.steal())
            else:
                gone.update(owner.pool.withdraw(chance.randrange(40)))
            owner.turn()
        outcomes = owner.ended([key for key in number if key not in gone])
        assert all(outcome.kind == "ok" for outcome in outcomes)
        owner.turn()
        assert not gone & set(owner.outcomes)
        assert len(owner.started) == len(set(owner.started))  # who comes to another child is not told of again
    ran = Counter(log.read_text().splitlines())
    assert ran == Counter(str(n) for key, n in number.items() if key not in gone)


def test_a_value_that_was_stolen_goes_again_with_the_calls_that_need_it(tmp_path: Path) -> None:
    up, go = str(tmp_path / "up"), str(tmp_path / "go")
    with Owner(1) as owner:
        owner.call(pid)
        owner.submit(touch_and_wait, up, go)
        owner.until(Path(up).exists)
        (child,) = owner.pool._roster.children
        task = owner.task(add, 1, 2)
        (key,) = owner.offer(task)
        child.hand(
            owner.pool._planner.packet(0, 1), owner.pool._backlog.parking.kept, owner.pool._backlog.segments, 0.0
        )
        assert task.function in child.known
        owner.pool._backlog.put_back(child.steal())
        assert task.function not in child.known
        Path(go).touch()
        assert load_result(owner.outcome(key)) == 3


def test_a_call_whose_value_was_taken_back_behind_it_runs_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child reads on while its packets are taken back: it may have the call, and not what goes ahead of it."""
    with Owner(1) as owner:
        owner.call(pid)
        (child,) = owner.pool._roster.children
        assert freeze(child.pid, child.pidfd)
        key = owner.submit(add, 1, 2)
        owner.turn()

        def value_only(child: Child) -> list[bytes]:
            got = packets.receive(child._start.theirs)
            assert got is not None
            assert isinstance(packets.decode_order(got[0]), packets.Keep)
            return [got[0]]

        with monkeypatch.context() as patch:
            patch.setattr(Child, "_unread", value_only)
            assert child.steal() == []
        os.kill(child.pid, signal.SIGCONT)
        assert load_result(owner.outcome(key)) == 3
        assert owner.call(pid) == child.pid


def test_nothing_is_handed_ahead_to_a_child_in_a_long_call(tmp_path: Path) -> None:
    up, go, here = str(tmp_path / "up"), str(tmp_path / "go"), __file__
    with Owner(1) as owner:
        teach(owner)
        long = owner.submit(touch_and_wait, up, go)
        keys = [owner.submit(touch_and_wait, here, here) for _ in range(20)]
        owner.until(lambda: owner.pool.waiting > len(keys) - GROUP)
        waiting = owner.pool.waiting
        keys += [owner.submit(touch_and_wait, here, here) for _ in range(5)]
        owner.turn()
        assert owner.pool.waiting == waiting + 5
        Path(go).touch()
        owner.ended([long, *keys])


def test_a_call_that_lies_unread_at_a_child_is_taken_back_when_it_is_not_wanted(tmp_path: Path) -> None:
    up, here = tmp_path / "up", __file__
    with Owner(1) as owner:
        teach(owner)
        (handle,) = owner.pool._roster.children
        child = handle.pid
        assert freeze(child, handle.pidfd)
        unwanted = owner.submit(touch_and_wait, str(up), here)
        others = [owner.submit(touch_and_wait, here, here) for _ in range(3)]
        owner.turn()
        assert owner.pool.phase(*unwanted) == "handed"
        assert owner.pool.stop(*unwanted) == "dropped"
        os.kill(child, signal.SIGCONT)
        outcome = owner.outcome(unwanted)
        assert (outcome.cause, outcome.started) == ("cancelled", False)
        assert all(outcome.kind == "ok" for outcome in owner.ended(others))
        assert not up.exists()


def test_a_call_that_waits_is_dropped_when_it_is_not_wanted(tmp_path: Path) -> None:
    up, go = str(tmp_path / "up"), str(tmp_path / "go")
    with Owner(1) as owner:
        teach(owner)
        long = owner.submit(touch_and_wait, up, go)
        owner.until(Path(up).exists)
        keys = [owner.submit(append, str(tmp_path / "log"), str(n)) for n in range(8)]
        assert owner.pool.stop(*keys[3]) == "dropped"
        assert owner.outcome(keys[3]).cause == "cancelled"
        assert not owner.outcomes[keys[3]].started
        assert owner.pool.stop(*keys[3]) == "unknown"
        Path(go).touch()
        owner.ended([long, *keys])
        assert (tmp_path / "log").read_text().split() == [str(n) for n in range(8) if n != 3]


def test_a_call_that_runs_is_killed_when_it_is_not_wanted_and_nobody_else_is(tmp_path: Path) -> None:
    up, go, here = str(tmp_path / "up"), str(tmp_path / "go"), __file__
    with Owner(2) as owner:
        long = owner.submit(touch_and_wait, up, go)
        owner.until(Path(up).exists)
        others = [owner.submit(touch_and_wait, here, here) for _ in range(30)]
        assert owner.pool.stop(*long) == "killing"
        outcome = owner.outcome(long)
        assert (outcome.kind, outcome.cause, outcome.started) == ("failure", "cancelled", True)
        assert all(outcome.kind == "ok" for outcome in owner.ended(others))


def test_a_call_behind_another_in_its_packet_is_killed_when_it_begins(tmp_path: Path) -> None:
    up, go, never = str(tmp_path / "up"), str(tmp_path / "go"), str(tmp_path / "never")
    with Owner(1) as owner:
        teach(owner)
        long = owner.submit(touch_and_wait, up, go)
        behind = owner.submit(touch_and_wait, str(tmp_path / "began"), never)
        owner.until(Path(up).exists)
        assert owner.pool.phase(*behind) == "handed"
        assert owner.pool.stop(*behind) == "killing"
        Path(go).touch()
        assert owner.outcome(long).kind == "ok"
        outcome = owner.outcome(behind)
        assert (outcome.cause, outcome.started) == ("cancelled", True)
        assert (tmp_path / "began").exists()


def test_calls_are_stopped_at_any_moment_and_only_those_end_cancelled(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    log = tmp_path / "log"
    with Owner(2) as owner:
        keys = [owner.submit(append, str(log), str(n)) for n in range(1500)]
        answers: dict[Attempt, str] = {}
        for at in range(0, len(keys), 10):
            key = keys[at + chance.randrange(10)]
            answers[key] = owner.pool.stop(*key)
            owner.turn()
        outcomes = dict(zip(keys, owner.ended(keys), strict=True))
    ran = Counter(log.read_text().splitlines())
    assert max(ran.values()) == 1
    for n, (key, outcome) in enumerate(outcomes.items()):
        if outcome.kind == "ok":
            assert ran[str(n)] == 1
            assert answers.get(key) != "dropped"
        else:
            assert outcome.cause == "cancelled"
            assert answers[key] in ("dropped", "killing")
            assert answers[key] == "killing" or (not outcome.started and not ran[str(n)])
