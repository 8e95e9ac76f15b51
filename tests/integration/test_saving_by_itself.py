"""Saves that nobody calls for: by a run's policy, and because a signal says that the process will be taken away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strata_zmq import CheckpointManager

PROGRAM = Path(__file__).with_name("programs") / "train_and_leave.py"
WORKERS = ("worker-0", "worker-1")


class Run:
    """A job of two workers that save every five commit points, and what they tell."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "checkpoints"
        command = [
            sys.executable,
            "-m",
            "strata_zmq",
            "run",
            "-n",
            "2",
            "--progress",
            "off",
            "--policy",
            "every-steps:5",
        ]
        self.process = subprocess.Popen(
            [*command, "--checkpoint-path", self.store, PROGRAM, folder],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def told(self, worker: str) -> dict[str, Any]:
        path = self.folder / f"{worker}.json"
        told: dict[str, Any] = (
            json.loads(path.read_text()) if path.exists() else {"step": 0, "saves": [], "left": False}
        )
        return told


@pytest.fixture
def run(run_dir: Path, eventually: Callable[..., Any]) -> Iterator[Run]:
    """One that has committed a checkpoint by its policy."""
    run = Run(run_dir)
    try:
        eventually(lambda: all([5, True] in run.told(name)["saves"] for name in WORKERS), 60, "no save by policy")
        yield run
    finally:
        if run.process.poll() is None:
            run.process.kill()
        run.process.communicate()


def newest(run: Run) -> tuple[Any, Any]:
    with CheckpointManager(run.store) as manager:
        state = manager.load()
        return state, manager.last_restore.manifest


def test_a_policy_saves_on_all_ranks_behind_the_same_commit_points(run: Run) -> None:
    first, second = (run.told(name) for name in WORKERS)
    for one in (first, second):
        steps = [step for step, _ in one["saves"]]
        assert steps[:1] == [5]
        assert all(step % 5 == 0 for step in steps)
    state, manifest = newest(run)
    assert (manifest.kind in {"FULL", "INCREMENTAL"}, manifest.metrics, manifest.world_size) == (True, {"loss": 1.0}, 2)
    np.testing.assert_array_equal(state["model"]["count"], np.full(1000, manifest.step))
    assert state["extra"] == {"note": "by policy"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_worker_that_will_be_taken_away_saves_and_leaves_and_the_others_go_on(
    run: Run, number: signal.Signals, eventually: Callable[..., Any]
) -> None:
    """Behind its last commit point is a durable checkpoint of all ranks, and its process ends well."""
    os.kill(run.told("worker-1")["pid"], number)
    eventually(lambda: run.told("worker-1")["left"], 60, "worker-1 did not leave")
    left = run.told("worker-1")
    assert left["stopping"]
    assert left["saves"][-1] == [left["step"], True]
    eventually(lambda: run.told("worker-0")["step"] > left["step"] + 2, 60, "worker-0 did not go on")
    assert [left["step"], True] in run.told("worker-0")["saves"]
    assert not run.told("worker-0")["left"]


def test_a_job_that_is_ended_by_sigterm_leaves_a_checkpoint_of_its_last_commit_point(
    run: Run, eventually: Callable[..., Any]
) -> None:
    run.process.send_signal(signal.SIGTERM)
    output, _ = run.process.communicate(timeout=60)
    assert run.process.returncode == 128 + signal.SIGTERM, output
    last = max(run.told(name)["step"] for name in WORKERS)
    assert all(run.told(name)["left"] for name in WORKERS), output
    state, manifest = newest(run)
    assert manifest.step == last, output
    np.testing.assert_array_equal(state["model"]["count"], np.full(1000, last))
