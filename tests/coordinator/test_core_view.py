"""A follower that takes a view and then the broadcasts after it knows the membership, and can prove it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

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


class Follower:
    """Somebody who took one view and has only heard broadcasts since."""

    def __init__(self, job) -> None:
        start = view(job)
        self.read = len(job.announced)
        self.generation, self.epoch, self.formed = start.generation, start.epoch, start.formed
        self.members, self.seq, self.digest = list(start.members), start.broadcast_seq, start.digest

    def listen(self, job) -> None:
        for heard in job.announced[self.read :]:
            assert heard.seq == self.seq + 1, "nothing is missed"
            self.seq, self.generation = heard.seq, heard.generation
            if type(heard) is wire.EpochStarted:
                self.epoch = heard.epoch
            elif type(heard) is wire.MembershipChanged:
                self.members = [name for name in self.members if name not in heard.left] + heard.joined
                self.epoch, self.formed = heard.epoch, heard.formed
                assert heard.digest == self.own_digest()
                assert heard.world_size == len(self.members)
                assert heard.members == self.members
        self.read = len(job.announced)

    def own_digest(self) -> int:
        return membership_digest(self.generation, self.epoch, self.formed, self.members)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["come", "leave", "lose", "fall silent", "finish", "restore", "restart", "wait", "come two"]),
        st.integers(0, 4),
    ),
    max_size=30,
)


@settings(max_examples=100)
@given(steps=STEPS, initial=st.integers(1, 3), least=st.integers(1, 3), window=st.sampled_from([0.0, 1.0]))
def test_a_follower_of_all_broadcasts_always_has_the_digest_of_a_view(make_job, steps, initial, least, window) -> None:
    job = make_job(initial_workers=initial, min_workers=least, join_window_s=window)
    job.dataset()
    follower = Follower(job)
    live: dict[str, object] = {}
    for what, number in steps:
        name = f"w{number}"
        if what in {"come", "come two"}:
            come(job, live, [name, f"w{number + 5}"] if what == "come two" else [name])
        elif what == "finish":
            for worker in live.values():
                worker.advance(timeout_s=60.0)
        elif what == "restart":
            job.restart()
            follower = Follower(job)
            for worker in live.values():
                worker.hello()
                worker.register()
        elif what == "wait":
            job.wait(1.0)
            for worker in live.values():
                worker.heartbeat()
        elif name in live:
            act(job, live, what, name)
        follower.listen(job)
        now = view(job)
        assert (follower.generation, follower.epoch) == (now.generation, now.epoch)
        assert (follower.formed, follower.members) == (now.formed, now.members)
        assert follower.own_digest() == now.digest == job.core.pulse().digest


def come(job, live, names) -> None:
    clients = []
    for name in names:
        if name not in live:
            client = job.client("worker")
            client.name, client.incarnation = name, f"life-{next(job.numbers)}"
            clients.append(client)
    job.step(
        *(one.event(wire.RegisterWorker(worker_id=one.name, incarnation=one.incarnation, pid=1000)) for one in clients)
    )
    live |= {one.name: one for one in clients if job.core._world.workers.get(one.name) is not None}


def act(job, live, what: str, name: str) -> None:
    worker = live[name]
    if what == "restore":
        worker.ask(wire.Restore(checkpoint_id="none", ledger=b'{"epoch": 0, "commit_index": 0, "datasets": {}}'))
        return
    del live[name]
    if what == "leave":
        worker.ask(wire.Deregister())
    elif what == "lose":
        job.lose(worker)
    else:
        for _ in range(3):
            job.wait(3.0)
            for other in live.values():
                other.heartbeat()


def test_a_generation_that_broke_is_announced(make_job) -> None:
    job = make_job(initial_workers=2, min_workers=2)
    _, w1 = job.workers("w0", "w1")
    job.lose(w1)
    broken = job.announced[-1]
    assert (broken.formed, broken.left, broken.members, broken.world_size) == (False, ["w1"], ["w0"], 1)


def test_above_a_thousand_members_a_broadcast_names_the_difference_only(make_job) -> None:
    job = make_job(initial_workers=1001)
    live: dict[str, object] = {}
    come(job, live, [f"w{number}" for number in range(1001)])
    first = job.announced[-1]
    assert (first.members, len(first.joined), first.world_size) == ([], 1001, 1001)
    job.lose(live["w7"])
    second = job.announced[-1]
    assert (len(second.members), second.left, second.world_size) == (1000, ["w7"], 1000)
