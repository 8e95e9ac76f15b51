"""The functions suite asks what the floors ask, and its loads measure what they say, against executors made by hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from strata_zmq.bench.figures import PeerFigure
from strata_zmq.bench.floors import Evidence
from strata_zmq.bench.loads import function_calls as calls
from strata_zmq.bench.loads.empty_app import create_app
from strata_zmq.bench.loads.function_bodies import die, nbytes
from strata_zmq.bench.loads.functions import api_process, service
from strata_zmq.bench.loads.http import connected
from strata_zmq.bench.loads.process import child_process
from strata_zmq.bench.model import Case, Settings
from strata_zmq.bench.statistics import figure
from strata_zmq.bench.suites.functions import SUITE
from strata_zmq.errors import ProtocolError
from strata_zmq.functions.executor import StrataExecutor

FLOORS = {
    "functions.local",
    "functions.local.latency",
    "functions.local.cpu",
    "functions.push",
    "functions.push.latency",
    "functions.pull",
    "functions.durable",
    "functions.rest",
    "functions.rest.batch",
    "functions.large",
    "functions.hol",
    "functions.crash",
    "functions.scaling",
}


def cases(*, quick: bool) -> list[Case]:
    return list(SUITE.cases(Settings(quick=quick, scratch=Path("/nowhere"))))


def test_every_floor_has_a_row_at_full_size_and_none_in_a_quick_run() -> None:
    full = {case.floor.floor_id for case in cases(quick=False) if case.floor is not None}
    assert full == FLOORS
    assert [case.name for case in cases(quick=True) if case.floor is not None] == []


def test_every_row_names_its_durability() -> None:
    for case in cases(quick=False):
        assert any(note.startswith("durability: ") for note in case.notes), case.name


def test_throughput_rows_are_of_two_thousand_calls_at_least() -> None:
    sizes = [int(case.size.split()[0].replace(",", "")) for case in cases(quick=False) if "do nothing" in case.size]
    assert sizes
    assert min(sizes) >= 2000


def test_each_case_is_a_row_of_its_own() -> None:
    names = [(case.name, case.size) for case in cases(quick=False)]
    assert len(names) == len(set(names))


class Scripted(Executor):
    """Runs nothing: each call comes to what `ends` says next."""

    def __init__(self, ends: Iterator[Any]) -> None:
        self.ends = ends
        self.asked = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.asked += 1
        future: Future[Any] = Future()
        end = next(self.ends)
        if callable(end):
            end = end(*args)
        if isinstance(end, BaseException):
            future.set_exception(end)
        else:
            future.set_result(end)
        return future


def test_a_rate_is_calls_by_the_time_of_all_their_results() -> None:
    executor = Scripted(iter([None] * 30))
    sample = calls.rate(executor, 30)
    assert executor.asked == 30
    assert sample.value == pytest.approx(30 / sample.wall_s)


def test_latencies_are_of_single_calls_and_their_median_is_the_value() -> None:
    sample = calls.latencies(Scripted(iter([None] * 5)), 5)
    assert len(sample.latencies) == 5
    assert sample.value == sorted(sample.latencies)[2]


def test_the_calls_behind_a_long_one_are_those_that_ended_after_it() -> None:
    """One of eight goes ahead; here five of the others end after the long one, at 10.0."""
    ends = [1.0, 10.0, *[2.0] * 2, *[11.0] * 5]
    sample = calls.behind_one_long(Scripted(iter(ends)), short=8)
    assert sample.value == 5.0


def killed(file: str) -> BaseException:
    Path(file).write_text(repr(time.monotonic() - 2.0))
    return BrokenExecutor("killed")


def test_a_killed_call_is_timed_from_its_death_and_the_innocent_are_counted() -> None:
    ends = [*[0.0] * 2, killed, 0.0, BrokenExecutor("lost with it"), None, None]
    sample = calls.after_a_kill(Scripted(iter(ends)), innocents=4)
    assert 2.0 <= sample.value <= 3.0
    assert sample.extras == {"innocents": 3.0, "usable": 1.0}


def test_a_pool_that_takes_no_more_is_not_usable() -> None:
    ends = [0.0, killed, 0.0, BrokenExecutor("broken")]
    assert calls.after_a_kill(Scripted(iter(ends)), innocents=2).extras == {"innocents": 2.0, "usable": 0.0}


def test_a_killed_call_that_does_not_say_so_is_no_sample() -> None:
    with pytest.raises(ProtocolError, match="not to a BrokenExecutor"):
        calls.after_a_kill(Scripted(iter([0.0, 1.0, 0.0])), innocents=2)


def test_the_cpu_time_of_a_call_has_the_children_s_in_it() -> None:
    with StrataExecutor(1) as executor:
        executor.submit(int).result(30)
        assert calls.cpu_of_many(executor, 20).cpu_s
        assert list(executor._processes)


def test_a_body_that_is_not_asked_to_die_lives() -> None:
    die("")
    with ThreadPoolExecutor(1) as executor:
        assert calls.sleeps(executor, 3, 0.0).value > 0
    assert nbytes(memoryview(b"abc")) == 3


def judged(subject: float, limit: float, itself: float) -> bool | None:
    (case,) = [case for case in cases(quick=False) if case.floor and case.floor.floor_id == "functions.rest"]
    assert case.floor is not None
    figures = {
        name: PeerFigure(name, figure([value] * 7), 1.0, None)
        for name, value in (("subject", subject), ("limit", limit), ("the dispatcher itself", itself))
    }
    evidence = Evidence("lower", figures["subject"], figures["limit"], None, figures)
    return case.floor.judge(evidence).met


def test_http_may_cost_twice_the_empty_app_beside_the_dispatcher() -> None:
    assert judged(subject=2.7, limit=1.0, itself=0.7) is True
    assert judged(subject=2.8, limit=1.0, itself=0.7) is False


def test_a_connection_asks_one_after_the_other_and_tells_what_is_no_success() -> None:
    with child_process("strata_zmq.bench.loads.empty_app") as server, connected(server.ready["url"]) as connection:
        for _ in range(2):
            task_id = connection.post("/execute_function", {"payload": "x" * 100_000})["task_id"]
            assert connection.get(f"/result/{task_id}")["status"] == "COMPLETED"
        with pytest.raises(ProtocolError, match="404"):
            connection.get("/nowhere")
    assert {route.path for route in create_app().routes} >= {"/execute_function", "/result/{task_id}"}  # type: ignore[attr-defined]


@pytest.mark.parametrize("mode", ["local", "push", "pull"])
def test_a_service_under_measurement_runs_calls_in_each_mode(tmp_path: Path, mode: Any) -> None:
    with (
        service(tmp_path, mode, 2, store="sqlite") as running,
        api_process(running.endpoint) as api,
        connected(api.ready["url"]) as connection,
        StrataExecutor(running.endpoint) as executor,
    ):
        assert executor.submit(sum, [1, 2]).result(30) == 3
        assert running.cpu_seconds() > 0
        assert connection.get("/health")
    assert list(tmp_path.iterdir()) == []
