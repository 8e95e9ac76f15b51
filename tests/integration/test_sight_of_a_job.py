"""A real coordinator and workers on real sockets: whoever subscribes and asks once sees the job move, and workers do
not hear of it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq
from processkit.coordinator import Coordinator
from processkit.patience import until

from strata_zmq.coordinator.api.state.picture import Gap, Picture
from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.sight import SIGHT_TOPIC, decode_delta
from strata_zmq.workers.client import CoordinatorClient
from strata_zmq.workers.connection import TOPICS
from strata_zmq.workers.simulated.fleet import Fleet
from strata_zmq.workers.simulated.plan import FleetPlan

WORKERS = 5


@contextmanager
def serving() -> Iterator[Coordinator]:
    folder = Path(tempfile.mkdtemp(prefix="st-"))  # short: a socket's path has 107 bytes at most
    one = Coordinator(folder, "--initial-workers", str(WORKERS), "--heartbeat-s", "0.2", "--lease-s", "3")
    try:
        yield one.start()
    finally:
        one.stop()
        shutil.rmtree(folder)


def fleet_of(coordinator: Coordinator) -> Fleet:
    plan = FleetPlan(workers=WORKERS, step_s=0.05, batch_size=4, total_samples=100_000, shard_size=100)
    return Fleet(plan, coordinator.url)


@pytest.fixture(scope="module")
def coordinator() -> Iterator[Coordinator]:
    with serving() as one:
        yield one


@contextmanager
def subscribed(coordinator: Coordinator, *topics: bytes) -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        for topic in topics:
            socket.setsockopt(zmq.SUBSCRIBE, topic)
        socket.connect(coordinator.broadcast_url)
        yield socket


class Onlooker:
    """A socket and a client that follow a coordinator as the API does."""

    def __init__(self, client: CoordinatorClient, socket: zmq.Socket[bytes]) -> None:
        self.picture = Picture()
        self._client, self._socket = client, socket
        self.begin()

    def begin(self) -> None:
        sight = self._client.request(wire.GetSight())
        self.picture.begin(sight.life, sight.number, sight.at, sight.state)

    def follow(self) -> None:
        while self._socket.poll(0):
            topic, body = self._socket.recv_multipart()
            assert topic == SIGHT_TOPIC
            try:
                self.picture.follow(decode_delta(body))
            except Gap:
                self.begin()


def test_who_subscribes_and_asks_once_sees_the_job_move(coordinator) -> None:
    with (
        fleet_of(coordinator) as fleet,
        subscribed(coordinator, SIGHT_TOPIC) as socket,
        CoordinatorClient(coordinator.url).connect() as client,
    ):
        onlooker = Onlooker(client, socket)

        def shows(what: Callable[[Picture], object]) -> None:
            def seen() -> object:
                fleet.turn(0.05)
                onlooker.follow()
                return what(onlooker.picture)

            until(seen)

        shows(lambda picture: len(picture.tables["workers"]) == WORKERS and picture.job.formed)
        shows(lambda picture: picture.job.commit_index >= 3 and len(picture.logs["releases"]) >= 3)
        shows(lambda picture: all(row.step for row in picture.tables["workers"].values()))
        shows(lambda picture: picture.job.committed_samples >= 12)
        shows(lambda picture: "request/heartbeat" in picture.tables["histograms"])
        histograms = onlooker.picture.tables["histograms"]
        assert histograms["request/heartbeat"].count > 0
        assert 0.0 < histograms["request/heartbeat"].sum_s / histograms["request/heartbeat"].count < 1.0
        assert histograms["assignment/"].count >= 1
        assert histograms["barrier/"].count >= 3
        row = onlooker.picture.tables["datasets"]["simulated"]
        assert sum(count for _, count in row.shards_by_worker) == row.shards == 1000
        assert onlooker.picture.tables["settings"]["lease_s"].value == "3.0"
        assert {"term_started", "generation", "dataset_added"} <= {one.kind for one in onlooker.picture.logs["events"]}


def test_workers_hear_the_broadcasts_and_nothing_of_what_people_are_shown(coordinator) -> None:
    with (
        fleet_of(coordinator) as fleet,
        subscribed(coordinator, *TOPICS) as as_worker,
        subscribed(coordinator, SIGHT_TOPIC) as as_onlooker,
        CoordinatorClient(coordinator.url).connect() as client,
    ):
        client.request(wire.GetSight(renew=True))
        shown: list[bytes] = []
        heard: list[bytes] = []

        def both() -> bool:
            fleet.turn(0.05)
            for socket, topics in ((as_onlooker, shown), (as_worker, heard)):
                while socket.poll(0):
                    topics.append(socket.recv_multipart()[0])
            return len(shown) >= 4 and len(heard) >= 2

        until(both)
    assert set(shown) == {SIGHT_TOPIC}
    assert set(heard) <= set(TOPICS)


def test_a_coordinator_that_is_killed_and_started_again_is_seen_as_another_life() -> None:
    with (
        serving() as coordinator,
        fleet_of(coordinator) as fleet,
        subscribed(coordinator, SIGHT_TOPIC) as socket,
        CoordinatorClient(coordinator.url).connect() as client,
    ):
        onlooker = Onlooker(client, socket)
        life, term = onlooker.picture.life, onlooker.picture.job.term
        coordinator.restart()
        # It shows nothing to anybody until somebody asks.
        client.request(wire.GetSight(renew=True))

        def another() -> bool:
            fleet.turn(0.05)
            onlooker.follow()
            return onlooker.picture.life != life and len(onlooker.picture.tables["workers"]) == WORKERS

        until(another)
        assert onlooker.picture.job.term == term + 1
