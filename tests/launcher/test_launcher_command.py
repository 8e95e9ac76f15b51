"""`strata command` reaches running workers through their coordinator, or says in one line why not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from strata_zmq.protocol import messages as wire
from strata_zmq.workers.client import CoordinatorClient
from strata_zmq.workers.identity import WorkerIdentity

STRATA = [sys.executable, "-m", "strata_zmq"]
TOKEN = "a token of this test"  # noqa: S105 - a test's


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[str]:
    """The endpoint of a coordinator with a supervisor's token."""
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [
            *(*STRATA, "coordinator", "--control", f"ipc://{tmp_path}/run/c", "--broadcast", f"ipc://{tmp_path}/run/b"),
            *("--journal", tmp_path / "journal.sqlite", "--heartbeat-s", "0.1", "--ready-fd", str(writing)),
        ],
        pass_fds=[writing],
        env=os.environ | {"STRATA_SUPERVISOR_TOKEN": TOKEN},
    )
    os.close(writing)
    with os.fdopen(reading) as ready:
        yield str(json.loads(ready.readline())["control"])
    process.terminate()
    assert process.wait(10) == 0


def command(url: str, *words: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "COORDINATOR_URL": url, "STRATA_SUPERVISOR_TOKEN": token}
    return subprocess.run([*STRATA, "command", *words], capture_output=True, text=True, timeout=60, env=env)


def worker(url: str, name: str, heard: list[str]) -> CoordinatorClient:
    return CoordinatorClient(
        url,
        role="worker",
        introduce=WorkerIdentity(worker_id=name).registration,
        heartbeat=wire.Heartbeat,
        on_command=heard.append,
    ).connect(30.0)


def test_a_command_reaches_the_workers_that_it_names_once_and_in_order(coordinator: str, eventually) -> None:
    one: list[str] = []
    two: list[str] = []
    with worker(coordinator, "one", one), worker(coordinator, "two", two):
        for words in (["checkpoint", "--worker", "one"], ["dump_stacks"], ["stop", "--worker", "one", "--reason", "x"]):
            done = command(coordinator, *words)
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        eventually(lambda: one == ["checkpoint", "dump_stacks", "stop"] and two == ["dump_stacks"])


@pytest.mark.parametrize(
    ("words", "token", "told"),
    [
        (["stop", "--worker", "nobody"], TOKEN, "worker_id nobody is not registered; known: nobody"),
        (["stop"], "guess", "supervisor token"),
        (["stop"], "", "STRATA_SUPERVISOR_TOKEN is not set"),
        (["fly"], TOKEN, "fly"),
    ],
)
def test_what_cannot_be_asked_is_one_line(coordinator: str, words: list[str], token: str, told: str) -> None:
    done = command(coordinator, *words, token=token)
    assert done.returncode != 0
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


def test_strata_run_takes_commands_of_whoever_has_the_token_it_was_started_with(launch, script, eventually) -> None:
    path = script(
        "from strata_zmq import TrainingOrchestrator\n"
        "worker = TrainingOrchestrator()\n"
        "worker.register_dataset('d', total_samples=100_000, shard_size=1000)\n"
        "print('at', os.environ['COORDINATOR_URL'], 'end')\n"
        "for batch in worker.batches('d', 1):\n"
        "    time.sleep(0.01)\n"
        "assert worker.stopping\n"
        "print('stopped')\n"
    )
    run = launch("-n", 2, "--writers", 0, path, STRATA_SUPERVISOR_TOKEN=TOKEN)
    eventually(lambda: run.out.count(" end\n") == 2, 30)
    url = run.out.split("at ")[1].split()[0]
    assert "supervisor token" in command(url, "stop", token="guess").stderr  # noqa: S106 - a test's
    done = command(url, "stop")
    assert (done.returncode, done.stderr) == (0, "")
    assert run.wait() == 0, run.story()
    assert run.out.count("stopped") == 2
