"""What the API process knows of a core is a snapshot and the deltas behind it, or it says that it has a gap."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.coordinator.api.state.picture import Gap, Picture
from strata_zmq.protocol.sight import KEYS, Changes, SightDelta, decode_delta, key_of
from strata_zmq.protocol.sight_rows import EventSight, HangSight, SettingSight


def setting(name: str, value: str) -> SettingSight:
    return SettingSight(name=name, value=value, source="option")


def delta(number: int, life: str = "a", **changes: Any) -> SightDelta:
    return SightDelta(life=life, number=number, at=float(number), changes=Changes(**changes))


def values(picture: Picture) -> dict[str, str]:
    return {key: row.value for key, row in picture.tables["settings"].items()}


CHANGE = st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from(["", "1", "2"])), max_size=4)


@given(st.lists(CHANGE, max_size=12), st.integers(0, 11))
def test_whoever_begins_anew_in_the_middle_sees_what_one_sees_who_has_followed_from_the_start(
    changes: list[list[tuple[str, str]]], middle: int
) -> None:
    truth: dict[str, str] = {}
    followed, late = Picture(), Picture()
    followed.begin("a", 0, 0.0, Changes())
    for number, change in enumerate(changes, start=1):
        wanted = dict(change)
        gone = [key for key, value in wanted.items() if not value]
        rows = [setting(key, value) for key, value in wanted.items() if value]
        truth = {key: value for key, value in (truth | wanted).items() if value}
        said = delta(number, settings=rows, gone={"settings": gone} if gone else {})
        touched = followed.follow(said)
        assert touched.get("settings", set()) <= set(wanted)
        if late.life:
            late.follow(said)
        if number == middle:
            late.begin("a", number, 1.0, Changes(settings=list(followed.tables["settings"].values())))
    assert values(followed) == truth
    if late.life:
        assert values(late) == truth


def test_a_missed_delta_or_another_life_is_a_gap_and_changes_nothing() -> None:
    picture = Picture()
    picture.begin("a", 4, 1.0, Changes(settings=[setting("x", "1")]))
    for wrong in (delta(6, settings=[setting("x", "2")]), delta(5, life="b", settings=[setting("x", "2")])):
        with pytest.raises(Gap, match="ask for a snapshot"):
            picture.follow(wrong)
        assert (values(picture), picture.number) == ({"x": "1"}, 4)


def test_a_delta_that_the_snapshot_includes_changes_nothing() -> None:
    picture = Picture()
    picture.begin("a", 4, 1.0, Changes(settings=[setting("x", "new")]))
    assert picture.follow(delta(3, settings=[setting("x", "old")])) == {}
    assert (values(picture), picture.number) == ({"x": "new"}, 4)


def test_a_new_snapshot_says_what_it_has_taken_away() -> None:
    picture = Picture()
    picture.begin("a", 4, 1.0, Changes(settings=[setting("x", "1")]))
    touched = picture.begin("b", 0, 2.0, Changes(settings=[setting("y", "1")]))
    assert touched["settings"] == {"x", "y"}
    assert values(picture) == {"y": "1"}


def test_events_are_kept_in_their_order_and_the_oldest_go_first() -> None:
    picture = Picture()
    picture.begin("a", 0, 0.0, Changes())
    for number in range(1, 2001):
        event = EventSight(number=number, at=0.0, kind="joined", level="info", text="")
        picture.follow(delta(number, events=[event]))
    kept = [event.number for event in picture.logs["events"]]
    assert kept == list(range(2001 - len(kept), 2001))
    assert 0 < len(kept) < 2000


def test_every_table_of_a_delta_has_a_key_or_is_a_log() -> None:
    fields = set(Changes.__struct_fields__) - {"job", "functions", "gone"}
    assert fields == set(KEYS) | {"releases", "events"}
    row = HangSight(worker_id="w", rank=0, where="", since=0.0, found_at=0.0, waiter_count=0, waiters=[])
    assert key_of("hangs", row) == "w"


def test_a_delta_reads_as_it_was_written() -> None:
    said = delta(3, settings=[setting("x", "1")], gone={"workers": ["w0"]})
    assert decode_delta(msgspec.msgpack.encode(said)) == said
