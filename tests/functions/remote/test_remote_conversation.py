"""A client's side of the protocol, without sockets and clock: what is said again, and what is confirmed."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from remotekit import DispatcherModel

from strata_zmq.domain.task import CALL_IN_PAYLOAD, Outcome
from strata_zmq.errors import NotFoundError, ProtocolError
from strata_zmq.functions.calls import PackedCall
from strata_zmq.functions.remote.conversation import ClientConversation, Ended, Refused, Replied
from strata_zmq.functions.remote.kept import KeptPayloads
from strata_zmq.functions.remote.submissions import Item, Submissions
from strata_zmq.protocol import functions as wire


def sent(talk: ClientConversation, now: float) -> list[Any]:
    return [wire.decode_at_dispatcher(bytes(frames[0])) for frames in talk.due(now)]


def said(talk: ClientConversation, message: Any, now: float = 0.0) -> list[Any]:
    return talk.take([wire.encode_function(message)], now)


def attached(now: float = 0.0, incarnation: str = "one", **options: Any) -> ClientConversation:
    talk = ClientConversation("client", **options)
    talk.connected(now)
    (attach,) = sent(talk, now)
    said(talk, wire.AttachedReply(attach.seq, incarnation, 30.0, ["3.11"]), now)
    return talk


def attach_again(talk: ClientConversation, now: float, incarnation: str = "one") -> list[Any]:
    talk.disconnected()
    talk.connected(now)
    (attach,) = sent(talk, now)
    assert isinstance(attach, wire.Attach)
    return said(talk, wire.AttachedReply(attach.seq, incarnation, 30.0), now)


def test_nothing_is_said_before_the_dispatcher_has_taken_the_client_in() -> None:
    talk = ClientConversation("client", python="3.11")
    talk.ask(wire.GetCounts(0), (), 0.0)
    assert talk.due(0.0) == []
    assert talk.next_wakeup() is None
    talk.connected(0.0)
    (attach,) = sent(talk, 0.0)
    assert (attach.client_id, attach.python, attach.incarnation) == ("client", "3.11", "")
    assert sent(talk, 0.5) == []
    (again,) = sent(talk, 1.0)  # it may have been lost
    (answer,) = said(talk, wire.AttachedReply(again.seq, "one", 30.0), 1.0)
    assert not answer.again
    assert [type(one) for one in sent(talk, 1.0)] == [wire.GetCounts]
    assert said(talk, wire.AttachedReply(attach.seq, "one", 30.0), 1.0) == []


def test_what_has_no_answer_is_said_again_ever_more_seldom() -> None:
    talk = attached()
    talk.ask(wire.GetCounts(0), (), 0.0)
    times = [now / 2 for now in range(200) if any(isinstance(one, wire.GetCounts) for one in sent(talk, now / 2))]
    assert times[:5] == [0.0, 2.0, 6.0, 14.0, 30.0]
    assert max(after - before for before, after in pairwise(times)) <= 16.5


def test_a_long_message_is_given_the_time_that_it_takes_to_travel() -> None:
    talk = attached()
    talk.ask(wire.RegisterFunction(0, b"i" * 16, "f", [0]), [b"x" * 30_000_000], 0.0)
    assert len(talk.due(0.0)) == 1
    assert all(isinstance(one, wire.Beat) for one in sent(talk, 4.9))
    assert any(isinstance(one, wire.RegisterFunction) for one in sent(talk, 5.1))


def test_an_answer_to_any_copy_ends_a_request_but_a_refusal_only_to_the_last() -> None:
    talk = attached()
    ticket = talk.ask(wire.Submit(0, wire.LimitsRow(), []), (), 0.0)
    (first,), (second,) = sent(talk, 0.0), sent(talk, 2.0)
    assert first.seq != second.seq
    full = [wire.RefusedTask(0, "resource_exhausted", "full", 1.0)]
    assert said(talk, wire.SubmittedReply(first.seq, full), 2.0) == []  # the second copy may find room
    (answer,) = said(talk, wire.SubmittedReply(first.seq), 2.0)
    assert isinstance(answer, Replied)
    assert answer.ticket is ticket
    assert said(talk, wire.SubmittedReply(second.seq), 2.0) == []
    assert talk.open_requests() == []


def test_a_refused_request_ends_with_the_error_that_was_named() -> None:
    talk = attached()
    ticket = talk.ask(wire.GetCounts(0), (), 0.0)
    (request,) = sent(talk, 0.0)
    (answer,) = said(talk, wire.Complaint(request.seq, "not_found", "nothing here", 2.5))
    assert isinstance(answer, Refused)
    assert (answer.ticket, type(answer.error), answer.retry_after_s) == (ticket, NotFoundError, 2.5)
    assert said(talk, wire.Complaint(0, "protocol", "what was that")) == []


def test_an_unknown_session_attaches_again_and_says_everything_again() -> None:
    talk = attached()
    talk.ask(wire.GetCounts(0), (), 0.0)
    (request,) = sent(talk, 0.0)
    assert said(talk, wire.Complaint(request.seq, "unknown_session", "attach first"), 1.0) == []
    (attach,) = sent(talk, 1.0)
    assert attach.incarnation == "one"
    (answer,) = said(talk, wire.AttachedReply(attach.seq, "two", 30.0), 1.0)
    assert (answer.again, answer.restarted) == (True, True)
    assert [type(one) for one in sent(talk, 1.0)] == [wire.GetCounts]


def test_a_client_beats_before_its_lease_is_over() -> None:
    talk = attached()
    beats = [now for now in range(60) if any(isinstance(one, wire.Beat) for one in sent(talk, float(now)))]
    assert beats == list(range(5, 60, 5))
    short = ClientConversation("client")
    short.connected(0.0)
    (attach,) = sent(short, 0.0)
    said(short, wire.AttachedReply(attach.seq, "one", 1.5))
    assert short.next_wakeup() == pytest.approx(0.5)


def test_results_are_confirmed_up_to_the_first_gap() -> None:
    talk = attached()
    row = wire.TaskRow(b"t" * 16, "COMPLETED")

    def seen(number: int) -> int:
        (ended,) = said(talk, wire.Results(number, [row]))
        assert isinstance(ended, Ended)
        assert sent(talk, 0.0) == []
        assert talk.next_wakeup() == pytest.approx(0.05)
        (confirmed,) = sent(talk, 0.05)
        return int(confirmed.number)

    assert [seen(number) for number in (1, 3, 4, 2, 2, 5)] == [1, 1, 1, 4, 4, 5]


def test_results_are_confirmed_together_and_long_ones_or_many_at_once() -> None:
    talk = attached()
    for number in range(1, 9):
        assert sent(talk, 0.0) == []
        said(talk, wire.Results(number, []))
    assert [one.number for one in sent(talk, 0.0)] == [8]
    talk.take([wire.encode_function(wire.Results(9, [])), b"x" * 100_000], 1.0)
    assert [one.number for one in sent(talk, 1.0)] == [9]


def test_a_dispatcher_that_counts_anew_for_this_client_is_not_told_that_old_numbers_are_seen() -> None:
    talk = attached()
    for number in range(1, 8):
        said(talk, wire.Results(number, []))
    attach_again(talk, 10.0)
    said(talk, wire.Results(1, []), 10.0)
    assert [one.number for one in sent(talk, 10.1) if isinstance(one, wire.Seen)] == [1]
    attach_again(talk, 20.0, "two")
    said(talk, wire.Results(2, []), 20.0)  # its first is on its way still
    assert [one.number for one in sent(talk, 20.1) if isinstance(one, wire.Seen)] == [0]


def test_what_is_not_understood_is_an_error_and_the_conversation_goes_on() -> None:
    talk = attached()
    for bad in (b"", b"\xc1", b"\x91\xa7results", wire.encode_function(wire.Beat())):
        with pytest.raises(ProtocolError):
            talk.take([bad], 0.0)
    (request,) = sent(talk, 0.0) if talk.ask(wire.GetCounts(0), (), 0.0) else ()
    assert said(talk, wire.Stored(request.seq)) == []  # the answer to another question
    assert len(talk.open_requests()) == 1


class _Told:
    def __init__(self) -> None:
        self.outcomes: list[Outcome | BaseException] = []

    def begin(self) -> bool:
        return True

    def resolve(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def fail(self, error: BaseException) -> None:
        self.outcomes.append(error)


class _Wire:
    """Between a client and the model: it loses, doubles and delays messages, and breaks, until it is `mended_at`."""

    mended_at = 40.0

    def __init__(self, seed: int, loses: float, doubles: float, cuts: float) -> None:
        self._chance = random.Random(seed)
        self._loses, self._doubles, self._cuts = loses, doubles, cuts
        self._on_the_way: list[tuple[float, bool, list[Any]]] = []
        self._connection = 0
        self.model = DispatcherModel()
        self.talk = ClientConversation("client")
        self.tasks = Submissions(self.talk, KeptPayloads(), lambda count, nbytes: None)
        self.now = 0.0
        self.lost = 0
        self.talk.connected(self.now)

    def step(self) -> None:
        """A tenth of a second goes by."""
        self.now += 0.1
        if self.now < self.mended_at and self._chance.random() < self._cuts:
            self._on_the_way.clear()
            self._connection += 1
            self.talk.disconnected()
            self.talk.connected(self.now)
        self.tasks.submit(self.now)
        for frames in self.talk.due(self.now):
            self._carry(True, frames)
        arrived = sorted((one for one in self._on_the_way if one[0] <= self.now), key=lambda one: one[0])
        self._on_the_way = [one for one in self._on_the_way if one[0] > self.now]
        for _, up, frames in arrived:
            if up:
                self.model.take(self._name, bytes(frames[0]), list(frames[1:]))
            else:
                self._hear(frames)
        if self._chance.random() < 0.05:
            self.model.resend(self._name)
        for to, frames in self.model.said:
            if to == self._name:
                self._carry(False, frames)
        self.model.said.clear()

    @property
    def _name(self) -> bytes:
        return b"connection %d" % self._connection

    def _hear(self, frames: list[Any]) -> None:
        for answer in self.talk.take(frames, self.now):
            if isinstance(answer, Ended):
                self.tasks.ended(answer)
            elif isinstance(answer, Replied):
                self.tasks.replied(answer, self.now)
            elif isinstance(answer, Refused):
                self.tasks.refused(answer)
            elif answer.again:
                self.tasks.attached_again(self.now)

    def _carry(self, up: bool, frames: list[Any]) -> None:
        if self.now < self.mended_at and self._chance.random() < self._loses:
            self.lost += 1
            return
        copies = 1 + (self._chance.random() < self._doubles)
        self._on_the_way += [(self.now + self._chance.random() * 0.3, up, frames) for _ in range(copies)]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), loses=st.floats(0.0, 0.6), doubles=st.floats(0.0, 0.5), cuts=st.floats(0.0, 0.02))
def test_every_call_ends_once_with_its_own_result_whatever_the_wire_does(
    seed: int, loses: float, doubles: float, cuts: float
) -> None:
    """Messages are lost, doubled and overtaken, and connections break; a seed is a whole history."""
    bad = _Wire(seed, loses, doubles, cuts)
    told = {number.to_bytes(16): _Told() for number in range(40)}
    waiting = [Item(task_id, PackedCall(CALL_IN_PAYLOAD, task_id), 16, one) for task_id, one in told.items()]
    chance = random.Random(seed)
    while bad.now < 200 and not all(one.outcomes for one in told.values()):
        if waiting and chance.random() < 0.5:
            bad.tasks.add([waiting.pop() for _ in range(min(len(waiting), chance.randint(1, 7)))])
        bad.step()
    for task_id, one in told.items():
        (outcome,) = one.outcomes
        assert isinstance(outcome, Outcome), outcome
        assert outcome.body == task_id
    assert len(bad.tasks) == 0


def test_beyond_its_limit_a_client_forgets_large_values_first_those_long_unused_and_never_functions() -> None:
    kept = KeptPayloads(bytes_max=300_000)
    kept.add(b"f" * 16, b"function")
    for name in (b"1", b"2"):
        kept.add(name * 16, name * 100_000)
    assert not kept.add(b"1" * 16, b"1" * 100_000)
    kept.add(b"3" * 16, b"3" * 150_000)
    held = [digest for digest, _ in kept.of([b"f" * 16, b"1" * 16, b"2" * 16, b"3" * 16])]
    assert held == [b"f" * 16, b"1" * 16, b"3" * 16]
    kept.add(b"4" * 16, (b"4" * 400_000, b"4"))
    assert [digest for digest, _ in kept.of([b"f" * 16, b"1" * 16, b"3" * 16, b"4" * 16])] == [b"f" * 16, b"4" * 16]
