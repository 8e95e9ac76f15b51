"""The HTTP interface as a process of its own: how it starts, what it does without a dispatcher, how it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from uuid import UUID

import pytest
from functionkit.processes import DispatcherProcess
from processkit.served import Served
from publishedkit import Published, pack_call, unpack


def double(x):
    return 2 * x


@pytest.fixture
def dispatcher(run_dir):
    made = DispatcherProcess(run_dir, "-m", "local", "-w", "2")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def serve(tmp_path):
    """`serve(endpoint, *options, **env)` starts the interface and returns it with a published client of it."""
    started = []

    def start(endpoint, *options, **env):
        process = Served(
            tmp_path / "api.log",
            *("strata_zmq.coordinator.api", "--dispatcher", endpoint, "--port", "0", *options),
            env=env,
        )
        client = Published(process.told["url"])
        started.append((process, client))
        return process, client

    yield start
    for process, client in started:
        client.close()
        process.stop()


def test_it_serves_what_the_dispatcher_executes(dispatcher, serve) -> None:
    _, client = serve(dispatcher.endpoint)
    assert client.call(double, 21) == 42
    told = client.http.get("/health").json()
    assert (told["status"], told["slots"], told["ended_total"]) == ("ok", 2, 1)


def test_it_ends_well_at_sigint_too(dispatcher, serve) -> None:
    process, _ = serve(dispatcher.endpoint)
    process.signal(signal.SIGINT)
    assert process.wait() == 0
    assert "Traceback" not in process.log.read_text()


def test_without_a_dispatcher_it_serves_503_and_finds_it_once_it_is_there(run_dir, serve, eventually) -> None:
    dispatcher = DispatcherProcess(run_dir, "-m", "local", "-w", "1")
    endpoint = dispatcher.start().endpoint
    dispatcher.stop()
    _, client = serve(endpoint)
    told = client.http.get("/health")
    assert (told.status_code, told.headers["retry-after"]) == (503, "1")
    dispatcher.start()
    try:
        eventually(lambda: client.http.get("/health").status_code == 200, 20)
        assert client.call(double, 21) == 42
    finally:
        dispatcher.stop()


@pytest.mark.parametrize("place", ["api.execute.taken", "api.execute.accepted"])
def test_killed_while_it_executes_a_retry_with_its_key_is_the_same_task(dispatcher, serve, tmp_path, place) -> None:
    """kill -9 before or after the dispatcher has accepted; the caller asks another one, and the call runs once."""

    def count(path):
        with open(path, "a") as file:  # noqa: PTH123
            return file.write("x")

    first, client = serve(dispatcher.endpoint, STRATA_FAILPOINTS=f"{place}=kill")
    body = {"function_id": client.register(count), "payload": pack_call(str(tmp_path / "calls"))}
    key = {"Idempotency-Key": "once"}
    with pytest.raises(Exception, match=r"disconnected|closed|reset"):
        client.http.post("/execute_function", json=body, headers=key)
    assert first.wait() == -signal.SIGKILL
    _, client = serve(dispatcher.endpoint)
    told = [client.http.post("/execute_function", json=body, headers=key).json() for _ in range(2)]
    assert told[0] == told[1]
    assert client.wait(told[0]["task_id"]) == ("COMPLETED", 1)
    assert (tmp_path / "calls").read_text() == "x"


def test_the_same_key_with_another_payload_is_409(dispatcher, serve) -> None:
    _, client = serve(dispatcher.endpoint)
    function_id, key = client.register(double), {"Idempotency-Key": "k"}
    told = [
        client.http.post("/execute_function", json={"function_id": function_id, "payload": pack_call(n)}, headers=key)
        for n in (1, 1, 2)
    ]
    assert [one.status_code for one in told] == [201, 201, 409]


def test_a_python_that_no_worker_has_is_told_at_submission(dispatcher, serve) -> None:
    _, client = serve(dispatcher.endpoint)
    body = {"function_id": client.register(double), "payload": pack_call(1)}
    told = client.http.post("/execute_function", json=body | {"python": "2.7"})
    assert (told.status_code, told.json()["code"]) == (409, "environment_mismatch")
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert client.http.post("/execute_function", json=body | {"python": here}).status_code == 201


def test_options_do_what_they_say(dispatcher, serve, tmp_path) -> None:
    """A retry after an exception, a time limit of its own, what was printed, and the end of a running task."""

    def second_time(path):
        import pathlib

        if pathlib.Path(path).exists():
            print("again")
            return "through"
        pathlib.Path(path).touch()
        raise OSError("once")

    def forever():
        while True:
            pass

    _, client = serve(dispatcher.endpoint)
    body = {"function_id": client.register(second_time), "payload": pack_call(str(tmp_path / "gate"))}
    told = client.http.post("/execute_function", json=body | {"retries": 1, "capture": True}).json()
    result = client.http.get(f"/result/{told['task_id']}?wait_s=20").json()
    assert (result["status"], unpack(result["result"]), result["stdout"]) == ("COMPLETED", "through", "again\n")
    endless = {"function_id": client.register(forever), "payload": pack_call()}
    ids = [
        client.http.post("/execute_function", json=endless | options).json()["task_id"]
        for options in ({"deadline_s": 0.1}, {})
    ]
    late = client.http.get(f"/result/{ids[0]}?wait_s=20").json()
    assert (late["status"], late["error"]["cause"]) == ("FAILED", "deadline")
    assert client.http.post(f"/cancel/{ids[1]}?running=true").status_code == 200
    assert client.http.get(f"/result/{ids[1]}?wait_s=20").json()["status"] == "CANCELLED"


def test_events_come_as_tasks_end(dispatcher, serve) -> None:
    _, client = serve(dispatcher.endpoint)
    function_id = client.register(double)
    ids = [client.execute(function_id, n) for n in range(5)]
    with client.http.stream("GET", "/events", params={"ids": ",".join(ids)}) as told:
        lines = [line for line in told.iter_lines() if line.startswith(("event", "id"))]
    assert sorted(line for line in lines if line.startswith("id")) == sorted(f"id: {one}" for one in ids)
    assert lines[-1] == "event: done"
    # As many as there may be.
    unknown = ",".join(str(UUID(int=n)) for n in range(1000))
    assert client.http.get(f"/events?ids={unknown}").text.count("UNKNOWN") == 1000


def test_a_full_queue_is_429_and_says_when_to_come_back(run_dir, serve) -> None:
    dispatcher = DispatcherProcess(run_dir, "-m", "push", "--queue-tasks", "2").start()
    try:
        _, client = serve(dispatcher.endpoint)
        function_id = client.register(double)
        body = {"function_id": function_id, "payload": pack_call(1)}
        told = [client.http.post("/execute_function", json=body) for _ in range(3)]
        assert [one.status_code for one in told] == [201, 201, 429]
        assert int(told[2].headers["retry-after"]) >= 1
    finally:
        dispatcher.stop()


def test_sixty_four_megabytes_go_in_and_eight_come_out(dispatcher, serve) -> None:
    def thinned(data):
        return data[::-8]

    _, client = serve(dispatcher.endpoint)
    data = bytes(range(256)) * (64 * 1024 * 4)
    assert client.call(thinned, data) == data[::-8]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--host", "0.0.0.0"), "STRATA_API_TOKEN"),  # noqa: S104
        (("--dispatcher", "http://x"), "--dispatcher"),
        (("--port", "70000"), "--port 70000"),
        (("--curve-keys", "/nowhere"), "curve keys"),
    ],
)
def test_a_mistake_is_one_line(options, said) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "strata_zmq.coordinator.api", *options], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_with_a_token_it_may_listen_beyond_this_machine(dispatcher, serve) -> None:
    _, client = serve(dispatcher.endpoint, "--host", "0.0.0.0", STRATA_API_TOKEN="secret")  # noqa: S104, S106
    assert client.http.get("/health").status_code == 401
    client.http.headers["Authorization"] = "Bearer secret"
    assert client.call(double, 21) == 42
