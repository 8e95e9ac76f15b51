"""What stays: a rule of retention may ask for more, and never gets rid of what somebody counts on."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.domain.manifest import HeadEntry
from strata_zmq.domain.retention import Retention, parse_best, reachable, survivors
from strata_zmq.errors import InvalidArgumentError

rules = st.builds(
    lambda count, every, best, mode: Retention(count, every, "loss" if best else "", mode, best),
    st.integers(1, 6),
    st.sampled_from([0, 1, 3, 10]),
    st.integers(0, 3),
    st.sampled_from(["min", "max"]),
)


def entry(number: int, step: int, loss: float | None = None, refs: tuple[str, ...] = ()) -> HeadEntry:
    metrics = {} if loss is None else {"loss": loss}
    return HeadEntry(f"c{number}", "key", "0" * 64, step, 0, 0, 1, 1, 0.0, metrics=metrics, refs=refs)


@st.composite
def histories(draw: st.DrawFn) -> list[HeadEntry]:
    steps = draw(st.lists(st.integers(0, 40), min_size=1, max_size=12))
    losses = st.none() | st.floats(-3, 3, allow_nan=False)
    return [entry(number, step, draw(losses)) for number, step in enumerate(steps)]


names = st.sets(st.integers(0, 12).map("c{}".format), max_size=3)


def ids(entries: tuple[HeadEntry, ...]) -> list[str]:
    return [one.checkpoint_id for one in entries]


@given(histories(), rules, names, st.integers(0, 12).map("c{}".format), names)
def test_the_newest_the_pinned_the_verified_and_those_in_use_always_stay(
    history: list[HeadEntry], rule: Retention, pins: set[str], verified: str, in_use: set[str]
) -> None:
    found = survivors(history, rule, pins=pins, verified=verified, in_use=in_use)
    there = {one.checkpoint_id for one in history}
    assert there & {*pins, *in_use, verified, history[-1].checkpoint_id} <= set(ids(found))
    assert list(found) == [one for one in history if one in found], "their order is kept"
    assert list(found)[-rule.keep_count :] == history[-rule.keep_count :]


@given(histories(), rules, names)
def test_what_a_rule_keeps_it_keeps_when_it_is_asked_again(
    history: list[HeadEntry], rule: Retention, pins: set[str]
) -> None:
    once = survivors(history, rule, pins=pins)
    assert survivors(once, rule, pins=pins) == once


@given(histories(), rules)
def test_deciding_at_every_commit_keeps_every_milestone_and_every_best_one(
    history: list[HeadEntry], rule: Retention
) -> None:
    """Nothing that the rule would keep of the whole history is lost on the way."""
    kept: tuple[HeadEntry, ...] = ()
    for one in history:
        kept = survivors((*kept, one), rule)
    assert set(ids(survivors(history, rule))) <= set(ids(kept))


def test_every_so_many_steps_the_first_one_at_or_after_the_multiple_stays() -> None:
    history = [entry(number, step) for number, step in enumerate([5, 95, 105, 190, 200, 250, 310, 311])]
    assert [one.step for one in survivors(history, Retention(keep_count=1, keep_every=100))] == [105, 200, 310, 311]


def test_after_a_way_back_the_milestone_is_of_the_history_that_went_on() -> None:
    history = [entry(0, 100), entry(1, 150), entry(2, 100), entry(3, 160)]
    assert ids(survivors(history, Retention(keep_count=1, keep_every=100))) == ["c2", "c3"]


@pytest.mark.parametrize(("mode", "best"), [("min", ["c3", "c1"]), ("max", ["c4", "c0"])])
def test_the_best_stay_and_of_two_equals_the_newer(mode: Any, best: list[str]) -> None:
    losses = [2.0, 0.5, 0.5, 0.5, 2.0, None]
    history = [entry(number, number, loss) for number, loss in enumerate(losses)]
    rule = Retention(1, best_metric="loss", best_mode=mode, best_count=1)
    assert ids(survivors(history, rule)) == [best[0], "c5"]
    two = survivors(history, Retention(1, best_metric="loss", best_mode=mode, best_count=2))
    assert len(two) == 3
    assert best[0] in ids(two)


def test_folders_that_others_refer_to_are_reached() -> None:
    assert reachable([entry(0, 0), entry(1, 1, refs=("old", "c0"))]) == {"c0", "c1", "old"}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"keep_count": 0}, "keep_count is 0: choose from 1 to 10000"),
        ({"keep_count": True}, "keep_count is True"),
        ({"keep_every": -1}, "keep_every is -1"),
        ({"best_metric": "loss"}, "give both or neither"),
        ({"best_count": 2}, "give both or neither"),
        ({"best_metric": "loss", "best_count": 2, "best_mode": "low"}, "give 'min' or 'max'"),
    ],
)
def test_a_rule_outside_its_limits_is_refused(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidArgumentError, match=reason):
        Retention(**arguments)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [("", ("", "min", 0)), ("loss:min:3", ("loss", "min", 3)), ("top-1:max:1", ("top-1", "max", 1))],
)
def test_the_best_are_written_as_metric_mode_and_count(text: str, parsed: tuple[str, str, int]) -> None:
    assert parse_best(text) == parsed


@pytest.mark.parametrize(
    "text", ["loss", "loss:min", "loss:low:3", ":min:3", "loss:min:0", "loss:min:x", "loss:min:-1"]
)
def test_what_names_no_best_is_refused_with_the_way_to_write_it(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="METRIC:min:N or METRIC:max:N"):
        parse_best(text)
