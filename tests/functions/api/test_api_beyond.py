"""What goes beyond the published four routes: options, keys, batches, waiting, events, cancelling, lists, health."""

from __future__ import annotations

import asyncio
import json
import uuid

import pytest
from publishedkit import pack, pack_call, unpack

from strata_zmq.domain.task import Outcome, OutcomeReport, TaskLimits


@pytest.fixture
def function_id(http):
    return http.post("/register_function", {"name": "f", "payload": pack(abs)}).json()["function_id"]


@pytest.fixture
def execute(http, function_id):
    """`execute(*args, **fields)` submits a call and returns the answer."""

    def call(*args, headers=None, **fields):
        body = {"function_id": function_id, "payload": pack_call(*args), **fields}
        return http.post("/execute_function", body, headers=headers or {})

    return call


def raw(task_id):
    return uuid.UUID(task_id).bytes


def test_options_reach_the_dispatcher_and_equal_ones_are_one_object(execute, dispatcher) -> None:
    fields = {
        "deadline_s": 2,
        "total_s": 10,
        "queue_ttl_s": 5,
        "retries": 1,
        "retries_lost": 2,
        "retries_memory": 3,
        "labels": {"gpu": 1},
        "durability": "none",
        "keep_s": 60,
        "python": "3.11",
        "capture": True,
        "memory_bytes": 2**30,
        "result_bytes_max": 1024,
    }
    assert [execute(-1, **fields).status_code for _ in range(2)] == [201, 201]
    first, second = (limits for _, _, limits in dispatcher.submitted)
    assert first is second
    assert first == TaskLimits(
        durability="none",
        attempt_s=2,
        total_s=10,
        queue_s=5,
        retries_error=1,
        retries_lost=2,
        retries_memory=3,
        labels={"gpu": 1},
        keep_s=60,
        python="3.11",
        form="dill",
        capture=True,
        memory_bytes=2**30,
        result_bytes_max=1024,
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("deadline_s", -1), ("keep_s", 0), ("retries", 1001), ("retries", 1.5), ("labels", {"": 1})),
        *(("durability", "maybe"), ("python", "three"), ("capture", 1), ("deadlines", 1)),
    ],
)
def test_an_option_outside_its_limits_is_422_and_named(execute, dispatcher, field, value) -> None:
    told = execute(-1, **{field: value})
    assert told.status_code == 422
    assert field in json.dumps(told.json())
    assert not dispatcher.submitted


def test_a_wrong_choice_is_told_what_there_is_to_choose_from(execute) -> None:
    (fault,) = execute(-1, durability="maybe").json()["detail"]
    assert fault["loc"] == ["body", "durability"]
    assert fault["msg"] == "Invalid enum value 'maybe': say one of none, commit"


def test_a_key_makes_the_same_call_the_same_task(execute, dispatcher) -> None:
    first, second = (execute(-1, headers={"Idempotency-Key": "once"}).json() for _ in range(2))
    assert first == second
    assert [call.key for _, call, _ in dispatcher.submitted] == ["once"]
    assert execute(-1, headers={"Idempotency-Key": "x" * 201}).status_code == 400


@pytest.mark.parametrize(
    ("code", "status"),
    [("already_exists", 409), ("environment_mismatch", 409), ("quarantined", 409), ("resource_exhausted", 429)],
)
def test_a_refusal_has_its_status_and_says_when_to_come_back(execute, dispatcher, code, status) -> None:
    dispatcher.refuse = {0: (code, "no, because", 0.0)}
    told = execute(-1)
    assert (told.status_code, told.json()) == (status, {"detail": "no, because", "code": code})
    assert "retry-after" not in told.headers
    dispatcher.refuse = {0: (code, "no, because", 2.5)}
    assert execute(-1).headers["retry-after"] == "3"


def test_while_the_dispatcher_is_away_everything_is_503(http, execute, dispatcher, function_id) -> None:
    dispatcher.away = True
    told = execute(-1)
    assert (told.status_code, told.json()["code"], told.headers["retry-after"]) == (503, "unavailable", "1")
    for path in (f"/status/{uuid.uuid4()}", f"/result/{uuid.uuid4()}?wait_s=5", "/health"):
        assert http.get(path).status_code == 503
    assert http.post("/wait", {"task_ids": [function_id]}).status_code == 503


def test_before_the_first_connection_everything_is_503(make_http) -> None:
    http = make_http(None, endpoint="tcp://127.0.0.1:5555")
    told = http.get("/health")
    assert told.status_code == 503
    assert "tcp://127.0.0.1:5555" in told.json()["detail"]


def test_a_batch_is_accepted_in_order(http, dispatcher, function_id) -> None:
    payloads = [pack_call(n) for n in range(300)]
    told = http.post("/execute_batch", {"function_id": function_id, "payloads": payloads, "deadline_s": 1})
    assert told.status_code == 201
    ids = told.json()["task_ids"]
    assert len(set(ids)) == 300
    assert [raw(one) for one in ids] == [task_id for task_id, _, _ in dispatcher.submitted]
    assert [unpack_call(call) for _, call, _ in dispatcher.submitted] == list(range(300))
    assert all(uuid.UUID(one).version == 4 for one in ids)
    assert set(told.json()) == {"task_ids"}


def unpack_call(call):
    import base64

    ((value,), _) = unpack(base64.encodebytes(call.body).decode())
    return value


def test_what_a_batch_could_not_place_is_named_and_the_rest_is_accepted(http, dispatcher, function_id) -> None:
    dispatcher.refuse = {1: ("resource_exhausted", "the queue is full", 1.5)}
    told = http.post("/execute_batch", {"function_id": function_id, "payloads": [pack_call(n) for n in range(3)]})
    assert told.status_code == 201
    assert [one is None for one in told.json()["task_ids"]] == [False, True, False]
    assert told.json()["refused"] == [
        {"index": 1, "status": 429, "code": "resource_exhausted", "detail": "the queue is full", "retry_after_s": 1.5}
    ]


def test_a_batch_of_which_nothing_was_placed_is_refused(http, dispatcher, function_id) -> None:
    body = {"function_id": str(uuid.uuid4()), "payloads": [pack_call(1)] * 2}
    assert http.post("/execute_batch", body).status_code == 404
    dispatcher.refuse = dict.fromkeys(range(2), ("resource_exhausted", "the queue is full", 1.0))
    told = http.post("/execute_batch", body | {"function_id": function_id})
    assert (told.status_code, told.headers["retry-after"]) == (429, "1")


def test_one_bad_payload_spoils_a_batch_before_anything_is_submitted(http, dispatcher, function_id) -> None:
    told = http.post("/execute_batch", {"function_id": function_id, "payloads": [pack_call(1), "payload"]})
    assert told.status_code == 400
    assert told.json()["detail"].startswith("payloads[1]")
    assert http.post("/execute_batch", {"function_id": function_id, "payloads": []}).status_code == 422
    assert not dispatcher.submitted


def test_the_calls_of_a_batch_have_keys_of_their_own(http, dispatcher, function_id) -> None:
    body = {"function_id": function_id, "payloads": [pack_call(n) for n in range(2)]}
    first, second = (http.post("/execute_batch", body, headers={"Idempotency-Key": "b"}).json() for _ in range(2))
    assert first == second
    assert [call.key for _, call, _ in dispatcher.submitted] == ["b/0", "b/1"]


def test_a_result_can_be_waited_for(http, dispatcher, execute) -> None:
    task_id = execute(-1).json()["task_id"]
    got = http.both(http.client.get(f"/result/{task_id}?wait_s=30"), later(dispatcher, task_id))[0]
    assert (got.json()["status"], unpack(got.json()["result"])) == ("COMPLETED", 1)


async def later(dispatcher, *task_ids):
    while not dispatcher.watched:  # noqa: ASYNC110 - the other one is about to ask
        await asyncio.sleep(0)
    for task_id in task_ids:
        dispatcher.complete(raw(task_id), b"\x80\x04K\x01.")


def test_a_wait_for_a_result_ends_in_time_with_the_state(http, dispatcher, execute) -> None:
    task_id = execute(-1).json()["task_id"]
    assert http.get(f"/result/{task_id}?wait_s=0.01").json()["status"] == "QUEUED"
    assert http.get(f"/result/{uuid.uuid4()}?wait_s=0.01").status_code == 404
    for wrong in ("-1", "301", "soon", "nan"):
        assert http.get(f"/result/{task_id}?wait_s={wrong}").status_code == 422


def test_waiting_for_all_returns_their_results_in_the_order_asked_for(http, dispatcher, execute) -> None:
    ids = [execute(-1).json()["task_id"] for _ in range(3)]
    told = http.both(http.client.post("/wait", json={"task_ids": ids}), later(dispatcher, *reversed(ids)))[0].json()
    assert [row["task_id"] for row in told["tasks"]] == ids
    assert [unpack(row["result"]) for row in told["tasks"]] == [1, 1, 1]
    assert told["pending"] == []


def test_waiting_for_any_returns_with_the_first(http, dispatcher, execute) -> None:
    ids = [execute(-1).json()["task_id"] for _ in range(3)]
    body = {"task_ids": ids, "any": True, "timeout_s": 300}
    told = http.both(http.client.post("/wait", json=body), later(dispatcher, ids[1]))[0].json()
    assert [row["task_id"] for row in told["tasks"]] == [ids[1]]
    assert told["pending"] == [ids[0], ids[2]]
    dispatcher.complete(raw(ids[2]), b"\x80\x04K\x01.")
    assert len(http.post("/wait", body).json()["tasks"]) == 2
    unknown = str(uuid.uuid4())
    told = http.post("/wait", body | {"task_ids": [ids[0], unknown], "timeout_s": 0}).json()
    assert [row["task_id"] for row in told["tasks"]] == [unknown]
    assert dispatcher.watched == 0


def test_a_wait_that_runs_out_says_what_is_missing_and_knows_the_unknown(http, dispatcher, execute) -> None:
    task_id, unknown = execute(-1).json()["task_id"], str(uuid.uuid4())
    told = http.post("/wait", {"task_ids": [task_id, unknown, task_id], "timeout_s": 0.01}).json()
    assert told == {"tasks": [{"task_id": unknown, "status": "UNKNOWN", "result": None}], "pending": [task_id]}
    told = http.post("/wait", {"task_ids": [task_id], "timeout_s": 0, "any": True}).json()
    assert told == {"tasks": [], "pending": [task_id]}


def test_a_wait_without_results_leaves_them_out(http, dispatcher, execute) -> None:
    task_id = execute(-1).json()["task_id"]
    dispatcher.complete(raw(task_id), b"\x80\x04K\x01.")
    told = http.post("/wait", {"task_ids": [task_id], "results": False}).json()
    assert told["tasks"] == [{"task_id": task_id, "status": "COMPLETED", "result": None}]
    http.post("/wait", {"task_ids": [task_id]})
    assert dispatcher.with_bodies == [False, True]


def test_events_tell_each_end_and_then_that_all_are_done(http, dispatcher, execute) -> None:
    ids = [execute(-1).json()["task_id"] for _ in range(2)]
    told = http.both(http.client.get(f"/events?ids={','.join(ids)}"), later(dispatcher, *ids))[0]
    assert told.headers["content-type"].startswith("text/event-stream")
    events = [parse(block) for block in told.text.strip().split("\n\n")]
    assert events == [
        *({"event": "task", "id": one, "data": {"task_id": one, "status": "COMPLETED"}} for one in ids),
        {"event": "done", "data": {}},
    ]


def parse(block):
    fields = dict(line.split(": ", 1) for line in block.splitlines())
    return fields | {"data": json.loads(fields["data"])}


def test_events_end_in_time_with_what_is_left(http, dispatcher, execute) -> None:
    task_id = execute(-1).json()["task_id"]
    told = http.get(f"/events?ids={task_id}&timeout_s=0.01")
    assert parse(told.text.strip()) == {"event": "timeout", "data": {"pending": [task_id]}}
    assert dispatcher.watched == 0
    assert http.get("/events").status_code == 422
    assert http.get("/events?ids=x").status_code == 404


def test_a_queued_task_is_cancelled(http, dispatcher, execute) -> None:
    task_id = execute(-1).json()["task_id"]
    assert http.post(f"/cancel/{task_id}").json() == {"task_id": task_id, "status": "CANCELLED"}
    told = http.get(f"/result/{task_id}").json()
    assert (told["status"], told["error"]["cause"]) == ("CANCELLED", "cancelled")
    assert http.post(f"/cancel/{uuid.uuid4()}").status_code == 404
    assert http.post(f"/cancel/{task_id}?running=perhaps").status_code == 422


def test_what_a_function_printed_is_in_its_result(http, dispatcher, execute) -> None:
    task_id = execute(-1, capture=True).json()["task_id"]
    dispatcher.complete(raw(task_id), b"N.", OutcomeReport(stdout="so far\n", stderr="so bad\n", cut_bytes=7))
    told = http.get(f"/result/{task_id}").json()
    assert (told["stdout"], told["stderr"], told["cut_bytes"]) == ("so far\n", "so bad\n", 7)


def test_an_expired_result_is_not_an_unknown_task(http, dispatcher, execute) -> None:
    task_id = execute(-1).json()["task_id"]
    dispatcher.end(raw(task_id), Outcome(bytes(16), 1, "ok", None), "EXPIRED")
    told = http.get(f"/result/{task_id}")
    assert (told.status_code, told.json()) == (200, {"task_id": task_id, "status": "EXPIRED", "result": None})


def test_tasks_are_listed_in_pages(http, dispatcher, execute) -> None:
    ids = [execute(-1).json()["task_id"] for _ in range(5)]
    dispatcher.run(raw(ids[3]))
    seen, after = [], ""
    while after is not None:
        page = http.get("/tasks", params={"limit": 2} | ({"after": after} if after else {})).json()
        seen += [row["task_id"] for row in page["tasks"]]
        after = page["next"]
    assert seen == ids
    (row,) = http.get("/tasks?state=running").json()["tasks"]
    assert row == {
        "task_id": ids[3],
        "status": "RUNNING",
        "attempt": 1,
        "submitted_at": 103.0,
        "started_at": 200.0,
        "ended_at": 0.0,
    }
    for wrong in ("state=ASLEEP", "limit=0", "limit=1001"):
        assert http.get(f"/tasks?{wrong}").status_code == 422


def test_health_says_how_much_there_is(http) -> None:
    told = http.get("/health").json()
    assert told["status"] == "ok"
    assert (told["queued"], told["running"], told["workers"], told["slots"], told["accepted_total"]) == (3, 2, 1, 4, 6)
