"""The client's rules under a simulated clock: what is sent and when, what an answer means, and that nothing is lost."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.errors import (
    AlreadyExistsError,
    FencedError,
    InvalidArgumentError,
    ResourceExhaustedError,
    StrataError,
    UnavailableError,
)
from strata_zmq.protocol import messages as wire
from strata_zmq.workers.conversation import Conversation, Ticket

LEASE_S = 30.0
HEARTBEAT_S = 5.0


def registration() -> wire.RegisterWorker:
    return wire.RegisterWorker(worker_id="w", incarnation="life")


def a_conversation(seed: int = 0, **options: Any) -> Conversation:
    options = {"introduce": registration, "heartbeat": wire.Heartbeat, **options}
    return Conversation(wire.Hello(role="worker"), Random(seed), **options)


def answer(kind: type[Any], request: Any, **fields: Any) -> Any:
    """A reply to a request, in the request's session."""
    return kind(**{"term": request.term, "session": request.session, "seq": request.seq, **fields})


def welcome(request: wire.Hello, *, term: int = 1, session: int = 7, seq: int = 0) -> wire.Welcome:
    fields: dict[str, Any] = {"proto": 1, "lease_s": LEASE_S, "heartbeat_s": HEARTBEAT_S, "broadcast_seq": seq}
    return wire.Welcome(job="job", term=term, session=session, seq=request.seq, **fields)


def open_session(conversation: Conversation, now: float, *, term: int = 1, session: int = 7) -> float:
    """Answer hello and the registration as soon as they are sent; returns the time then."""
    now = conversation.next_due(now)
    (hello,) = conversation.outgoing(now)
    conversation.take(welcome(hello, term=term, session=session), now)
    (introduction,) = conversation.outgoing(now)
    assert isinstance(introduction, wire.RegisterWorker)
    assert introduction.session == session
    conversation.take(answer(wire.Registered, introduction, worker_id="w"), now)
    assert conversation.introduced
    return now


@given(st.integers(0, 2**32), st.lists(st.floats(0, 2), max_size=20))
def test_nothing_goes_out_before_it_is_due(seed: int, steps: list[float]) -> None:
    """A driver that comes back at `next_due`, and not before, misses nothing."""
    conversation = a_conversation(seed)
    now = open_session(conversation, 0.0)
    for step in steps:
        conversation.outgoing(now)
        due = conversation.next_due(now)
        before = min(now + step, (now + due) / 2)
        if before < due:
            assert conversation.outgoing(before) == []
        now = due


def test_a_thousand_clients_spread_their_hellos() -> None:
    """A restart is told to all of them at once; they do not arrive in the same millisecond."""
    herd = [a_conversation(seed) for seed in range(1000)]
    for conversation in herd:
        open_session(conversation, 0.0)
        conversation.listen(wire.Tick(term=2, seq=0), 10.0)
    at = [conversation.next_due(10.0) for conversation in herd]
    assert max(Counter(int(one * 1000) for one in at).values()) < 40
    assert max(at) <= 10.1, "and none of them waits for long"


def test_hello_is_repeated_soon_and_then_less_often() -> None:
    """The first repetition comes after about a quarter of a second; an outage is no flood."""
    conversation = a_conversation()
    sent, now = [], 0.0
    while now < 60:
        sent += [now] * len(conversation.outgoing(now))
        now = conversation.next_due(now)
    assert sent[0] == 0.0
    assert 0.2 <= sent[1] <= 0.3
    assert 30 <= len(sent) <= 45


def test_requests_wait_for_the_session_and_keep_their_order() -> None:
    """Nothing overtakes, also when the socket had no room for some of them."""
    conversation = a_conversation(heartbeat=None)
    for step in range(5):
        conversation.submit(wire.LatestCheckpoint(limit=step + 1))
    now = open_session(conversation, 0.0)
    messages = conversation.outgoing(now)
    assert [message.limit for message in messages] == [1, 2, 3, 4, 5]
    assert {message.session for message in messages} == {7}
    for message in messages[2:]:
        conversation.unsent(message, now)
    conversation.submit(wire.LatestCheckpoint(limit=6))
    assert conversation.outgoing(now + 0.01) == []
    assert conversation.next_due(now + 0.01) == pytest.approx(now + 0.05)
    assert [message.limit for message in conversation.outgoing(now + 0.05)] == [3, 4, 5, 6]


def test_what_had_no_room_is_not_counted_as_tried() -> None:
    """While there is no connection, hello and heartbeat are tried again and again, without growing pauses."""
    conversation = a_conversation()
    now = 0.0
    for _ in range(100):
        (hello,) = conversation.outgoing(now)
        conversation.unsent(hello, now)
        now = conversation.next_due(now)
    assert now == pytest.approx(5.0)
    now = open_session(conversation, now)
    now = conversation.next_due(now)
    (heartbeat,) = conversation.outgoing(now)
    conversation.unsent(heartbeat, now)
    assert conversation.next_due(now) == pytest.approx(now + 0.05)


def test_late_words_about_an_earlier_session_change_nothing() -> None:
    """A delayed or doubled answer does not throw a client out of the session that it has now."""
    conversation = a_conversation()
    now = open_session(conversation, 0.0, session=7)
    conversation.start_over(now)
    now = open_session(conversation, now, session=8)
    for code in ("unknown_session", "fenced"):
        conversation.take(wire.ErrorReply(term=1, session=7, seq=99, code=code, message=""), now)
    conversation.take(welcome(wire.Hello(seq=1), session=7), now)
    conversation.take(wire.Registered(session=7, seq=2, worker_id="w"), now)
    conversation.listen(wire.Tick(term=1, seq=0), now)
    assert conversation.introduced
    assert conversation.welcome is not None
    assert conversation.welcome.session == 8


def test_a_late_welcome_is_not_taken_for_the_one_that_is_waited_for() -> None:
    """It tells of a session that was opened before, by a coordinator that may be gone."""
    conversation = a_conversation()
    (hello,) = conversation.outgoing(0.0)
    conversation.start_over(0.0)
    conversation.take(welcome(hello), 0.0)
    assert conversation.welcome is None
    open_session(conversation, 0.0, session=8)


def test_a_request_is_repeated_after_a_second_and_then_less_often() -> None:
    """With jitter, each time once; also when the first sending found no room."""
    for finds_room in (True, False):
        conversation = a_conversation(heartbeat=None)
        now = open_session(conversation, 0.0)
        conversation.submit(wire.GetStatus())
        if not finds_room:
            (request,) = conversation.outgoing(now)
            conversation.unsent(request, now)
        sent = []
        while now < 60:
            now = conversation.next_due(now)
            sent += [now] * len(conversation.outgoing(now))
        pauses = [after - before for before, after in pairwise(sent)]
        assert 0.8 <= pauses[0] <= 1.2
        assert 1.6 <= pauses[1] <= 2.4
        assert all(4.0 <= pause <= 6.0 for pause in pauses[3:])


def test_an_unknown_session_says_hello_again_and_asks_again() -> None:
    """The request that was answered so is not ended by it."""
    conversation = a_conversation(heartbeat=None)
    now = open_session(conversation, 0.0)
    ticket = conversation.submit(wire.GetStatus())
    (request,) = conversation.outgoing(now)
    conversation.take(answer(wire.ErrorReply, request, code="unknown_session", message=""), now)
    assert not ticket.done
    now = open_session(conversation, now, term=2, session=8)
    (again,) = conversation.outgoing(now)
    assert (again.session, again.term, again.seq) == (8, 2, request.seq)
    conversation.take(answer(wire.Done, again), now)
    assert ticket.done
    assert conversation.outgoing(now + 100) == []


@pytest.mark.parametrize("what", ["request", "heartbeat"])
def test_who_was_fenced_registers_again(what: str) -> None:
    """The caller gets a FencedError, what else is unanswered is asked again in the new session."""
    conversation = a_conversation()
    now = open_session(conversation, 0.0)
    fenced = conversation.submit(wire.AwaitGeneration(after=1))
    other = conversation.submit(wire.GetStatus())
    now += 1.0
    messages = {type(message): message for message in conversation.outgoing(now)}
    refused = messages[wire.AwaitGeneration if what == "request" else wire.Heartbeat]
    conversation.take(answer(wire.ErrorReply, refused, code="fenced", message="lost"), now)
    assert isinstance(fenced.error, FencedError) == (what == "request")
    now = open_session(conversation, now, session=8)
    assert other.message.seq in {message.seq for message in conversation.outgoing(now)}


def test_a_commit_deadline_counts_from_what_was_heard() -> None:
    """An answer proves the lease from the moment its question was sent, and not from its own arrival."""
    conversation = a_conversation()
    assert conversation.commit_deadline == float("-inf")
    now = open_session(conversation, 0.0)
    assert conversation.commit_deadline == pytest.approx(now + LEASE_S * 2 / 3)
    sent_at = conversation.next_due(now)
    (heartbeat,) = conversation.outgoing(sent_at)
    conversation.take(answer(wire.HeartbeatAck, heartbeat), sent_at + 4.0)
    assert conversation.commit_deadline == pytest.approx(sent_at + LEASE_S * 2 / 3)
    conversation.submit(wire.GetStatus())
    asked_at = sent_at + 4.5
    (request,) = conversation.outgoing(asked_at)
    later = conversation.next_due(asked_at)
    assert [type(one) for one in conversation.outgoing(later)] == [wire.Heartbeat]
    conversation.outgoing(conversation.next_due(later))  # asked again
    conversation.take(answer(wire.Done, request), later + 2.0)
    assert conversation.commit_deadline == pytest.approx(asked_at + LEASE_S * 2 / 3)
    conversation.take(answer(wire.HeartbeatAck, heartbeat), 1000.0)
    assert conversation.commit_deadline == pytest.approx(asked_at + LEASE_S * 2 / 3)


def test_every_command_is_taken_once_and_told_at_once() -> None:
    """The coordinator repeats what it does not know to be seen; over sessions and terms, each is taken one time."""
    taken: list[str] = []
    conversation = a_conversation(on_command=taken.append)
    now = open_session(conversation, 0.0)

    def beat(commands: list[str], last: int) -> int:
        nonlocal now
        now = conversation.next_due(now)
        (heartbeat,) = conversation.outgoing(now)
        for _ in range(2):
            conversation.take(answer(wire.HeartbeatAck, heartbeat, commands=commands, command_id=last), now)
        return int(heartbeat.commands_seen)

    assert beat([], 0) == 0
    assert beat(["checkpoint", "dump_stacks"], 2) == 0
    before = now
    assert beat(["checkpoint", "dump_stacks", "stop"], 3) == 2
    assert now == before, "it has told at once what it has seen"
    conversation.start_over(now)
    now = open_session(conversation, now, term=2, session=8)
    assert beat(["stop", "drain"], 4) == 3
    assert beat([], 4) == 4
    assert taken == ["checkpoint", "dump_stacks", "stop", "drain"]


def test_a_cancelled_request_is_not_sent_and_has_no_outcome() -> None:
    """Not the first time and not again; its late answer is nobody's."""
    done: list[Ticket] = []
    conversation = a_conversation(heartbeat=None)
    now = open_session(conversation, 0.0)
    first = conversation.submit(wire.GetStatus(), done.append)
    assert conversation.cancel(first)
    assert not conversation.cancel(first)
    assert conversation.outgoing(now) == []
    second = conversation.submit(wire.GetStatus(), done.append)
    (request,) = conversation.outgoing(now)
    assert conversation.cancel(second)
    conversation.take(answer(wire.Done, request), now)
    assert conversation.next_due(now) == float("inf")
    assert (done, conversation.outstanding) == ([], 0)


def test_outstanding_requests_have_a_limit() -> None:
    """One too many ends at once; room comes back with the first answer."""
    conversation = a_conversation(heartbeat=None, outstanding_max=2)
    now = open_session(conversation, 0.0)
    tickets = [conversation.submit(wire.GetStatus()) for _ in range(3)]
    assert [type(ticket.error) for ticket in tickets] == [type(None), type(None), ResourceExhaustedError]
    assert "2 requests" in str(tickets[2].error)
    conversation.take(answer(wire.Done, conversation.outgoing(now)[0]), now)
    assert conversation.submit(wire.GetStatus()).error is None


def test_what_cannot_be_sent_ends_before_it_is_sent() -> None:
    """The message names the field and the limit."""
    conversation = a_conversation()
    ticket = conversation.submit(wire.LatestCheckpoint(limit=0))
    assert isinstance(ticket.error, InvalidArgumentError)
    assert "limit" in str(ticket.error)
    large = conversation.submit(wire.Restore(checkpoint_id="c", ledger=b"x" * 70_000))
    assert "65280" in str(large.error)
    assert conversation.outstanding == 0


def test_a_refusal_that_may_pass_is_tried_again_with_patience() -> None:
    """As when a name's former holder still has time to come back: no flood of hellos."""
    conversation = a_conversation()
    hellos, now = 0, 0.0
    while now < 30:
        for message in conversation.outgoing(now):
            if isinstance(message, wire.Hello):
                hellos += 1
                conversation.take(welcome(message), now)
            else:
                refusal = answer(wire.ErrorReply, message, code="unavailable", message="wait")
                conversation.take(refusal, now)
        now = conversation.next_due(now)
    assert 10 <= hellos <= 30
    open_session(conversation, now)


def test_a_refusal_that_cannot_pass_ends_everything() -> None:
    """Who waits gets the reason, and so does who asks afterwards."""
    conversation = a_conversation()
    waiting = conversation.submit(wire.GetStatus())
    (hello,) = conversation.outgoing(0.0)
    conversation.take(welcome(hello), 0.0)
    (introduction,) = conversation.outgoing(0.0)
    conversation.take(answer(wire.ErrorReply, introduction, code="already_exists", message="taken"), 0.0)
    for ticket in (waiting, conversation.submit(wire.GetStatus())):
        assert isinstance(ticket.error, AlreadyExistsError)
    assert isinstance(conversation.failure, AlreadyExistsError)
    assert (conversation.outgoing(1.0), conversation.next_due(1.0)) == ([], float("inf"))


def test_stop_ends_what_is_unanswered_once() -> None:
    """A callback that submits more in the middle of it is told the same."""
    errors: list[StrataError | None] = []
    conversation = a_conversation()

    def again(ticket: Ticket) -> None:
        errors.append(ticket.error)
        if len(errors) < 5:
            conversation.submit(wire.GetStatus(), again)

    conversation.submit(wire.GetStatus(), again)
    failure = UnavailableError("over")
    conversation.stop(failure)
    conversation.stop(UnavailableError("twice"))
    assert errors == [failure] * 5


def test_a_client_without_registration_is_ready_with_its_welcome() -> None:
    """It has no heartbeat either: nothing goes out until something is asked."""
    conversation = Conversation(wire.Hello(), Random(0))
    (hello,) = conversation.outgoing(0.0)
    conversation.take(welcome(hello), 0.0)
    assert conversation.introduced
    assert conversation.next_due(0.0) == float("inf")


def test_what_nobody_asked_for_is_handed_on() -> None:
    """An order to a writer is; an error without a number is only logged."""
    orders: list[Any] = []
    conversation = a_conversation(on_message=orders.append)
    now = open_session(conversation, 0.0)
    conversation.take(wire.Done(seq=0), now)
    conversation.take(wire.ErrorReply(seq=0, code="protocol", message="what?"), now)
    assert orders == [wire.Done(seq=0)]
    assert conversation.introduced


def test_whoever_wants_to_know_is_told() -> None:
    """The answer to the registration, and every broadcast."""
    told: list[Any] = []
    conversation = a_conversation(on_introduced=told.append, on_broadcast=told.append)
    now = open_session(conversation, 0.0)
    tick = wire.Tick(term=1, seq=0)
    conversation.listen(tick, now)
    assert [type(one) for one in told] == [wire.Registered, wire.Tick]


def test_a_hint_of_a_restart_brings_the_next_heartbeat_forward() -> None:
    """Its answer tells whether the session is still known."""
    conversation = a_conversation()
    now = open_session(conversation, 0.0)
    now = conversation.next_due(now)
    conversation.outgoing(now)
    assert conversation.next_due(now) == pytest.approx(now + HEARTBEAT_S)
    conversation.hurry(now)
    assert conversation.next_due(now) <= now + 0.1


def test_what_has_ended_hears_nothing_more() -> None:
    """Late words do not wake it."""
    conversation = a_conversation()
    now = open_session(conversation, 0.0)
    conversation.stop(UnavailableError("over"))
    conversation.take(wire.ErrorReply(session=7, seq=99, code="unknown_session", message=""), now)
    conversation.listen(wire.Tick(term=9, seq=0), now)
    assert conversation.next_due(now) == float("inf")
    assert conversation.welcome is not None


def test_a_registration_that_cannot_be_sent_ends_everything() -> None:
    """Nobody waits for a worker whose description is too long."""
    large = wire.RegisterWorker(worker_id="w", incarnation="life", hostname="h" * 5000)
    conversation = a_conversation(introduce=lambda: large)
    (hello,) = conversation.outgoing(0.0)
    conversation.take(welcome(hello), 0.0)
    assert conversation.outgoing(0.0) == []
    assert isinstance(conversation.failure, InvalidArgumentError)
    assert "hostname" in str(conversation.failure)


def test_silence_is_counted_from_the_first_question() -> None:
    """Any word ends it; who has asked nothing has not been kept waiting."""
    conversation = a_conversation(heartbeat=None)
    now = open_session(conversation, 0.0)
    assert conversation.unanswered_s(now + 100) == 0
    conversation.submit(wire.GetStatus())
    (request,) = conversation.outgoing(now)
    conversation.outgoing(now + 2)
    assert conversation.unanswered_s(now + 3) == pytest.approx(3)
    conversation.take(answer(wire.Done, request), now + 3)
    assert conversation.unanswered_s(now + 9) == 0


def test_a_follower_asks_for_a_snapshot_after_a_gap_and_not_too_often() -> None:
    """It begins with one, goes on with the broadcasts, and asks again when it has missed something."""
    conversation = a_conversation(heartbeat=None)
    conversation.following = True
    now = open_session(conversation, 0.0)

    def snapshot(seq: int, members: list[str]) -> None:
        nonlocal now
        now = conversation.next_due(now)
        (request,) = conversation.outgoing(now)
        assert isinstance(request, wire.GetView)
        fields: dict[str, Any] = {"epoch": 0, "commit_index": 0, "formed": True, "checkpoints": [], "digest": 0}
        conversation.take(answer(wire.View, request, generation=1, broadcast_seq=seq, members=members, **fields), now)

    snapshot(0, ["a"])
    assert conversation.next_due(now) == float("inf")
    conversation.listen(wire.EpochStarted(term=1, seq=1, generation=1, epoch=1), now)
    assert conversation.next_due(now) == float("inf")
    asked_at = now
    conversation.listen(wire.EpochStarted(term=1, seq=3, generation=1, epoch=3), now)
    snapshot(2, ["b"])
    assert now >= asked_at + 1.0
    cluster = conversation.view.cluster
    assert cluster is not None
    assert (cluster.members, cluster.epoch) == (("b",), 3)


def test_an_answer_of_heartbeat_names_no_request() -> None:
    """Requests and heartbeats never share a number."""
    conversation = a_conversation()
    now, seqs = open_session(conversation, 0.0), []
    for _ in range(30):
        conversation.submit(wire.GetStatus())
        now = conversation.next_due(now) + 1.0
        seqs += [(message.seq, type(message)) for message in conversation.outgoing(now)]
    assert len({kind for _, kind in seqs}) == 2
    by_seq: dict[int, set[Any]] = {}
    for seq, kind in seqs:
        by_seq.setdefault(seq, set()).add(kind)
    assert all(len(kinds) == 1 for kinds in by_seq.values())
