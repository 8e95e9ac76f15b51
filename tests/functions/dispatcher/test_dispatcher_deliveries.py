"""Ends of tasks reach their client whatever is lost, few messages at a time; blobs stay while they are somebody's."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from blake3 import blake3

from strata_zmq.coordinator.dispatcher.blobs import AWAY_S, Blobs
from strata_zmq.coordinator.dispatcher.deliveries import WINDOW, Deliveries
from strata_zmq.coordinator.dispatcher.rows import Rows
from strata_zmq.coordinator.dispatcher.stores import open_store
from strata_zmq.domain.task import Outcome, Task
from strata_zmq.errors import InvalidArgumentError, ResourceExhaustedError
from strata_zmq.functions.wire import ROWS_MAX, Buffer
from strata_zmq.protocol.functions import Results


def ended(number: int, body: bytes = b"r", client: str = "me") -> Task:
    task = Task(number.to_bytes(16, "big"), client, bytes(16), b"", 0)
    task.state, task.outcome = "COMPLETED", Outcome(task.task_id, 1, "ok", body)
    return task


class Way:
    def __init__(self) -> None:
        self.heard: list[Results] = []
        self.up = True

    def __call__(self, message: Results, frames: Sequence[Buffer]) -> bool:
        if self.up:
            self.heard.append(message)
        return self.up


@pytest.fixture
def deliveries() -> Deliveries:
    return Deliveries(Rows(open_store("none"), 0.0))


def test_only_so_many_messages_are_under_way(deliveries: Deliveries) -> None:
    way = Way()
    deliveries.add(ended(number) for number in range((WINDOW + 5) * ROWS_MAX))
    deliveries.flush(way, 0.0)
    assert [message.number for message in way.heard] == list(range(1, WINDOW + 1))
    assert len(deliveries.seen(2)) == 2 * ROWS_MAX
    deliveries.flush(way, 0.0)
    assert len(way.heard) == WINDOW + 2


def test_what_is_not_seen_comes_again_ever_more_slowly(deliveries: Deliveries) -> None:
    way = Way()
    deliveries.add([ended(1)])
    times = []
    deliveries.flush(way, 0.0)
    for tick in range(1, 200):
        before = len(way.heard)
        deliveries.send_again(way, tick / 4)
        if len(way.heard) > before:
            times.append(tick / 4)
    assert times == [2.0, 6.0, 14.0, 30.0]
    assert {message.number for message in way.heard} == {1}
    assert deliveries.seen(1) == [ended(1).task_id]
    assert len(deliveries) == 0


def test_a_new_connection_gets_what_others_submitted_and_the_core_brings_its_own(deliveries: Deliveries) -> None:
    way = Way()
    deliveries.add([ended(1, client="me"), ended(2, client="another")])
    deliveries.flush(way, 0.0)
    deliveries.begin_again("me")
    deliveries.flush(way, 1.0)
    assert [(message.number, len(message.rows)) for message in way.heard] == [(1, 2), (2, 1)]
    assert way.heard[-1].rows[0].task_id == ended(2).task_id


def test_a_result_without_its_body_is_what_was_asked_for_last(deliveries: Deliveries) -> None:
    way = Way()
    deliveries.wish([ended(1).task_id, ended(2).task_id], bodies=False)
    deliveries.wish([ended(2).task_id], bodies=True)
    deliveries.add([ended(1), ended(2)])
    deliveries.flush(way, 0.0)
    bodies = [row.outcome and row.outcome.body for row in way.heard[0].rows]
    assert bodies == [None, b"r"]


def test_who_cannot_be_reached_gets_it_later(deliveries: Deliveries) -> None:
    way = Way()
    way.up = False
    deliveries.add([ended(1)])
    deliveries.flush(way, 0.0)
    way.up = True
    deliveries.send_again(way, 2.0)
    assert [message.number for message in way.heard] == [1]


# ---- blobs ----------------------------------------------------------------------------------------------------------


def blob(text: str, size: int = 100) -> tuple[bytes, bytes]:
    payload = text.encode() * size
    return blake3(payload).digest(16), payload


def test_a_blob_stays_while_somebody_who_put_it_is_there_and_an_hour_longer() -> None:
    blobs = Blobs(open_store("none"), (), 10_000)
    digest, payload = blob("a")
    blobs.put("one", [(digest, payload)], 0.0)
    blobs.put("two", [(digest, payload)], 0.0)
    blobs.leave("one", 10.0)
    blobs.expire(10.0 + 2 * AWAY_S)
    assert blobs.get(digest) == payload
    blobs.leave("two", 20.0)
    blobs.expire(20.0 + AWAY_S - 1)
    assert blobs.get(digest) == payload
    blobs.expire(20.0 + AWAY_S)
    assert blobs.get(digest) is None


def test_without_room_those_go_first_whose_clients_have_gone_and_then_no_more_is_taken() -> None:
    blobs = Blobs(open_store("none"), (), 250)
    first, second, third, fourth = (blob(letter) for letter in "abcd")
    blobs.put("one", [first], 0.0)
    blobs.put("two", [second], 0.0)
    blobs.leave("one", 1.0)
    blobs.put("two", [third], 2.0)
    assert blobs.get(first[0]) is None
    assert blobs.get(second[0]) == second[1]
    with pytest.raises(ResourceExhaustedError, match="exceed the limit of 250"):
        blobs.put("two", [fourth], 3.0)


def test_a_client_that_comes_back_takes_its_blobs_over() -> None:
    blobs = Blobs(open_store("none"), (), 250)
    one = blob("a")
    blobs.put("one", [one], 0.0)
    blobs.leave("one", 1.0)
    blobs.put("one", [one], 2.0)
    blobs.expire(3 * AWAY_S)
    assert blobs.get(one[0]) == one[1]


def test_a_digest_is_checked() -> None:
    blobs = Blobs(open_store("none"), (), 250)
    with pytest.raises(InvalidArgumentError, match="digest"):
        blobs.put("one", [(bytes(16), b"x")], 0.0)
