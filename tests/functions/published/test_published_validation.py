"""The published report, validation and round trip: what is refused, and what a good request leads to."""

from __future__ import annotations

import uuid

from publishedkit import ENDED, pack, pack_call, unpack


def double(x):
    return 2 * x


def test_registering_with_a_payload_that_is_no_pickle_is_refused(client) -> None:
    told = client.http.post("/register_function", json={"name": "hello", "payload": "payload"})
    assert told.status_code == 400


def test_registering_without_a_payload_is_refused(client) -> None:
    assert client.http.post("/register_function", json={"name": "hello"}).status_code == 422


def test_executing_with_a_payload_that_is_no_pickle_is_refused(client) -> None:
    body = {"function_id": client.register(double), "payload": "payload"}
    assert client.http.post("/execute_function", json=body).status_code == 400


def test_executing_an_unknown_function_is_refused(client) -> None:
    body = {"function_id": str(uuid.uuid4()), "payload": pack_call(1)}
    assert client.http.post("/execute_function", json=body).status_code == 404


def test_unknown_tasks_have_no_status_and_no_result(client) -> None:
    for route in ("status", "result"):
        assert client.http.get(f"/{route}/{uuid.uuid4()}").status_code == 404


def test_the_round_trip_from_registration_to_result(client) -> None:
    told = client.http.post("/register_function", json={"name": "double", "payload": pack(double)})
    assert told.status_code in {200, 201}
    assert "function_id" in told.json()
    body = {"function_id": told.json()["function_id"], "payload": pack(((2,), {}))}
    told = client.http.post("/execute_function", json=body)
    assert told.status_code == 201
    task_id = told.json()["task_id"]
    told = client.http.get(f"/status/{task_id}")
    assert told.status_code == 200
    assert told.json()["task_id"] == task_id
    assert told.json()["status"] in {"QUEUED", "RUNNING", *ENDED}
    assert client.wait(task_id) == ("COMPLETED", 4)


def test_positional_and_keyword_arguments_arrive(client) -> None:
    def join(*parts, sep="", **rest):
        return sep.join(parts), rest

    assert client.call(join, "a", "b", sep="-", more=1) == ("a-b", {"more": 1})


def test_a_result_can_be_read_again(client) -> None:
    task_id = client.execute(client.register(double), 21)
    assert client.wait(task_id) == ("COMPLETED", 42)
    texts = {client.http.get(f"/result/{task_id}").json()["result"] for _ in range(3)}
    assert [unpack(text) for text in texts] == [42]
