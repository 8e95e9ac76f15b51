"""Every wait ends: when its own time is over, however often it was asked for, and when nobody else will come."""

from __future__ import annotations

import pytest

from strata_zmq.protocol import messages as wire


@pytest.mark.parametrize(
    ("request_", "missing"),
    [
        (wire.Arrive(name="step", step=1, timeout_s=5.0), ["w1", "w2"]),
        (wire.Arrive(name="commit", step=1, timeout_s=5.0, commit=True), ["w1", "w2"]),
        (wire.AdvanceEpoch(epoch=0, timeout_s=5.0), ["w1", "w2"]),
        (wire.AwaitGeneration(after=1, timeout_s=5.0), []),
    ],
    ids=["barrier", "commit", "epoch", "generation"],
)
def test_asking_again_does_not_prolong_a_wait(trio, request_, missing) -> None:
    """A client repeats what is not answered every few seconds; the answer that names who is missing comes in time."""
    job, w0, _, _ = trio
    asked = w0.event(request_)
    call = w0.calls[asked.message.seq]
    for _ in range(5):
        job.step(asked)
        job.wait(1.25)
    assert call.replies[0].code == "deadline_exceeded"
    assert call.replies[0].missing == missing


def test_a_new_request_waits_for_as_long_as_it_says(trio) -> None:
    job, w0, _, _ = trio
    first = w0.advance(0, timeout_s=4.0)
    job.wait(3.0)
    second = w0.advance(0, timeout_s=4.0)
    job.wait(3.0)
    assert first.waits
    assert second.waits


def test_who_comes_back_after_all_others_have_finished_goes_on_without_them(trio) -> None:
    """A beginning waits for as many as the first, but for one lease at most."""
    job, w0, w1, w2 = trio
    job.lose(w2)
    for worker in (w0, w1):
        worker.ask(wire.Deregister()).got(wire.Done)
    late = job.worker("w2")
    waiting = late.join()
    job.wait(job.config.lease_s - 1.0)
    late.heartbeat()
    assert waiting.waits
    assert job.status().need == 3
    job.wait(1.5)
    assert waiting.got(wire.Membership).members == ["w2"]
    assert job.status().need == 1


def test_the_first_generation_waits_for_all_its_workers_however_long_that_takes(make_job) -> None:
    job = make_job(initial_workers=2)
    first = job.worker("w0")
    waiting = first.join(timeout_s=600.0)
    for _ in range(5):
        job.wait(job.config.lease_s - 1.0)
        first.heartbeat()
    assert waiting.waits


def test_only_the_latest_requests_that_were_given_up_are_remembered(make_job) -> None:
    """A copy of one of them is refused again; one from long ago is a new request, and memory stays bounded."""
    job = make_job(initial_workers=101, lease_s=1000.0)
    *waiting, _ = job.workers(*(f"w{number}" for number in range(101)))

    def give_up(epochs: int) -> list:
        for _ in range(epochs):
            events = [worker.event(wire.AdvanceEpoch(epoch=0, timeout_s=0.1)) for worker in waiting]
            job.step(*events)
            job.wait(0.25)
        return events

    first, last = give_up(1), give_up(41)
    job.step(first[0], last[0])
    replies = [waiting[0].calls[event.message.seq].replies for event in (first[0], last[0])]
    assert [len(one) for one in replies] == [1, 2]
    assert {reply.code for one in replies for reply in one} == {"deadline_exceeded"}
