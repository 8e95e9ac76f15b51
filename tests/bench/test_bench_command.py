"""`python -m strata_zmq.bench` as a person starts it: options, exit codes and the files it leaves."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Literal

import msgspec
import psutil
import pytest
from processkit.patience import until

from strata_zmq.bench.registry import chosen, suite_names


class Contender(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    median: float
    low: float
    high: float
    p99: float | None
    wall_s: float
    cpu_s: float | None
    extras: dict[str, float]


class Interval(msgspec.Struct, forbid_unknown_fields=True):
    median: float
    low: float
    high: float


class Row(msgspec.Struct, forbid_unknown_fields=True):
    suite: str
    case: str
    size: str
    unit: str
    better: Literal["higher", "lower"]
    median: float
    low: float
    high: float
    coverage: float
    p99: float | None
    rounds: list[float]
    wall_s: float
    cpu_s: float | None
    extras: dict[str, float]
    limit: Contender | None
    ratio: Interval | None
    peers: list[Contender]
    absent: dict[str, str]
    floor_id: str | None
    floor: str | None
    met: bool | None
    notes: list[str]
    noisy: list[str]
    regression: str | None


class Failure(msgspec.Struct, forbid_unknown_fields=True):
    suite: str
    case: str
    reason: str


class Environment(msgspec.Struct):
    time: str
    quick: bool
    cpu: str
    cores: int
    memory_bytes: int
    kernel: str
    python: str
    pyzmq: str
    libzmq: str
    numpy: str
    git_commit: str | None
    load_average: list[float]
    scratch_filesystem: str


class Report(msgspec.Struct, forbid_unknown_fields=True):
    environment: Environment
    rows: list[Row]
    failures: list[Failure]
    skipped: list[str]


def bench(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "strata_zmq.bench", *map(str, arguments)]
    environment = {**os.environ, "STRATA_BENCH_PEERS": "none"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=100)


def test_a_quick_run_ends_with_table_page_and_json_of_the_promised_shape(tmp_path: Path) -> None:
    ended = bench("--quick", "sharding", "--rounds", "1", "--json", "f.json", "--html", "f.html", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "assign from nothing" in ended.stdout
    assert "sharding: assign from nothing" in ended.stderr

    report = msgspec.json.decode((tmp_path / "f.json").read_bytes(), type=Report)
    assert report.environment.quick
    assert report.failures == []
    rows = {(row.case, row.size): row for row in report.rows}
    assert len(rows) == len(report.rows) == 4
    for row in report.rows:
        assert row.suite == "sharding"
        assert row.low <= row.median <= row.high
        assert row.limit is not None
        assert row.limit.median > 0
    moves = next(row for row in report.rows if row.floor_id == "sharding.moves")
    assert moves.met is True
    assert moves.limit is not None
    assert moves.median == moves.limit.median
    timed = next(row for row in report.rows if row.floor_id == "sharding.assign")
    assert timed.met is None, "one round is not enough to judge a duration"

    assert (tmp_path / "f.html").read_text().startswith("<!doctype html>")
    assert list((tmp_path / "runs").iterdir()) == [], "the scratch folder is gone"


def test_a_run_can_be_remembered_and_compared_with(tmp_path: Path) -> None:
    common = ("--quick", "sharding", "--rounds", "1", "--no-html", "--baseline-file", "b.json")
    saved = bench(*common, "--baseline", "save", cwd=tmp_path)
    assert saved.returncode == 0, saved.stderr
    # A baseline in which everything was a thousand times faster turns this run into regressions.
    remembered = msgspec.json.decode((tmp_path / "b.json").read_bytes())
    for row in remembered["rows"].values():
        row["ratio"] = [value / 1000 for value in row["ratio"]]
    (tmp_path / "b.json").write_bytes(msgspec.json.encode(remembered))
    compared = bench(*common, "--baseline", "compare", cwd=tmp_path)
    assert compared.returncode == 1
    assert compared.stdout.count("REGRESSION sharding/") == 4


def test_an_unknown_suite_is_refused_with_the_list(tmp_path: Path) -> None:
    ended = bench("--quick", "shardng", cwd=tmp_path)
    assert ended.returncode == 2
    assert "no suite named 'shardng'" in ended.stderr
    assert all(name in ended.stderr for name in suite_names())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("sharding", "--rounds", "0"), "--rounds is 0"),
        (("sharding", "--json", "."), "--json . is a folder"),
        (("sharding", "--json", "/proc/none/f.json"), "--json /proc/none/f.json cannot be written"),
        (("sharding", "--scratch", "/proc/none"), "--scratch /proc/none cannot be written"),
        (("sharding", "--no-html", "--baseline", "compare", "--baseline-file", "no.json"), "no baseline at no.json"),
        (("sharding", "--baseline", "burn"), "invalid choice: 'burn'"),
    ],
)
def test_a_mistake_on_the_command_line_is_named_before_anything_runs(
    tmp_path: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    ended = bench(*arguments, cwd=tmp_path)
    assert ended.returncode == 2
    assert complaint in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_list_names_every_suite_with_its_question(tmp_path: Path) -> None:
    ended = bench("--list", cwd=tmp_path)
    assert ended.returncode == 0
    assert [line.split()[0] for line in ended.stdout.splitlines()] == suite_names()


def test_suites_run_in_the_order_asked_for_and_once() -> None:
    assert [suite.name for suite in chosen(["sharding", "sharding"])] == ["sharding"]
    assert [suite.name for suite in chosen([])] == suite_names()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_reports_what_it_has_and_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "strata_zmq.bench", "sharding", "coordinator", "--rounds", "1", "--json", "f.json"]
    environment = {**os.environ, "STRATA_BENCH_PEERS": "none"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stderr is not None
        told = iter(running.stderr.readline, "")
        assert any("coordinator: server CPU time" in line for line in told)
        process = psutil.Process(running.pid)
        until(lambda: len(process.children(recursive=True)) >= 2, 20, "the servers are started")
        children = process.children(recursive=True)
        running.send_signal(number)
        running.communicate(timeout=30)
    assert running.returncode == 130
    suites = {row["suite"] for row in msgspec.json.decode((tmp_path / "f.json").read_bytes())["rows"]}
    assert "sharding" in suites
    # One that was just being started ends with its parent, which is a moment after it.
    _, left = psutil.wait_procs(children, timeout=10)
    assert not left
    assert list((tmp_path / "runs").glob("bench-*")) == []


def test_the_page_describes_every_suite_and_option(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()
    offered = set(re.findall(r"--[a-z-]+", bench("--help", cwd=tmp_path).stdout)) - {"--help"}
    assert {option for option in offered if option not in page} == set()
    assert {name for name in suite_names() if f"| `{name}` |" not in page} == set()
