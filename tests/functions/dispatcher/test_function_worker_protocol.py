"""What a worker does when things get lost, said to it by a dispatcher that is made by hand."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from functionkit.bare_dispatcher import BareDispatcher
from functionkit.packing import call_in_payload
from functionkit.peers import new_id
from processkit.patience import until

from strata_zmq.protocol import functions as wire

SLEEP, QUICK = call_in_payload(time.sleep, 60), call_in_payload(time.sleep, 0)


@pytest.fixture
def dispatcher(folder: Path) -> Iterator[BareDispatcher]:
    made = BareDispatcher(f"ipc://{folder}/dispatcher")
    yield made
    made.close()


@pytest.fixture
def worker(dispatcher: BareDispatcher, folder: Path, ending: ExitStack) -> subprocess.Popen[bytes]:
    """A worker with one child, that has enlisted."""
    log = ending.enter_context((folder / "worker.log").open("wb"))
    options = ("--dispatcher", dispatcher.endpoint, "--children", "1", "--grace", "0.5")
    made = subprocess.Popen([sys.executable, "-m", "strata_zmq.workers.function_worker", *options], stderr=log)
    ending.callback(made.wait, 10.0)
    ending.callback(made.kill)
    dispatcher.enlist()
    return made


def task(body: bytes = QUICK, *, asks: bool = False) -> wire.AssignedTask:
    return wire.AssignedTask(new_id(), 1, bytes(16), body, 0, asks=asks)


def refs(rows: list[wire.TaskRef]) -> list[bytes]:
    return [one.task_id for one in rows]


def test_a_worker_that_nobody_answers_says_so_and_asks_on(folder: Path, ending: ExitStack) -> None:
    endpoint, log = f"ipc://{folder}/late", folder / "late.log"
    options = ("--dispatcher", endpoint, "--children", "1")
    with log.open("wb") as end:
        made = subprocess.Popen([sys.executable, "-m", "strata_zmq.workers.function_worker", *options], stderr=end)
    ending.callback(made.wait, 10.0)
    ending.callback(made.kill)
    until(lambda: f"no dispatcher answers at {endpoint}" in log.read_text())
    late = BareDispatcher(endpoint)
    ending.callback(late.close)
    late.enlist()
    until(lambda: "enlisted as" in log.read_text())


def test_an_outcome_that_is_not_settled_is_said_again_under_its_number(
    dispatcher: BareDispatcher, worker: subprocess.Popen[bytes]
) -> None:
    one = task()
    dispatcher.assign(one)
    assert refs(dispatcher.hear_turn("started").started) == [one.task_id]
    turn = dispatcher.hear_turn("outcomes")
    assert (turn.number, turn.outcomes[0].task_id, turn.outcomes[0].kind) == (1, one.task_id, "ok")
    for _ in range(4):
        dispatcher.say(wire.Settled(dispatcher.session, 0))
        dispatcher.hear(wire.Turn)
    again = dispatcher.hear_turn("outcomes")
    assert (again.number, again.outcomes) == (turn.number, turn.outcomes)
    dispatcher.settle(again)
    two = task()
    dispatcher.assign(two)
    assert dispatcher.hear_turn("outcomes").number == 2


def test_after_a_missing_assignment_it_enlists_again(
    dispatcher: BareDispatcher, worker: subprocess.Popen[bytes]
) -> None:
    dispatcher.number = 1
    dispatcher.assign(task())
    asked = dispatcher.enlist()
    assert asked.held == []


def test_after_standing_still_it_asks_before_it_begins_anything(
    dispatcher: BareDispatcher, worker: subprocess.Popen[bytes]
) -> None:
    """Half a lease is enough: nobody knows how long it was, and what came meanwhile may be old."""
    dispatcher.hear(wire.Turn)
    worker.send_signal(signal.SIGSTOP)
    old = task()
    dispatcher.assign(old)
    time.sleep(0.6 * dispatcher.lease_s)  # the fault itself
    worker.send_signal(signal.SIGCONT)
    said = dispatcher.hear(object)
    while not isinstance(said, wire.Enlist):
        assert not getattr(said, "started", ()), "it has begun what may run elsewhere"
        said = dispatcher.hear(object)
    dispatcher.begin(wire.TaskRef(old.task_id, 1))
    new = task()
    dispatcher.assign(new)
    assert refs(dispatcher.hear_turn("started").started) == [new.task_id]


def test_a_silent_dispatcher_is_asked_again_and_told_everything(
    dispatcher: BareDispatcher, worker: subprocess.Popen[bytes]
) -> None:
    done, running = task(), task(SLEEP)
    dispatcher.assign(done, running)
    dispatcher.hear_turn("outcomes")
    asked = dispatcher.enlist()
    assert {(one.task_id, one.phase) for one in asked.held} == {(done.task_id, "done"), (running.task_id, "running")}
    turn = dispatcher.hear_turn("outcomes")
    assert (turn.session, turn.number, turn.outcomes[0].task_id) == (2, 1, done.task_id)


def test_asked_to_end_it_gives_back_what_has_not_begun_and_says_goodbye(
    dispatcher: BareDispatcher, worker: subprocess.Popen[bytes]
) -> None:
    running, *waiting = task(SLEEP), task(), task()
    dispatcher.assign(running, *waiting)
    dispatcher.hear_turn("started")
    worker.terminate()
    turn = dispatcher.hear_turn("returned")
    assert set(refs(turn.returned)) == {one.task_id for one in waiting}
    dispatcher.settle(turn)
    goodbye = dispatcher.hear(wire.Retire)
    while not goodbye.now:
        goodbye = dispatcher.hear(wire.Retire)
    assert worker.wait(10.0) == 0


def test_what_asks_begins_when_it_may_and_not_before(
    dispatcher: BareDispatcher, worker: subprocess.Popen[bytes]
) -> None:
    """Others pass it by. It is asked for when the child is free, and again where there is no answer."""
    asking, other = task(asks=True), task()
    dispatcher.assign(asking, other)
    assert refs(dispatcher.hear_turn("started").started) == [other.task_id]
    assert refs(dispatcher.hear_turn("asks").asks) == [asking.task_id]
    again = dispatcher.hear(wire.Turn)
    while not again.asks:
        assert not again.started
        dispatcher.settle(again)
        again = dispatcher.hear(wire.Turn)
    assert refs(again.asks) == [asking.task_id]
    dispatcher.say(wire.Begin(dispatcher.session, again.asks))
    assert refs(dispatcher.hear_turn("started").started) == [asking.task_id]
    said: list[bytes] = []
    while asking.task_id not in said:
        said += [row.task_id for row in dispatcher.hear_turn("outcomes").outcomes]


def test_what_asks_is_asked_for_again_in_a_new_session(
    dispatcher: BareDispatcher, worker: subprocess.Popen[bytes]
) -> None:
    kept, dropped = task(asks=True), task(asks=True)
    dispatcher.assign(kept, dropped)
    dispatcher.hear_turn("asks")
    dispatcher.say(wire.Complaint(0, "unknown_session", "enlist"))
    asked = dispatcher.enlist(wire.TaskRef(dropped.task_id, 1))
    assert {(one.task_id, one.phase) for one in asked.held} == {
        (kept.task_id, "waiting"),
        (dropped.task_id, "waiting"),
    }
    turn = dispatcher.hear_turn("asks")
    assert refs(turn.asks) == [kept.task_id]
    dispatcher.say(wire.Begin(dispatcher.session, turn.asks))
    assert refs(dispatcher.hear_turn("started").started) == [kept.task_id]


def test_recalled_tasks_come_back_newest_first_and_unbegun(
    dispatcher: BareDispatcher, worker: subprocess.Popen[bytes]
) -> None:
    tasks = [task(SLEEP), task(), task(), task()]
    dispatcher.assign(*tasks)
    dispatcher.hear_turn("started")
    dispatcher.say(wire.Recall(dispatcher.session, 2))
    assert set(refs(dispatcher.hear_turn("returned").returned)) == {one.task_id for one in tasks[2:]}


def test_what_nobody_keeps_cannot_run_and_says_so(dispatcher: BareDispatcher, worker: subprocess.Popen[bytes]) -> None:
    lacking = wire.AssignedTask(new_id(), 1, b"\5" * 16, b"arguments", 0)
    dispatcher.assign(lacking)
    assert dispatcher.hear(wire.WantBlobs).digests == [b"\5" * 16]
    dispatcher.say(wire.Blobs(dispatcher.session, [], [b"\5" * 16]))
    (row,) = dispatcher.hear_turn("outcomes").outcomes
    assert (row.kind, row.cause) == ("failure", "unloadable_call")


def test_a_dispatcher_that_does_not_take_it_ends_it(folder: Path, ending: ExitStack) -> None:
    dispatcher = BareDispatcher(f"ipc://{folder}/dispatcher")
    ending.callback(dispatcher.close)
    worker = subprocess.Popen(
        [sys.executable, "-m", "strata_zmq.workers.function_worker", "--dispatcher", dispatcher.endpoint],
        stderr=subprocess.PIPE,
    )
    ending.callback(worker.kill)
    dispatcher.hear(wire.Enlist)
    dispatcher.say(wire.Complaint(0, "protocol", "proto is 1, and this dispatcher speaks 9: use its version"))
    _, said = worker.communicate(timeout=20.0)
    assert worker.returncode == 1
    assert b"this dispatcher speaks 9" in said
