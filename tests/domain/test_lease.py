"""A lease ends when it says, each renewal gives the full duration, and its holder stops committing before its end."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.domain.lease import Lease, correlated_silence
from strata_zmq.errors import InvalidArgumentError

TIMES = st.floats(0, 1e9)
DURATIONS = st.floats(0.1, 3600)


@given(now=TIMES, duration=DURATIONS)
def test_a_lease_lasts_its_duration_from_its_grant(now: float, duration: float) -> None:
    assert Lease.grant(now, duration).expires_at == now + duration


@given(now=TIMES, duration=DURATIONS, times=st.lists(TIMES, min_size=1))
def test_a_lease_ends_one_duration_after_its_latest_renewal_in_whatever_order_they_come(
    now: float, duration: float, times: list[float]
) -> None:
    lease = Lease.grant(now, duration)
    for time in times:
        lease = lease.renew(time)
    assert lease.expires_at == max(now, *times) + duration


@given(now=TIMES, duration=DURATIONS)
def test_its_holder_stops_committing_two_thirds_of_the_way(now: float, duration: float) -> None:
    lease = Lease.grant(now, duration)
    assert lease.commit_deadline == pytest.approx(now + duration * 2 / 3)
    assert lease.commit_deadline < lease.expires_at


@pytest.mark.parametrize("duration", [0.0, -1.0, math.inf, math.nan])
def test_a_lease_without_a_finite_duration_is_refused(duration: float) -> None:
    with pytest.raises(InvalidArgumentError, match="duration"):
        Lease.grant(0.0, duration)


SILENT, FRESH = 0.0, 9.0


@pytest.mark.parametrize(
    ("ends", "heard", "frozen"),
    [
        ([SILENT] * 3, 0, False),
        ([SILENT] * 4, 0, True),
        ([SILENT] * 3 + [FRESH], 0, True),
        ([SILENT] * 2 + [FRESH] * 2, 0, False),
        ([4.0] * 3 + [FRESH], 0, False),
        ([SILENT] + [4.0] * 2 + [FRESH], 0, True),
        ([SILENT] + [5.0] * 2 + [FRESH], 0, False),
        ([SILENT] * 5, 5, False),
        ([SILENT] * 6, 5, True),
        ([], 9, False),
    ],
)
def test_leases_freeze_when_one_would_end_and_most_of_four_or_more_are_past_their_middle(ends, heard, frozen) -> None:
    found = correlated_silence(0.0, ends, 10.0, heard=heard)
    assert (found is not None) is frozen
    if found is not None:
        silent = sum(end < 5.0 for end in ends)
        assert found.until == 10.0
        assert f"{silent} of {len(ends) + heard}" in found.reason
        assert "10 s" in found.reason
