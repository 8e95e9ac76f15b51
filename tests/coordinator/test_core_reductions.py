"""Values that arrivals carry are agreed on in the same round trip: every rank gets the same result, or none does."""

from __future__ import annotations

import math

import pytest

from strata_zmq.protocol import messages as wire


def loss(value: float, op: wire.Reduction = "mean") -> list[wire.Value]:
    return [wire.Value("loss", op, value)]


def test_every_rank_gets_the_same_result_of_all_values(trio) -> None:
    _, *workers = trio
    calls = [
        worker.arrive(
            values=[
                wire.Value("loss", "mean", rank + 1.0),
                wire.Value("samples", "sum", 10.0),
                wire.Value("slowest", "max", rank),
                wire.Value("fastest", "min", rank),
                wire.Value("stop", "any", float(rank == 1)),
                wire.Value("ready", "all", float(rank != 1)),
            ]
        )
        for rank, worker in enumerate(workers)
    ]
    for call in calls:
        assert call.got(wire.Released).reduced == {
            "loss": 2.0,
            "samples": 30.0,
            "slowest": 2.0,
            "fastest": 0.0,
            "stop": 1.0,
            "ready": 0.0,
        }


def test_a_barrier_of_some_reduces_the_values_of_those_who_took_part(trio) -> None:
    _, w0, w1, w2 = trio
    w0.arrive("pair", expected=2, values=loss(1.0))
    w2.arrive("pair", expected=2, values=loss(2.0))
    assert w1.arrive("pair", expected=2, values=loss(100.0)).got(wire.Released).reduced == {"loss": 1.5}


def test_the_last_word_of_a_rank_that_asks_again_counts_and_counts_once(trio) -> None:
    _, w0, w1, w2 = trio
    w0.arrive(values=loss(100.0, "sum"))
    w0.arrive(values=loss(1.0, "sum"))
    w1.arrive(values=loss(2.0, "sum"))
    assert w2.arrive(values=loss(3.0, "sum")).got(wire.Released).reduced == {"loss": 6.0}


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ([], ["[loss:mean]", "[]"]),
        (loss(1.0, "sum"), ["loss:mean", "loss:sum"]),
        ([wire.Value("accuracy", "mean", 1.0)], ["loss:mean", "accuracy:mean"]),
        ([*loss(1.0), wire.Value("stop", "any", 0.0)], ["[loss:mean]", "[loss:mean, stop:any]"]),
    ],
    ids=["none", "operation", "name", "more"],
)
def test_ranks_that_do_not_bring_the_same_values_are_told_what_the_others_brought(trio, other, words) -> None:
    _, w0, w1, w2 = trio
    waiting = w0.arrive(values=loss(1.0))
    w1.arrive(values=other).refused("invalid_argument", "all ranks must say the same", *words)
    w1.arrive(values=loss(2.0))
    w2.arrive(values=loss(3.0))
    assert waiting.got(wire.Released).reduced == {"loss": 2.0}


def test_a_name_that_stands_twice_is_refused(trio) -> None:
    job, w0, *_ = trio
    w0.arrive(values=[*loss(1.0), *loss(1.0, "max")]).refused("invalid_argument", "'step'", "loss, loss")
    assert job.status().barriers == []


def test_a_commit_point_reduces_values_and_commits_ranges_at_once(trio) -> None:
    job, *workers = trio
    job.dataset(total=30, shard_size=10)
    calls = []
    for worker in workers:
        shard = worker.shards().shards[0]
        calls.append(worker.commit(job.seen(shard, 0, 5), values=loss(float(shard), "sum")))
    for call in calls:
        released = call.got(wire.Released)
        assert (released.reduced, released.commit_index, released.remaining) == ({"loss": 3.0}, 1, {"data": 15})


@pytest.mark.parametrize("commit", [False, True], ids=["barrier", "commit"])
def test_who_missed_the_result_gets_the_same_one_after_a_restart(trio, commit) -> None:
    job, *workers = trio
    for rank, worker in enumerate(workers):
        call = worker.arrive("step", 1, commit=commit, values=[wire.Value("nan", "max", math.nan), *loss(rank)])
    before = call.got(wire.Released)
    job.restart()
    for worker in workers:
        worker.hello().got(wire.Welcome)
        worker.register().got(wire.Registered)
        again = worker.arrive("step", 1, commit=commit).got(wire.Released)
        assert again.reduced["loss"] == before.reduced["loss"] == 1.0
        assert math.isnan(again.reduced["nan"])


def test_a_barrier_without_values_reduces_nothing(job) -> None:
    (alone,) = job.workers("alone")
    assert alone.arrive().got(wire.Released).reduced == {}


def test_a_release_tells_how_late_the_others_were_and_who_came_last(make_job) -> None:
    job = make_job(initial_workers=6)
    workers = job.workers(*(f"w{number}" for number in range(6)))
    for worker in workers[:5]:
        worker.arrive()
        job.wait(0.5)
    released = workers[5].arrive().got(wire.Released)
    assert released.lag == wire.Lag(p50_ms=1000.0, p90_ms=2500.0, p99_ms=2500.0, max_ms=2500.0)
    assert released.slowest == ["w5", "w4", "w3", "w2"]


def test_one_worker_alone_is_nobodys_straggler(job) -> None:
    (alone,) = job.workers("alone")
    released = alone.arrive().got(wire.Released)
    assert released.lag == wire.Lag(0.0, 0.0, 0.0, 0.0)
    assert released.slowest == []


def test_a_release_of_more_than_thirty_two_gives_their_ranks_for_their_names(make_job) -> None:
    job = make_job(initial_workers=33)
    workers = job.workers(*(f"w{number}" for number in range(33)))
    for worker in reversed(workers):
        call = worker.arrive()
    released = call.got(wire.Released)
    assert (released.participants, released.ranks) == ([], list(range(33))[::-1])
    again = workers[7].arrive().got(wire.Released)
    assert (again.participants, again.ranks) == ([worker.name for worker in reversed(workers)], [])
