"""A supervisor's command reaches every worker that it names, once, whatever is lost or restarted on the way."""

from __future__ import annotations

import pytest

from strata_zmq.coordinator.core.history import COMMANDS_MAX
from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.fields import CHECKPOINT_VOTE, STOP_VOTE


def send(job, command: str, *workers: str):
    return job.supervisor().ask(wire.SendCommand(command=command, workers=list(workers), reason="a test"))


def heard(worker, seen: int = 0) -> tuple[list[str], int]:
    ack = worker.heartbeat(commands_seen=seen).got(wire.HeartbeatAck)
    return ack.commands, ack.command_id


def test_a_command_comes_with_every_answer_to_a_heartbeat_until_it_is_seen(trio) -> None:
    job, w0, w1, _ = trio
    assert heard(w0) == ([], 0)
    send(job, "checkpoint", "w0").got(wire.Done)
    assert heard(w0) == (["checkpoint"], 1)
    assert heard(w0) == (["checkpoint"], 1)
    assert heard(w0, seen=1) == ([], 0)
    assert heard(w1) == ([], 0)


def test_a_command_without_names_goes_to_all_live_workers(trio) -> None:
    job, *workers = trio
    send(job, "drain").got(wire.Done)
    assert [heard(worker)[0] for worker in workers] == [["drain"]] * 3
    assert job.status().counters["commands.drain"] == 3


def test_commands_keep_their_order_and_are_numbered_without_gaps_while_they_wait(trio) -> None:
    job, w0, w1, _ = trio
    send(job, "dump_stacks", "w1")
    send(job, "checkpoint", "w0", "w0")
    send(job, "dump_stacks", "w0")
    first, last = heard(w0), heard(w1)
    assert first[0] == ["checkpoint", "dump_stacks"]
    assert last[0] == ["dump_stacks"]
    assert heard(w0, seen=first[1] - 1) == (["dump_stacks"], first[1])
    send(job, "stop", "w0")
    assert heard(w0) == (["dump_stacks", "stop"], first[1] + 1)


def test_numbers_rise_over_restarts_and_what_was_seen_is_not_repeated(trio) -> None:
    job, w0, _, _ = trio
    send(job, "checkpoint", "w0")
    _, number = heard(w0)
    job.restart()
    w0.hello().got(wire.Welcome)
    w0.register().got(wire.Registered)
    assert heard(w0) == (["checkpoint"], number)
    assert heard(w0, seen=number) == ([], 0)
    send(job, "drain", "w0")
    commands, later = heard(w0, seen=number)
    assert commands == ["drain"]
    assert later > number


def test_numbers_rise_above_what_a_worker_has_seen_of_a_journal_that_is_lost(job) -> None:
    worker = job.worker("w0")
    worker.heartbeat(commands_seen=40)
    send(job, "stop")
    assert heard(worker, seen=40) == (["stop"], 41)


def test_another_process_does_not_get_the_commands_of_the_one_before(trio) -> None:
    job, w0, w1, _ = trio
    send(job, "stop", "w0", "w1")
    job.lose(w0)
    job.lose(w1)
    assert heard(job.worker("w0")) == ([], 0)
    w1.register().got(wire.Registered)
    assert heard(w1)[0] == ["stop"], "the same process gets them"
    send(job, "drain")
    assert sorted(job.history.commands) == ["w0", "w1", "w2"]


def test_commands_of_workers_that_are_gone_are_forgotten(trio) -> None:
    job, w0, _, _ = trio
    send(job, "stop")
    job.lose(w0)
    send(job, "checkpoint", "w1")
    assert list(job.history.commands) == ["w1", "w2"]


def test_numbers_rise_also_for_who_was_gone_and_has_not_told_yet_what_it_has_seen(trio) -> None:
    job, w0, _, _ = trio
    for command in ("checkpoint", "dump_stacks", "checkpoint"):
        send(job, command, "w0")
    _, seen = heard(w0)
    w0.heartbeat(commands_seen=seen)
    job.lose(w0)
    send(job, "drain", "w1")
    w0.register().got(wire.Registered)
    send(job, "stop", "w0")
    assert heard(w0, seen=seen)[0] == ["stop"]


def test_the_same_command_twice_in_a_row_is_one(trio) -> None:
    job, w0, _, _ = trio
    send(job, "checkpoint", "w0").got(wire.Done)
    records = len(job.records)
    send(job, "checkpoint", "w0").got(wire.Done)
    assert len(job.records) == records
    assert heard(w0)[0] == ["checkpoint"]


def decide(workers, vote: float = 1.0) -> None:
    """Take all through a commit point that decides on a checkpoint."""
    values = [wire.Value(STOP_VOTE, "any", 0.0), wire.Value(CHECKPOINT_VOTE, "any", vote)]
    for call in [worker.commit(values=values) for worker in workers]:
        call.got(wire.Released)


def test_a_checkpoint_that_all_have_taken_is_asked_of_nobody_again(trio) -> None:
    """Who hears of the command only afterwards would have all save once more; that holds over a restart, too."""
    job, *workers = trio
    send(job, "checkpoint")
    _, number = heard(workers[0])
    decide(workers, vote=0.0)
    assert heard(workers[1]) == (["checkpoint"], number)
    decide(workers)
    assert [heard(worker)[0] for worker in workers] == [[]] * 3
    job.restart()
    for worker in workers:
        worker.hello().got(wire.Welcome)
        worker.register().got(wire.Registered)
    assert [heard(worker)[0] for worker in workers] == [[]] * 3
    send(job, "checkpoint")
    assert [heard(worker, seen=number) for worker in workers] == [(["checkpoint"], number + 1)] * 3


def test_the_commands_beside_a_checkpoint_that_was_taken_keep_their_order_and_their_numbers(trio) -> None:
    job, w0, w1, w2 = trio
    for command in ("dump_stacks", "checkpoint", "stop"):
        send(job, command, "w0")
    for command in ("checkpoint", "drain"):
        send(job, command, "w1")
    decide((w0, w1, w2))
    assert heard(w0) == (["dump_stacks"], 1)
    assert heard(w0, seen=1) == (["stop"], 3)
    assert heard(w0, seen=3) == ([], 0)
    commands, number = heard(w1)
    assert commands == ["drain"]
    assert heard(w1, seen=number) == ([], 0)
    send(job, "checkpoint", "w1")
    assert heard(w1, seen=number)[0] == ["checkpoint"]


def test_a_request_that_is_sent_again_has_one_effect_also_when_the_command_was_seen_meanwhile(trio) -> None:
    job, w0, _, _ = trio
    supervisor = job.supervisor()
    call = supervisor.ask(wire.SendCommand(command="checkpoint", workers=["w0"]))
    _, number = heard(w0)
    w0.heartbeat(commands_seen=number)
    supervisor.ask(call.request).got(wire.Done)
    assert heard(w0, seen=number) == ([], 0)


def test_a_full_queue_is_named_and_then_nobody_is_asked(trio) -> None:
    job, w0, w1, _ = trio
    for number in range(COMMANDS_MAX):
        send(job, ("checkpoint", "dump_stacks")[number % 2], "w0").got(wire.Done)
    send(job, "stop").refused("resource_exhausted", f"{COMMANDS_MAX} commands", "w0", "seen")
    assert len(heard(w0)[0]) == COMMANDS_MAX
    assert heard(w1) == ([], 0)
    _, number = heard(w0)
    heard(w0, seen=number)
    send(job, "stop").got(wire.Done)
    assert heard(w0, seen=number)[0] == ["stop"]


def test_unknown_workers_are_named_beside_the_known_ones(trio) -> None:
    job, w0, _, _ = trio
    send(job, "stop", "w0", "w8", "w9").refused("not_found", "w8, w9", "known: w0, w1, w2")
    assert heard(w0) == ([], 0)


def test_without_any_worker_nobody_can_be_asked(job) -> None:
    send(job, "stop").refused("not_found", "nobody is registered")


@pytest.mark.parametrize("who", ["client", "worker", "writer"])
def test_a_command_needs_the_supervisors_token(trio, who: str) -> None:
    job, w0, _, _ = trio
    caller = {"client": job.client, "worker": lambda: w0, "writer": job.writer}[who]()
    caller.ask(wire.SendCommand(command="stop")).refused("invalid_argument", "send_command", "supervisor", "token")


def test_a_command_is_in_the_journal_before_done_leaves(trio) -> None:
    job, *_ = trio
    supervisor = job.supervisor()
    effects = job.step(supervisor.event(wire.SendCommand(command="stop", workers=["w1"], reason="maintenance")))
    (record,) = effects.records
    assert (record.command, [name for name, _, _ in record.workers], record.reason) == ("stop", ["w1"], "maintenance")
    assert [type(reply) for _, reply in effects.sends] == [wire.Done]
