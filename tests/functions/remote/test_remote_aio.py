"""What the HTTP service relies on in its awaitable client, told by a hand-made dispatcher."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any

import pytest
from remotekit import RouterDouble

from strata_zmq.domain.task import CALL_IN_PAYLOAD, TaskLimits
from strata_zmq.errors import AlreadyExistsError, InvalidArgumentError, MissingPayloadError, UnavailableError
from strata_zmq.functions.calls import PackedCall, payload_digest
from strata_zmq.functions.remote import aio
from strata_zmq.functions.remote.aio import AsyncClient, Submitted
from strata_zmq.protocol import functions as wire

KEPT = TaskLimits(keep_s=60.0)


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 30))


def calls(count: int, body: Any = b"x", function: bytes = CALL_IN_PAYLOAD) -> list[tuple[bytes, PackedCall]]:
    return [(os.urandom(16), PackedCall(function, body)) for _ in range(count)]


def test_a_function_is_registered_called_and_its_result_read_as_often_as_wanted(router: RouterDouble) -> None:
    async def story() -> None:
        client = await AsyncClient.connect(router.endpoint)
        function = await client.register("double", b"packed" * 10_000)
        assert router.functions[function] == b"packed" * 10_000
        chosen = os.urandom(16)
        assert await client.register("double", b"packed", chosen) == chosen
        ((task_id, call),) = calls(1, function=function)
        assert await client.submit([(task_id, call)], KEPT) == [Submitted(task_id)]
        for _ in range(2):
            (view,) = await client.fetch([task_id])
            assert (view.task_id, view.state) == (task_id, "COMPLETED")
            assert view.outcome is not None
            assert view.outcome.body == b"x"
        await client.close()

    run(story())


def test_a_large_batch_is_answered_call_by_call_in_order(router: RouterDouble) -> None:
    def answer(double: RouterDouble, connection: bytes, message: Any) -> bool:
        if isinstance(message, wire.Submit):
            refused = [
                wire.RefusedTask(index, "resource_exhausted", "full", 1.5)
                for index, task in enumerate(message.tasks)
                if task.body == b"no"
            ]
            existing = [
                wire.Existing(index, b"e" * 16) for index, task in enumerate(message.tasks) if task.body == b"again"
            ]
            double.send(connection, wire.SubmittedReply(message.seq, refused, existing))
            return True
        return False

    router.answer = answer

    async def story() -> None:
        client = await AsyncClient.connect(router.endpoint)
        batch = calls(1500) + calls(1, b"no") + calls(1000) + calls(1, b"again")
        answers = await client.submit(batch, KEPT)
        assert [one.task_id for one in answers[:-1]] == [task_id for task_id, _ in batch[:-1]]
        assert answers[-1] == Submitted(b"e" * 16)
        assert [index for index, one in enumerate(answers) if one.code] == [1500]
        assert answers[1500] == Submitted(batch[1500][0], "resource_exhausted", "full", 1.5)
        await client.close()

    run(story())


def test_limits_are_the_submissions_whatever_a_call_says(router: RouterDouble) -> None:
    async def story() -> None:
        client = await AsyncClient.connect(router.endpoint)
        call = PackedCall(CALL_IN_PAYLOAD, b"x", TaskLimits(attempt_s=1.0))
        await client.submit([(os.urandom(16), call)], TaskLimits(attempt_s=2.0, durability="commit"))
        (submit,) = router.of(wire.Submit)
        assert (submit.limits.attempt_s, submit.limits.durability) == (2.0, "commit")
        await client.close()

    run(story())


def test_a_callable_that_the_dispatcher_has_forgotten_is_given_again_and_one_that_nobody_has_is_told(
    router: RouterDouble,
) -> None:
    digest = payload_digest(b"function")

    def answer(double: RouterDouble, connection: bytes, message: Any) -> bool:
        if not isinstance(message, wire.Submit) or digest in double.blobs:
            return False
        refused = [wire.RefusedTask(at, "missing_payload", "put it") for at in range(len(message.tasks))]
        double.send(connection, wire.SubmittedReply(message.seq, refused))
        return True

    router.answer = answer

    async def story() -> None:
        client = await AsyncClient.connect(router.endpoint)
        (lost,) = await client.submit(calls(1, function=digest), KEPT)
        assert lost.code == MissingPayloadError.code
        await client.keep(digest, b"function")
        await client.keep(digest, b"function")
        router.blobs.clear()
        batch = calls(2, function=digest)
        assert await client.submit(batch, KEPT) == [Submitted(task_id) for task_id, _ in batch]
        assert len(router.of(wire.PutBlobs)) == 2
        await client.close()

    run(story())


def test_watching_tells_each_end_once_first_those_that_are_known(router: RouterDouble) -> None:
    async def story() -> None:
        client = await AsyncClient.connect(router.endpoint)
        done, unknown = calls(2), os.urandom(16)
        await client.submit(done, KEPT)
        router.hold = True
        coming = calls(2)
        await client.submit(coming, KEPT)
        ids = [*(task_id for task_id, _ in done), unknown, *(task_id for task_id, _ in coming)]
        ended = threading.Timer(0.1, lambda: [router.end(task_id, body=b"late") for task_id, _ in coming])
        seen = []
        async for view in client.watch([*ids, ids[0]], 10.0):
            if len(seen) == 2:
                ended.start()
            seen.append((view.task_id, view.state, view.outcome.body if view.outcome else None))
        ended.join()
        assert sorted(seen[:3]) == sorted(
            [*((task_id, "COMPLETED", b"x") for task_id, _ in done), (unknown, "UNKNOWN", None)]
        )
        assert sorted(seen[3:]) == sorted((task_id, "COMPLETED", b"late") for task_id, _ in coming)
        await client.close()

    run(story())


def test_watching_ends_with_its_time_and_may_be_left_early(router: RouterDouble) -> None:
    router.hold = True

    async def story() -> None:
        client = await AsyncClient.connect(router.endpoint)
        batch = calls(2)
        await client.submit(batch, KEPT)
        ids = [task_id for task_id, _ in batch]
        assert [view async for view in client.watch(ids, 0.1)] == []
        router.end(ids[0])
        views = client.watch(ids, 10.0)
        assert (await anext(views)).task_id == ids[0]
        await views.aclose()  # type: ignore[attr-defined]
        assert client._watched == {}
        # Two may watch the same task.
        both = [asyncio.create_task(_first(client, ids[1])) for _ in range(2)]
        router.end(ids[1])
        assert [one.task_id for one in await asyncio.gather(*both)] == [ids[1], ids[1]]
        await client.close()

    run(story())


async def _first(client: AsyncClient, task_id: bytes) -> Any:
    async for view in client.watch([task_id], 10.0):
        return view
    return None


def test_a_watch_that_wants_results_fetches_what_came_without(router: RouterDouble) -> None:
    async def story() -> None:
        client = await AsyncClient.connect(router.endpoint)
        ((task_id, call),) = calls(1)
        await client.submit([(task_id, call)], KEPT)

        def answer(double: RouterDouble, connection: bytes, message: Any) -> bool:
            if not isinstance(message, wire.Watch):
                return False
            double.send(connection, wire.Answers(message.seq, [double.tasks[task_id]]))  # its row has no body
            return True

        router.answer = answer
        (view,) = [view async for view in client.watch([task_id], 5.0)]
        assert view.outcome is not None
        assert view.outcome.body == b"x"
        (lean,) = [view async for view in client.watch([task_id], 5.0, bodies=False)]
        assert lean.outcome is not None
        assert lean.outcome.body is None
        await client.close()

    run(story())


def test_results_too_long_for_one_message_are_fetched_in_several(router: RouterDouble) -> None:
    def answer(double: RouterDouble, connection: bytes, message: Any) -> bool:
        if isinstance(message, wire.Fetch) and len(message.task_ids) > 2:
            double.send(connection, wire.Complaint(message.seq, "invalid_argument", "ask for fewer at once"))
            return True
        return False

    async def story() -> None:
        client = await AsyncClient.connect(router.endpoint)
        batch = calls(9)
        await client.submit(batch, KEPT)
        router.answer = answer
        ids = [task_id for task_id, _ in batch]
        assert [view.task_id for view in await client.fetch(ids)] == ids
        await client.close()

    run(story())


def test_cancelling_listing_and_counting(router: RouterDouble) -> None:
    router.hold = True

    async def story() -> None:
        client = await AsyncClient.connect(router.endpoint)
        batch = calls(3)
        await client.submit(batch, KEPT)
        ids = [task_id for task_id, _ in batch]
        assert await client.cancel([ids[1], os.urandom(16)], running=False) == ["CANCELLED", "UNKNOWN"]
        assert [view.task_id for view in await client.page(limit=2)] == ids[:2]
        assert (await client.counts()).workers == 3
        with pytest.raises(InvalidArgumentError, match="limit is 0"):
            await client.page(limit=0)
        with pytest.raises(InvalidArgumentError, match="an id has 3 bytes"):
            await client.fetch([b"abc"])
        await client.close()

    run(story())


def test_a_refusal_is_raised_under_its_name(router: RouterDouble) -> None:
    def answer(double: RouterDouble, connection: bytes, message: Any) -> bool:
        if isinstance(message, wire.RegisterFunction):
            double.send(connection, wire.Complaint(message.seq, "already_exists", "registered with another payload"))
            return True
        return False

    router.answer = answer

    async def story() -> None:
        client = await AsyncClient.connect(router.endpoint)
        with pytest.raises(AlreadyExistsError, match="another payload"):
            await client.register("f", b"x", b"i" * 16)
        await client.close()

    run(story())


def test_nobody_there_is_told_in_seconds_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aio, "_PATIENCE_S", 0.3)

    async def story() -> None:
        with pytest.raises(UnavailableError, match=r"no dispatcher answers at tcp://127.0.0.1:9: start one"):
            await AsyncClient.connect("tcp://127.0.0.1:9")

    run(story())


def test_a_silent_dispatcher_is_told_and_the_client_goes_on(
    router: RouterDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        client = await AsyncClient.connect(router.endpoint)
        monkeypatch.setattr(aio, "_PATIENCE_S", 0.2)
        router.answer = lambda *_: True
        with pytest.raises(UnavailableError, match="has not answered"):
            await client.counts()
        router.answer = lambda *_: False
        monkeypatch.setattr(aio, "_PATIENCE_S", 5.0)
        assert (await client.counts()).workers == 3
        await client.close()

    run(story())


def test_who_awaits_may_be_cancelled_and_nothing_is_left_of_it(router: RouterDouble) -> None:
    async def story() -> None:
        client = await AsyncClient.connect(router.endpoint)
        router.answer = lambda *_: True
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.counts()
        assert client._talk.open_requests() == []
        router.answer = lambda *_: False
        await client.counts()
        await client.close()
        await client.close()
        with pytest.raises(UnavailableError, match="was closed"):
            await client.counts()

    run(story())


def test_many_requests_at_once_go_out_without_waiting_for_each_other(router: RouterDouble) -> None:
    async def story() -> None:
        client = await AsyncClient.connect(router.endpoint)
        one_by_one = [client.submit(calls(1), KEPT) for _ in range(300)]
        answers = await asyncio.gather(*one_by_one)
        assert all(one.code == "" for (one,) in answers)
        assert len(router.tasks) == 300
        await client.close()

    run(story())


def test_a_restarted_dispatcher_is_asked_again_and_watches_go_on() -> None:
    async def story() -> None:
        with RouterDouble() as first:
            first.hold = True
            endpoint = first.endpoint
            client = await AsyncClient.connect(endpoint)
            ((task_id, call),) = calls(1)
            await client.submit([(task_id, call)], KEPT)
            watched = asyncio.create_task(_first(client, task_id))
            while not first.of(wire.Watch):  # noqa: ASYNC110 - the other side is a thread
                await asyncio.sleep(0.01)
        with RouterDouble(endpoint) as second:
            assert (await watched).state == "UNKNOWN"
            assert (await client.counts()).workers == 3
            assert second.of(wire.Attach)[0].incarnation == first.incarnation
            await client.close()

    run(story())


def test_an_end_that_is_not_understood_costs_nobody_elses(router: RouterDouble) -> None:
    router.hold = True

    async def story() -> None:
        client = await AsyncClient.connect(router.endpoint)
        batch = calls(2)
        await client.submit(batch, KEPT)
        bad, good = (task_id for task_id, _ in batch)

        def answer(double: RouterDouble, connection: bytes, message: Any) -> bool:
            if not isinstance(message, wire.Watch):
                return False
            rows = [
                wire.TaskRow(task_id, "FAILED", 1, wire.OutcomeRow(task_id, 1, "failure", None, 0.0, cause))
                for task_id, cause in ((bad, "bad luck"), (good, "deadline"))
            ]
            double.send(connection, wire.Answers(message.seq, rows))
            return True

        router.answer = answer
        assert [view.state async for view in client.watch([bad, good], 5.0)] == ["UNKNOWN", "FAILED"]
        await client.close()

    run(story())
