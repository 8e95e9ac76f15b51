"""What a child was doing, had printed and had finished can be read by its parent, whenever the child died."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.functions.pool import blackbox, packets
from strata_zmq.functions.pool.blackbox import IDLE, LOADING, PACKING, RUNNING, BlackBox, BoxReader, Look


@pytest.fixture
def sides() -> Iterator[tuple[BlackBox, BoxReader]]:
    descriptor = blackbox.create()
    reader = BoxReader(descriptor)
    yield BlackBox(descriptor), reader
    reader.close()
    os.close(descriptor)


def test_a_call_is_seen_in_each_of_its_phases(sides: tuple[BlackBox, BoxReader]) -> None:
    box, reader = sides
    assert reader.look() == Look(0, IDLE, 0)
    box.loading(7)
    assert reader.look() == Look(7, LOADING, 0)
    box.running(7, 123)
    assert reader.look() == Look(7, RUNNING, 123)
    box.packing(7)
    assert reader.look() == Look(7, PACKING, 123)
    box.idle(7)
    assert reader.look() == Look(7, IDLE, 0)
    box.loading(8)
    assert reader.look() == Look(8, LOADING, 0), "the start of the call before is not this one's"


@given(st.lists(st.binary(max_size=3000), max_size=12))
def test_the_last_of_what_a_call_printed_is_kept(pieces: list[bytes]) -> None:
    descriptor = blackbox.create()
    box, reader = BlackBox(descriptor), BoxReader(descriptor)
    box.loading(1)
    for piece in pieces:
        box.printed(piece)
    printed = b"".join(pieces)
    assert reader.last_lines() == printed[-blackbox.TAIL_BYTES :].decode("utf-8", "replace")
    box.loading(2)
    assert reader.last_lines() == "", "one call's output is nobody else's"
    reader.close()
    os.close(descriptor)


def test_results_that_were_not_sent_are_there_whole_or_not_at_all(sides: tuple[BlackBox, BoxReader]) -> None:
    box, reader = sides
    assert reader.unsent() == b""
    results = [packets.Result(n, "ok", "", b"body", [], 5, True, b"") for n in (1, 2)]
    packet = packets.encode_results([results[0]])
    row = packet[2:]  # behind the letter and a short array's head
    at = blackbox.RESULTS_PREFIX_BYTES
    box.outbox[at : at + len(row)] = row
    assert reader.unsent() == b"", "it does not count before the fill says so"
    box.fill(at + len(row), 1)
    assert packets.decode_answer(reader.unsent()) == results[:1]
    box.fill(0, 0)
    assert reader.unsent() == b""


def test_an_outbox_holds_what_a_packet_holds() -> None:
    assert blackbox.OUTBOX_BYTES == packets.PACKET_BYTES_MAX
    assert packets.decode_answer(blackbox.results_prefix(0)) == []
