"""Whom the state app answers, what it refuses and how it says so: hosts, origins, tokens, methods, paths, bodies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from processkit.patience import until
from sightkit import HandFeed, NoJobs, NoVault, Pages, Served, event, job, serve_app, worker
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from strata_zmq.coordinator.api.app import create_app
from strata_zmq.coordinator.api.state import static
from strata_zmq.coordinator.api.state.guard import BODY_BYTES_MAX
from strata_zmq.coordinator.api.state.hub import Hub
from strata_zmq.errors import InvalidArgumentError

NASTY = "</script><img src=x onerror=alert(1)>\u202e\x00"
TOKEN = "a secret; with=odd characters"  # noqa: S105
JOB = {"name": "n", "type": "t"}


def hub_of(core: HandFeed) -> Hub:
    return Hub([core], logs=Pages(), jobs=NoJobs(), vault=NoVault())


def page_in(folder: Path) -> Path:
    (folder / "assets").mkdir()
    (folder / "index.html").write_text("<!doctype html><div id=root></div>")
    (folder / "theme.js").write_text("// theme")
    (folder / "assets" / "index-Bx8k2LmQ.js").write_text("// page")
    (folder / ".secret").write_text("not to be served")
    (folder.parent / "beside.txt").write_text("not to be served")
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    core = HandFeed()
    app = create_app(
        None, hub=hub_of(core), page=page_in(tmp_path_factory.mktemp("page")), metrics=lambda: b"strata_up 1\n"
    )
    with serve_app(app) as running:
        running.call(
            lambda: core.begin(
                job=job(),
                workers=[worker("w0", metadata={"name": NASTY}), worker("w1", 1)],
                events=[event(1, text=NASTY)],
            )
        )
        until(lambda: len(httpx.get(f"{running.url}/api/workers").json()) == 2)
        yield running


@pytest.fixture(scope="module")
def http(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url) as client:
        yield client


def refused(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"detail", "code"}
    return str(body["detail"])


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/nothing", "/api/workers/", "/api/dashboard/x", "/api//health"])
def test_an_unknown_path_is_told_what_there_is_instead(http: httpx.Client, path: str) -> None:
    said = refused(http.get(path), 404)
    assert "GET /api/dashboard" in said
    assert "POST /api/jobs" in said


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "FOO"])
@pytest.mark.parametrize("path", ["/api/workers", "/api/workers/w0", "/metrics"])
def test_a_wrong_method_is_told_the_right_one(http: httpx.Client, method: str, path: str) -> None:
    answer = http.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


def test_a_path_of_several_methods_names_all_of_them(http: httpx.Client) -> None:
    assert http.delete("/api/jobs").headers["allow"] == "GET, POST"
    assert http.put("/workers/w0").headers["allow"] == "GET, HEAD"


def test_a_worker_that_is_not_there_is_told_who_is_near(http: httpx.Client) -> None:
    assert "near it: w0, w1" in refused(http.get("/api/workers/w"), 404)
    assert "there are 2" in refused(http.get("/api/workers/" + "x" * 3000), 404)
    refused(http.get("/api/checkpoints/none/verify"), 405)
    refused(http.post("/api/checkpoints/none/verify"), 404)
    refused(http.post("/api/jobs/none/stop"), 404)
    refused(http.get("/api/jobs/none/logs"), 404)
    refused(http.get("/api/functions/tasks/none"), 404)


@pytest.mark.parametrize(
    "query",
    [
        "history?seconds=0",
        "history?seconds=3601",
        "history?seconds=1e3",
        "history?seconds=",
        "history?end=-1",
        "history?end=99999999999999999999",
        "timeline?limit=1001",
        "timeline?offset=-1",
        "activity?limit=zero",
        "logs?level=loud",
        "logs?search=" + "x" * 257,
        "functions/tasks?after=me",
        "functions/tasks?state=DONE",
    ],
)
def test_a_parameter_out_of_its_range_is_named_with_the_range(http: httpx.Client, query: str) -> None:
    answer = http.get(f"/api/{query}")
    assert answer.status_code == 422
    (problem,) = answer.json()["detail"]
    assert problem["loc"] == ["query", query.partition("?")[2].partition("=")[0]]
    assert problem["msg"]


def test_a_body_that_is_too_long_is_refused_before_it_is_read_and_while(http: httpx.Client) -> None:
    body = b'{"name": "' + b"x" * BODY_BYTES_MAX + b'"}'
    kind = {"content-type": "application/json"}
    assert str(BODY_BYTES_MAX) in refused(http.post("/api/jobs", content=body, headers=kind), 413)
    refused(http.post("/api/jobs", content=iter([body[:1000], body[1000:]]), headers=kind), 413)


def test_a_body_has_to_be_json_of_the_known_fields(http: httpx.Client) -> None:
    refused(http.post("/api/jobs", content=b"name=n"), 415)
    refused(http.post("/api/jobs", data=JOB), 415)
    for body in ({}, {"name": "n"}, JOB | {"shell": "rm"}, JOB | {"name": "a b"}, JOB | {"worker_count": 0}, []):
        answer = http.post("/api/jobs", json=body)
        assert (answer.status_code, answer.json()["detail"][0]["loc"][0]) == (422, "body")
    assert http.post("/api/jobs", content=b"{", headers={"content-type": "application/json"}).status_code == 422
    assert "--jobs FILE" in refused(http.post("/api/jobs", json=JOB), 409)
    refused(http.post("/api/jobs", json=JOB | {"worker_count": 3.0}), 409)  # to JSON, it is a whole number


@pytest.mark.parametrize("path", ["/", "/api/health", "/metrics", "/api/nothing"])
def test_a_foreign_host_is_refused_everywhere(http: httpx.Client, path: str) -> None:
    refused(http.get(path, headers={"host": "evil.example"}), 421)


def test_a_page_of_another_origin_may_change_nothing(http: httpx.Client, served: Served) -> None:
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{served.port + 1}", "http://[", "\u00e9"):
        sent = {b"origin": origin.encode()}
        for path in ("/api/jobs", "/api/tasks", "/api/jobs/digits/stop", "/api/checkpoints/c/verify"):
            refused(http.post(path, json=JOB, headers=sent), 403)
    refused(http.post("/api/jobs", json=JOB, headers={"origin": served.url}), 409)


@pytest.mark.parametrize("path", ["/api/events", "/api/timeline", "/api/dashboard", "/metrics"])
@pytest.mark.parametrize("mode", ["cors", "no-cors"])
def test_what_a_page_of_another_site_fetches_is_not_even_begun(http: httpx.Client, path: str, mode: str) -> None:
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": mode}
    assert "may not speak" in refused(http.get(path, headers=headers), 403)


def test_a_link_on_another_sites_page_opens_the_dashboard(http: httpx.Client) -> None:
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert http.get("/workers", headers=headers).status_code == 200


def test_every_answer_bears_the_headers_that_keep_a_browser_safe(http: httpx.Client) -> None:
    for answer in (
        http.get("/"),
        http.get("/api/dashboard"),
        http.get("/api/nothing"),
        http.get("/", headers={"host": "evil.example"}),
        http.post("/api/jobs", headers={"origin": "null"}),
    ):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe-inline" not in policy.partition("style-src")[0]
        assert "unsafe-eval" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_what_workers_say_of_themselves_is_json_text_and_nothing_else(http: httpx.Client) -> None:
    answer = http.get("/api/dashboard")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["workers"][0]["metadata"]["name"] == NASTY
    assert answer.json()["events"][0]["text"] == NASTY


def test_the_page_answers_its_own_paths_and_only_files_that_are_its_own(http: httpx.Client) -> None:
    for path in ("/", "/workers/w0", "/activity", "/checkpoints/a/b"):
        assert http.get(path).text.startswith("<!doctype html>")
    assert http.get("/theme.js").headers["content-type"].startswith("text/javascript")
    for path in ("/.secret", "/../beside.txt", "/%2e%2e/beside.txt", "/..%2fbeside.txt", "/assets/none.js", "/x.png"):
        assert "not to be served" not in http.get(path).text
    refused(http.get("/assets/none.js"), 404)


def test_a_file_whose_name_has_a_hash_is_kept_and_the_page_is_asked_for_each_time(http: httpx.Client) -> None:
    assert "immutable" in http.get("/assets/index-Bx8k2LmQ.js").headers["cache-control"]
    page = http.get("/")
    assert page.headers["cache-control"] == "no-cache"
    assert http.get("/", headers={"if-none-match": page.headers["etag"]}).status_code == 304


def test_a_dashboard_that_is_still_the_same_is_not_sent_again(http: httpx.Client) -> None:
    answer = http.get("/api/workers")
    again = http.get("/api/workers", headers={"if-none-match": answer.headers["etag"]})
    assert again.status_code == (304 if again.headers["etag"] == answer.headers["etag"] else 200)
    assert not again.content or again.status_code == 200


def test_without_a_built_page_the_root_says_how_to_build_one(tmp_path: Path) -> None:
    with serve_app(create_app(None, hub=hub_of(HandFeed()), page=tmp_path)) as running:
        answer = httpx.get(running.url)
        assert (answer.status_code, "npm run build" in answer.text) == (200, True)
        assert httpx.get(running.url + "/workers").status_code == 404
        assert httpx.get(running.url + "/metrics").status_code == 404


def test_a_folder_that_is_no_built_page_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidArgumentError, match="npm run build"):
        static.Page(tmp_path)
    page_in(tmp_path)
    monkeypatch.setattr(static, "PAGE_BYTES_MAX", 10)
    with pytest.raises(InvalidArgumentError, match="no built page"):
        static.Page(tmp_path)


def test_with_a_token_requests_bear_it_and_a_browser_is_given_a_cookie_for_it(tmp_path: Path) -> None:
    page = tmp_path / "page"
    page.mkdir()
    with serve_app(create_app(None, hub=hub_of(HandFeed()), page=page_in(page), token=TOKEN)) as running:
        with httpx.Client(base_url=running.url) as http:
            assert "?token=" in refused(http.get("/api/dashboard"), 401)
            refused(http.get("/", params={"token": "wrong"}), 401)
            bearing = {"authorization": f"Bearer {TOKEN}"}
            assert http.get("/api/dashboard", headers=bearing).status_code == 200
            welcome = http.get(running.url + "//evil.example/x", params={"token": TOKEN})
            assert (welcome.status_code, welcome.headers["location"]) == (303, "/evil.example/x")
            cookie = welcome.headers["set-cookie"].lower()
            assert "httponly" in cookie
            assert "samesite=strict" in cookie
            assert TOKEN not in welcome.headers["set-cookie"]
            assert http.get("/").text.startswith("<!doctype html>")
            live = running.url.replace("http", "ws") + "/api/live"
            with connect(live, additional_headers={"cookie": welcome.headers["set-cookie"].partition(";")[0]}) as feed:
                assert feed.recv(10)
            refused(http.post("/api/jobs", json=JOB, headers={"origin": "http://evil.example"}), 403)
        with pytest.raises(InvalidStatus) as none, connect(live):
            pass
        assert none.value.response.status_code == 401


def test_before_the_coordinator_is_heard_lists_are_empty_and_say_that_they_wait() -> None:
    with serve_app(create_app(None, hub=hub_of(HandFeed()))) as running, httpx.Client(base_url=running.url) as http:
        for path in ("workers", "datasets", "checkpoints", "barriers", "jobs", "settings"):
            answer = http.get(f"/api/{path}")
            assert (answer.status_code, answer.json(), answer.headers["x-strata-source"]) == (200, [], "waiting")
        assert http.get("/api/dashboard").status_code == 200
        assert http.get("/api/health").json()["status"] == "waiting"
        assert http.get("/api/status").json()["version"] is None
        late = http.get("/api/workers/w0")
        assert late.headers["retry-after"] == "1"
        refused(late, 503)
