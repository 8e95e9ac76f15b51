"""What an executor relies on in its remote engine, told by a hand-made dispatcher."""

from __future__ import annotations

import gc
import os
import threading
import time
from dataclasses import replace
from typing import Any

import pytest
from processkit.patience import until
from remotekit import RouterDouble

from strata_zmq.domain.task import CALL_IN_PAYLOAD, Outcome, TaskLimits
from strata_zmq.errors import (
    InvalidArgumentError,
    MissingPayloadError,
    ResourceExhaustedError,
    UnavailableError,
    WorkerFailure,
)
from strata_zmq.functions.calls import PackedCall, payload_digest
from strata_zmq.functions.remote import link
from strata_zmq.functions.remote.engine import RemoteEngine
from strata_zmq.protocol import functions as wire
from strata_zmq.transport.sockets import FUNCTIONS


def call(body: Any = b"x", **rest: Any) -> PackedCall:
    return PackedCall(CALL_IN_PAYLOAD, body, **rest)


def test_calls_of_many_callers_travel_together_and_come_back_each_to_its_own(
    engine: RemoteEngine, router: RouterDouble, resolver: Any
) -> None:
    all_of_them = [[resolver() for _ in range(200)] for _ in range(4)]

    def submit(resolvers: list[Any], first: int) -> None:
        for number, one in enumerate(resolvers):
            engine.submit([(call(b"%d" % (first + number)), one)])

    threads = [threading.Thread(target=submit, args=(each, 1000 * at)) for at, each in enumerate(all_of_them)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for at, each in enumerate(all_of_them):
        assert [one.outcome().body for one in each] == [b"%d" % (1000 * at + number) for number in range(200)]
    assert len(router.of(wire.Submit)) < 400


def test_task_ids_are_returned_at_once_and_never_twice(engine: RemoteEngine, resolver: Any) -> None:
    ids = engine.submit([(call(), resolver()) for _ in range(50)]) + engine.submit([(call(), resolver())])
    assert len(set(ids)) == 51
    assert {len(one) for one in ids} == {16}


def test_calls_with_other_limits_are_another_submission_and_equal_limits_are_not(
    engine: RemoteEngine, router: RouterDouble, resolver: Any
) -> None:
    each = [(call(limits=TaskLimits(attempt_s=5.0)), resolver()) for _ in range(3)]
    each += [(call(limits=TaskLimits(retries_lost=2)), resolver())]
    engine.submit(each)
    for _, one in each:
        one.outcome()
    assert [(len(one.tasks), one.limits.attempt_s, one.limits.retries_lost) for one in router.of(wire.Submit)] == [
        (3, 5.0, 0),
        (1, 0.0, 2),
    ]


def test_large_bodies_travel_as_frames_and_results_are_writable(engine: RemoteEngine, resolver: Any) -> None:
    mine = bytearray(b"a" * 1_000_000)
    one = resolver()
    engine.submit([(call((b"pickle", memoryview(mine))), one)])
    mine[:] = b"b" * 1_000_000  # it was submitted as it was then
    stream, buffer = one.outcome().body
    assert (bytes(stream), bytes(buffer)) == (b"pickle", b"a" * 1_000_000)
    assert not memoryview(buffer).readonly


def test_what_is_kept_is_there_before_the_call_that_needs_it_and_sent_once(
    engine: RemoteEngine, router: RouterDouble, resolver: Any
) -> None:
    digest = payload_digest(b"function")
    for _ in range(3):
        engine.keep(digest, b"function")
        one = resolver()
        engine.submit([(PackedCall(digest, b"x"), one)])
        one.outcome()
    kinds = [type(one) for one in router.messages if isinstance(one, wire.PutBlobs | wire.Submit)]
    assert kinds == [wire.PutBlobs, wire.Submit, wire.Submit, wire.Submit]
    assert router.blobs == {digest: b"function"}


def test_a_dispatcher_that_forgot_a_callable_is_given_it_again(
    engine: RemoteEngine, router: RouterDouble, resolver: Any
) -> None:
    digest = payload_digest(b"function")
    engine.keep(digest, b"function")
    until(lambda: router.blobs)
    router.blobs.clear()
    _refuse_what_lacks(router, digest)
    one = resolver()
    engine.submit([(PackedCall(digest, b"x"), one)])
    assert one.outcome().body == b"x"


def test_a_call_whose_callable_nobody_has_fails(engine: RemoteEngine, router: RouterDouble, resolver: Any) -> None:
    digest = payload_digest(b"function")
    _refuse_what_lacks(router, digest)
    one = resolver()
    engine.submit([(PackedCall(digest, b"x"), one)])
    with pytest.raises(MissingPayloadError):
        one.outcome()


def _refuse_what_lacks(router: RouterDouble, digest: bytes) -> None:
    def answer(double: RouterDouble, connection: bytes, message: Any) -> bool:
        if not isinstance(message, wire.Submit) or digest in double.blobs:
            return False
        refused = [wire.RefusedTask(index, "missing_payload", "put it") for index in range(len(message.tasks))]
        double.send(connection, wire.SubmittedReply(message.seq, refused))
        return True

    router.answer = answer


def test_a_full_dispatcher_is_asked_again_when_it_said_and_the_order_stays(
    engine: RemoteEngine, router: RouterDouble, resolver: Any
) -> None:
    asked: list[tuple[float, list[bytes]]] = []

    def answer(double: RouterDouble, connection: bytes, message: Any) -> bool:
        if not isinstance(message, wire.Submit):
            return False
        asked.append((time.monotonic(), [task.body for task in message.tasks]))
        if len(asked) > 1:
            return False
        refused = [wire.RefusedTask(index, "resource_exhausted", "full", 0.2) for index in range(len(message.tasks))]
        double.send(connection, wire.SubmittedReply(message.seq, refused))
        return True

    router.answer = answer
    first = [(call(b"%d" % number), resolver()) for number in range(3)]
    engine.submit(first)
    until(lambda: asked)
    last = resolver()
    engine.submit([(call(b"3"), last)])
    assert last.outcome().body == b"3"
    assert [one.outcome().body for _, one in first] == [b"0", b"1", b"2"]
    assert asked[1][1] == [b"0", b"1", b"2", b"3"]
    assert asked[1][0] - asked[0][0] >= 0.2


def test_another_refusal_ends_its_call_alone_under_its_name(
    engine: RemoteEngine, router: RouterDouble, resolver: Any
) -> None:
    def answer(double: RouterDouble, connection: bytes, message: Any) -> bool:
        if isinstance(message, wire.Submit) and len(message.tasks) == 2:
            double.tasks[message.tasks[1].task_id] = wire.TaskRow(message.tasks[1].task_id, "QUEUED")
            double.watchers[message.tasks[1].task_id] = connection
            refused = [wire.RefusedTask(0, "invalid_argument", "labels: gpu is too much")]
            double.send(connection, wire.SubmittedReply(message.seq, refused))
            double.end(message.tasks[1].task_id, body=b"fine")
            return True
        return False

    router.answer = answer
    bad, good = resolver(), resolver()
    engine.submit([(call(), bad), (call(), good)])
    assert good.outcome().body == b"fine"
    with pytest.raises(InvalidArgumentError, match="labels: gpu"):
        bad.outcome()


def test_a_key_that_stands_for_a_task_already_gives_that_tasks_result(
    engine: RemoteEngine, router: RouterDouble, resolver: Any
) -> None:
    router.hold = True
    first = resolver()
    (first_id,) = engine.submit([(call(key="k"), first)])
    until(lambda: first_id in router.tasks)

    def answer(double: RouterDouble, connection: bytes, message: Any) -> bool:
        if not isinstance(message, wire.Submit):
            return False
        double.send(connection, wire.SubmittedReply(message.seq, existing=[wire.Existing(0, first_id)]))
        return True

    router.answer = answer
    second, third = resolver(), resolver()
    (second_id,) = engine.submit([(call(key="k"), second)])
    until(lambda: len(router.of(wire.Watch)) == 1)
    (third_id,) = engine.submit([(call(key="k"), third)])
    until(lambda: len(router.of(wire.Watch)) == 2)
    assert engine.cancel(third_id, running=False, timeout_s=5.0)
    router.end(first_id, body=b"once")
    assert (first.outcome().body, second.outcome().body) == (b"once", b"once")
    assert (first.outcome().task_id, second.outcome().task_id) == (first_id, second_id)
    assert not third.done


# ---- cancelling


def test_a_queued_call_is_cancelled_and_its_resolver_hears_nothing(
    engine: RemoteEngine, router: RouterDouble, resolver: Any
) -> None:
    router.hold = True
    one, after = resolver(), resolver()
    (task_id,) = engine.submit([(call(), one)])
    assert engine.cancel(task_id, running=False, timeout_s=5.0)
    router.hold = False
    engine.submit([(call(), after)])
    after.outcome()
    assert not one.done


def test_a_running_call_is_not_cancelled_unless_that_is_asked(
    engine: RemoteEngine, router: RouterDouble, resolver: Any
) -> None:
    router.hold = True
    one = resolver()
    (task_id,) = engine.submit([(call(), one)])
    until(lambda: task_id in router.tasks)
    router.tasks[task_id] = wire.TaskRow(task_id, "RUNNING", 1)
    assert not engine.cancel(task_id, running=False, timeout_s=5.0)
    kill = threading.Timer(0.1, lambda: router.end(task_id, kind="failure", body=None, cause="cancelled"))
    kill.start()
    assert engine.cancel(task_id, running=True, timeout_s=5.0)
    kill.join()
    assert not one.done


def test_a_result_that_was_first_wins(engine: RemoteEngine, router: RouterDouble, resolver: Any) -> None:
    router.hold = True
    one = resolver()
    (task_id,) = engine.submit([(call(), one)])
    until(lambda: task_id in router.tasks)
    router.tasks[task_id] = wire.TaskRow(task_id, "RUNNING", 1)
    done = threading.Timer(0.1, lambda: router.end(task_id, body=b"ready"))
    done.start()
    assert not engine.cancel(task_id, running=True, timeout_s=5.0)
    done.join()
    assert one.outcome().body == b"ready"


def test_who_cancels_waits_no_longer_than_asked_and_the_end_is_told_then(
    engine: RemoteEngine, router: RouterDouble, resolver: Any
) -> None:
    router.hold = True
    one = resolver()
    (task_id,) = engine.submit([(call(), one)])
    until(lambda: task_id in router.tasks)
    router.tasks[task_id] = wire.TaskRow(task_id, "RUNNING", 1)
    assert not engine.cancel(task_id, running=True, timeout_s=0.05)
    router.end(task_id, kind="failure", body=None, cause="cancelled")
    assert one.outcome().cause == "cancelled"


def test_a_resolver_may_cancel_and_submit(engine: RemoteEngine, router: RouterDouble, resolver: Any) -> None:
    router.hold = True
    other, follower, seen = resolver(), resolver(), []
    (other_id,) = engine.submit([(call(), other)])
    until(lambda: other_id in router.tasks)

    class First(resolver):  # type: ignore[misc]
        def resolve(self, outcome: Outcome) -> None:
            seen.append(engine.cancel(other_id, running=False, timeout_s=5.0))
            engine.submit([(call(b"next"), follower)])
            super().resolve(outcome)

    router.hold = False
    first = First()
    engine.submit([(call(), first)])
    first.outcome()
    assert follower.outcome().body == b"next"
    assert other.outcome().cause == "cancelled"
    assert seen == [False]


def test_what_its_future_no_longer_wants_is_never_sent(
    engine: RemoteEngine, router: RouterDouble, resolver: Any
) -> None:
    unwanted, wanted = resolver(wanted=False), resolver()
    (unwanted_id, _) = engine.submit([(call(), unwanted), (call(), wanted)])
    wanted.outcome()
    assert unwanted_id not in router.tasks
    assert not unwanted.done


# ---- limits and ends


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (PackedCall(b"short", b""), "function is a digest of 5 bytes"),
        (call(key="k" * 257), "key has 257 characters"),
        (call(refs=tuple(bytes(16) for _ in range(1025))), "refers to 1025 values"),
        (call((b"", *[b"x"] * 1024)), "1025 buffers"),
        (call(limits=TaskLimits(attempt_s=-1.0)), "attempt_s"),
    ],
)
def test_what_no_dispatcher_takes_is_refused_at_once(
    engine: RemoteEngine, router: RouterDouble, resolver: Any, bad: PackedCall, says: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=says):
        engine.submit([(call(), resolver()), (bad, resolver())])
    good = resolver()
    engine.submit([(call(), good)])
    good.outcome()
    assert len(router.tasks) == 1  # the one beside the bad one was not taken either


def test_the_queue_is_bounded_in_calls_and_bytes_and_has_room_again(router: RouterDouble, resolver: Any) -> None:
    router.answer = lambda _, __, message: isinstance(message, wire.Submit)
    engine = RemoteEngine(router.endpoint, tasks_max=3, bytes_max=1000)
    try:
        first = [(call(b"x"), resolver()) for _ in range(3)]
        engine.submit(first)
        with pytest.raises(ResourceExhaustedError, match=r"3 calls wait.*3 is the limit"):
            engine.submit([(call(), resolver())])
        router.answer = lambda *_: False
        for _, one in first:
            one.outcome()
        large = resolver()
        until(lambda: engine._held_tasks == 0)
        engine.submit([(call(b"x" * 5000), large)])  # alone, anything that a message carries goes
        assert len(large.outcome().body) == 5000
        router.answer = lambda _, __, message: isinstance(message, wire.Submit)
        until(lambda: engine._held_bytes == 0)
        engine.submit([(call(b"x" * 600), resolver())])
        with pytest.raises(ResourceExhaustedError, match="600 bytes wait"):
            engine.submit([(call(b"x" * 600), resolver())])
    finally:
        router.answer = lambda *_: False
        engine.shutdown(wait=True, cancel_pending=True)


def test_shutdown_waits_for_what_was_submitted(router: RouterDouble, resolver: Any) -> None:
    engine = RemoteEngine(router.endpoint)
    each = [(call(), resolver()) for _ in range(100)]
    engine.submit(each)
    engine.shutdown(wait=True, cancel_pending=False)
    assert all(one.done for _, one in each)
    with pytest.raises(UnavailableError, match="shut down"):
        engine.submit([(call(), resolver())])
    until(lambda: router.of(wire.Detach))


def test_shutdown_cancels_what_has_not_started(router: RouterDouble, resolver: Any) -> None:
    router.hold = True
    engine = RemoteEngine(router.endpoint)
    there = resolver()
    engine.submit([(call(), there)])
    until(lambda: router.tasks)
    on_its_way = [(call(), resolver()) for _ in range(10)]
    engine.submit(on_its_way)
    engine.shutdown(wait=True, cancel_pending=True)
    assert {one.outcome().cause for one in (there, *(one for _, one in on_its_way))} == {"cancelled"}


def test_nothing_is_left_of_an_engine(router: RouterDouble) -> None:
    RemoteEngine(router.endpoint).shutdown(wait=True, cancel_pending=False)
    gc.collect()
    before = set(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208 - descriptors, no files
    for _ in range(3):
        RemoteEngine(router.endpoint).shutdown(wait=True, cancel_pending=False)
    gc.collect()
    assert threading.active_count() == before[1]
    assert len(set(os.listdir("/proc/self/fd"))) <= len(before[0]) + 1  # noqa: PTH208


# ---- nobody there, and another than before


def test_when_nobody_answers_every_call_fails_with_the_way_out(resolver: Any) -> None:
    engine = RemoteEngine("tcp://127.0.0.1:9", away_s=0.3)
    try:
        one = resolver()
        engine.submit([(call(), one)])
        with pytest.raises(UnavailableError, match=r"nobody has answered at tcp://127.0.0.1:9 .*start a dispatcher"):
            one.outcome()
    finally:
        engine.shutdown(wait=True, cancel_pending=True)


def test_a_dispatcher_that_refuses_this_client_breaks_the_engine(router: RouterDouble, resolver: Any) -> None:
    def answer(double: RouterDouble, connection: bytes, message: Any) -> bool:
        if isinstance(message, wire.Attach):
            double.send(connection, wire.Complaint(message.seq, "protocol", "proto is 1, and 2 is spoken here"))
        return True

    router.answer = answer
    engine = RemoteEngine(router.endpoint)
    one = resolver()
    engine.submit([(call(), one)])
    with pytest.raises(Exception, match="2 is spoken here"):
        one.outcome()
    with pytest.raises(Exception, match="2 is spoken here"):
        engine.submit([(call(), resolver())])
    engine.shutdown(wait=True, cancel_pending=True)


def test_a_forked_process_is_told_to_make_its_own(engine: RemoteEngine, resolver: Any) -> None:
    engine._pid -= 1
    with pytest.raises(UnavailableError, match="make one here"):
        engine.submit([(call(), resolver())])
    engine._pid += 1


def test_what_a_restarted_dispatcher_does_not_know_is_a_lost_workers(
    engine: RemoteEngine, router: RouterDouble, resolver: Any
) -> None:
    router.hold = True
    one = resolver()
    (task_id,) = engine.submit([(call(), one)])
    until(lambda: task_id in router.tasks)
    until(lambda: engine._held_tasks == 0)
    router.forget()
    after = resolver()
    router.hold = False
    engine.submit([(call(b"after"), after)])
    with pytest.raises(WorkerFailure, match="the dispatcher was restarted") as failure:
        one.outcome()
    assert failure.value.cause == "worker_lost"
    assert failure.value.task_id == task_id.hex()
    assert after.outcome().body == b"after"
    assert [len(one.tasks) for one in router.of(wire.Submit)].count(1) >= 2


def test_more_than_the_socket_holds_goes_out_when_there_is_room(
    router: RouterDouble, resolver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dispatcher that takes nothing for a while pushes back on the socket, and nothing is lost or forgotten."""
    monkeypatch.setattr(link, "FUNCTIONS", replace(FUNCTIONS, send_high_water_mark=2))
    engine = RemoteEngine(router.endpoint)
    try:
        until(lambda: router.of(wire.Attach))
        gate = threading.Event()
        router.answer = lambda *_: not gate.wait(20)
        blobs = [b"%d" % number + bytes(500_000) for number in range(100)]
        for blob in blobs:
            engine.keep(payload_digest(blob), blob)
        one = resolver()
        engine.submit([(call(b"x"), one)])
        until(lambda: engine._link._outbox, 20)
        gate.set()
        assert one.outcome(30).body == b"x"
        assert len(router.blobs) == 100
    finally:
        engine.shutdown(wait=True, cancel_pending=True)
