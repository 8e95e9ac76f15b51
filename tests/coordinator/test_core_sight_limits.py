"""What is shown is bounded, however much there is: a snapshot fits a frame, a flood is told in turns or summed up."""

from __future__ import annotations

from lookkit import Onlooker

from strata_zmq.errors import ProtocolError
from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.codec import MAX_REPLY_BYTES, encode
from strata_zmq.protocol.sight import EVENTS_MAX, FLUSH_S, RELEASES_MAX, ROWS_MAX

METADATA = {f"{number:02}": "x" * 900 for number in range(60)}
"""Close to all that one frame takes."""


def join(job, count: int, first: int = 0, **fields) -> list:
    """Have so many newcomers register in one step."""
    newcomers = [job.client("worker") for _ in range(count)]
    events = []
    for number, client in enumerate(newcomers, start=first):
        client.name, client.incarnation = f"w{number:04}", f"life-{number}"
        events.append(
            client.event(wire.RegisterWorker(worker_id=client.name, incarnation=client.incarnation, **fields))
        )
    job.step(*events)
    return newcomers


def test_a_snapshot_fits_a_frame_and_what_has_no_room_comes_with_the_deltas(make_job) -> None:
    job = make_job(lease_s=1e6)
    join(job, 300, metadata=METADATA)
    for number in range(100):
        job.dataset(total=10, shard_size=10, dataset_id=f"data-{number}", metadata=METADATA)
    onlooker = Onlooker(job)
    (sight,) = [call.replies[0] for client in job.clients.values() for call in client.calls.values() if is_sight(call)]
    assert len(encode(sight)) < MAX_REPLY_BYTES
    assert 50 < len(onlooker.picture.tables["workers"]) < 300
    assert 20 < len(onlooker.picture.tables["datasets"]) < 100
    assert len(onlooker.rows("workers")) == 300
    assert max(len(encode(delta)) for delta in job.shown) < MAX_REPLY_BYTES
    late = Onlooker(job)
    assert len(late.picture.tables["workers"]) < 300
    assert len(late.rows("workers")) == 300


def test_who_begins_is_not_told_again_what_the_snapshot_has(make_job) -> None:
    job = make_job(lease_s=1e6)
    join(job, 100)
    Onlooker(job).follow()
    assert [len(delta.changes.workers) for delta in job.shown] == [0] * len(job.shown)


def is_sight(call) -> bool:
    return bool(call.replies) and type(call.replies[0]) is wire.Sight


def test_many_workers_that_change_at_once_are_told_in_turns_and_none_is_left_out(make_job) -> None:
    job = make_job(lease_s=1e6)
    workers = join(job, 3 * ROWS_MAX)
    onlooker = Onlooker(job)
    job.step(*(worker.event(wire.Heartbeat(state="TRAINING", step=9)) for worker in workers))
    rows = onlooker.rows("workers")
    assert {row.step for row in rows.values()} == {9}
    told = [len(delta.changes.workers) for delta in job.shown]
    assert max(told) == ROWS_MAX
    assert sum(told) == 3 * ROWS_MAX


def test_a_flood_of_one_kind_of_event_is_summed_up(make_job) -> None:
    job = make_job()
    onlooker = Onlooker(job)
    join(job, 100)
    joined = onlooker.events("worker_joined")
    assert len(joined) == 17
    assert joined[-1] == "and 84 more of these at the same time"


def test_refusals_are_told_once_a_second_with_how_many_there_were(trio) -> None:
    job, w0, *_ = trio
    onlooker = Onlooker(job)
    for step in range(50):
        w0.begin(step)
        job.wait(0.05)
    told = onlooker.events("refused")
    assert 3 <= len(told) <= 4
    assert "no storage writer is registered" in told[0]
    assert "more before it" in told[1]
    job.core.reject(b"", ProtocolError("a broken frame"))
    assert onlooker.events("refused")[-1] == "protocol: a broken frame"


def test_what_was_forgotten_before_it_was_told_is_counted(make_job) -> None:
    job = make_job(lease_s=1e6)
    onlooker = Onlooker(job)
    for turn in range(40):
        join(job, 20, first=20 * turn)
    picture = onlooker.follow()
    numbers = [event.number for event in picture.logs["events"]]
    assert numbers == list(range(numbers[-1] - EVENTS_MAX + 1, numbers[-1] + 1))
    assert picture.missed == numbers[0] - 2, "the first one was in the snapshot"


def test_ended_barriers_are_kept_up_to_a_number(make_job) -> None:
    job = make_job()
    (only,) = job.workers("w0")
    for step in range(1, 2 * RELEASES_MAX):
        only.arrive("step", step).got(wire.Released)
    picture = Onlooker(job).picture
    assert [row.number for row in picture.logs["releases"]] == list(range(RELEASES_MAX, 2 * RELEASES_MAX))
    assert picture.job.releases == 2 * RELEASES_MAX - 1


def test_long_sentences_are_cut(trio) -> None:
    job, w0, *_ = trio
    w0.ask(wire.Deregister(reason="x" * 4000))
    (event,) = [one for one in Onlooker(job).picture.logs["events"] if one.kind == "worker_left"]
    assert len(event.text) == 1000
    assert event.text.endswith(" ...")


def test_a_snapshot_costs_no_more_however_often_it_is_asked_for(make_job) -> None:
    """Whoever asks in every step gets the same one until the next delta is due."""
    job = make_job(lease_s=1e6)
    join(job, 10)
    client = job.client()
    sights = []
    for _ in range(20):
        sights.append(client.ask(wire.GetSight()).got(wire.Sight))
        job.now += FLUSH_S / 20
    assert len({(sight.number, sight.at) for sight in sights}) == 1
