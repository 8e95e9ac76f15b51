"""A worker that everybody waits for and that does not move is named; one that is silent, too, loses its lease."""

from __future__ import annotations

import pytest

from strata_zmq.protocol import messages as wire

HANG_S = 20.0


@pytest.fixture
def hanging(make_job):
    """Three members; `live(seconds, *who)` lets time pass in which everybody's heartbeats come, and these also move."""
    job = make_job(initial_workers=3, hang_s=HANG_S)
    members = job.workers("w0", "w1", "w2")
    beats = iter(range(1, 10_000))

    def live(seconds: float, *moving) -> None:
        for _ in range(int(seconds)):
            job.wait(1.0)
            beat = next(beats)
            for member in members:
                member.heartbeat(progress=beat if member in moving else 0, state="TRAINING", step=7)

    return job, members, live


def rows(job) -> list[tuple[str, int, int, str]]:
    return [(row.worker_id, row.rank, row.waited_for_by, row.where) for row in job.status().hangs]


def test_a_member_that_others_wait_for_at_a_barrier_and_that_does_not_move_hangs(hanging) -> None:
    job, (w0, w1, w2), live = hanging
    w0.arrive(timeout_s=600.0)
    w2.arrive(timeout_s=600.0)
    live(HANG_S - 2)
    assert rows(job) == []
    live(5)
    assert rows(job) == [("w1", 1, 2, "barrier 'step' step 1")]
    (row,) = job.status().hangs
    assert row.since_s >= HANG_S
    assert job.status().counters["hangs"] == 1
    assert job.history.member_ids == ("w0", "w1", "w2"), "a verdict evicts nobody"
    w1.arrive().got(wire.Released)
    live(2)
    assert rows(job) == []


@pytest.mark.parametrize("where", ["commit point 1", "epoch 0"])
def test_a_commit_point_and_the_end_of_an_epoch_are_waited_for_as_well(hanging, where: str) -> None:
    job, (w0, w1, _), live = hanging
    for member in (w0, w1):
        member.commit(timeout_s=600.0) if where.startswith("commit") else member.advance(timeout_s=600.0)
    live(HANG_S + 2)
    assert rows(job) == [("w2", 2, 2, where)]


def test_a_checkpoint_is_waited_for_as_well(saving) -> None:
    job, (w0, w1, w2), _ = saving
    name, *_ = (worker.begin().got(wire.CheckpointOpened).checkpoint_id for worker in (w0, w1, w2))
    for worker in (w0, w2):
        worker.durable(name)
    for _ in range(int(job.config.hang_s) + 4):
        job.wait(1.0)
        for worker in (w0, w1, w2):
            worker.heartbeat()
    assert rows(job) == [("w1", 1, 2, f"checkpoint {name!r}")]


def test_who_moves_does_not_hang_however_long_it_takes(hanging) -> None:
    job, (w0, w1, w2), live = hanging
    w0.arrive(timeout_s=600.0)
    w2.arrive(timeout_s=600.0)
    live(3 * HANG_S, w1)
    assert rows(job) == []
    live(HANG_S + 2)
    assert [row[0] for row in rows(job)] == ["w1"]
    live(2, w1)
    assert rows(job) == []


def test_nobody_hangs_whom_nobody_waits_for(hanging) -> None:
    job, members, live = hanging
    members[0].arrive("pair", expected=2, timeout_s=600.0)  # anybody could be the second
    live(2 * HANG_S)
    assert rows(job) == []


def test_who_waits_elsewhere_itself_does_not_hang(hanging) -> None:
    """Two that wait for each other at two barriers made a mistake; neither is stuck."""
    job, (w0, w1, w2), live = hanging
    w0.arrive("here", timeout_s=600.0)
    w1.arrive("there", timeout_s=600.0)
    live(HANG_S + 2, w2)
    assert rows(job) == []


def test_who_hangs_is_asked_for_its_stacks_once(hanging) -> None:
    job, (w0, w1, w2), live = hanging
    for member in (w0, w2):
        member.arrive(timeout_s=600.0)
    live(3 * HANG_S)
    ack = w1.heartbeat(commands_seen=0).got(wire.HeartbeatAck)
    assert ack.commands == ["dump_stacks"]
    w1.heartbeat(commands_seen=ack.command_id, progress=1)
    live(HANG_S + 2)
    again = w1.heartbeat(commands_seen=ack.command_id).got(wire.HeartbeatAck)
    assert again.commands == ["dump_stacks"], "another hang is another question"
    assert job.status().counters["hangs"] == 2


def test_a_full_queue_of_commands_does_not_stop_the_verdict(hanging) -> None:
    job, (w0, _, w2), live = hanging
    supervisor = job.supervisor()
    for number in range(16):
        supervisor.ask(wire.SendCommand(command=("drain", "stop")[number % 2], workers=["w1"])).got(wire.Done)
    for member in (w0, w2):
        member.arrive(timeout_s=600.0)
    live(HANG_S + 2)
    assert [row[0] for row in rows(job)] == ["w1"]


def test_the_log_names_who_hangs_and_where(hanging) -> None:
    job, (w0, w1, w2), _ = hanging
    for member in (w0, w2):
        member.arrive(timeout_s=600.0)
    notes: list[str] = []
    for _ in range(int(HANG_S) + 2):
        job.now += 1.0
        notes += job.step(*(member.event(wire.Heartbeat(step=7)) for member in (w0, w1, w2))).notes
    (told,) = notes
    for word in ("w1 (rank 1, IDLE at step 7, heard", "hangs: 2 wait for it at barrier 'step' step 1"):
        assert word in told


def test_with_zero_seconds_nobody_looks(make_job) -> None:
    job = make_job(initial_workers=2, hang_s=0.0)
    w0, w1 = job.workers("w0", "w1")
    w0.arrive(timeout_s=6000.0)
    for _ in range(200):
        job.wait(2.0)
        w0.heartbeat()
        w1.heartbeat()
    assert rows(job) == []


def test_time_in_which_the_coordinator_did_not_run_is_nobodys_hang(hanging) -> None:
    job, (w0, _, w2), live = hanging
    w0.arrive(timeout_s=6000.0)
    w2.arrive(timeout_s=6000.0)
    live(5)
    job.stall(3 * HANG_S)
    live(HANG_S - 8)
    assert rows(job) == []
    live(6)
    assert rows(job) == [("w1", 1, 2, "barrier 'step' step 1")]


def test_who_is_asked_for_its_stacks_has_time_to_move_however_late_the_coordinator_is(make_job) -> None:
    job = make_job(initial_workers=2, hang_s=HANG_S, evict_hung=True)
    w0, w1 = job.workers("w0", "w1")
    w0.arrive(timeout_s=6000.0)
    while not job.status().hangs:
        job.wait(1.0)
        w0.heartbeat()
        w1.heartbeat()
    job.stall(HANG_S)
    job.wait(0.5)
    assert job.history.member_ids == ("w0", "w1")
    w1.arrive().got(wire.Released)


@pytest.fixture
def evicted(make_job):
    """w1 hung at a barrier that w0 waits at, and was evicted; its heartbeats still come."""
    job = make_job(initial_workers=2, hang_s=HANG_S, evict_hung=True)
    w0, w1 = job.workers("w0", "w1")
    w1.heartbeat(progress=3)
    waiting = w0.arrive(timeout_s=600.0)
    for _ in range(int(HANG_S) + 1):
        job.wait(1.0)
        w0.heartbeat()
        w1.heartbeat(progress=3)
    assert w1.heartbeat(progress=3).got(wire.HeartbeatAck).commands == ["dump_stacks"], "it is asked first"
    assert job.history.member_ids == ("w0", "w1")
    for _ in range(3):
        job.wait(1.0)
        w0.heartbeat()
    waiting.refused("barrier_broken", "w1")
    return job, w0, w1


def test_with_evict_hung_the_others_go_on_without_it(evicted) -> None:
    job, _, w1 = evicted
    assert job.history.member_ids == ("w0",)
    assert job.status().counters["hung_evicted"] == 1
    w1.heartbeat(progress=3).refused("fenced", "found to hang")


def test_a_process_that_was_evicted_comes_back_when_its_loop_has_moved(evicted) -> None:
    job, _, w1 = evicted
    w1.register(progress=3).refused("unavailable", "'w1'", "hangs")
    w1.register(progress=4).got(wire.Registered)
    assert job.history.member_ids == ("w0", "w1")


def test_another_process_takes_the_place_of_an_evicted_one_at_once(evicted) -> None:
    job, *_ = evicted
    job.worker("w1")
    assert job.history.member_ids == ("w0", "w1")


def test_a_worker_stuck_in_the_interpreter_sends_nothing_and_loses_its_lease(make_job) -> None:
    job = make_job(initial_workers=2, hang_s=600.0)
    w0, _ = job.workers("w0", "w1")
    waiting = w0.arrive(timeout_s=600.0)
    for _ in range(9):
        job.wait(1.0)
        w0.heartbeat()
    waiting.refused("barrier_broken", "w1")
    assert job.status().hangs == []


def test_a_wait_that_ends_tells_of_each_missing_worker_how_it_is(trio) -> None:
    job, w0, w1, w2 = trio
    barrier, epoch = w0.arrive(timeout_s=5.0), w0.advance(timeout_s=5.0)
    job.wait(3.0)
    w1.heartbeat(state="TRAINING", step=41, progress=2)
    w2.join()
    w2.ask(wire.AwaitGeneration(after=1, timeout_s=60.0))
    job.wait(2.25)
    told = [
        "w1 (rank 1, TRAINING at step 41, heard 2.0 s ago, moved 2.0 s ago)",
        "w2 (rank 2, INITIALIZING at step 0, heard 2.0 s ago, moved 5.0 s ago, waits for a generation)",
    ]
    barrier.refused("deadline_exceeded", *told)
    epoch.refused("deadline_exceeded", *told)


def test_a_missing_worker_that_has_not_come_back_after_a_restart_is_told_as_such(trio) -> None:
    job, w0, *_ = trio
    job.restart()
    w0.hello().got(wire.Welcome)
    w0.register().got(wire.Registered)
    waiting = w0.arrive(timeout_s=2.0)
    job.wait(2.25)
    waiting.refused("deadline_exceeded", "w1 (rank 1, RECOVERING at step 0, not heard since a restart")


def test_a_long_list_of_missing_workers_is_cut_short(make_job) -> None:
    job = make_job(initial_workers=30)
    first, *_ = job.workers(*(f"w{number}" for number in range(30)))
    waiting = first.arrive(timeout_s=2.0)
    job.wait(2.25)
    error = waiting.refused("deadline_exceeded", "w20 (rank 20", ", ...")
    assert "w21" not in error.message
    assert len(error.missing) == 29
