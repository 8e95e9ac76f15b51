"""What the API answers is what its cores show, folded: nothing is lost on the way, nothing is made up."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sightkit import (
    Stage,
    Viewer,
    checkpoint,
    dataset,
    event,
    functions,
    job,
    lost,
    open_barrier,
    release,
    sorted_rows,
    worker,
)

from strata_zmq.coordinator.api.state import board, hub
from strata_zmq.coordinator.api.state.ports import VaultRow
from strata_zmq.protocol.sight_rows import HangSight, HistogramSight, SettingSight, StacksSight

NAMES = ("w0", "w1", "w2")


def hang(worker_id: str, **fields: Any) -> HangSight:
    known = {"rank": 0, "where": "step 4", "since": 990.0, "found_at": 995.0, "waiter_count": 1, "waiters": ["w1"]}
    return HangSight(worker_id=worker_id, **known | fields)  # type: ignore[arg-type]


CHANGE = st.one_of(
    st.tuples(st.just("worker"), st.sampled_from(NAMES), st.integers(0, 3)),
    st.tuples(st.just("left"), st.sampled_from(NAMES), st.just(0)),
    st.tuples(st.just("lost"), st.sampled_from(NAMES), st.just(0)),
    st.tuples(st.just("hang"), st.sampled_from(NAMES), st.booleans()),
    st.tuples(st.just("barrier"), st.just(""), st.integers(1, 4)),
    st.tuples(st.just("release"), st.just(""), st.integers(1, 4)),
    st.tuples(
        st.just("checkpoint"), st.sampled_from("abc"), st.sampled_from(["writing", "durable", "aborted", "gone"])
    ),
    st.tuples(st.just("event"), st.just(""), st.just(0)),
    st.tuples(st.just("dataset"), st.sampled_from("de"), st.integers(0, 5)),
    st.tuples(st.just("restart"), st.just(""), st.just(0)),
    st.tuples(st.just("turn"), st.just(""), st.integers(1, 9)),
)


class Core:
    """A coordinator that does what it is told, and shows it."""

    def __init__(self, stage: Stage) -> None:
        self.feed = stage.coordinator
        self.lives, self.events, self.releases = 1, 0, 0
        self.feed.begin(job=job())

    def do(self, what: str, name: str, value: Any) -> None:
        feed, now = self.feed, self.feed.now
        if what == "worker":
            feed.say(gone={"lost": [name]}, workers=[worker(name, NAMES.index(name), step=value, heard_at=now)])
        elif what == "left":
            feed.say(gone={"workers": [name], "lost": [name], "hangs": [name]})
        elif what == "lost":
            feed.say(gone={"workers": [name]}, lost=[lost(name, now)])
        elif what == "hang":
            feed.say(hangs=[hang(name)]) if value else feed.say(gone={"hangs": [name]})
        elif what == "barrier":
            feed.say(barriers=[open_barrier(f"1/step/{value}")])
        elif what == "release":
            self.releases += 1
            row = release(self.releases, barrier_id=f"1/step/{value}", ended_at=now)
            feed.say(gone={"barriers": [f"1/step/{value}"]}, releases=[row])
        elif what == "checkpoint":
            if value == "gone":
                feed.say(gone={"checkpoints": [name]})
            else:
                feed.say(checkpoints=[checkpoint(name, status=value)])
                if value == "aborted":
                    feed.say(gone={"checkpoints": [name]})
        elif what == "event":
            self.events += 1
            feed.say(events=[event(self.events, at=now)])
        elif what == "dataset":
            feed.say(datasets=[dataset(name, committed=value)])
        else:
            self.lives += 1
            self.events = self.releases = 0
            feed.begin(f"life-{self.lives}", job=job(term=self.lives), workers=[worker("w1", 1, heard_at=now)])


@settings(max_examples=60, deadline=None)
@given(st.lists(CHANGE, max_size=40), st.integers(0, 40))
def test_whoever_follows_the_feed_from_any_time_on_sees_what_a_dashboard_asked_now_shows(
    changes: list[tuple[str, str, Any]], joins_at: int
) -> None:
    stage = Stage()
    core = Core(stage)
    viewer, waiting = Viewer(), None
    for at, (what, name, value) in enumerate(changes):
        if at == joins_at:
            waiting = stage.hub.subscribe()
        if what == "turn":
            stage.turn(value / 4)
        else:
            core.do(what, name, value)
        if waiting is not None:
            for message in tuple(waiting._waiting):
                viewer.take(message.data)
            waiting._waiting.clear()
    waiting = waiting or stage.hub.subscribe()
    stage.turn()
    for message in waiting._waiting:
        viewer.take(message.data)
    assert viewer.sorted_state() == sorted_rows(stage.dashboard())


def test_before_a_core_is_heard_everything_is_answered_and_nothing_is_known() -> None:
    stage = Stage()
    stage.turn()
    shown = stage.dashboard()
    assert (shown["coordinator"]["connected"], shown["coordinator"]["source"]) == (False, "waiting")
    assert (shown["coordinator"]["uptime"], shown["coordinator"]["since"]) == (None, None)
    assert [shown[name] for name in ("workers", "datasets", "checkpoints", "barriers", "tasks", "alerts")] == [[]] * 6
    rates = {"checkpoint_throughput", "coordinator_rps", "barrier_latency_p99", "samples_per_s", "tasks_per_s"}
    assert {shown["metrics"][name] for name in rates} == {None}


def test_a_core_that_has_gone_leaves_its_last_state_and_when_it_was_heard_and_comes_back_by_itself() -> None:
    stage = Stage()
    stage.coordinator.begin(job=job(started_at=900.0), workers=[worker("w0")])
    stage.turn()
    assert stage.hub.source == "live"
    heard = stage.coordinator.heard_at
    stage.coordinator.connected = False
    stage.turn(5)
    shown = stage.dashboard()
    assert shown["coordinator"]["since"] == round(heard * 1000)
    assert (shown["coordinator"]["source"], shown["coordinator"]["uptime"]) == ("stale", heard - 900.0)
    assert [row["id"] for row in shown["workers"]] == ["w0"]
    assert shown["metrics"]["coordinator_rps"] is None
    stage.coordinator.say()
    stage.turn()
    shown = stage.dashboard()
    assert (shown["coordinator"]["source"], shown["coordinator"]["since"]) == ("live", None)
    assert [row["kind"] for row in shown["events"]] == ["coordinator_heard", "coordinator_gone", "coordinator_heard"]


def test_a_lost_worker_is_shown_failed_with_what_was_known_of_it_until_it_is_back() -> None:
    stage = Stage()
    stage.coordinator.begin(job=job(), workers=[worker("w0", step=7, gpu_count=2, heard_at=1000.0)])
    stage.turn()
    stage.coordinator.say(gone={"workers": ["w0"]}, lost=[lost("w0", 1003.0, reason="its lease ended")])
    stage.turn()
    row = stage.worker("w0")
    assert (row["status"], row["rank"], row["assigned_shards"]) == ("failed", None, 0)
    assert (row["current_step"], row["gpu_count"], row["last_heartbeat"]) == (7, 2, 1_000_000)
    assert row["lost_reason"] == "its lease ended"
    stage.coordinator.say(gone={"lost": ["w0"]}, workers=[worker("w0", step=8, incarnation="i2")])
    stage.turn()
    assert (stage.worker("w0")["status"], stage.worker("w0")["lost_reason"]) == ("active", "")


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("TRAINING", "active"),
        ("LOADING_DATA", "active"),
        ("CHECKPOINTING", "active"),
        ("RECOVERING", "active"),
        ("IDLE", "idle"),
        ("INITIALIZING", "idle"),
        ("FAILED", "failed"),
        ("UNKNOWN", "unknown"),
        ("DANCING", "unknown"),
    ],
)
def test_worker_states_are_told_in_the_four_published_words(state: str, status: str) -> None:
    stage = Stage()
    stage.coordinator.begin(job=job(), workers=[worker("w0", state=state)])
    stage.turn()
    assert stage.worker("w0")["status"] == status
    assert stage.dashboard()["metrics"][f"{status}_workers"] == 1


def test_workers_come_by_rank_and_checkpoints_newest_first_and_open_barriers_before_ended_ones() -> None:
    stage = Stage()
    stage.coordinator.begin(
        job=job(),
        workers=[worker("b", 1), worker("z", -1), worker("a", 0)],
        checkpoints=[checkpoint("old", created_at=1.0), checkpoint("new", created_at=2.0)],
        barriers=[open_barrier("1/step/9")],
        releases=[release(1, ended_at=10.0), release(2, ended_at=20.0)],
    )
    stage.turn()
    shown = stage.dashboard()
    assert [row["id"] for row in shown["workers"]] == ["a", "b", "z"]
    assert [row["id"] for row in shown["checkpoints"]] == ["new", "old"]
    assert [row["id"] for row in shown["barriers"]] == ["1/step/9", "1/step/2", "1/step/1"]


def test_events_that_are_told_again_after_a_gap_are_shown_once_and_a_new_lifes_from_their_first() -> None:
    stage = Stage()
    feed = stage.coordinator
    feed.begin(job=job(), events=[event(1), event(2)])
    stage.turn()
    feed.begin(job=job(), events=[event(1), event(2), event(3)])
    stage.turn()
    feed.begin("another", job=job(), events=[event(1, text="anew")])
    stage.turn()
    told = [(row["number"], row["text"]) for row in stage.dashboard()["events"] if row["origin"] == "coordinator"]
    assert [text for _, text in told] == ["event 1", "event 2", "event 3", "anew"]
    assert [number for number, _ in told] == sorted({number for number, _ in told})
    assert [line.message for line in stage.logs.lines if line.source == "coordinator"] == [text for _, text in told]


def test_a_checkpoint_that_was_given_up_stays_in_sight_with_its_reason() -> None:
    stage = Stage()
    stage.coordinator.begin(job=job(), checkpoints=[checkpoint("c1", status="writing")])
    stage.turn()
    stage.coordinator.say(checkpoints=[checkpoint("c1", status="aborted", reason="w1 was lost")])
    stage.coordinator.say(gone={"checkpoints": ["c1"]})
    stage.turn()
    (row,) = stage.dashboard()["checkpoints"]
    assert (row["status"], row["reason"]) == ("aborted", "w1 was lost")


def test_a_checkpoint_tells_its_phases_its_rate_and_what_only_the_store_knows() -> None:
    stage = Stage()
    times = {"began_at": 100.0, "staged_at": 101.0, "arrived_at": 103.0, "durable_at": 104.0}
    stage.coordinator.begin(job=job(), checkpoints=[checkpoint("c1", size_bytes=8_000_000, **times), checkpoint("c2")])
    stage.turn()
    first, second = sorted(stage.dashboard()["checkpoints"], key=lambda row: str(row["id"]))
    assert first["phases"] == {"stage_s": 1.0, "drain_s": 2.0, "commit_s": 1.0, "total_s": 4.0}
    assert first["megabytes_per_s"] == 2.0
    assert (second["phases"]["total_s"], second["megabytes_per_s"], second["verified"]) == (None, None, None)
    stage.vault.known["c1"] = VaultRow(
        path="/c", kind="full", tier="near", verified=False, verified_at=7.0, pinned=False
    )
    stage.vault.version += 1
    stage.turn()
    told = next(row for row in stage.dashboard()["checkpoints"] if row["id"] == "c1")
    assert (told["path"], told["tier"], told["verified"], told["verified_at"]) == ("/c", "near", False, 7000)


def test_only_the_last_checkpoints_that_were_given_up_stay_and_whoever_follows_sees_the_same() -> None:
    stage = Stage()
    stage.coordinator.begin(job=job())
    viewer, listener = Viewer(), stage.hub.subscribe()
    for number in range(40):
        stage.coordinator.say(checkpoints=[checkpoint(f"c{number}", status="aborted", created_at=float(number))])
        shown = stage.hub.dashboard()
        stage.coordinator.say(gone={"checkpoints": [f"c{number}"]})
        assert stage.hub.dashboard() == shown
        stage.turn()
        for message in listener._waiting:
            viewer.take(message.data)
        listener._waiting.clear()
    assert [row["id"] for row in stage.dashboard()["checkpoints"]] == [f"c{number}" for number in range(39, 7, -1)]
    assert viewer.sorted_state() == sorted_rows(stage.dashboard())


def test_what_jobs_and_the_store_have_that_is_new_is_there_for_whoever_asks_next_and_told_once() -> None:
    stage = Stage()
    stage.coordinator.begin(job=job())
    stage.turn()
    viewer, listener = Viewer(), stage.hub.subscribe()
    etag = stage.hub.etag()
    stage.coordinator.say(events=[event(1)])
    stage.jobs.version += 1
    stage.hub.catch_up()
    late = stage.hub.subscribe()
    assert stage.hub.etag() != etag
    stage.hub.catch_up()
    stage.turn()
    for message in (*listener._waiting,):
        viewer.take(message.data)
    assert viewer.sorted_state() == sorted_rows(stage.dashboard())
    late_viewer = Viewer()
    for message in (*late._waiting,):
        late_viewer.take(message.data)
    assert late_viewer.sorted_state() == sorted_rows(stage.dashboard())
    assert len(late_viewer.state["logs"]) == len(stage.logs.lines)


def test_a_hang_shows_the_stacks_of_that_time_and_not_older_ones() -> None:
    stage = Stage()
    stage.coordinator.begin(
        job=job(),
        workers=[worker("w0"), worker("w1", 1)],
        hangs=[hang("w0", since=990.0), hang("w1", since=990.0)],
        stacks=[
            StacksSight(worker_id="w0", incarnation="i1", at=995.0, text="File x"),
            StacksSight(worker_id="w1", incarnation="i1", at=900.0, text="long ago"),
        ],
    )
    stage.turn()
    assert [(row["worker_id"], row["stacks"]) for row in stage.dashboard()["hangs"]] == [("w0", "File x"), ("w1", "")]
    assert stage.worker("w0")["hanging"]


def test_ended_barriers_are_kept_up_to_a_number() -> None:
    stage = Stage()
    stage.coordinator.begin(job=job())
    for first in range(1, 2 * board.BARRIERS_MAX, 64):
        stage.coordinator.say(releases=[release(number, ended_at=float(number)) for number in range(first, first + 64)])
        stage.turn()
    shown = stage.dashboard()["barriers"]
    assert len(shown) == board.BARRIERS_MAX
    assert shown[0]["id"] == "1/step/512"


def test_rates_are_of_what_was_committed_in_ten_seconds_and_begin_anew_with_the_core() -> None:
    stage = Stage(now=1000.75)
    feed = stage.coordinator
    feed.begin(job=job())
    stage.turn(1)
    assert stage.dashboard()["metrics"]["samples_per_s"] is None
    for second in range(1, 31):
        feed.say(job=job(committed_samples=100 * second, requests=7 * second, checkpoint_bytes=2_000_000 * second))
        stage.turn(1)
    told = stage.dashboard()["metrics"]
    assert told["samples_per_s"] == pytest.approx(100, rel=0.01)
    assert told["coordinator_rps"] == pytest.approx(7, rel=0.01)
    assert told["checkpoint_throughput"] == pytest.approx(2, rel=0.01)
    feed.begin("another", job=job(committed_samples=5))
    stage.turn(1)
    assert stage.dashboard()["metrics"]["samples_per_s"] is None


def test_throughput_of_checkpoints_is_unknown_before_the_first_and_zero_between_two() -> None:
    stage = Stage(now=1000.75)
    stage.coordinator.begin(job=job())
    stage.turn(3)
    assert stage.dashboard()["metrics"]["checkpoint_throughput"] is None
    stage.coordinator.say(job=job(checkpoint_bytes=1_000_000))
    stage.turn(20)
    assert stage.dashboard()["metrics"]["checkpoint_throughput"] == 0.0


def test_quantiles_of_barriers_are_of_their_ends_and_of_the_histogram_where_some_were_left_out() -> None:
    stage = Stage(now=1000.75)
    feed = stage.coordinator
    bounds = 13

    def histogram(slow: int) -> HistogramSight:
        buckets = [0] * bounds
        buckets[6] = slow  # up to 1 s
        return HistogramSight(name="barrier", label="", count=slow, sum_s=0.0, buckets=buckets)

    feed.begin(job=job(), histograms=[histogram(0)])
    stage.turn(1)
    waits = [0.010 * (number + 1) for number in range(100)]
    ends = [release(number, wait_s=wait, ended_at=stage.now) for number, wait in enumerate(waits, start=1)]
    feed.say(
        releases=[*ends, release(101, released=False, wait_s=99.0, ended_at=stage.now)], histograms=[histogram(100)]
    )
    stage.turn(1)
    told = stage.dashboard()["barrier_statistics"]
    assert (told["count"], told["wait_p50_ms"], told["wait_p99_ms"]) == (101, pytest.approx(500), pytest.approx(990))
    assert stage.dashboard()["metrics"]["barrier_latency_p99"] == pytest.approx(990)
    feed.say(releases=[release(150, wait_s=0.2, ended_at=stage.now)], job=job(releases=150))
    stage.turn(1)
    told = stage.dashboard()["barrier_statistics"]
    assert (told["count"], told["wait_p99_ms"]) == (150, 1000.0)


def test_settings_of_all_processes_are_told_with_their_sources() -> None:
    stage = Stage(dispatcher=True)
    stage.coordinator.begin(job=job(), settings=[SettingSight(name="lease_s", value="30", source="option")])
    stage.dispatcher.begin(functions=functions(), settings=[SettingSight(name="mode", value="local", source="new")])
    stage.turn()
    told = [(row["process"], row["name"], row["source"]) for row in stage.dashboard()["settings"]]
    assert told == [("coordinator", "lease_s", "option"), ("dispatcher", "mode", "derived")]


def test_the_function_plane_is_unknown_until_its_dispatcher_is_heard_and_then_has_rates() -> None:
    stage = Stage(now=1000.75, dispatcher=True)
    stage.turn(1)
    told = stage.dashboard()["functions"]
    assert (told["connected"], told["queued"], told["completed_per_s"]) == (False, None, None)
    stage.dispatcher.begin(functions=functions())
    stage.turn(1)
    for second in range(1, 12):
        stage.dispatcher.say(functions=functions(completed_total=5 * second, ended_total=5 * second, queued=3))
        stage.turn(1)
    told = stage.dashboard()["functions"]
    assert (told["connected"], told["queued"]) == (True, 3)
    assert told["completed_per_s"] == pytest.approx(5)
    assert stage.dashboard()["metrics"]["tasks_per_s"] == pytest.approx(5)


def test_the_coordinators_own_run_is_a_job() -> None:
    stage = Stage()
    stage.coordinator.begin(job=job(job="digits"), workers=[worker("w0"), worker("w1", -1)])
    stage.turn()
    (row,) = stage.dashboard()["tasks"]
    assert (row["id"], row["origin"], row["status"], row["worker_count"]) == ("digits", "coordinator", "running", 1)


def test_nothing_changes_between_turns_and_a_second_without_a_change_counts_as_one() -> None:
    stage = Stage(now=1000.0)
    stage.coordinator.begin(job=job())
    stage.turn(1)
    before = stage.hub.etag(), stage.hub.dashboard()
    stage.coordinator.say(workers=[worker("w0")])
    assert (stage.hub.etag(), stage.hub.dashboard()) == before
    stage.turn(1)
    assert stage.hub.etag() != before[0]
    number = stage.hub.number
    stage.turn(1)
    assert number < stage.hub.number <= number + 4


def test_a_feed_that_fails_and_a_row_that_cannot_be_shown_end_nothing_else(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_FOLLOW_AGAIN_S", 0.0)
    monkeypatch.setattr(hub, "TICK_S", 0.001)
    stage = Stage()
    runs: list[object] = []

    async def run(tell: object) -> None:
        runs.append(tell)
        if len(runs) < 3:
            raise ValueError("it fails")
        await asyncio.Event().wait()

    monkeypatch.setattr(stage.coordinator, "run", run)

    async def scenario() -> None:
        async with stage.hub.running():
            stage.coordinator.begin(job=job(), workers=[msgspec.structs.replace(worker("w0"), heard_at=float("nan"))])
            while len(runs) < 3 or "w1" not in stage.hub.board.workers.models:
                stage.coordinator.say(workers=[worker("w1")])
                await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(scenario(), 10))
    assert "is begun again" in caplog.text
    assert "a turn of the dashboard failed" in caplog.text
