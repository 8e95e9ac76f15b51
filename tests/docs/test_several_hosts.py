"""docs/run.md, "Several hosts": its commands, copied as they stand, train one job on two hosts."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from strata_zmq import CheckpointManager

PAGE = Path(__file__).parents[2] / "docs" / "run.md"

TRAIN = """
import os, sys
import numpy as np
from strata_zmq import WorkerMixin
assert sys.argv[1:] == ["--lr", "0.1"]
assert os.environ["STRATA_AGENT_URL"].startswith("ipc://")

class Trainer(WorkerMixin):
    pass

trainer = Trainer().track(model=np.zeros(3))
trainer.register_dataset("numbers", "", 100, 10)
for batch in trainer.batches("numbers", 10, every_rank=True, timeout_s=60):
    print("seen", *batch.indices.tolist(), flush=True)
trainer.save_checkpoint().result(60)
print("world size", trainer.world_size, flush=True)
trainer.deregister()
"""


def blocks() -> list[str]:
    section = PAGE.read_text().split("## Several hosts: strata agent", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"```\n(.*?)```", section, re.DOTALL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the page's first block makes of a shell's environment, in a folder with a training script."""
    (tmp_path / "train.py").write_text(TRAIN)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    shown = subprocess.run(
        ["bash", "-ec", f"{blocks()[0]}\nenv -0"], cwd=tmp_path, capture_output=True, timeout=60, check=True
    )
    return dict(entry.split("=", 1) for entry in shown.stdout.decode().split("\0") if "=" in entry)


def test_two_hosts_train_the_job_of_the_page(tmp_path: Path, environment: dict[str, str]) -> None:
    assert environment["STRATA_CURVE_KEYS"] == f"{tmp_path}/keys"
    assert len(environment["STRATA_SUPERVISOR_TOKEN"]) == 32
    control, broadcast = str(free_port()), str(free_port())
    here = {
        "node-a:50051": f"127.0.0.1:{control}",
        "50051": control,
        "50052": broadcast,
        "--advertise node-a": "--advertise 127.0.0.1",
        "/mnt/job": str(tmp_path / "checkpoints"),
    }
    page = blocks()[1].replace("\\\n", "")
    for there, ours in here.items():
        assert there in page
        page = page.replace(there, ours)
    commands = [shlex.split(line) for line in page.splitlines()]
    assert [command[1] for command in commands] == ["coordinator", "agent", "agent"]
    processes = []
    for number, command in enumerate(commands):
        with (tmp_path / f"log{number}").open("wb") as log:
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "strata_zmq", *command[1:]],
                    cwd=tmp_path,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            )
    coordinator, *agents = processes

    def story() -> str:
        return "\n".join((tmp_path / f"log{number}").read_text() for number in range(len(commands)))

    try:
        deadline = time.monotonic() + 90
        for agent in agents:
            assert agent.wait(max(0.1, deadline - time.monotonic())) == 0, story()
    except subprocess.TimeoutExpired:
        pytest.fail(story())
    finally:
        for agent in agents:
            agent.terminate()
            agent.wait(20)
        coordinator.terminate()
        assert coordinator.wait(10) == 0, story()
    said = story()
    seen = [int(number) for line in re.findall(r"\] seen ([\d ]+)\n", said) for number in line.split()]
    assert sorted(seen) == list(range(100))
    assert set(re.findall(r"\[(node-[ab]-\d)\] world size", said)) == {"node-a-0", "node-a-1", "node-b-0", "node-b-1"}
    assert set(re.findall(r"world size (\d)", said)) == {"4"}
    with CheckpointManager(path=tmp_path / "checkpoints") as manager:
        assert [info.world_size for info in manager.all_checkpoints()] == [4]
