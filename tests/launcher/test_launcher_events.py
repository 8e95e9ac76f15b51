"""`strata events` tells each event once, in order, over gaps and restarts; `strata status` fits a job on one screen."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from processkit.coordinator import Coordinator
from processkit.patience import until
from sightkit import checkpoint, event, job, lost, open_barrier, worker

from strata_zmq.protocol.fields import Spent
from strata_zmq.protocol.messages import RegisterWorker, Sight
from strata_zmq.protocol.sight import Changes, SightDelta
from strata_zmq.protocol.sight_rows import EventSight, HangSight
from strata_zmq.workers.client import CoordinatorClient
from strata_zmq.workers.launcher.events_follow import EventFeed
from strata_zmq.workers.launcher.overview import ROWS_MAX, Overview, duration, figures, headline, rows

STRATA = [sys.executable, "-m", "strata_zmq"]
KEPT = 5


class Core:
    """Lives of a coordinator that makes events and deltas, and remembers the last KEPT events of a life."""

    def __init__(self) -> None:
        self.life, self.delta, self.events = 1, 0, list[EventSight]()

    def happen(self, count: int) -> SightDelta:
        new = [event(len(self.events) + 1 + one) for one in range(count)]
        self.events += new
        self.delta += 1
        return SightDelta(life=str(self.life), number=self.delta, at=1.0, changes=Changes(events=new))

    def snapshot(self) -> Sight:
        state = Changes(job=job(term=self.life), events=self.events[-KEPT:])
        return Sight(life=str(self.life), number=self.delta, at=1.0, state=state)

    def restart(self) -> None:
        self.life, self.delta, self.events = self.life + 1, 0, []


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["heard", "lost", "twice", "restart"])), max_size=30))
def test_each_event_is_told_once_and_in_order_or_counted_as_missing(steps: list[tuple[int, str]]) -> None:
    core, told, remarks = Core(), list[int](), list[str]()
    feed = EventFeed(lambda one: told.append(one.number), remarks.append)
    feed.begin(core.snapshot())
    for count, fate in steps:
        if fate == "restart":
            # What the last life has said and nobody has heard is gone with it.
            core.restart()
            told.clear()
            remarks.clear()
        delta = core.happen(count)
        if fate == "lost":
            continue
        for _ in range(2 if fate == "twice" else 1):
            if not feed.follow(delta):
                feed.begin(core.snapshot())
    if not feed.follow(core.happen(1)):
        feed.begin(core.snapshot())
    assert told == sorted(set(told))
    missing = sum(int(text.split()[0]) for text in remarks if text.endswith("events are missing here"))
    assert len(told) + missing == len(core.events)
    assert told[-1] == core.events[-1].number


def test_a_new_life_is_said_and_its_events_begin_anew() -> None:
    core, told, remarks = Core(), list[int](), list[str]()
    core.happen(9)
    feed = EventFeed(lambda one: told.append(one.number), remarks.append, last=2)
    feed.begin(core.snapshot())
    assert told == [8, 9]
    core.restart()
    core.happen(1)
    assert not feed.follow(core.happen(1))
    feed.begin(core.snapshot())
    assert told == [8, 9, 1, 2]
    assert remarks == ["the coordinator began a new life, term 2"]


def test_only_the_kinds_that_were_asked_for_are_told() -> None:
    told: list[str] = []
    feed = EventFeed(lambda one: told.append(one.kind), told.append, kinds={"hang"}, last=1)
    events = [event(1, kind="hang"), event(2, kind="epoch"), event(3, kind="hang"), event(4, kind="epoch")]
    feed.begin(Sight(life="a", number=0, at=1.0, state=Changes(job=job(), events=events)))
    feed.follow(SightDelta(life="a", number=1, at=1.0, changes=Changes(events=[event(5), event(6, kind="hang")])))
    assert told == ["hang", "hang"]


def view(before: Sight | None = None, at: float = 1000.0, **state: Any) -> Overview:
    return Overview(Sight(life="a", number=1, at=at, state=Changes(**{"job": job(), **state})), before)


def figure(shown: Overview, name: str) -> str:
    return "; ".join(text for found, text in figures(shown) if found == name)


def test_a_job_that_is_well_says_so_and_one_that_is_not_says_why() -> None:
    assert headline(view())[1]
    assert "healthy" in headline(view())[0]
    hang = HangSight(
        worker_id="w1", rank=1, where="at a barrier", since=900.0, found_at=960.0, waiter_count=2, waiters=["w0", "w2"]
    )
    for trouble, name, text in (
        ({"hangs": [hang]}, "hang", "w1 has not moved for 1 min 40 s, 2 wait for it, at a barrier"),
        ({"lost": [lost("w2", 988.0, reason="killed by SIGKILL")]}, "lost", "12 s ago: killed by SIGKILL"),
        ({"job": job(frozen="2 of 3 leases ended at once")}, "frozen", "2 of 3 leases ended at once"),
        ({"barriers": [open_barrier("1/commit/7", opened_at=980.0)]}, "slow", "is open for 20 s"),
    ):
        shown = view(**trouble)
        assert not headline(shown)[1], name
        assert "needs attention" in headline(shown)[0]
        assert text in figure(shown, name)
    assert "waiting for workers" in headline(view(job=job(formed=False, pending="0 of 1 workers")))[0]
    assert headline(view(lost=[lost("w2", 1.0)]))[1], "what is long past is no trouble"


def test_figures_are_averages_at_first_and_then_of_the_time_since_the_last_look() -> None:
    first = view(
        job=job(committed_samples=1000, requests=200, started_at=900.0),
        workers=[worker("w0", registered_at=900.0, heard_at=1000.0, spent=Spent(training_s=80.0)), worker("w1", 1)],
    )
    assert figure(first, "throughput") == "10.0 samples/s, 2.0 requests/s, on average since the coordinator began"
    assert figure(first, "goodput") == "80 % of the workers' time since they joined was training (1 of 2 report)"
    later = view(
        first.now,
        at=1010.0,
        job=job(committed_samples=2000, requests=200, started_at=900.0),
        workers=[worker("w0", registered_at=900.0, heard_at=1010.0, spent=Spent(training_s=85.0)), worker("w1", 1)],
    )
    assert figure(later, "throughput") == "100.0 samples/s, 0.0 requests/s, of late"
    assert figure(later, "goodput") == "50 % of the workers' time of late was training (1 of 2 report)"
    assert figure(view(workers=[worker("w0")]), "goodput").startswith("unknown: no worker has reported")
    other = Overview(later.now, Sight(life="b", number=1, at=1000.0, state=first.now.state))
    assert figure(other, "throughput").endswith("on average since the coordinator began"), "nothing is of two lives"


def test_the_last_checkpoint_is_told_with_its_age_and_those_that_are_being_written() -> None:
    rows_ = [
        checkpoint("old", status="durable", created_at=100.0, began_at=None, durable_at=None),
        checkpoint("new", status="durable", created_at=980.0, began_at=980.0, durable_at=982.0, size_bytes=2_500_000),
        checkpoint("next", status="writing", arrived=1, world_size=3),
    ]
    told = figure(view(checkpoints=rows_), "checkpoint")
    assert told == "new durable 18 s ago, 2.5 MB in 2.0 s; 2 kept; next is being written, 1 of 3 ranks are done"
    assert figure(view(), "checkpoint") == "none yet"


def test_a_thousand_workers_take_no_more_than_one_screen() -> None:
    many = view(workers=[worker(f"w{rank}", rank) for rank in range(1000)])
    found = rows(many)
    assert [row[0] for row in found] == [f"w{rank}" for rank in range(ROWS_MAX)]
    assert len(list(figures(many))) < 30


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1.0, "0.0 s"), (0.44, "0.4 s"), (59.9, "59 s"), (60, "1 min 0 s"), (3725, "1 h 2 min"), (183_600, "2 d 3 h")],
)
def test_times_are_told_in_their_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_who_follows_sees_what_happens_and_the_next_life_go_on_below(tmp_path: Path) -> None:
    coordinator = Coordinator(tmp_path, control="tcp://127.0.0.1:0", broadcast="tcp://127.0.0.1:0").start()
    out = tmp_path / "events"
    with out.open("wb") as told:
        follower = subprocess.Popen(
            [*STRATA, "events", "--follow", "--json", "--coordinator", coordinator.url],
            stdout=told,
            stderr=subprocess.PIPE,
        )

    def seen() -> list[dict[str, Any]]:
        return [json.loads(line) for line in out.read_text().splitlines()]

    def texts() -> str:
        return "\n".join(row["text"] for row in seen())

    try:
        until(lambda: [row["kind"] for row in seen()][:1] == ["term_started"], 30)
        join(coordinator, "w-one")
        until(lambda: "worker w-one" in texts() and "generation 1 began" in texts(), 20)
        coordinator.restart()
        until(lambda: "began a new life, term 2" in texts(), 30)
        join(coordinator, "w-two")
        until(lambda: "worker w-two registered" in texts(), 20)
        numbers = [row["number"] for row in seen() if "number" in row]
        lives = texts().split("began a new life")
        assert len(lives) == 2
        assert numbers[0] == 1
        assert numbers.count(1) == 2
        asked = subprocess.run(
            [*STRATA, "events", "--kind", "worker_joined", "--last", "1", "--coordinator", coordinator.url],
            capture_output=True,
            text=True,
            check=True,
        )
        assert re.fullmatch(r"[-0-9]+ [:0-9]+ info    worker_joined      worker w-two registered.*\n", asked.stdout)
        assert watched(coordinator.url).startswith("job default · ")
    finally:
        follower.send_signal(signal.SIGINT)
        assert follower.wait(20) == 130, follower.stderr.read().decode() if follower.stderr else ""
        if follower.stderr is not None:
            follower.stderr.close()
        coordinator.stop()


def watched(url: str) -> str:
    """Return what a terminal shows first, and see that Ctrl-C ends it."""
    ours, theirs = pty.openpty()
    watching = subprocess.Popen([*STRATA, "status", "--watch", "--coordinator", url], stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        told = ""
        while "requests/s" not in told:
            told += os.read(ours, 65536).decode()
    finally:
        watching.send_signal(signal.SIGINT)
        status = watching.wait(20)
        os.close(ours)
    assert status == 130
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", told).lstrip()


def join(coordinator: Coordinator, worker_id: str) -> None:
    told = RegisterWorker(worker_id=worker_id, incarnation="1", hostname="h", pid=os.getpid())
    with CoordinatorClient(coordinator.url, role="worker", introduce=lambda: told).connect(30.0):
        until(lambda: any(row.worker_id == worker_id for row in coordinator.status().workers))
