"""Membership: who is in, with which rank, until when, and who may say otherwise."""

from __future__ import annotations

import pytest

from strata_zmq.protocol import messages as wire


def test_the_first_generation_waits_for_its_quorum_and_says_how_many_it_has(make_job) -> None:
    job = make_job(initial_workers=3)
    first, second = job.worker("w0"), job.worker("w1")
    waiting = first.join()
    told = second.register().got(wire.Registered)
    assert (told.need, told.have) == (3, 2)
    assert waiting.waits
    assert not job.history.formed

    job.worker("w2")

    assert waiting.got(wire.Membership).members == ["w0", "w1", "w2"]
    assert job.history.generation == 1


def test_the_first_generation_never_takes_fewer_than_the_least_that_later_ones_need(make_job) -> None:
    job = make_job(initial_workers=1, min_workers=2)
    waiting = job.worker("w0").join()
    assert waiting.waits
    job.worker("w1")
    assert waiting.got(wire.Membership).members == ["w0", "w1"]


def test_a_wait_for_the_quorum_ends_in_time_and_says_who_is_there_and_what_to_start(make_job) -> None:
    job = make_job(initial_workers=2)
    worker = job.worker("lonely")
    waiting = worker.join(timeout_s=2.0)
    job.wait(1.75)
    assert waiting.waits
    job.wait(0.25)
    waiting.refused("deadline_exceeded", "1 of 2", "lonely", "--initial-workers")


def test_a_long_list_of_registered_workers_is_cut_short_in_messages(make_job) -> None:
    job = make_job(initial_workers=20)
    waiting = [job.worker(f"w{number}") for number in range(12)].pop().join(timeout_s=1.0)
    job.wait(1.0)
    waiting.refused("deadline_exceeded", "12 of 20", "w0", "...")


def test_survivors_keep_their_order_and_newcomers_follow_in_natural_order(make_job) -> None:
    job = make_job(initial_workers=3)
    w10, w2, w9 = (job.worker(name) for name in ("w10", "w2", "w9"))
    members = [w2, w9, w10]
    assert [member.join().got(wire.Membership).rank for member in members] == [0, 1, 2]

    job.lose(w2)
    w1 = job.worker("w1")

    assert job.history.member_ids == ("w9", "w10", "w1")
    told = w1.join().got(wire.Membership)
    assert told.rank == 2
    assert told.joined == ["w1"]
    assert w9.join().got(wire.Membership).rank == 0


def test_a_worker_id_that_a_live_process_holds_is_refused_and_the_holder_named(trio) -> None:
    job, w0, _, _ = trio
    w0.register(hostname="node-7", pid=4321).got(wire.Registered)
    job.wait(2.0)
    impostor = job.client("worker")
    impostor.name, impostor.incarnation = "w0", "another-life"
    words = ["'w0'", "4321", "node-7", "heard 2.0 s ago", "WORKER_ID", "8 s"]
    impostor.register().refused("already_exists", *words)
    assert job.history.generation == 1


def test_the_same_process_registers_again_after_a_reconnect_without_a_new_generation(trio) -> None:
    job, w0, _, _ = trio
    again = job.worker("w0", incarnation=w0.incarnation)
    again.generation = 1
    assert job.history.generation == 1
    assert again.heartbeat().got(wire.HeartbeatAck).generation == 1
    assert again.arrive().waits


def test_a_lease_ends_exactly_when_it_says_and_not_before(make_job) -> None:
    job = make_job(lease_s=8.0)
    _, second = job.workers("w0", "w1")
    job.wait(7.75)
    second.heartbeat().got(wire.HeartbeatAck)
    assert job.history.member_ids == ("w0", "w1")
    job.wait(0.25)
    assert job.history.member_ids == ("w1",)


@pytest.mark.parametrize("what", ["heartbeat", "barrier", "shards"])
def test_any_traffic_renews_a_lease(make_job, what: str) -> None:
    job = make_job(lease_s=8.0)
    job.dataset()
    quiet, talking = job.workers("quiet", "talking")
    for number in range(4):
        job.wait(4.0)
        if what == "heartbeat":
            talking.heartbeat().got(wire.HeartbeatAck)
        elif what == "barrier":
            talking.arrive(f"alone-{number}", expected=1)
        else:
            talking.shards(worker_id="talking")
    assert job.history.member_ids == ("talking",)
    quiet.heartbeat().refused("fenced", "quiet")


def test_a_fenced_worker_is_told_so_and_comes_back_by_registering_again(trio) -> None:
    job, w0, w1, w2 = trio
    for _ in range(3):
        job.wait(4.0)
        w1.heartbeat()
        w2.heartbeat()
    assert job.history.member_ids == ("w1", "w2")
    w0.heartbeat().refused("fenced", "'w0'", "8 s", "register again")
    w0.arrive().refused("fenced", "'w0'")
    w0.register().got(wire.Registered)
    assert job.history.member_ids == ("w1", "w2", "w0")
    assert w0.join().got(wire.Membership).rank == 2


def test_a_fenced_connection_may_go_on_under_another_worker_id(job) -> None:
    _stays, goes = job.workers("stays", "goes")
    job.lose(goes)
    goes.name = "another"
    goes.register().got(wire.Registered)
    assert job.history.member_ids == ("stays", "another")


def test_one_connection_is_one_worker(trio) -> None:
    _, w0, _, _ = trio
    w0.register(worker_id="other").refused("invalid_argument", "'other'", "'w0'", "deregister")


def test_more_workers_than_the_limit_are_refused_by_name(make_job) -> None:
    job = make_job(max_workers=1)
    job.worker("w0")
    late = job.client("worker")
    late.name = late.incarnation = "w1"
    late.register().refused("resource_exhausted", "max_workers is 1")


@pytest.mark.parametrize("worker_id", ["", "a" * 129, "two words", "..", "späth"])
def test_a_worker_id_outside_the_limits_is_refused_and_the_field_named(job, worker_id: str) -> None:
    client = job.client("worker")
    client.register(worker_id=worker_id, incarnation="life").refused("invalid_argument", "worker_id")


def test_metadata_outside_the_limits_is_refused_and_the_field_named(job) -> None:
    client = job.client("worker")
    request = {"worker_id": "w", "incarnation": "life", "metadata": {"key": "x" * 1025}}
    client.register(**request).refused("invalid_argument", "metadata")


def test_only_a_connection_that_said_it_is_a_worker_registers_as_one(job) -> None:
    job.client().register(worker_id="w0", incarnation="life").refused("invalid_argument", "'client'", "role")


def test_a_worker_that_leaves_on_purpose_is_gone_at_once(trio) -> None:
    job, w0, w1, _ = trio
    w0.ask(wire.Deregister()).got(wire.Done)
    assert job.history.member_ids == ("w1", "w2")
    told = w1.join().got(wire.Membership)
    assert (told.joined, told.left) == ([], ["w0"])
    w0.ask(wire.Deregister()).refused("stale_generation", "REGISTER_WORKER")
    w0.register().got(wire.Registered)
    assert job.history.member_ids == ("w1", "w2", "w0")


def test_too_few_members_break_the_generation_until_enough_are_back(make_job) -> None:
    job = make_job(initial_workers=2, min_workers=2)
    w0, w1 = job.workers("w0", "w1")
    waiting = w0.join()
    job.lose(w1)
    assert not job.history.formed
    assert waiting.waits
    w0.arrive().refused("generation_changed", "too few", "left: w1")

    job.worker("w2")

    told = waiting.got(wire.Membership)
    assert (told.generation, told.members) == (2, ["w0", "w2"])


def test_rank_0_is_a_member_that_has_been_there_also_after_a_generation_broke(make_job) -> None:
    job = make_job(initial_workers=3, min_workers=3)
    w0, w1, w2 = job.workers("w0", "w1", "w2")
    job.lose(w2)
    job.lose(w0)
    job.worker("w0")
    job.worker("w2")
    assert job.history.member_ids == ("w1", "w0", "w2")
    told = w1.join().got(wire.Membership)
    assert (told.rank, told.joined) == (0, ["w0", "w2"])


def test_a_broken_generation_forms_again_when_the_coordinator_comes_back_content_with_fewer(make_job) -> None:
    job = make_job(initial_workers=3, min_workers=3)
    w0, w1, w2 = job.workers("w0", "w1", "w2")
    job.lose(w2)
    job.restart(min_workers=2)
    for worker in (w0, w1):
        worker.hello().got(wire.Welcome)
        worker.register().got(wire.Registered)
    assert w0.join().got(wire.Membership).members == ["w0", "w1"]


def test_a_supervisors_report_removes_the_worker_at_once(trio) -> None:
    job, _, w1, _ = trio
    waiting = w1.join()
    job.supervisor().ask(wire.ReportLost(worker_id="w0", pid=1000)).got(wire.Done)
    assert waiting.got(wire.Membership).left == ["w0"]


def test_a_report_of_an_earlier_process_life_removes_nobody(trio) -> None:
    job, _, _, _ = trio
    job.supervisor().ask(wire.ReportLost(worker_id="w0", pid=999)).got(wire.Done)
    assert job.history.member_ids == ("w0", "w1", "w2")


def test_a_report_of_an_unknown_worker_names_the_known_ones(trio) -> None:
    job, *_ = trio
    report = wire.ReportLost(worker_id="w9", pid=1)
    job.supervisor().ask(report).refused("not_found", "'w9'", "w0, w1, w2")


def test_a_report_needs_the_supervisors_token(trio) -> None:
    job, _w0, w1, _ = trio
    for other in (w1, job.client(), job.writer()):
        other.ask(wire.ReportLost(worker_id="w0", pid=1000)).refused("invalid_argument", "supervisor", "token")
    assert "w0" in job.history.member_ids


@pytest.mark.parametrize("token", ["", "guess", "supervisor's secret ", "gehëim"])
def test_a_wrong_supervisors_token_is_refused_at_hello(job, token: str) -> None:
    client = job.client()
    client.ask(wire.Hello(role="supervisor", token=token)).refused("invalid_argument", "token")


def test_without_a_token_nobody_is_supervisor(make_job) -> None:
    job = make_job(supervisor_token="")
    job.client().ask(wire.Hello(role="supervisor", token="")).refused("invalid_argument", "token")


def test_a_restarted_coordinator_declares_nobody_dead_for_one_lease(trio) -> None:
    job, w0, w1, _w2 = trio
    job.wait(7.5)
    job.restart()
    job.wait(7.75)
    assert job.history.member_ids == ("w0", "w1", "w2")
    for worker in (w0, w1):
        worker.hello().got(wire.Welcome)
        worker.register().got(wire.Registered)
    assert w0.arrive().waits
    job.wait(0.25)
    assert job.history.member_ids == ("w0", "w1")


def test_a_restarted_coordinator_still_says_who_made_the_difference(trio) -> None:
    job, w0, _, w2 = trio
    job.lose(w2)
    job.restart()
    w0.hello().got(wire.Welcome)
    w0.register().got(wire.Registered)
    w0.arrive().refused("generation_changed", "left: w2", "joined: nobody")


def test_a_coordinator_that_did_not_run_forgives_everybody_the_time_that_it_missed(trio) -> None:
    job, w0, _, _ = trio
    writer = job.writer()
    job.stall(100.0)
    job.step()
    assert job.history.member_ids == ("w0", "w1", "w2")
    assert job.status().writers == ["writer"]
    assert job.status().counters["late_steps"] == 1
    job.wait(7.75)
    w0.heartbeat().got(wire.HeartbeatAck)
    writer.heartbeat().got(wire.HeartbeatAck)
    job.wait(0.25)
    assert job.history.member_ids == ("w0",)
    assert job.status().writers == ["writer"]


@pytest.mark.parametrize("lease_s", [0.1, 0.3, 3.0])
def test_a_busy_coordinator_does_not_take_itself_for_a_late_one(make_job, lease_s: float) -> None:
    job = make_job(lease_s=lease_s)
    _silent, other = job.workers("silent", "other")
    for _ in range(int(lease_s / 0.01) + 30):
        job.now += 0.01
        other.heartbeat()
    assert job.history.member_ids == ("other",)
    assert "late_steps" not in job.status().counters


def test_a_worker_that_waits_for_a_generation_twice_is_answered_on_its_last_question(make_job) -> None:
    job = make_job(initial_workers=2)
    worker = job.worker("w0")
    first, second = worker.join(), worker.join()
    job.worker("w1")
    assert second.got(wire.Membership).members == ["w0", "w1"]
    assert first.waits


def test_who_comes_back_on_another_connection_is_answered_there(make_job) -> None:
    job = make_job(initial_workers=2)
    before = job.worker("w0")
    waiting = before.join()
    again = job.worker("w0", incarnation=before.incarnation)
    asked = again.join()
    job.worker("w1")
    assert asked.got(wire.Membership).rank == 0
    assert waiting.waits


def test_who_comes_back_and_has_not_asked_yet_is_not_told_on_the_connection_that_is_gone(make_job) -> None:
    job = make_job(initial_workers=2)
    before = job.worker("w0")
    waiting = before.join()
    again = job.worker("w0", incarnation=before.incarnation)
    job.worker("w1")
    assert waiting.waits
    assert again.join().got(wire.Membership).members == ["w0", "w1"]


def test_a_lost_worker_is_not_told_of_the_generation_that_it_is_not_in(trio) -> None:
    job, w0, _, _ = trio
    waiting = w0.join(timeout_s=1.0)
    job.lose(w0)
    job.wait(2.0)
    assert waiting.waits


def test_every_change_is_announced_with_what_it_moved(make_job) -> None:
    job = make_job(initial_workers=2)
    job.dataset(total=90, shard_size=10)
    job.workers("w0", "w1")
    job.worker("w2")
    change = job.announced[-1]
    assert type(change) is wire.MembershipChanged
    assert (change.generation, change.members, change.joined) == (2, ["w0", "w1", "w2"], ["w2"])
    assert change.moved == change.lower_bound == 3
    assert [one.seq for one in job.announced] == [1, 2]


def test_a_wait_for_a_later_generation_goes_on_when_an_earlier_one_forms(make_job) -> None:
    job = make_job()
    (worker,) = job.workers("w0")
    waiting = worker.ask(wire.AwaitGeneration(after=2, timeout_s=60.0))
    newcomer = job.worker("w1")
    assert job.history.generation == 2
    assert waiting.waits
    job.lose(newcomer)
    assert waiting.got(wire.Membership).generation == 3


def test_a_name_is_kept_for_its_process_for_one_lease_after_a_restart(trio) -> None:
    job, *_ = trio
    job.restart()
    job.wait(2.0)
    other = job.client("worker")
    other.name, other.incarnation = "w0", "another life"
    other.register(pid=7).refused("unavailable", "'w0'", "pid 1000", "6.0 s left")
    job.wait(6.0)
    other.register(pid=7).got(wire.Registered)
