"""A real coordinator is followed: what it shows is there within a moment, and whatever happens between, again."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zmq
from processkit.coordinator import Coordinator
from processkit.patience import until
from sightkit import functions

from strata_zmq.coordinator.api.state import core_feed
from strata_zmq.coordinator.api.state.core_feed import CoordinatorFeed, DispatcherFeed
from strata_zmq.coordinator.api.state.picture import Touched
from strata_zmq.protocol.function_clients import Attach, AttachedReply, Complaint
from strata_zmq.protocol.messages import RegisterDataset
from strata_zmq.protocol.sight import Changes, GetFunctionsSight, ShownFunctions, SightDelta
from strata_zmq.workers.client import CoordinatorClient

AT_CLIENT = msgspec.msgpack.Decoder(AttachedReply | ShownFunctions | Complaint)
AT_DISPATCHER = msgspec.msgpack.Decoder(Attach | GetFunctionsSight)


class Follower:
    """A feed that runs in a thread of its own, and what it has told."""

    def __init__(self, feed: CoordinatorFeed | DispatcherFeed) -> None:
        self.feed = feed
        self.told: list[Touched] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="follower")
        self._thread.start()

    @property
    def datasets(self) -> set[str]:
        return set(self.feed.picture.tables["datasets"])

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(10)
        assert not self._thread.is_alive(), "a feed ends when it is cancelled"

    def _run(self) -> None:
        self._task = self._loop.create_task(self.feed.run(self.told.append))
        with pytest.raises(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)
        self._loop.close()


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coordinator]:
    running = Coordinator(tmp_path_factory.mktemp("coordinator")).start()
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def follower(coordinator: Coordinator) -> Iterator[Follower]:
    follower = Follower(CoordinatorFeed(coordinator.url))
    try:
        yield follower
    finally:
        follower.close()


def register(coordinator: Coordinator, dataset_id: str) -> None:
    with CoordinatorClient(coordinator.url).connect() as client:
        client.request(RegisterDataset(dataset_id=dataset_id, total_samples=100, shard_size=10))


def test_what_happens_is_shown_and_told_and_a_quiet_core_stays_connected(
    coordinator: Coordinator, follower: Follower
) -> None:
    until(lambda: follower.feed.connected, 10, "it is heard")
    register(coordinator, "seen")
    until(lambda: "seen" in follower.datasets, 10, "the dataset is shown")
    assert any("seen" in told.get("datasets", ()) for told in follower.told)
    number = follower.feed.picture.number
    until(lambda: follower.feed.picture.number >= number + 3, 15, "silence is broken once a second")
    assert follower.feed.connected


def test_a_missing_delta_is_mended_by_a_snapshot(coordinator: Coordinator, follower: Follower) -> None:
    until(lambda: follower.feed.connected, 10, "it is heard")
    register(coordinator, "before")
    until(lambda: "before" in follower.datasets, 10, "the dataset is shown")
    gaps = follower.feed.gaps
    follower.feed.picture.tables["datasets"].clear()  # as if what told of it had never come
    follower.feed.picture.number -= 1
    until(lambda: "before" in follower.datasets, 10, "it is shown again")
    assert follower.feed.gaps == gaps + 1


def test_a_frozen_coordinator_is_gone_since_it_was_heard_and_is_followed_again_when_it_goes_on(
    coordinator: Coordinator, follower: Follower
) -> None:
    until(lambda: follower.feed.connected, 10, "it is heard")
    coordinator.process.send_signal(signal.SIGSTOP)
    try:
        until(lambda: not follower.feed.connected, 10, "it is noticed")
        heard = follower.feed.heard_at
        assert follower.feed.picture.job is not None, "its last state is kept"
    finally:
        coordinator.process.send_signal(signal.SIGCONT)
    until(lambda: follower.feed.connected, 15, "it is followed again")
    assert follower.feed.heard_at > heard


def test_a_killed_coordinators_next_life_is_followed_by_itself(tmp_path: Path) -> None:
    coordinator = Coordinator(tmp_path).start()
    follower = Follower(CoordinatorFeed(coordinator.url))
    try:
        until(lambda: follower.feed.connected, 10, "it is heard")
        register(coordinator, "journalled")
        until(lambda: "journalled" in follower.datasets, 10, "the dataset is shown")
        life, term = follower.feed.picture.life, follower.feed.picture.job.term
        coordinator.restart()
        until(lambda: follower.feed.picture.life not in ("", life), 15, "its next life is followed")
        until(lambda: follower.feed.connected, 10, "it is heard")
        assert follower.feed.picture.job.term == term + 1
        assert "journalled" in follower.datasets
    finally:
        follower.close()
        coordinator.stop()


def test_nobody_at_an_address_is_waited_for_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    follower = Follower(CoordinatorFeed(f"ipc://{tmp_path}/nobody"))
    try:
        until(lambda: "nobody answers there" in caplog.text, 10, "it is said")
        assert (follower.feed.connected, follower.feed.heard_at, follower.told) == (False, 0.0, [])
        served = Coordinator(tmp_path, control=f"ipc://{tmp_path}/nobody").start()
        try:
            until(lambda: follower.feed.connected, 15, "whoever comes late is followed")
        finally:
            served.stop()
    finally:
        follower.close()
    assert caplog.text.count("nobody answers there") == 1


class BareDispatcher:
    """A dispatcher that only shows itself. `asked` is what it was sent; with `forgets` it knows nobody."""

    def __init__(self, folder: Path) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._router, self._pub = self._context.socket(zmq.ROUTER), self._context.socket(zmq.PUB)
        self.url, self.sight = f"ipc://{folder}/dispatcher", f"ipc://{folder}/dispatcher.sight"
        self._router.bind(self.url)
        self._pub.bind(self.sight)
        self.asked: list[Attach | GetFunctionsSight] = []
        self.queued = 0
        self.forgets = self._ends = False
        self._thread = threading.Thread(target=self._serve, name="bare dispatcher")
        self._thread.start()

    def tell(self) -> None:
        """Send the next delta."""
        self.queued += 1
        changes = Changes(functions=functions(queued=self.queued))
        delta = SightDelta(life="d1", number=self.queued, at=1.0, changes=changes)
        self._pub.send_multipart([b"sight", msgspec.msgpack.encode(delta)])

    def close(self) -> None:
        self._ends = True
        self._thread.join(10)
        self._context.destroy(linger=0)

    def _serve(self) -> None:
        while not self._ends:
            if not self._router.poll(50):
                continue
            connection, data = self._router.recv_multipart()
            asked = AT_DISPATCHER.decode(data)
            said: object
            if isinstance(asked, Attach):
                self.forgets = False
                said = AttachedReply(asked.seq, "d1", 30.0)
            elif self.forgets:
                said = Complaint(asked.seq, "unknown_session", "attach first")
            else:
                state = None if asked.renew else Changes(functions=functions(queued=self.queued))
                said = ShownFunctions(asked.seq, "d1", self.queued, 1.0, self.sight, state)
            self.asked.append(asked)
            self._router.send_multipart([connection, msgspec.msgpack.encode(said)])


def test_a_dispatcher_is_followed_and_asked_anew_for_what_was_missed_and_after_it_has_forgotten_who_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core_feed, "decode_at_client", AT_CLIENT.decode)
    monkeypatch.setattr(core_feed, "_RENEW_S", 0.2)
    monkeypatch.setattr(core_feed, "_ASK_AGAIN_S", 0.1)
    dispatcher = BareDispatcher(tmp_path)
    follower = Follower(DispatcherFeed(dispatcher.url))
    picture = follower.feed.picture

    def shows_the_last() -> bool:
        return picture.functions is not None and picture.functions.queued == dispatcher.queued

    try:
        until(shows_the_last, 10, "it is shown")
        attach, first, *_ = dispatcher.asked
        assert isinstance(attach, Attach)
        assert isinstance(first, GetFunctionsSight)
        assert (attach.deliver, first.renew) == (False, False)
        for _ in range(3):
            dispatcher.tell()
            # The first may come before the subscription stands; the next shows that it is missing.
            until(lambda: shows_the_last() or dispatcher.tell(), 10, "it is followed")
        dispatcher.queued += 5
        dispatcher.tell()
        until(shows_the_last, 10, "what was missed is asked for")
        assert follower.feed.gaps >= 1
        before = len(dispatcher.asked)
        dispatcher.forgets = True
        until(lambda: any(isinstance(one, Attach) for one in dispatcher.asked[before:]), 10, "it attaches again")
        dispatcher.tell()
        until(shows_the_last, 10, "and follows")
        assert follower.feed.connected
    finally:
        follower.close()
        dispatcher.close()
