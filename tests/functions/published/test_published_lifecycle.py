"""The published report, lifecycle and edge cases: states in order, many callers at once, long arguments."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest


def wait_at(gate):
    """Return once the file is there."""
    import pathlib
    import time

    while not pathlib.Path(gate).exists():
        time.sleep(0.005)
    return "through"


def test_a_task_is_queued_then_runs_then_is_completed(service, client, gate, eventually) -> None:
    """Behind as many tasks as there are workers; nobody sees its states in another order, and none comes back."""
    function_id = client.register(wait_at)
    first, second = f"{gate}-1", f"{gate}-2"
    before = [client.execute(function_id, first) for _ in range(service.workers)]
    eventually(lambda: {client.status(task_id) for task_id in before} == {"RUNNING"})
    last = client.execute(function_id, second)
    assert client.result(last) == ("QUEUED", None)
    _touch(first)
    eventually(lambda: client.status(last) == "RUNNING")
    assert client.result(last) == ("RUNNING", None)
    _touch(second)
    assert client.wait(last) == ("COMPLETED", "through")
    assert {client.wait(task_id) for task_id in before} == {("COMPLETED", "through")}
    assert client.status(last) == "COMPLETED"


def _touch(path: str) -> None:
    with open(path, "w"):  # noqa: PTH123
        pass


def test_ten_calls_of_one_function_at_once_have_their_own_results(client) -> None:
    def square(x):
        return x * x

    function_id = client.register(square)
    with ThreadPoolExecutor(10) as threads:
        ids = list(threads.map(lambda n: client.execute(function_id, n), range(10)))
        assert len(set(ids)) == 10
        assert list(threads.map(client.wait, ids)) == [("COMPLETED", n * n) for n in range(10)]


def test_a_list_of_ten_thousand_integers_goes_in_and_out(client) -> None:
    def reverse(values):
        return values[::-1]

    assert client.call(reverse, list(range(10_000))) == list(range(10_000))[::-1]


@pytest.mark.parametrize("value", [None, "", (), {}, "ünïcode ☃", b"\x00\xff", float("inf"), {"deep": [[[1]]]}])
def test_whatever_dill_can_pack_goes_in_and_out(client, value) -> None:
    def same(value):
        return value

    assert client.call(same, value) == value


def test_a_function_may_use_what_surrounds_it(client) -> None:
    factor = 7

    def scaled(values):
        import math

        return [math.floor(factor * value) for value in values]

    assert client.call(scaled, [1, 2.5]) == [7, 17]


def test_a_megabyte_goes_in_and_out(client) -> None:
    def flipped(data):
        return data[::-1]

    data = bytes(range(256)) * (4 * 1024)
    assert client.call(flipped, data) == data[::-1]
