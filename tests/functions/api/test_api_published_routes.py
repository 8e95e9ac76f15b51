"""The four published routes answer with the published names, codes and text."""

from __future__ import annotations

import base64
import uuid

import pytest
from publishedkit import pack, pack_call, unpack

from strata_zmq.domain.task import Outcome, OutcomeReport
from strata_zmq.errors import WorkerFailure


def double(x):
    return 2 * x


@pytest.fixture
def function_id(http):
    return http.post("/register_function", {"name": "double", "payload": pack(double)}).json()["function_id"]


@pytest.fixture
def task_id(http, function_id):
    return http.post("/execute_function", {"function_id": function_id, "payload": pack_call(21)}).json()["task_id"]


def test_a_function_is_registered_under_a_uuid_with_its_bytes_as_they_came(http, dispatcher) -> None:
    told = http.post("/register_function", {"name": "double", "payload": pack(double)})
    assert told.status_code == 201
    function_id = uuid.UUID(told.json()["function_id"])
    assert (function_id.version, list(told.json())) == (4, ["function_id"])
    name, payload = dispatcher.functions[function_id.bytes]
    assert name == "double"
    assert unpack(base64.encodebytes(payload).decode())(4) == 8


def test_a_call_is_accepted_under_a_uuid(http, dispatcher, function_id) -> None:
    told = http.post("/execute_function", {"function_id": function_id, "payload": pack_call(21)})
    assert told.status_code == 201
    assert list(told.json()) == ["task_id"]
    task_id, call, limits = dispatcher.submitted[-1]
    assert (task_id, call.function) == (uuid.UUID(told.json()["task_id"]).bytes, uuid.UUID(function_id).bytes)
    assert (limits.form, limits.durability) == ("dill", "commit")


def test_status_and_result_are_200_also_while_the_task_is_pending(http, dispatcher, task_id) -> None:
    for state in ("QUEUED", "RUNNING"):
        assert http.get(f"/status/{task_id}").json() == {"task_id": task_id, "status": state}
        told = http.get(f"/result/{task_id}")
        assert (told.status_code, told.json()) == (200, {"task_id": task_id, "status": state, "result": None})
        dispatcher.run(uuid.UUID(task_id).bytes)


def test_a_result_is_base64_text_with_newlines_and_can_be_read_again(http, dispatcher, task_id) -> None:
    value = list(range(1000))
    packed = base64.decodebytes(pack(value).encode())
    dispatcher.complete(uuid.UUID(task_id).bytes, packed)
    for _ in range(2):
        told = http.get(f"/result/{task_id}").json()
        assert (told["status"], told["result"], unpack(told["result"])) == ("COMPLETED", pack(value), value)
        assert set(told) == {"task_id", "status", "result"}


def test_a_result_that_came_as_a_frame_is_the_same_text(http, dispatcher, task_id) -> None:
    dispatcher.complete(uuid.UUID(task_id).bytes, (memoryview(b"\x80\x04K\x07."),))
    assert unpack(http.get(f"/result/{task_id}").json()["result"]) == 7


def test_an_exception_comes_back_as_what_its_child_has_pickled(http, dispatcher, task_id) -> None:
    packed = base64.decodebytes(pack(KeyError("gone")).encode())
    report = OutcomeReport(text="'gone'", type_name="KeyError", traceback="Traceback ...")
    dispatcher.end(uuid.UUID(task_id).bytes, Outcome(bytes(16), 1, "error", packed, report=report))
    told = http.get(f"/result/{task_id}").json()
    assert told["status"] == "FAILED"
    assert isinstance(unpack(told["result"]), KeyError)
    assert told["error"] == {"type": "KeyError", "message": "'gone'", "traceback": "Traceback ..."}


def test_a_failure_comes_back_as_a_worker_failure(http, dispatcher, task_id) -> None:
    report = OutcomeReport(text="exceeded deadline of 2 s")
    dispatcher.end(uuid.UUID(task_id).bytes, Outcome(bytes(16), 1, "failure", None, cause="deadline", report=report))
    told = http.get(f"/result/{task_id}").json()
    failure = unpack(told["result"])
    assert (told["status"], type(failure)) == ("FAILED", WorkerFailure)
    assert "exceeded deadline" in str(failure)
    assert told["error"] == {"type": "WorkerFailure", "message": "exceeded deadline of 2 s", "cause": "deadline"}


@pytest.mark.parametrize("route", ["status", "result"])
@pytest.mark.parametrize("unknown", ["0b7c5ec2-6b0e-4f5c-9a52-6f3c1d9f7b11", "no-such-task"])
def test_an_unknown_task_is_404(http, route, unknown) -> None:
    told = http.get(f"/{route}/{unknown}")
    assert told.status_code == 404
    assert unknown in told.json()["detail"]


@pytest.mark.parametrize("unknown", ["0b7c5ec2-6b0e-4f5c-9a52-6f3c1d9f7b11", "no-such-function"])
def test_an_unknown_function_is_404(http, unknown) -> None:
    told = http.post("/execute_function", {"function_id": unknown, "payload": pack_call(1)})
    assert (told.status_code, told.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "payload",
    ["payload", "", "not base64!", "cGF5bG9hZA==", "ünïcode", pack(1)[:-6], pack(1) + pack(2)],
    ids=["word", "empty", "no base64", "no pickle", "no ascii", "cut", "two"],
)
def test_a_payload_that_is_no_pickle_is_400(http, dispatcher, function_id, payload) -> None:
    for path, body in (
        ("/register_function", {"name": "f", "payload": payload}),
        ("/execute_function", {"function_id": function_id, "payload": payload}),
    ):
        told = http.post(path, body)
        assert told.status_code == 400, told.text
        assert told.json()["detail"].startswith("payload")
    assert not dispatcher.submitted


@pytest.mark.parametrize(
    ("path", "body", "missing"),
    [
        ("/register_function", {"name": "f"}, "payload"),
        ("/register_function", {"payload": pack(double)}, "name"),
        ("/execute_function", {"function_id": str(uuid.uuid4())}, "payload"),
        ("/execute_function", {"payload": pack_call(1)}, "function_id"),
    ],
)
def test_a_missing_field_is_422_in_the_form_of_fastapi(http, path, body, missing) -> None:
    told = http.post(path, body)
    assert told.status_code == 422
    (problem,) = told.json()["detail"]
    assert problem == {"type": "missing", "loc": ["body", missing], "msg": "Field required"}


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"name": 3, "payload": ""}, ["body", "name"]),
        ({"name": "", "payload": ""}, ["body", "name"]),
        ({"name": "f", "payload": "", "more": 1}, ["body", "more"]),
        ([], ["body"]),
    ],
)
def test_a_wrong_field_is_422_and_named(http, body, where) -> None:
    told = http.post("/register_function", body)
    assert (told.status_code, told.json()["detail"][0]["loc"]) == (422, where)


def test_what_is_no_json_is_422(http) -> None:
    for content in (b"{", b"\xff\xfe", b'{"name": "f', b""):
        told = http.runner.run(
            http.client.post("/register_function", content=content, headers={"content-type": "application/json"})
        )
        assert (told.status_code, told.json()["detail"][0]["type"]) == (422, "json_invalid")
