"""What a dispatcher shows to whoever follows it: a snapshot, then what changes, until nobody asks any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import zmq
from functionkit.peers import BareClient, BareWorker
from functionkit.processes import DispatcherProcess
from processkit.patience import until

from strata_zmq.coordinator.api.state.picture import Gap, Picture
from strata_zmq.protocol import functions as wire
from strata_zmq.protocol.sight import SIGHT_TOPIC, SightDelta, decode_delta


class Follower:
    """Somebody who subscribes, asks, and applies what comes in order."""

    def __init__(self, dispatcher: DispatcherProcess) -> None:
        self.client = BareClient(dispatcher.endpoint)
        self.client.attach(deliver=False)
        self.picture = Picture()
        self.endpoint = self.ask(renew=True).endpoint
        self.listener = self.client.context.socket(zmq.SUB)
        self.listener.linger = 0
        self.listener.subscribe(SIGHT_TOPIC)
        self.listener.connect(self.endpoint)
        self.begin()

    def ask(self, *, renew: bool = False) -> wire.ShownFunctions:
        """Ask, and return the answer."""
        self.client.ask(wire.GetFunctionsSight, renew)
        return self.client.hear(wire.ShownFunctions)

    def close(self) -> None:
        """End without a word."""
        self.listener.close()
        self.client.close()

    def begin(self) -> None:
        """Begin with a snapshot."""
        shown = self.ask()
        assert shown.state is not None
        self.picture.begin(shown.life, shown.number, shown.at, shown.state)

    def delta(self, timeout_s: float = 10.0) -> SightDelta | None:
        """Return the next delta, None where none comes."""
        if not self.listener.poll(timeout_s * 1000):
            return None
        topic, data = self.listener.recv_multipart()
        assert topic == SIGHT_TOPIC
        return decode_delta(data)

    def until(self, holds: Callable[[Picture], Any]) -> None:
        """Follow until something holds of the picture; a gap asks anew."""

        def look() -> Any:
            delta = self.delta()
            if delta is not None:
                try:
                    self.picture.follow(delta)
                except Gap:
                    self.begin()
            return holds(self.picture)

        if not holds(self.picture):
            until(look, 30.0)


@pytest.fixture
def follow(dispatcher: DispatcherProcess, ending: ExitStack) -> Callable[[], Follower]:
    def make() -> Follower:
        made = Follower(dispatcher)
        ending.callback(made.close)
        return made

    return make


@pytest.fixture
def follower(follow: Callable[[], Follower]) -> Iterator[Follower]:
    return follow()


def kinds(picture: Picture) -> list[str]:
    return [event.kind for event in picture.logs["events"]]


def test_a_task_is_seen_from_its_queue_to_its_end(
    follower: Follower, client: BareClient, enlist: Callable[..., BareWorker]
) -> None:
    """Counts, the worker that has it, and how long it waited and ran; at the end the same as who asks only then."""
    task_id = client.call()
    follower.until(lambda picture: picture.functions.queued == 1)
    assert follower.picture.functions.accepted_total == 1
    worker = enlist(slots=3)
    (task,) = worker.assigned()
    worker.start(task)
    follower.until(lambda picture: picture.functions.running == 1)
    (row,) = follower.picture.tables["function_workers"].values()
    assert (row.worker_id, row.slots, row.held, row.running, row.mode) == (worker.worker_id, 3, 1, 1, "push")
    worker.finish(task, service_s=0.02)
    assert client.result().task_id == task_id
    follower.until(lambda picture: picture.functions.completed_total == 1)
    row = follower.picture.functions
    assert (row.queued, row.running, row.failed_total, row.cancelled_total, row.workers) == (0, 0, 0, 0, 1)
    histograms = follower.picture.tables["histograms"]
    follower.until(lambda picture: histograms["run/"].count == 1)
    assert histograms["run/"].sum_s == pytest.approx(0.02)
    assert histograms["wait/"].count == 1
    assert kinds(follower.picture) == ["function_worker_joined"]
    assert follower.ask().state.functions == row


def test_failures_and_lost_workers_are_told_with_their_reason(
    follower: Follower, client: BareClient, enlist: Callable[..., BareWorker]
) -> None:
    worker = enlist()
    client.call()
    (task,) = worker.assigned()
    worker.start(task)
    report = wire.ReportRow(text="no such column\nsecond line", type_name="KeyError")
    worker.turn(outcomes=[wire.OutcomeRow(task.task_id, 1, "error", b"error", 0.01, report=report)])
    assert client.result().state == "FAILED"
    client.call()
    (task,) = worker.assigned()
    worker.start(task)
    worker.close()
    assert client.result().state == "FAILED"
    follower.until(lambda picture: picture.functions.failed_total == 2 and picture.functions.workers == 0)
    follower.until(
        lambda picture: kinds(picture).count("task_failed") == 2 and "function_worker_lost" in kinds(picture)
    )
    first, second = (event for event in follower.picture.logs["events"] if event.kind == "task_failed")
    assert "KeyError: no such column" in first.text
    assert "second line" not in first.text
    assert "worker_lost" in second.text
    assert follower.picture.tables["function_workers"] == {}


def test_of_many_failures_at_once_some_are_told_and_the_others_counted(
    follower: Follower, client: BareClient, enlist: Callable[..., BareWorker]
) -> None:
    worker = enlist(slots=200)
    for _ in range(100):
        client.call()
    tasks: list[wire.AssignedTask] = []
    while len(tasks) < 100:
        tasks += worker.assigned()
    worker.start(*tasks)
    worker.turn(outcomes=[wire.OutcomeRow(task.task_id, 1, "error", b"error", 0.01) for task in tasks])
    follower.until(lambda picture: picture.functions.failed_total == 100)
    follower.until(lambda picture: any("more tasks have failed" in event.text for event in picture.logs["events"]))
    assert kinds(follower.picture).count("task_failed") < 100


def test_nothing_is_published_while_nobody_asks(follow: Callable[[], Follower], client: BareClient) -> None:
    """Deltas end with the lease of whoever asked; who comes back has missed something, and sees that."""
    follower = follow()
    until(lambda: follower.delta(2.0) is None, 30.0)
    client.call()
    assert follower.delta(0.6) is None
    number = follower.picture.number
    assert follower.ask(renew=True).number > number
    follower.until(lambda picture: picture.functions.queued == 1)


def test_settings_are_shown_without_secrets(start: Callable[..., DispatcherProcess], ending: ExitStack) -> None:
    dispatcher = start("--store", "none", "--lease", "2", "--queue-tasks", "77")
    follower = Follower(dispatcher)
    ending.callback(follower.close)
    settings = follower.picture.tables["settings"]
    assert (settings["queue_tasks_max"].value, settings["queue_tasks_max"].source) == ("77", "option")
    assert (settings["mode"].value, settings["mode"].source) == ("push", "default")
    assert follower.endpoint == f"{dispatcher.endpoint}.sight"


def test_a_new_life_is_another_one(dispatcher: DispatcherProcess, follower: Follower) -> None:
    before = follower.picture.life
    dispatcher.kill()
    dispatcher.start()
    follower.client.reconnect()
    follower.client.attach(deliver=False)
    follower.begin()
    assert follower.picture.life != before
    follower.until(lambda picture: picture.number >= 2)


def test_a_stranger_is_shown_nothing(dispatcher: DispatcherProcess, ending: ExitStack) -> None:
    stranger = BareClient(dispatcher.endpoint)
    ending.callback(stranger.close)
    stranger.ask(wire.GetFunctionsSight)
    assert stranger.hear(wire.Complaint).code == "unknown_session"
