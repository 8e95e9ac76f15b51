"""Requests are counted by kind with how long their turn took, and turns that deal shards apart from the others."""

from __future__ import annotations

import pytest

from strata_zmq.coordinator.core import records
from strata_zmq.coordinator.core.world import Received
from strata_zmq.coordinator.sight_meter import Meter, deals_shards
from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.sight_rows import REQUEST_BOUNDS_S


def test_every_request_of_a_turn_counts_under_its_kind_with_the_turns_length() -> None:
    meter = Meter()
    heartbeats = [Received(b"a", wire.Heartbeat())] * 3
    asked = [Received(b"b", wire.GetStatus()), Received(b"c", wire.GetView())]
    meter.note([*heartbeats[:2], *asked, heartbeats[2]], 0.0025, assigned=False)
    meter.note([heartbeats[0]], 2.0, assigned=True)
    rows = {(row.name, row.label): row for row in meter.rows()}
    assert {key: row.count for key, row in rows.items()} == {
        ("request", "heartbeat"): 4,
        ("request", "get_status"): 1,
        ("request", "get_view"): 1,
        ("assignment", ""): 1,
    }
    heartbeat = rows["request", "heartbeat"]
    assert heartbeat.sum_s == pytest.approx(3 * 0.0025 + 2.0)
    assert len(heartbeat.buckets) == len(REQUEST_BOUNDS_S) + 1
    assert (heartbeat.buckets[3], heartbeat.buckets[-1]) == (3, 1), "up to 3 ms, and beyond a second"


def test_a_value_at_a_bound_counts_below_it() -> None:
    meter = Meter()
    meter.note([Received(b"a", wire.Heartbeat())], REQUEST_BOUNDS_S[2], assigned=False)
    row, _ = meter.rows()
    assert row.buckets[2] == 1


def test_a_change_of_the_membership_deals_shards_and_a_command_does_not() -> None:
    assert deals_shards([records.GenerationChanged(generation=2, joined=[], left=["w0"])])
    assert not deals_shards([records.CommandIssued(command="stop", workers=[], reason="")])
    assert not deals_shards([])
