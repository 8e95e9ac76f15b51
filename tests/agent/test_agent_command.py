"""`strata agent`: several hosts train one job together, each supervising its own part."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from strata_zmq.domain.shuffle import dataset_checksum

TOTAL = 600
TOKEN = "told to every host"  # noqa: S105 - a test's
TRAIN_SUMS = Path(__file__).parents[1] / "integration" / "programs" / "train_sums.py"

SAY = """
import json, os, sys, time
print("life", os.environ["STRATA_RESTARTS"], "pid", os.getpid(), flush=True)
"""
JOIN = (
    SAY
    + """
from strata_zmq.errors import GenerationChangedError, StaleGenerationError
from strata_zmq.workers.session import WorkerIdentity, WorkerSession
session = WorkerSession(WorkerIdentity(worker_id=os.environ["WORKER_ID"]))
session.connect(30)
session.join(30)
while not os.path.exists("stop"):
    try:
        session.commit([], timeout_s=30)
    except (GenerationChangedError, StaleGenerationError):
        session.join(30)
    time.sleep(0.02)
    print("step", session.step, "with", len(session.membership.members), flush=True)
session.close()
"""
)


@pytest.fixture
def script(run_dir: Path):
    def write(code: str) -> Path:
        path = run_dir / "train.py"
        path.write_text(code)
        return path

    return write


def seen(folder: Path, hosts: list[str], count: int, events: Any) -> Counter[tuple[int, int]]:
    """How often each sample was trained on, by (epoch, id), over all workers of all hosts."""
    found: Counter[tuple[int, int]] = Counter()
    for host in hosts:
        for index in range(count):
            for batch in events(folder, f"{host}-{index}", "batch"):
                found.update((batch["epoch"], number) for number in batch["ids"])
    return found


def test_two_hosts_train_one_job_together_and_see_every_sample_once(
    start_bus, start_host, run_dir, events_of, eventually
) -> None:
    bus = start_bus("--initial-workers", "4", "--job", "sums", token=TOKEN)
    options = f'{{"total": {TOTAL}, "epochs": 2}}'
    hosts = [
        start_host(bus, name, "-n", 2, "--job", "sums", TRAIN_SUMS, run_dir, options, token=TOKEN)
        for name in ("node-a", "node-b")
    ]
    for host in hosts:
        assert host.wait() == 0, host.story()
    assert seen(run_dir, ["node-a", "node-b"], 2, events_of) == Counter(
        {(epoch, number): 1 for epoch in range(2) for number in range(TOTAL)}
    )
    (first, *_) = events_of(run_dir, "node-a-0", "membership")
    assert sorted(first["members"]) == ["node-a-0", "node-a-1", "node-b-0", "node-b-1"]
    assert [entry["checksum"] for entry in bus.status().certificates] == [str(dataset_checksum(TOTAL))] * 2


def test_a_worker_finds_its_place_among_all_hosts_in_its_environment(start_bus, start_host, script, run_dir) -> None:
    bus = start_bus("--job", "places")
    names = ["WORKER_ID", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "COORDINATOR_URL", "STRATA_JOB"]
    path = script(
        f"import os, sys\nprint(*(os.environ[name] for name in {names}), *sys.argv[1:], sep='|')\n"
        "assert os.environ['STRATA_AGENT_URL'].startswith('ipc:///')\n"
        "assert 'STRATA_SUPERVISOR_TOKEN' not in os.environ\n"
    )
    place = ("--first-rank", 4, "--world-size", 8)
    host = start_host(bus, "node-b", "-n", 2, *place, path, "--lr", "0.1", token="")
    assert host.wait() == 0, host.story()
    for index in range(2):
        line = f"[node-b-{index}] node-b-{index}|{4 + index}|{index}|8|2|{bus.url}|places|--lr|0.1\n"
        assert line in host.out.read_text(), host.story()


def test_a_death_is_told_to_the_coordinator_at_once(start_bus, start_host, script, run_dir, eventually) -> None:
    bus = start_bus("--initial-workers", "3", "--lease-s", "120", "--heartbeat-s", "1", token=TOKEN)
    path = script(JOIN)
    hosts = [
        start_host(bus, "a", "-n", 1, path, token=TOKEN),
        start_host(bus, "b", "-n", 2, path, token=TOKEN),
    ]
    eventually(lambda: all("with 3" in host.out.read_text() for host in hosts), 40)
    life = next(line for line in hosts[1].out.read_text().splitlines() if line.startswith("[b-1] life 0"))
    os.kill(int(life.split()[-1]), signal.SIGKILL)
    eventually(lambda: "[b-1] life 1" in hosts[1].out.read_text(), 30, message=hosts[1].story())
    length = len(hosts[0].out.read_text())
    eventually(lambda: "with 3" in hosts[0].out.read_text()[length:], 30, message=hosts[0].story())
    (run_dir / "stop").touch()
    for host in hosts:
        assert host.wait() == 0, host.story()


def test_without_the_token_a_worker_is_restarted_when_its_lease_has_ended(
    start_bus, start_host, script, run_dir, eventually
) -> None:
    bus = start_bus("--lease-s", "1.5", "--heartbeat-s", "0.3")
    dies = "session.join(30)\nif os.environ['STRATA_RESTARTS'] == '0': os.kill(os.getpid(), 9)\nwhile"
    host = start_host(bus, "a", script(JOIN.replace("session.join(30)\nwhile", dies)))
    eventually(lambda: "with 1" in host.out.read_text(), 30, message=host.story())
    (run_dir / "stop").touch()
    assert host.wait() == 0, host.story()
    assert "a-0 was killed by SIGKILL; restarting it in 1.5 s, when its lease has ended" in host.err.read_text()
    assert host.out.read_text().count("life") == 2


@pytest.mark.parametrize(
    ("arguments", "token", "code", "told"),
    [
        (("--job", "another"), "", 2, "another"),
        ((), "a wrong token", 2, "supervisor token"),
        (("--host-name", "no spaces please"), "", 2, "--host-name"),
        (("--world-size", "1", "-n", "2"), "", 2, "--world-size"),
    ],
)
def test_what_a_host_cannot_join_with_is_one_line(start_bus, start_host, script, arguments, token, code, told) -> None:
    bus = start_bus(token=TOKEN)
    host = start_host(bus, "a", *arguments, script(""), token=token)
    assert host.wait() == code, host.story()
    assert host.err.read_text().count("\n") == 1
    assert told in host.err.read_text()


def test_a_killed_agent_leaves_nothing_behind(start_bus, start_host, script, run_dir, eventually) -> None:
    bus = start_bus("--initial-workers", "2")
    host = start_host(bus, "a", "-n", 2, script(JOIN))
    eventually(lambda: "with 2" in host.out.read_text(), 40, message=host.story())
    host.process.kill()
    host.process.wait()
    eventually(lambda: list((run_dir / "a").iterdir()) == [], 15)


def test_a_worker_that_was_evicted_because_it_hangs_is_killed_and_restarted(
    start_bus, start_host, script, run_dir, eventually
) -> None:
    """Its heartbeats come, so it is refused until its loop moves; it never does."""
    path = script(
        JOIN.replace(
            "    time.sleep(0.02)\n",
            '    if os.environ["STRATA_RESTARTS"] == "0" and os.path.exists("hang-" + os.environ["WORKER_ID"]):\n'
            "        time.sleep(600)\n"
            "    time.sleep(0.02)\n",
        )
    )
    options = ("--initial-workers", "2", "--lease-s", "2", "--hang-s", "2", "--evict-hung")
    bus = start_bus(*options, token=TOKEN)
    host = start_host(bus, "node", "-n", 2, path, token=TOKEN)
    eventually(lambda: host.out.read_text().count("with 2") >= 6, 30)
    (run_dir / "hang-node-1").touch()
    eventually(lambda: "[node-1] life 1" in host.out.read_text(), 40)
    assert "node-1 was given up by the coordinator (its training loop hangs)" in host.err.read_text()
    seen = len(host.out.read_text())
    eventually(lambda: host.out.read_text()[seen:].count("with 2") >= 6, 30)
    (run_dir / "stop").touch()
    assert host.wait() == 0, host.story()
