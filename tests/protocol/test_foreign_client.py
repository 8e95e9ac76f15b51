"""Somebody who has read PROTOCOL.md, and has a ZeroMQ and a MessagePack library, can take part in a job."""

from __future__ import annotations

import hashlib
from typing import Any

import msgpack
import pytest
import zmq

from strata_zmq.domain.shuffle import sample_ids

MASK = 2**64 - 1
TIMEOUT_MS = 10_000


def mix(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def sample_id(position: int, total: int, seed: int, epoch: int) -> int:
    """The order of PROTOCOL.md, word by word."""
    state = mix(mix(seed & MASK) ^ epoch)
    keys = [mix((number + state) & MASK) for number in range(6)]
    bits = max(2, (total - 1).bit_length())
    low_bits, high_bits = bits // 2, bits - bits // 2

    def step(value: int) -> int:
        low, high = value % (1 << low_bits), value >> low_bits
        for number in range(6):
            if number % 2 == 0:
                low ^= mix(high ^ keys[number]) >> (64 - low_bits)
            else:
                high ^= mix(low ^ keys[number]) >> (64 - high_bits)
        return (high << low_bits) | low

    value = step(position)
    while value >= total:
        value = step(value)
    return value


def checksum(ids: list[int]) -> bytes:
    return (sum(map(mix, ids)) & MASK).to_bytes(8, "little")


class Foreigner:
    """A client with a DEALER, positions from the tables, and nothing else."""

    def __init__(self, dealer: zmq.Socket[bytes], endpoint: str) -> None:
        self.dealer = dealer
        self.dealer.setsockopt(zmq.IMMEDIATE, 1)
        self.dealer.connect(endpoint)
        self.term = self.generation = self.session = self.seq = 0
        self.answers: dict[int, list[Any]] = {}

    def say(self, tag: str, *fields: Any) -> int:
        self.seq += 1
        body = [tag, "", self.term, self.generation, self.session, self.seq, *fields]
        self.dealer.send(msgpack.packb(body))
        return self.seq

    def hear(self, seq: int) -> list[Any]:
        """Wait for the answer to a request; others that come meanwhile are kept."""
        while seq not in self.answers:
            assert self.dealer.poll(TIMEOUT_MS), f"no answer to request {seq}"
            (frame,) = self.dealer.recv_multipart()
            reply = msgpack.unpackb(frame)
            self.answers[reply[5]] = reply
        return self.answers.pop(seq)

    def ask(self, tag: str, *fields: Any) -> list[Any]:
        return self.hear(self.say(tag, *fields))

    def hello(self, role: str) -> list[Any]:
        self.session = 0
        welcome = self.ask("hello", 1, 1, [], role)
        assert welcome[0] == "welcome", welcome
        self.term, self.session = welcome[2], welcome[4]
        return welcome

    def join(self, name: str) -> None:
        self.hello("worker")
        assert self.ask("register_worker", name, f"{name}-life")[0] == "registered"

    def adopt(self, seq: int) -> list[Any]:
        membership = self.hear(seq)
        assert membership[0] == "membership", membership
        self.generation = membership[3]
        return membership


@pytest.mark.parametrize("total", [1, 2, 3, 95, 1000, 2**40 + 1])
def test_the_order_that_the_document_describes_is_the_one_that_workers_read(total: int) -> None:
    positions = sorted({0, total // 3, total // 2, total - 1})
    for seed, epoch in ((0, 0), (42, 7), (2**63 - 1, 2**40)):
        for position in positions:
            (mine,) = sample_ids(position, position + 1, total, shuffle=True, seed=seed, epoch=epoch).tolist()
            assert sample_id(position, total, seed, epoch) == mine


def test_a_client_of_another_language_takes_part_in_a_whole_epoch(start_coordinator, new_socket) -> None:
    coordinator = start_coordinator("--initial-workers", "2", "--job", "abroad")
    subscriber = new_socket(zmq.SUB)
    subscriber.setsockopt(zmq.SUBSCRIBE, b"")
    workers = [Foreigner(new_socket(zmq.DEALER), coordinator.control) for _ in range(2)]

    welcome = workers[0].hello("worker")
    assert (welcome[1], welcome[2], welcome[6]) == ("abroad", 1, 1)
    broadcast_endpoint, broadcast_seq, lease_s, heartbeat_s = welcome[8:12]
    subscriber.connect(broadcast_endpoint)
    assert subscriber.poll(TIMEOUT_MS)
    topic, body = subscriber.recv_multipart()
    assert topic == b"tick"
    assert msgpack.unpackb(body)[:5] == ["tick", "abroad", 1, 0, broadcast_seq]
    assert heartbeat_s * 2 <= lease_s

    for worker, name in zip(workers, ("alpha", "beta"), strict=True):
        worker.join(name)
    memberships = [worker.adopt(worker.say("await_generation", 0, 10.0)) for worker in workers]
    assert [one[6] for one in memberships] == [["alpha", "beta"]] * 2
    assert [one[7] for one in memberships] == [0, 1]
    assert workers[0].ask("heartbeat", "TRAINING", 5)[0] == "heartbeat_ack"

    assert workers[0].ask("register_dataset", "digits", 95, 10, True, 7)[6:] == ["digits", 10]
    owned = [worker.ask("get_shards", "digits") for worker in workers]
    assert sorted(owned[0][14] + owned[1][14]) == list(range(10))

    arrivals = [worker.say("arrive", "step", 1) for worker in workers]
    released = [worker.hear(seq) for worker, seq in zip(workers, arrivals, strict=True)]
    assert [(one[0], one[6], one[7], sorted(one[8])) for one in released] == [
        ("released", "step", 1, ["alpha", "beta"])
    ] * 2

    arrivals = []
    for worker, shards in zip(workers, owned, strict=True):
        ranges = []
        for shard in shards[14]:
            positions = range(shard * 10, min(shard * 10 + 10, 95))
            ids = [sample_id(position, 95, seed=7, epoch=0) for position in positions]
            ranges.append(["digits", 0, shard, 0, len(ids), checksum(ids)])
        arrivals.append(worker.say("arrive", "commit", 1, 0, 30.0, True, ranges))
    for worker, seq in zip(workers, arrivals, strict=True):
        released_commit = worker.hear(seq)
        assert (released_commit[0], released_commit[9], released_commit[10]) == ("released", 1, {"digits": 0})

    calls = [worker.say("advance_epoch", 0) for worker in workers]
    advanced = [worker.hear(seq) for worker, seq in zip(workers, calls, strict=True)]
    assert [(one[0], one[6]) for one in advanced] == [("epoch_advanced", 1)] * 2
    (certificate,) = workers[0].ask("get_status")[15]
    expected = sum(mix(number) for number in range(95)) & MASK
    assert (certificate["complete"], certificate["checksum"]) == (True, str(expected))

    heard = {}
    while {b"rebalance", b"epoch"} - heard.keys():
        assert subscriber.poll(TIMEOUT_MS), f"heard only {heard}"
        topic, body = subscriber.recv_multipart()
        heard[topic] = msgpack.unpackb(body)
    assert heard[b"rebalance"][:6] == ["rebalance", "abroad", 1, 1, broadcast_seq + 1, ["alpha", "beta"]]
    assert heard[b"epoch"] == ["epoch", "abroad", 1, 1, broadcast_seq + 2, 1]


def test_a_client_of_another_language_is_told_what_it_did_wrong(start_coordinator, new_socket) -> None:
    coordinator = start_coordinator()
    client = Foreigner(new_socket(zmq.DEALER), coordinator.control)
    code, message = client.ask("get_shards", "digits")[6:8]
    assert code == "unknown_session"
    assert "say hello" in message
    client.join("alpha")
    for request, code, word in (
        (("get_shards", "digits"), "not_found", "digits"),
        (("register_dataset", "digits", 0, 10), "invalid_argument", "total_samples"),
        (("arrive", "step", 1), "generation_changed", "generation"),
        (("advance_epoch", 9), "invalid_argument", "epoch 9"),
        (("heartbeat", 5), "protocol", "str"),
    ):
        reply = client.ask(*request)
        assert (reply[0], reply[6]) == ("error", code), reply
        assert word in reply[7]
    assert client.ask("heartbeat")[0] == "heartbeat_ack"


def test_a_client_of_another_language_finds_its_way_back_after_a_restart(start_coordinator, new_socket) -> None:
    coordinator = start_coordinator("--lease-s", "5")
    client = Foreigner(new_socket(zmq.DEALER), coordinator.control)
    client.join("alpha")
    client.adopt(client.say("await_generation", 0, 10.0))
    assert client.ask("arrive", "commit", 1, 0, 5.0, True)[9] == 1
    coordinator.kill()
    start_coordinator("--lease-s", "5")
    assert client.ask("heartbeat")[6] == "unknown_session"
    client.join("alpha")
    assert client.term == 2
    again = client.ask("arrive", "commit", 1, 0, 5.0, True)
    assert (again[0], again[3], again[8], again[9]) == ("released", 1, ["alpha"], 1)
    assert client.ask("deregister")[0] == "done"


def test_trailing_fields_may_be_left_out_or_added(start_coordinator, new_socket) -> None:
    coordinator = start_coordinator()
    client = Foreigner(new_socket(zmq.DEALER), coordinator.control)
    assert client.ask("hello")[0] == "welcome"
    client.hello("worker")
    heartbeat = ["heartbeat", "IDLE", 0, 0, 0, "", None, 0, None]
    assert client.ask(*heartbeat, "of a later", ["version"], {"": 1})[0] == "heartbeat_ack"


def digest(generation: int, epoch: int, formed: bool, members: list[str]) -> int:
    """The digest of PROTOCOL.md, word by word."""
    text = f"{generation}|{epoch}|{int(formed)}|{','.join(members)}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 2


class Follower:
    """Keeps the membership by broadcasts alone, and knows when it has missed one."""

    def __init__(self, view: list[Any]) -> None:
        self.generation, self.seq, self.epoch, self.formed = view[3], view[6], view[7], view[9]
        self.members = view[10]
        assert self.digest == view[12]

    @property
    def digest(self) -> int:
        return digest(self.generation, self.epoch, self.formed, self.members)

    def follow(self, message: list[Any]) -> bool:
        """Apply one broadcast; False if one before it was missed."""
        tag, seq = message[0], message[4]
        if seq <= self.seq:
            return tag != "tick" or seq < self.seq or message[5] == self.digest
        if tag == "tick" or seq > self.seq + 1:
            return False
        self.seq, self.generation = seq, message[3]
        if tag == "rebalance":
            joined, left, self.epoch, self.formed = message[6], message[7], message[10], message[11]
            self.members = [name for name in self.members if name not in left] + joined
            return message[13] == self.digest
        if tag == "epoch":
            self.epoch = message[5]
        return True


def test_a_follower_of_another_language_notices_a_gap_and_recovers_from_a_snapshot(
    start_coordinator, new_socket
) -> None:
    coordinator = start_coordinator()
    subscriber = new_socket(zmq.SUB)
    subscriber.setsockopt(zmq.SUBSCRIBE, b"")
    subscriber.connect(coordinator.broadcast)

    def hear() -> list[Any]:
        assert subscriber.poll(TIMEOUT_MS)
        return msgpack.unpackb(subscriber.recv_multipart()[1])

    hear()  # subscribed first; only then the snapshot
    watcher = Foreigner(new_socket(zmq.DEALER), coordinator.control)
    watcher.hello("client")
    follower = Follower(watcher.ask("get_view"))
    workers = [Foreigner(new_socket(zmq.DEALER), coordinator.control) for _ in range(3)]
    for number, worker in enumerate(workers):
        worker.join(f"w{number}")
        worker.adopt(worker.say("await_generation", worker.generation, 10.0))
    heard = []
    while not (heard and heard[-1][0] == "rebalance" and heard[-1][3] == workers[-1].generation):
        heard.append(hear())
    lost = [message for message in heard if message[0] == "rebalance"][-2]  # as if PUB had dropped it
    for message in heard:
        if message is not lost:
            assert follower.follow(message) == (message[4] < lost[4]), heard
    recovered = Follower(watcher.ask("get_view"))
    assert recovered.members == ["w0", "w1", "w2"]
    assert workers[0].ask("deregister")[0] == "done"
    while recovered.members == ["w0", "w1", "w2"]:
        assert recovered.follow(hear())
    assert recovered.members == ["w1", "w2"]
    tick = hear()
    while tick[0] != "tick":
        assert recovered.follow(tick)
        tick = hear()
    assert tick[5] == recovered.digest


def test_clients_of_another_language_agree_on_values_and_hear_who_was_late(start_coordinator, new_socket) -> None:
    coordinator = start_coordinator("--initial-workers", "2")
    workers = [Foreigner(new_socket(zmq.DEALER), coordinator.control) for _ in range(2)]
    for worker, name in zip(workers, ("alpha", "beta"), strict=True):
        worker.join(name)
    for worker in workers:
        worker.adopt(worker.say("await_generation", 0, 10.0))

    def arrive(worker: Foreigner, loss: float, stop: float) -> int:
        values = [["loss", "mean", loss], ["stop", "any", stop]]
        return worker.say("arrive", "vote", 1, 0, 10.0, False, [], "break", values)

    calls = [arrive(workers[0], 0.5, 0.0), arrive(workers[1], 0.25, 1.0)]
    for worker, call in zip(workers, calls, strict=True):
        released = worker.hear(call)
        assert released[11] == {"loss": 0.375, "stop": 1.0}
        assert released[13][0] == released[8][-1]  # the slowest is who came last
        assert 0 <= released[12][0] <= released[12][3]


def test_a_client_of_another_language_that_was_silent_too_long_is_fenced_and_joins_again(
    start_coordinator, new_socket
) -> None:
    coordinator = start_coordinator("--lease-s", "1", "--heartbeat-s", "0.25")
    client = Foreigner(new_socket(zmq.DEALER), coordinator.control)
    client.join("alpha")
    before = client.adopt(client.say("await_generation", 0, 10.0))[3]
    witness = Foreigner(new_socket(zmq.DEALER), coordinator.control)
    witness.hello("client")
    while any(row[0] == "alpha" for row in witness.ask("get_status")[9]):
        pass  # each question waits for its answer; the test's time limit ends a lease that never does
    assert client.ask("heartbeat")[6] == "fenced"
    assert client.ask("arrive", "step", 1)[6] == "fenced"
    assert client.ask("register_worker", "alpha", "alpha-life")[0] == "registered"
    assert client.ask("arrive", "step", 1)[6] in {"generation_changed", "stale_generation"}
    assert client.adopt(client.say("await_generation", before, 10.0))[3] > before
    assert client.ask("arrive", "step", 1)[0] == "released"
