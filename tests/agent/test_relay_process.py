"""A host's relay between real workers and a real coordinator: folded while it lives, gone without loss when it dies."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import zmq

from strata_zmq.domain.shuffle import dataset_checksum
from strata_zmq.errors import UnknownSessionError
from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.codec import decode_reply, encode
from strata_zmq.transport.sockets import REPLIES, connect, open_socket
from strata_zmq.workers.agent.relay import CHILD_BYTES_MAX
from strata_zmq.workers.agent.server import Relays, RelayServer
from strata_zmq.workers.session import WorkerIdentity, WorkerSession

TOTAL = 1000
LEASE = ("--lease-s", "30", "--heartbeat-s", "0.5")


@contextmanager
def team(bus: Any, count: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[WorkerSession]]:
    """Workers of one host that have adopted one generation."""
    monkeypatch.setenv("COORDINATOR_URL", bus.url)
    monkeypatch.setenv("STRATA_AGENT_URL", bus.agent_url())
    sessions = [WorkerSession(WorkerIdentity(worker_id=f"w{number}")) for number in range(count)]
    try:
        for session in sessions:
            session.connect(20)
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(lambda session: session.join(20), sessions))
        yield sessions
    finally:
        for session in sessions:
            session.close()


@contextmanager
def arriving(sessions: list[WorkerSession], name: str, step: int) -> Iterator[list[Future[Any]]]:
    """Have these arrive, each on a thread of its own."""
    with ThreadPoolExecutor(len(sessions)) as pool:
        yield [pool.submit(session.barrier, name, step, timeout_s=30) for session in sessions]


def test_workers_behind_a_relay_are_workers_like_others(start_bus, monkeypatch, eventually) -> None:
    bus = start_bus("--initial-workers", "4", *LEASE)
    bus.start_relay()
    with team(bus, 4, monkeypatch) as sessions:
        assert {session.client.endpoint for session in sessions} == {bus.agent_url()}
        for step in range(20):
            with arriving(sessions, "step", step) as arrivals:
                releases = [arrival.result() for arrival in arrivals]
            assert len({tuple(release.participants) for release in releases}) == 1
            assert sorted(releases[0].participants) == ["w0", "w1", "w2", "w3"]
        sessions[0].register_dataset("data", 100, 10)
        assert sum(len(session.get_shards("data").shards) for session in sessions) == 10
        heard = {row.worker_id: row.heard_s for row in bus.status().workers}
        eventually(lambda: {row.worker_id: row.heard_s for row in bus.status().workers} != heard)
        assert bus.status().generation == 1


def test_a_relay_killed_in_the_middle_of_a_barrier_delays_it_and_nothing_else(
    start_bus, monkeypatch, eventually
) -> None:
    bus = start_bus("--initial-workers", "4", *LEASE)
    relay = bus.start_relay()
    with team(bus, 4, monkeypatch) as sessions:
        with arriving(sessions[:3], "step", 1) as arrivals:
            eventually(lambda: [barrier["arrived"] for barrier in bus.status().barriers] == [3])
            relay.kill()
            began = time.monotonic()
            last = sessions[3].barrier("step", 1, timeout_s=30)
            assert [arrival.result().participants for arrival in arrivals] == [last.participants] * 3
        assert time.monotonic() - began < 10
        assert sorted(last.participants) == ["w0", "w1", "w2", "w3"]
        assert {session.client.endpoint for session in sessions} == {bus.url}
        status = bus.status()
        assert status.generation == 1, "nobody was lost"
        assert len(status.workers) == 4


def test_workers_return_to_a_relay_that_is_there_again(start_bus, monkeypatch, eventually) -> None:
    bus = start_bus("--initial-workers", "2", *LEASE)
    bus.start_relay().kill()
    with team(bus, 2, monkeypatch) as sessions:
        assert {session.client.endpoint for session in sessions} == {bus.url}
        bus.start_relay()
        eventually(lambda: {session.client.endpoint for session in sessions} == {bus.agent_url()}, 30)
        with arriving(sessions, "step", 1) as arrivals:
            assert all(len(arrival.result().participants) == 2 for arrival in arrivals)
        assert bus.status().generation == 1


def test_training_goes_through_the_death_and_return_of_its_relay_and_sees_every_sample_once(
    start_bus, start_trainer, eventually
) -> None:
    bus = start_bus("--initial-workers", "3", *LEASE)
    relay = bus.start_relay()
    trainers = [
        start_trainer(bus, f"worker-{number}", total=TOTAL, batch_size=8, epochs=2, hold_trained={"half": 10})
        for number in range(3)
    ]
    for trainer in trainers[:2]:
        eventually(lambda trainer=trainer: trainer.events("holding"), 40)
        trainer.go("half")
    eventually(lambda: trainers[2].events("holding"), 40)
    relay.kill()
    trainers[2].go("half")
    eventually(lambda: all(len(trainer.events("batch")) > 12 for trainer in trainers), 40)
    bus.start_relay()
    for trainer in trainers:
        trainer.finish()
        assert [event["model"] for event in trainer.events("epoch")] == [
            dataset_checksum(TOTAL),
            2 * dataset_checksum(TOTAL) % 2**64,
        ]
    status = bus.status()
    assert [(entry["complete"], entry["checksum"]) for entry in status.certificates] == [
        (True, str(dataset_checksum(TOTAL)))
    ] * 2
    assert {event["generation"] for trainer in trainers for event in trainer.events("batch")} == {1}


def test_a_coordinator_restarted_behind_a_relay_finds_the_same_workers(start_bus, monkeypatch, eventually) -> None:
    bus = start_bus("--initial-workers", "3", *LEASE)
    bus.start_relay()
    with team(bus, 3, monkeypatch) as sessions:
        with arriving(sessions[:2], "step", 1) as arrivals:
            eventually(lambda: bus.status().barriers)
            bus.restart()
            last = sessions[2].barrier("step", 1, timeout_s=30)
            assert {tuple(arrival.result().participants) for arrival in arrivals} == {tuple(last.participants)}
        assert bus.status().term == 2
        assert bus.status().generation == 1


def test_a_coordinator_that_was_stopped_for_a_while_finds_everybody_as_they_were(
    start_bus, monkeypatch, eventually
) -> None:
    """The relay tries a new connection meanwhile; what was said on the old one was said by the same processes."""
    bus = start_bus("--initial-workers", "2", *LEASE)
    relay = bus.start_relay()
    with team(bus, 2, monkeypatch) as sessions:
        with arriving(sessions[:1], "step", 1) as arrivals:
            eventually(lambda: bus.status().barriers)
            bus.signal(signal.SIGSTOP)
            eventually(lambda: "does not answer: trying new connections" in relay.log.read_text())
            bus.signal(signal.SIGCONT)
            last = sessions[1].barrier("step", 1, timeout_s=30)
            assert arrivals[0].result().participants == last.participants
        eventually(lambda: {session.client.endpoint for session in sessions} == {bus.agent_url()}, 60)
        with arriving(sessions, "step", 2) as arrivals:
            assert all(len(arrival.result().participants) == 2 for arrival in arrivals)
        assert bus.status().generation == 1


# ---- one relay in this process, children that are bare sockets


@pytest.fixture
def bus(start_bus) -> Any:
    """A coordinator that may be silent for long before its relay minds."""
    return start_bus("--lease-s", "120", "--heartbeat-s", "20")


@pytest.fixture
def wire_to(bus, run_dir) -> Iterator[Callable[..., Any]]:
    """A relay served by a thread of this process; `wire_to()` gives a bare DEALER connected to it."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    relays = Relays()
    relays.add(RelayServer(context, f"ipc://{run_dir}/here", bus.url))
    thread = threading.Thread(target=relays.serve)
    thread.start()
    sockets = []

    def dial() -> zmq.Socket[bytes]:
        socket = open_socket(context, zmq.DEALER, REPLIES)
        socket.setsockopt(zmq.RCVTIMEO, 10_000)
        socket.setsockopt(zmq.SNDTIMEO, 10_000)
        connect(socket, relays.endpoints[0])
        sockets.append(socket)
        return socket

    yield dial
    for socket in sockets:
        socket.close()
    relays.stop()
    thread.join(10)
    relays.close()
    context.term()


def test_a_child_is_answered_whatever_it_says(wire_to) -> None:
    dealer = wire_to()
    for said in (b"", b"\xc1", encode(wire.GetStatus(seq=4))):
        dealer.send(said)
        reply = decode_reply(dealer.recv())
        assert isinstance(reply, wire.ErrorReply)
    assert reply.code == UnknownSessionError.code
    assert reply.seq == 4


def test_a_request_of_several_frames_is_dropped_and_the_next_one_answered(wire_to) -> None:
    dealer = wire_to()
    dealer.send_multipart([b"one", b"two", b"three"])
    dealer.send(encode(wire.Hello(seq=1)))
    assert isinstance(decode_reply(dealer.recv()), wire.Welcome)


def test_the_longest_request_goes_through_and_a_longer_one_ends_the_connection(wire_to) -> None:
    dealer = wire_to()
    dealer.send(b"." * CHILD_BYTES_MAX)
    assert isinstance(decode_reply(dealer.recv()), wire.ErrorReply)
    dealer.send(b"." * (CHILD_BYTES_MAX + 1))
    dealer.setsockopt(zmq.RCVTIMEO, 300)
    with pytest.raises(zmq.Again):
        dealer.recv()


def test_a_child_that_is_gone_when_its_answer_comes_disturbs_nobody(wire_to) -> None:
    leaver, stayer = wire_to(), wire_to()
    for _ in range(20):
        leaver.send(encode(wire.Hello(seq=1)))
    leaver.close()
    stayer.send(encode(wire.Hello(seq=1)))
    assert isinstance(decode_reply(stayer.recv()), wire.Welcome)


def test_more_than_a_relay_may_hold_waits_in_front_of_it_and_all_of_it_is_answered(bus, wire_to) -> None:
    dealer = wire_to()
    dealer.send(encode(wire.Hello(seq=1)))
    welcome = decode_reply(dealer.recv())
    bus.signal(signal.SIGSTOP)
    path = "." * 8000
    for number in range(4000):
        request = wire.RegisterDataset(
            session=welcome.session, seq=number + 2, dataset_id="d", total_samples=10, shard_size=1, path=path
        )
        try:
            dealer.send(encode(request), zmq.DONTWAIT)
        except zmq.Again:
            break
    else:
        number = 4000
    bus.signal(signal.SIGCONT)
    answered = {decode_reply(dealer.recv()).seq for _ in range(number)}
    assert answered == set(range(2, number + 2))


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--job", "another"), 2, "'another' is not served here"),
        (("--listen", "ipc://relative"), 2, "--listen"),
        (("--listen", "tcp://0.0.0.0:0"), 2, "without keys"),
        (("--unknown",), 2, "--unknown"),
        (("--ready-fd", "700"), 2, "--ready-fd 700"),
    ],
)
def test_what_a_relay_cannot_serve_with_is_one_line(bus, run_dir, arguments, code, told) -> None:
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "strata_zmq.workers", "relay", "--coordinator-url", bus.url),
            *("--listen", f"ipc://{run_dir}/there", *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == code, ended.stderr
    assert told in ended.stderr
    assert ended.stderr.count("\n") == 1
