"""When a loop saves: policies as rules over steps and times that a test brings, and what saves cost as arithmetic."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.domain.policy import Adaptive, EverySeconds, EverySteps, Manual, SaveCost, parse_policy
from strata_zmq.errors import InvalidArgumentError


def saves(policy, steps: range, step_s: float = 1.0, cost_s: float | None = None) -> list[int]:
    """The steps behind which a loop of steps of `step_s` seconds saves."""
    done = []
    for step in steps:
        if policy.due(step, step * step_s):
            policy.saved(step, step * step_s)
            done.append(step)
            if cost_s is not None:
                policy.learned(cost_s)
    return done


def test_every_steps_saves_at_the_multiples() -> None:
    assert saves(EverySteps(5), range(1, 22)) == [5, 10, 15, 20]


def test_a_loop_that_goes_on_from_a_checkpoint_keeps_to_the_same_steps() -> None:
    assert saves(EverySteps(5), range(6, 22)) == [10, 15, 20]
    assert saves(EverySteps(5), range(5, 12)) == [5, 10]


def test_a_multiple_between_two_commit_points_is_made_up_for_at_the_next_one() -> None:
    assert saves(EverySteps(5), range(3, 30, 3)) == [6, 12, 15, 21, 27]


def test_a_save_that_somebody_commanded_counts() -> None:
    policy = EverySteps(5)
    assert not policy.due(1, 1.0)
    policy.saved(5, 5.0)
    assert not policy.due(5, 5.0)
    assert policy.due(10, 10.0)


@given(st.integers(1, 50), st.lists(st.integers(1, 20), max_size=60))
def test_every_steps_saves_once_for_each_stretch_that_was_entered(every: int, gaps: list[int]) -> None:
    policy, step, entered = EverySteps(every), 1, set()
    due = [1] if policy.due(1, 0.0) else []
    for one in due:
        policy.saved(one, 0.0)
    if 1 // every > 0:
        entered.add(1 // every)
    for gap in gaps:
        step += gap
        if step // every:
            entered.add(step // every)
        if policy.due(step, 0.0):
            policy.saved(step, 0.0)
            due.append(step)
    assert [step // every for step in due] == sorted(entered)


def test_every_seconds_counts_from_the_loops_beginning_and_from_each_save() -> None:
    assert saves(EverySeconds(10.0), range(100, 135)) == [110, 120, 130]
    policy = EverySeconds(10.0)
    assert not policy.due(1, 1000.0)
    policy.saved(2, 1009.0)
    assert not policy.due(3, 1018.9)
    assert policy.due(4, 1019.0)


def test_adaptive_keeps_the_cost_under_its_percentage() -> None:
    """Saves that cost 0.4 s each are 40 s apart at 1 %, 8 s at 5 %."""
    assert saves(Adaptive(1.0, least_s=1.0), range(101), cost_s=0.4) == [1, 41, 81]
    assert saves(Adaptive(5.0, least_s=1.0), range(26), cost_s=0.4) == [1, 9, 17, 25]


def test_adaptive_keeps_within_its_bounds_and_begins_with_the_least() -> None:
    policy = Adaptive(1.0, least_s=10.0, most_s=60.0)
    assert policy.interval_s == 10.0
    policy.learned(0.0)
    assert policy.interval_s == 10.0
    policy.learned(1e6)
    assert policy.interval_s == 60.0


def test_adaptive_follows_a_cost_that_changes_without_jumping() -> None:
    policy = Adaptive(1.0, least_s=0.0)
    policy.learned(1.0)
    assert policy.interval_s == pytest.approx(100.0)
    policy.learned(2.0)
    assert 100.0 < policy.interval_s < 200.0
    for _ in range(30):
        policy.learned(2.0)
    assert policy.interval_s == pytest.approx(200.0, rel=0.01)


@given(st.floats(-10, 100), st.floats(0.01, 100))
def test_the_share_of_time_that_saves_take_is_never_above_the_percentage(cost_s: float, percent: float) -> None:
    policy = Adaptive(percent, least_s=0.0, most_s=30 * 86_400.0)
    policy.learned(cost_s)
    if policy.interval_s < policy.most_s:
        assert max(cost_s, 0.0) <= policy.interval_s * percent / 100 + 1e-9


def test_manual_is_never_due() -> None:
    policy = Manual()
    assert saves(policy, range(1000), cost_s=1.0) == []
    policy.saved(1, 1.0)
    policy.learned(1.0)
    assert not policy.due(2, 1e9)


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("every-steps:500", EverySteps(500)),
        ("every-seconds:600", EverySeconds(600.0)),
        ("every-seconds:0.5", EverySeconds(0.5)),
        ("adaptive:2.5", Adaptive(2.5)),
        ("adaptive", Adaptive(1.0)),
        ("manual", Manual()),
    ],
)
def test_a_policy_is_written_as_text(text: str, policy: object) -> None:
    assert parse_policy(text) == policy


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "every-steps:N"),
        ("every-steps", "every-steps:N"),
        ("every-steps:x", "every-steps:N"),
        ("every-steps:1.5", "every-steps:N"),
        ("every-steps:0", "every-steps is 0"),
        ("every-seconds:nan", "every-seconds:T"),
        ("every-seconds:-1", "every-seconds is -1"),
        ("every-seconds:inf", "every-seconds is inf"),
        ("adaptive:0", "adaptive is 0"),
        ("adaptive:101", "adaptive is 101"),
        ("manual:1", "manual"),
        ("hourly:1", "'hourly:1'"),
    ],
)
def test_what_is_no_policy_is_refused_with_the_ways_to_write_one(text: str, named: str) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        parse_policy(text)
    assert named in str(refused.value)


def steps(cost: SaveCost, now: float, durations: list[float], *, under_way: bool) -> float:
    for duration in durations:
        now += duration
        cost.stepped(now, under_way=under_way)
    return now


def test_a_save_costs_its_call_and_what_the_steps_beside_it_took_longer() -> None:
    cost = SaveCost()
    now = steps(cost, 0.0, [0.0, *[1.0] * 10], under_way=False)
    cost.began(0.5)
    # The call lies within the first of these steps, and is not counted twice.
    now = steps(cost, now, [1.7, 1.2, 1.2], under_way=True)
    assert cost.ended() == pytest.approx([0.5 + 3 * 0.2])
    assert (cost.saves, cost.stall_s) == (1, 0.5)
    assert list(cost.costs_s) == pytest.approx([1.1])


def test_several_saves_under_way_at_once_share_what_the_steps_took_longer() -> None:
    cost = SaveCost()
    now = steps(cost, 0.0, [0.0, 1.0, 1.0], under_way=False)
    cost.began(0.1)
    now = steps(cost, now, [1.6], under_way=True)
    cost.began(0.3)
    steps(cost, now, [1.8], under_way=True)
    assert cost.ended() == pytest.approx([0.1 + 0.5, 0.3 + 0.5])


def test_where_every_step_has_a_save_beside_it_only_the_calls_are_known() -> None:
    cost = SaveCost()
    cost.stepped(0.0, under_way=False)
    for number in range(3):
        cost.began(0.25)
        cost.stepped(number + 1.0, under_way=True)
        assert cost.ended() == [0.25]


def test_the_time_between_two_loops_is_no_step() -> None:
    cost = SaveCost()
    now = steps(cost, 0.0, [0.0, 1.0, 1.0], under_way=False)
    cost.interrupted()
    now = steps(cost, now, [500.0, 1.0], under_way=False)
    cost.began(0.0)
    steps(cost, now, [1.5], under_way=True)
    assert cost.ended() == pytest.approx([0.5])


def test_nothing_under_way_has_cost_nothing() -> None:
    cost = SaveCost()
    assert cost.ended() == []
    assert not math.isnan(cost.stall_s)
