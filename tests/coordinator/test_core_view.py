"""A follower that takes a view and then the broadcasts after it knows the membership, and can prove it."""

from __future__ import annotations

from strata_zmq.domain.membership import membership_digest
from strata_zmq.protocol import messages as wire


def view(job):
    return job.client().ask(wire.GetView()).got(wire.View)


def test_a_view_and_the_broadcasts_after_it_give_the_present_membership(make_job) -> None:
    job = make_job(min_workers=1)
    w0, _ = job.workers("w0"), job.worker("w1")
    start = view(job)
    members, seq = list(start.members), start.broadcast_seq
    job.worker("w10")
    job.worker("w2")
    job.lose(w0[0])
    for heard in job.announced:
        if type(heard) is wire.MembershipChanged and heard.seq > seq:
            members = [name for name in members if name not in heard.left] + heard.joined
            assert heard.digest == membership_digest(heard.generation, heard.epoch, heard.formed, members)
            assert heard.world_size == len(members)
    assert members == ["w1", "w10", "w2"]
    now = view(job)
    assert (now.members, now.generation) == (members, job.history.generation)
    assert now.broadcast_seq == job.announced[-1].seq


def test_a_tick_repeats_the_digest_of_a_view(trio) -> None:
    job, *_ = trio
    assert job.core.pulse().digest == view(job).digest
    job.worker("w3")
    assert job.core.pulse().digest == view(job).digest


def test_a_view_lists_the_committed_checkpoints_newest_first(saving) -> None:
    job, workers, writer = saving
    for step in (10, 20):
        for worker in workers:
            opened = worker.begin(step).got(wire.CheckpointOpened)
            worker.durable(opened.checkpoint_id)
        order = writer.asked_to_commit()
        kept = [*job.history.checkpoints, order.checkpoint_id]
        writer.confirm(wire.CheckpointSummary(order.checkpoint_id, step, 0, 300, 1.0), *kept)
    assert [one.step for one in view(job).checkpoints] == [20, 10]
