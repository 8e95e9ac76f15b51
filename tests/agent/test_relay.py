"""The relay without a socket: what children say arrives whole, in order and once; what they are told finds them."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.codec import MAX_REQUEST_BYTES, decode_upward, encode
from strata_zmq.workers.agent.relay import CHILD_BYTES_MAX, Relay

SESSION, LEASE_S, HEARTBEAT_S = 7 << 32, 12.0, 2.0
ARRIVE = encode(wire.Arrive(name="step", step=1, session=1, seq=1))
BEAT = encode(wire.Heartbeat(session=1, seq=2))
ASK = encode(wire.GetStatus(session=1, seq=3))
HOLD_S = 0.002


class Bench:
    """A relay with a clock that is moved by hand, and a coordinator that is played by the test."""

    def __init__(self, *, welcome: bool = True, **options: Any) -> None:
        self.now = 100.0
        self.relay = Relay(Random(1), **options)
        self.answers: list[tuple[bytes, bytes]] = []
        if welcome:
            self.welcome()

    def say(self, child: str, body: bytes) -> None:
        self.relay.take_child(child.encode(), body, self.now)

    def frames(self) -> list[Any]:
        """Everything that goes upward now."""
        found = []
        while (frame := self.relay.outgoing(self.now)) is not None:
            assert len(frame) <= MAX_REQUEST_BYTES
            found.append(decode_upward(frame))
            self.relay.sent()
        return found

    def folds(self) -> list[wire.Fold]:
        return [frame for frame in self.frames() if isinstance(frame, wire.Fold)]

    def bodies(self) -> list[bytes]:
        return [part.body for fold in self.folds() for part in fold.parts]

    def welcome(self, session: int = SESSION) -> None:
        """Answer the hello that is due within a moment."""
        self.now += 1.0
        hello = next(frame for frame in self.frames() if isinstance(frame, wire.Hello))
        assert hello.role == "agent"
        self.hear(wire.Welcome(seq=hello.seq, session=session, proto=1, lease_s=LEASE_S, heartbeat_s=HEARTBEAT_S))

    def hear(self, message: Any) -> list[tuple[bytes, bytes]]:
        replies = self.relay.take_frame(encode(message), self.now)
        self.answers += replies
        return replies

    def release(self, *children: int) -> None:
        """Tell these children, by number, that their barrier is released."""
        released = encode(wire.Released(name="step", step=1, participants=[]))
        self.hear(wire.Folded(parts=[wire.Part(child, released) for child in children]))


def test_nothing_goes_upward_before_the_coordinator_has_taken_the_relay_in_and_then_everything() -> None:
    bench = Bench(welcome=False)
    bench.say("a", ASK)
    bench.say("b", BEAT)
    bench.say("b", ARRIVE)
    assert bench.folds() == []
    bench.welcome()
    assert bench.bodies() == [ASK, BEAT, ARRIVE]


def test_heartbeats_wait_for_company_for_a_quarter_of_their_interval_at_most() -> None:
    bench = Bench()
    bench.say("a", BEAT)
    assert bench.bodies() == []
    assert bench.relay.next_due(bench.now) <= bench.now + HEARTBEAT_S / 4
    bench.now += HEARTBEAT_S / 4 - 0.01
    bench.say("b", BEAT)
    assert bench.bodies() == []
    bench.now += 0.01
    assert bench.relay.next_due(bench.now) == bench.now
    assert bench.bodies() == [BEAT, BEAT]


def test_a_request_goes_at_once_and_takes_along_what_waits() -> None:
    bench = Bench()
    bench.say("a", BEAT)
    bench.say("b", ASK)
    assert bench.relay.next_due(bench.now) == bench.now
    (fold,) = bench.folds()
    assert [(part.child, part.body) for part in fold.parts] == [(1, BEAT), (2, ASK)]
    assert fold.session == SESSION
    assert bench.relay.next_due(bench.now) > bench.now


def test_arrivals_go_together_when_the_last_of_the_host_has_come() -> None:
    bench = Bench()
    for child in "abc":
        bench.say(child, ARRIVE)
    bench.frames()
    bench.release(1, 2, 3)
    bench.say("a", ARRIVE)
    bench.say("b", ARRIVE)
    assert bench.bodies() == []
    assert bench.relay.next_due(bench.now) == pytest.approx(bench.now + HOLD_S)
    bench.say("c", ARRIVE)
    assert bench.bodies() == [ARRIVE] * 3


def test_a_host_waits_two_milliseconds_for_a_late_worker_and_once() -> None:
    bench = Bench()
    for child in "abc":
        bench.say(child, ARRIVE)
    bench.frames()
    bench.release(1, 2, 3)
    bench.say("a", ARRIVE)
    bench.now += HOLD_S
    assert bench.bodies() == [ARRIVE]
    bench.say("b", ARRIVE)
    assert bench.bodies() == [ARRIVE], "nobody is waited for twice"
    bench.release(1, 2)
    bench.say("a", ARRIVE)
    bench.say("b", ARRIVE)
    assert bench.bodies() == [ARRIVE] * 2, "who did not come to the last barrier is not waited for at this one"


def test_an_arrival_that_goes_with_something_urgent_leaves_the_others_expected() -> None:
    bench = Bench()
    for child in "ab":
        bench.say(child, ARRIVE)
    bench.frames()
    bench.release(1, 2)
    bench.say("a", ARRIVE)
    bench.say("c", ASK)
    assert bench.bodies() == [ARRIVE, ASK]
    bench.release(1)
    bench.say("a", ARRIVE)
    assert bench.bodies() == []


def test_only_who_was_at_a_barrier_is_expected_at_the_next() -> None:
    bench = Bench()
    for child in "ab":
        bench.say(child, ARRIVE)
    bench.frames()
    ack = encode(wire.HeartbeatAck(seq=1))
    assert bench.hear(wire.Folded(parts=[wire.Part(1, ack)])) == [(b"a", ack)]
    bench.say("c", ASK)
    bench.frames()
    done = encode(wire.Done(seq=3))
    assert bench.hear(wire.Folded(parts=[wire.Part(3, done)])) == [(b"c", done)]
    bench.say("b", ARRIVE)
    assert bench.bodies() == [ARRIVE]


@given(
    said=st.lists(
        st.tuples(
            st.sampled_from("abcd"),
            st.sampled_from([ARRIVE[:9], BEAT[:9], ASK[:9], b"\x9d\xa9heartbeat", b"", b"\xff" * 3]),
            st.integers(0, 30_000),
        ),
        max_size=30,
    ),
    drains=st.lists(st.integers(1, 5), max_size=10),
    refusals=st.sets(st.integers(0, 20)),
)
def test_whatever_children_say_arrives_whole_in_order_and_once(said, drains, refusals) -> None:
    """Also where the coordinator forgot the relay's session, and refuses whole folds until it has said hello again."""
    bench = Bench()
    sent: dict[str, list[bytes]] = {}
    arrived: dict[int, list[bytes]] = {}
    count = 0

    def deliver() -> None:
        nonlocal count
        refused = []
        for fold in bench.folds():
            if refused or count in refusals:
                refused.append(fold)
            else:
                for part in fold.parts:
                    arrived.setdefault(part.child, []).append(part.body)
            count += 1
        for fold in refused:
            bench.hear(wire.ErrorReply(seq=fold.seq, session=fold.session, code="unknown_session", message=""))
        if refused:
            bench.welcome(refused[0].session + 1)

    places = iter(drains)
    until = next(places, 3)
    for number, (child, head, length) in enumerate(said):
        body = head + b"%d" % number + b"." * length
        sent.setdefault(child, []).append(body)
        bench.say(child, body)
        until -= 1
        if until == 0:
            deliver()
            bench.now += 0.001
            until = next(places, 3)
    for _ in range(30):
        bench.now += 1.0
        deliver()
    assert sorted(arrived.values()) == sorted(sent.values())


def test_frames_stay_within_the_limit_whatever_their_parts_are() -> None:
    bench = Bench()
    longest = ASK + b"." * (CHILD_BYTES_MAX - len(ASK))
    for _ in range(5):
        bench.say("a", longest)
        bench.say("b", ASK)
    for _ in range(5000):
        bench.say("c", b"")
    folds = bench.folds()
    assert sum(len(fold.parts) for fold in folds) == 5010
    assert len(folds) < 20


def test_a_relay_that_cannot_get_rid_of_its_messages_says_that_it_is_full() -> None:
    bench = Bench(welcome=False)
    said = 0
    while not bench.relay.is_full:
        bench.say("a", ASK + b"." * 10_000)
        said += 1
    assert 100 <= said <= 110
    bench.welcome()
    assert len(bench.bodies()) == said
    assert not bench.relay.is_full


def test_a_shared_answer_becomes_for_each_child_the_bytes_that_it_alone_would_have_got() -> None:
    bench = Bench()
    for child in "abc":
        bench.say(child, ARRIVE)
    bench.frames()
    whole = [
        encode(wire.Released(job="j", term=3, session=session, seq=seq, name="step", step=1, participants=["w"] * 20))
        for session, seq in ((1, 1), (200, 2**16), (2**40, 2**62))
    ]
    marked = encode(wire.Released(job="j", term=3, name="step", step=1, participants=["w"] * 20))
    start = marked.index(b"\xa8released") + 9 + 4
    shared = wire.Shared(
        marked[:start],
        marked[start + 2 :],
        [wire.Addressee(1, 1, 1), wire.Addressee(2, 200, 2**16), wire.Addressee(3, 2**40, 2**62)],
    )
    assert bench.hear(wire.Folded(shared=[shared])) == list(zip((b"a", b"b", b"c"), whole, strict=True))


def test_a_child_that_is_gone_is_forgotten_and_its_number_never_given_again() -> None:
    bench = Bench()
    bench.say("a", ASK)
    bench.relay.forget(b"a")
    bench.relay.forget(b"a")
    assert bench.hear(wire.Folded(parts=[wire.Part(1, b"late")])) == []
    assert bench.hear(wire.Folded(shared=[wire.Shared(b"", b"", [wire.Addressee(1, 1, 1)])])) == []
    bench.say("a", ASK)
    (fold,) = bench.folds()
    assert [part.child for part in fold.parts] == [1, 2]


def test_who_is_silent_for_three_leases_is_forgotten() -> None:
    bench = Bench()
    bench.say("a", ASK)
    bench.frames()
    for _ in range(4):
        bench.now += LEASE_S
        bench.say("b", ASK)
        bench.frames()
    assert len(bench.relay.children) == 1
    assert bench.relay.children.named(2) is not None


def test_one_connection_too_many_is_left_unanswered_and_the_log_says_what_becomes_of_it(caplog) -> None:
    bench = Bench(children_max=2)
    for child in "abc":
        bench.say(child, ASK)
    assert bench.bodies() == [ASK, ASK]
    assert "2 are open, which is the limit; its worker goes to the coordinator itself" in caplog.text


def test_the_relay_keeps_its_own_session_alive() -> None:
    bench = Bench()
    bench.now += HEARTBEAT_S
    (beat,) = bench.frames()
    assert isinstance(beat, wire.Heartbeat)
    assert beat.session == SESSION
    bench.hear(wire.HeartbeatAck(seq=beat.seq, session=SESSION))
    assert bench.answers == []


def test_a_frame_is_offered_until_it_is_sent() -> None:
    bench = Bench()
    bench.say("a", ASK)
    first = bench.relay.outgoing(bench.now)
    assert first is not None
    bench.say("a", ARRIVE)
    assert bench.relay.outgoing(bench.now) == first
    assert bench.relay.next_due(bench.now) == bench.now
    bench.relay.sent()
    assert bench.relay.outgoing(bench.now) != first


def test_what_was_not_sent_goes_over_the_new_connection_and_what_was_is_not_repeated() -> None:
    bench = Bench()
    bench.say("a", ASK)
    assert len(bench.folds()) == 1
    bench.say("a", ARRIVE)
    assert bench.relay.outgoing(bench.now) is not None
    bench.relay.reconnect(bench.now)
    assert bench.relay.next_due(bench.now) >= bench.now
    bench.say("a", BEAT)
    bench.welcome(SESSION + 1)
    assert bench.bodies() == [ARRIVE, BEAT]


def test_the_memory_of_what_was_sent_is_bounded() -> None:
    bench = Bench()
    numbers = []
    for _ in range(200):
        bench.say("a", ASK)
        numbers += [fold.seq for fold in bench.folds()]
    for number in numbers:
        bench.hear(wire.ErrorReply(seq=number, session=SESSION, code="unknown_session", message=""))
    bench.welcome(SESSION + 1)
    assert 100 < len(bench.bodies()) < 200


def test_a_coordinator_that_refuses_the_relay_ends_it_with_its_reason() -> None:
    bench = Bench(welcome=False)
    bench.now += 1.0
    (hello,) = bench.frames()
    bench.hear(wire.ErrorReply(seq=hello.seq, code="invalid_argument", message="another job is served here"))
    assert "another job" in str(bench.relay.conversation.failure)


def test_what_is_not_understood_is_logged_and_goes_to_nobody(caplog) -> None:
    bench = Bench()
    assert bench.relay.take_frame(b"\xc1", bench.now) == []
    assert "not understood" in caplog.text


@pytest.mark.parametrize(
    "body",
    [b"", b"\x90", b"\x91\x01", b"\xdc\x00", b"\xdc\x00\x01\xa6arrive", b"\xdd\x00\x00\x00\x01\xa6arrive", b"\xa1a"],
)
def test_any_bytes_are_forwarded_as_they_are(body) -> None:
    bench = Bench()
    bench.say("a", body)
    assert bench.bodies() == [body]


def test_nobody_is_waited_for_who_has_left_between_two_barriers() -> None:
    bench = Bench()
    for child in "ab":
        bench.say(child, ARRIVE)
    bench.frames()
    bench.release(1, 2)
    bench.relay.forget(b"b")
    bench.say("a", ARRIVE)
    assert bench.bodies() == [ARRIVE]
