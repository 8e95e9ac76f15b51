"""Who may speak to the app: nobody whom a foreign web page sends, nobody without the token where there is one."""

from __future__ import annotations

import pytest
from publishedkit import pack, unpack

from strata_zmq.coordinator.api import door
from strata_zmq.coordinator.api.app import create_app

BODY = {"name": "f", "payload": pack(abs)}


@pytest.mark.parametrize(
    "url", ["http://localhost:8000", "http://127.0.0.1:8000", "http://[::1]:8000", "http://LOCALHOST"]
)
def test_the_hosts_own_names_are_good(make_http, dispatcher, url) -> None:
    assert make_http(dispatcher, url).post("/register_function", BODY).status_code == 201


@pytest.mark.parametrize("url", ["http://rebound.example:8000", "http://localhost.example", "http://10.0.0.7:8000"])
def test_a_name_that_was_bound_to_this_machine_by_others_is_refused(make_http, dispatcher, url) -> None:
    told = make_http(dispatcher, url).post("/register_function", BODY)
    assert told.status_code == 421
    assert not dispatcher.functions


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_what_a_page_of_another_origin_can_send_unasked_is_refused(http, dispatcher, content_type) -> None:
    told = http.post("/register_function", BODY, headers={"content-type": content_type})
    assert told.status_code == 415
    assert not dispatcher.functions


def test_json_with_a_charset_is_json(http) -> None:
    headers = {"content-type": "application/json; charset=utf-8"}
    assert http.post("/register_function", BODY, headers=headers).status_code == 201


def test_with_a_token_only_its_bearers_are_let_in_under_whatever_name(make_http, dispatcher) -> None:
    http = make_http(dispatcher, "http://functions.example", token="secret")  # noqa: S106
    for headers in ({}, {"authorization": "Bearer other"}, {"authorization": "secret"}):
        assert http.post("/register_function", BODY, headers=headers).status_code == 401
        assert http.get("/openapi.json", headers=headers).status_code == 401
    assert http.post("/register_function", BODY, headers={"authorization": "Bearer secret"}).status_code == 201


def test_bodies_under_way_are_bounded_together(http, dispatcher, monkeypatch) -> None:
    monkeypatch.setattr(door, "BODIES_BYTES_MAX", 100)
    told = http.post("/register_function", BODY | {"name": "x" * 100})
    assert (told.status_code, told.headers["retry-after"]) == (429, "1")
    monkeypatch.setattr(door, "BODIES_BYTES_MAX", 1000)
    assert {http.post("/register_function", BODY).status_code for _ in range(20)} == {201}


JSON = {"content-type": "application/json"}


async def chunks():
    """A body that does not say how long it is."""
    for _ in range(11):
        yield b"a" * 100


def test_a_body_over_the_limit_is_413(dispatcher, make_http, monkeypatch) -> None:
    from strata_zmq.coordinator.api import bodies

    with monkeypatch.context() as small:
        small.setattr(door, "BODY_BYTES_MAX", 1000)
        http = make_http(dispatcher)
        assert http.post("/register_function", BODY | {"payload": "A" * 1000}).status_code == 413
        assert (
            http.runner.run(http.client.post("/register_function", content=chunks(), headers=JSON)).status_code == 413
        )
    monkeypatch.setattr(bodies, "BLOB_BYTES_MAX", 3)
    told = make_http(dispatcher).post("/register_function", BODY)
    assert told.status_code == 413
    assert "payload has" in told.json()["detail"]


def test_a_payload_of_megabytes_passes_and_its_result_comes_back(http, dispatcher) -> None:
    """Long bodies and results are taken apart beside the event loop; the text is the same."""
    data = bytes(range(256)) * 16384
    function_id = http.post("/register_function", BODY).json()["function_id"]
    told = http.post("/execute_function", {"function_id": function_id, "payload": pack(((data,), {}))})
    assert told.status_code == 201
    task_id, call, _ = dispatcher.submitted[-1]
    dispatcher.complete(task_id, call.body)
    result = http.get(f"/result/{told.json()['task_id']}").json()["result"]
    assert unpack(result) == ((data,), {})
    assert max(map(len, result.splitlines())) == 76


def test_the_app_describes_every_route_and_every_body() -> None:
    page = create_app(None).openapi()
    assert {"/register_function", "/execute_function", "/status/{task_id}", "/result/{task_id}"} <= set(page["paths"])
    schemas = page["components"]["schemas"]
    assert schemas["ExecuteFunction"]["required"] == ["function_id", "payload"]
    references = set(_references(page))
    assert references
    assert {name.removeprefix("#/components/schemas/") for name in references} <= set(schemas)


def _references(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [name for value in node.values() for name in _references(value)]
    if isinstance(node, list):
        return [name for value in node for name in _references(value)]
    return []
