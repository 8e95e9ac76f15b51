"""The published report, fault tolerance: exceptions, deadlines, lost processes; and the service goes on."""

from __future__ import annotations

import os
import signal

import pytest

from strata_zmq.errors import WorkerFailure


def double(x):
    return 2 * x


def fail(kind, *args):
    import builtins

    raise getattr(builtins, kind)(*args)


@pytest.fixture(autouse=True)
def goes_on(client):
    """Whatever happened, the next task is completed."""
    yield
    assert client.call(double, 21) == 42


@pytest.mark.parametrize("kind", ["ValueError", "KeyError", "ZeroDivisionError"])
def test_an_exception_comes_back_as_its_own_type(client, kind) -> None:
    status, error = client.wait(client.execute(client.register(fail), kind, "because"))
    assert status == "FAILED"
    assert (type(error).__name__, error.args) == (kind, ("because",))


def test_a_task_that_exceeds_the_deadline_fails(client) -> None:
    def forever():
        while True:
            pass

    status, error = client.wait(client.execute(client.register(forever)))
    assert (status, type(error)) == ("FAILED", WorkerFailure)
    assert "exceeded deadline" in str(error)


def test_five_failures_leave_the_service_as_it_was(client) -> None:
    function_id = client.register(fail)
    ids = [client.execute(function_id, "RuntimeError", n) for n in range(5)]
    ends = [client.wait(task_id) for task_id in ids]
    assert [(status, type(error), error.args) for status, error in ends] == [
        ("FAILED", RuntimeError, (n,)) for n in range(5)
    ]


def test_success_and_failure_side_by_side(client) -> None:
    good, bad = client.register(double), client.register(fail)
    ids = [client.execute(good, n) if n % 2 else client.execute(bad, "ValueError", n) for n in range(20)]
    for n, (status, value) in enumerate(map(client.wait, ids)):
        assert (status, value if n % 2 else value.args) == (("COMPLETED", 2 * n) if n % 2 else ("FAILED", (n,)))


def test_a_failed_task_stays_failed(client) -> None:
    task_id = client.execute(client.register(fail), "ValueError")
    assert client.wait(task_id)[0] == "FAILED"
    assert client.call(double, 1) == 2
    assert (client.status(task_id), type(client.result(task_id)[1])) == ("FAILED", ValueError)


def test_a_process_that_dies_in_a_task_fails_that_task_alone(client) -> None:
    def die():
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)

    good, bad = client.register(double), client.register(die)
    ids = [client.execute(good, n) for n in range(10)]
    lost = client.execute(bad)
    ids += [client.execute(good, n) for n in range(10, 20)]
    status, error = client.wait(lost)
    assert (status, type(error), error.signal) == ("FAILED", WorkerFailure, signal.SIGKILL)
    assert [client.wait(task_id) for task_id in ids] == [("COMPLETED", 2 * n) for n in range(20)]


def test_a_result_that_cannot_be_pickled_is_a_worker_failure(client) -> None:
    def numbers():
        return (n for n in range(3))

    status, error = client.wait(client.execute(client.register(numbers)))
    assert (status, type(error), error.cause) == ("FAILED", WorkerFailure, "unpicklable_result")


def hold(gate):
    """Say that it runs, and return once the file is there."""
    import pathlib
    import time

    while not pathlib.Path(gate).exists():
        time.sleep(0.005)
    return "through"


def test_a_lost_worker_fails_what_it_ran_and_is_replaced(service, client, gate, eventually) -> None:
    """In local mode the dispatcher is the worker, and comes back with what was accepted. What waited is completed."""
    function_id, good = client.register(hold), client.register(double)
    running = [client.execute(function_id, str(gate)) for _ in range(service.workers)]
    eventually(lambda: {client.status(task_id) for task_id in running} == {"RUNNING"})
    waiting = [client.execute(good, n) for n in range(4)]
    os.kill(service.pid_of("dispatcher" if service.mode == "local" else "function_worker"), signal.SIGKILL)
    eventually(lambda: client.http.get("/health").status_code == 200, 30)
    ends = [client.wait(task_id) for task_id in running]
    assert {(status, type(error)) for status, error in ends} == {("FAILED", WorkerFailure)}
    assert [client.wait(task_id) for task_id in waiting] == [("COMPLETED", 2 * n) for n in range(4)]
