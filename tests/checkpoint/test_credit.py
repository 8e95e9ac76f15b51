"""Credits bound what a receiver holds, and no lost, repeated or late grant breaks a stream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.domain.credit import CreditGrantor, CreditWindow
from strata_zmq.errors import InvalidArgumentError, ProtocolError


def test_a_sender_spends_what_was_granted_and_no_more() -> None:
    window = CreditWindow()
    assert not window.spend(1)
    assert window.raise_to(100)
    assert window.spend(60)
    assert not window.spend(41)
    assert window.available_bytes == 40


@given(st.permutations([10, 20, 30, 30, 50]))
def test_grants_in_any_order_and_number_end_at_the_largest(totals: list[int]) -> None:
    window = CreditWindow()
    for total in totals:
        window.raise_to(total)
    assert window.available_bytes == 50


@given(st.lists(st.tuples(st.sampled_from(["open", "close", "send", "durable"]), st.sampled_from("abc")), max_size=60))
def test_whatever_happens_the_receiver_never_holds_more_than_its_limit(moves: list[tuple[str, str]]) -> None:
    """Senders that obey never break the rule, the limit holds at every moment, and room is given out again."""
    grantor = CreditGrantor(limit_bytes=100, window_bytes=60)
    windows: dict[str, CreditWindow] = {}
    held: dict[str, int] = {}
    for move, name in moves:
        risen: dict[str, int] = {}
        if move == "open":
            windows[name], held[name] = CreditWindow(), 0
            windows[name].raise_to(grantor.open(name))
        elif name not in windows:
            continue
        elif move == "close":
            del windows[name], held[name]
            risen = grantor.close(name)
        elif move == "send":
            amount = windows[name].available_bytes // 2 + windows[name].available_bytes % 2
            assert windows[name].spend(amount)
            grantor.receive(name, amount)
            held[name] += amount
        else:
            risen, held[name] = grantor.release(name, held[name]), 0
        for other, total in risen.items():
            assert windows[other].raise_to(total)
        assert sum(held.values()) <= grantor.outstanding_bytes <= 100
        if windows and not any(held.values()):
            assert any(window.available_bytes for window in windows.values()), "everybody waits for ever"


def test_bytes_without_credit_or_stream_are_refused() -> None:
    grantor = CreditGrantor(limit_bytes=100, window_bytes=60)
    with pytest.raises(ProtocolError, match="unknown stream a: say hello first"):
        grantor.receive("a", 1)
    assert grantor.open("a") == 60
    grantor.receive("a", 60)
    with pytest.raises(ProtocolError, match="exceed its credit of 0 bytes"):
        grantor.receive("a", 1)


def test_a_stream_that_came_too_late_is_served_when_room_is_free() -> None:
    grantor = CreditGrantor(limit_bytes=100, window_bytes=100)
    assert grantor.open("early") == 100
    assert grantor.open("late") == 0
    grantor.receive("early", 100)
    risen = grantor.release("early", 40)
    assert risen["late"] == 40


@pytest.mark.parametrize(("limit", "window"), [(0, 0), (10, 0), (10, 11)])
def test_a_window_outside_the_limit_is_refused(limit: int, window: int) -> None:
    with pytest.raises(InvalidArgumentError, match="window_bytes"):
        CreditGrantor(limit_bytes=limit, window_bytes=window)
