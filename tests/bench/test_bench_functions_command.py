"""`strata functions bench`: one question about a function service of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from strata_zmq.bench import functions_command
from strata_zmq.bench.functions_command import run
from strata_zmq.bench.peer_process import PEERS_VARIABLE


@pytest.fixture(autouse=True)
def no_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PEERS_VARIABLE, str(tmp_path / "none"))
    monkeypatch.setattr(functions_command, "_ROUNDS", 1)


@pytest.mark.parametrize(("kind", "mode"), [("latency", "local"), ("throughput", "push"), ("throughput", "pull")])
def test_a_question_is_answered_beside_the_stock_pool_and_absent_peers_are_named(
    kind: str, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(kind, mode, tasks=50, workers=2) == 0
    said = capsys.readouterr().out
    assert mode in said
    assert "ProcessPoolExecutor" in said
    assert "absent: Ray tasks: not installed" in said


def test_scaling_has_a_row_for_each_number_of_children(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(functions_command, "_SLEEP_S", 0.01)
    assert run("scaling", "push", workers=3) == 0
    said = capsys.readouterr().out
    for children, sleeps in ((1, 5), (2, 10), (3, 15)):
        assert f"{sleeps} sleeps of 0.01 s, {children} children" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("speed", "push"), "--type is 'speed'; it is one of latency, throughput, scaling"),
        (("latency", "remote"), "--mode is 'remote'; it is one of local, push, pull"),
        (("latency", "push", 0), "--tasks is 0"),
        (("latency", "push", 10, 1000), "--workers is 1000; it is between 1 and 256"),
    ],
)
def test_a_mistake_is_told_with_what_is_allowed(
    arguments: tuple[str, str, int, int], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, mode, *numbers = arguments
    assert run(kind, mode, **dict(zip(("tasks", "workers"), numbers, strict=False))) == 2
    assert says in capsys.readouterr().err
