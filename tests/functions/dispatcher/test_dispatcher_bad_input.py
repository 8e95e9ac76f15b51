"""Nothing that peers say can end a dispatcher: thousands of messages that are wrong in some place, from one seed."""

from __future__ import annotations

from contextlib import ExitStack
from random import Random
from typing import Any

import msgpack
import pytest
from functionkit.peers import BareClient
from functionkit.processes import DispatcherProcess

from strata_zmq.domain.task import CALL_IN_PAYLOAD
from strata_zmq.protocol import functions as wire

ID = bytes(16)
GOOD = [
    wire.Submit(1, wire.LimitsRow(), [wire.NewTask(ID, ID, b"x", [], "key")]),
    wire.Enlist("w", 2, "pull", "3.11", {"gpu": 2}, [wire.HeldTask(ID, 3, "running")]),
    wire.Turn(1, 1, [wire.OutcomeRow(ID, 1, "ok", b"x", 0.1)], [wire.TaskRef(ID, 1)], [wire.TaskRef(ID, 1)], 9, 9),
    wire.Attach(1, "c"),
    wire.Watch(1, [ID], 100.0, False),
    wire.Cancel(1, [ID], True),
    wire.ListTasks(1, ID, 1000, ""),
    wire.Fetch(1, [ID] * 100),
    wire.Seen(2**62),
    wire.RegisterFunction(1, ID, "n", [0]),
    wire.PutBlobs(1, [wire.Blob(ID, b"x")]),
    wire.WantBlobs(1, [ID]),
    wire.Retire(1, now=True),
    wire.Detach(),
]
ODD = [
    0,
    -1,
    2**62,
    2**64 - 1,
    b"",
    ID,
    bytes(99),
    "",
    "push",
    "commit",
    "x" * 300,
    float("nan"),
    float("inf"),
    -1.0,
    None,
]


def odd(random: Random, depth: int = 0) -> Any:
    if depth < 3 and random.random() < 0.4:
        return [odd(random, depth + 1) for _ in range(random.randrange(6))]
    return random.choice(ODD)


def wrong(random: Random) -> bytes:
    """A good message with other values in some places, or with another byte."""
    data = wire.encode_function(random.choice(GOOD))
    if random.random() < 0.2:
        place = random.randrange(len(data))
        return data[:place] + bytes([random.randrange(256)]) + data[place + 1 :]
    fields = msgpack.unpackb(data, strict_map_key=False)
    for _ in range(random.randrange(3)):
        if len(fields) > 1:
            fields[random.randrange(1, len(fields))] = odd(random)
    return bytes(msgpack.packb(fields))


@pytest.mark.parametrize("seed", [1, 2, 3, 100])
def test_a_dispatcher_survives_what_it_is_sent(dispatcher: DispatcherProcess, ending: ExitStack, seed: int) -> None:
    random = Random(seed)
    peers = [BareClient(dispatcher.endpoint) for _ in range(4)]
    for peer in peers:
        ending.callback(peer.close)
    for peer in peers[:2]:
        peer.attach()
    for number in range(4000):
        peer = random.choice(peers)
        peer.say_raw(wrong(random), *[bytes(random.choice([0, 9, 70_000]))] * random.choice([0, 0, 0, 1, 2]))
        if number % 50 == 0:
            while peer.socket.poll(0):
                peer.socket.recv_multipart()
    late = BareClient(dispatcher.endpoint)
    ending.callback(late.close)
    late.attach()
    assert late.counts().queued_bytes >= 0
    assert dispatcher.log.stat().st_size < 200_000, "no peer can fill the log"


def test_submissions_that_share_a_number_are_answered_one_by_one(
    dispatcher: DispatcherProcess, ending: ExitStack
) -> None:
    """However many of them come at once: each has its own refusals, at its own places."""
    client = BareClient(dispatcher.endpoint)
    ending.callback(client.close)
    client.attach()
    known, limits = wire.NewTask(b"k" * 16, CALL_IN_PAYLOAD, b"x", [], "key"), wire.LimitsRow()
    client.say(wire.Submit(1, limits, [known]))
    assert client.hear(wire.SubmittedReply).existing == []
    again = wire.NewTask(b"a" * 16, CALL_IN_PAYLOAD, b"x", [], "key")
    lacking = wire.NewTask(b"l" * 16, b"nobody's digest!", b"x")
    for _ in range(50):
        client.say(wire.Submit(7, limits, [again]))
        client.say(wire.Submit(7, limits, [lacking, again]))
        client.say(wire.Submit(7, limits, [lacking]))
    for _ in range(50):
        told = [client.hear(wire.SubmittedReply) for _ in range(3)]
        assert [[(one.index, one.task_id) for one in reply.existing] for reply in told] == [
            [(0, known.task_id)],
            [(1, known.task_id)],
            [],
        ]
        assert [[(one.index, one.code) for one in reply.refused] for reply in told] == [
            [],
            [(0, "missing_payload")],
            [(0, "missing_payload")],
        ]
