"""docs/flight.md with real processes: a worker that spins, one that is stopped, one that waits; then kill -9."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from processkit.coordinator import Coordinator
from processkit.patience import until

from strata_zmq.protocol import messages as wire
from strata_zmq.workers.client import CoordinatorClient

PROGRAM = Path(__file__).parent / "programs" / "meet_or_hang.py"
PAGE = Path(__file__).parents[2] / "docs" / "flight.md"
TOKEN = "a token that nobody may read"  # noqa: S105 - this test's
OPTIONS = ("--hang-s", "1.5", "--heartbeat-s", "0.3", "--lease-s", "30", "--initial-workers", "3")


@dataclass
class Hang:
    """What was left of a job in which w1 spun and w2 was stopped, while w0 waited for both."""

    folder: Path
    flight: Path
    shown: wire.Changes
    log: str
    worker_logs: dict[str, str]

    @property
    def files(self) -> dict[str, str]:
        texts = [path.read_text() for path in sorted(self.flight.glob("hang-*.txt"))]
        return {re.search(r"^waited for  (\S+),", text, re.MULTILINE)[1]: text for text in texts}  # type: ignore[index]


@pytest.fixture(scope="module")
def hang(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hang]:
    folder = tmp_path_factory.mktemp("job")
    folder.chmod(0o700)
    flight = folder / "run" / "flight"
    with ExitStack() as stack:
        coordinator = Coordinator(
            folder, *OPTIONS, "--flight", str(flight), env={"STRATA_SUPERVISOR_TOKEN": TOKEN}
        ).start()
        stack.callback(coordinator.stop)
        supervisor = CoordinatorClient(coordinator.url, role="supervisor", token=TOKEN).connect()
        stack.callback(supervisor.close)
        logs = {name: folder / f"{name}.log" for name in ("w0", "w1", "w2")}
        workers = {}
        for name, how in (("w0", "wait"), ("w1", "spin"), ("w2", "stop")):
            with logs[name].open("wb") as out:
                workers[name] = subprocess.Popen(
                    [sys.executable, str(PROGRAM), how],
                    env={**os.environ, "COORDINATOR_URL": coordinator.url, "WORKER_ID": name},
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                )
            stack.callback(end, workers[name])
        until(lambda: len(list(flight.glob("hang-*.txt"))) == 2, message=flight)
        until(lambda: len(shown(supervisor).stacks) == 2)
        state = shown(supervisor)
        until(lambda: recorded(flight, b"report_stacks"))
        # What is written from now on comes behind all that has been seen: the last second may be missing after a kill.
        size = written(flight)
        until(lambda: written(flight) > size)
        coordinator.kill()
        texts = {name: path.read_text() for name, path in logs.items()}
        yield Hang(folder, flight, state, coordinator.log.read_text(), texts)


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def shown(client: CoordinatorClient) -> wire.Changes:
    sight: wire.Sight = client.request(wire.GetSight())
    return sight.state


def recorded(flight: Path, what: bytes) -> bool:
    return any(what in path.read_bytes() for path in flight.glob("*.flight"))


def written(flight: Path) -> int:
    return sum(path.stat().st_size for path in flight.glob("*.flight"))


def strata(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "strata_zmq", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_worker_that_spins_is_written_down_with_the_line_that_it_spins_in(hang: Hang) -> None:
    text = hang.files["w1"]
    assert "hangs: 1 wait for it at barrier 'meet' step 2" in text
    assert "who waits   w0\n" in text
    spun, waiting = text.split("---- ")[1:]
    assert spun.startswith("w1 hangs\n")
    main, *others = spun.split("\n\n")
    assert "[MainThread]" in main
    assert "in spin_for_ever" in main
    assert any("[strata-client]" in one for one in others)
    assert waiting.startswith("w0 waits for it\n")
    assert "in barrier" in waiting or "meet_or_hang.py" in waiting
    assert "in spin_for_ever" in hang.worker_logs["w1"], "its own log has them, too"


def test_a_worker_that_is_stopped_is_named_as_silent(hang: Hang) -> None:
    text = hang.files["w2"]
    stopped, waiting = text.split("---- ")[1:]
    assert stopped.startswith("w2 hangs\n")
    assert "it has not told its stacks; it was last heard" in stopped
    assert "in main" in waiting


def test_the_page_and_the_log_are_told_as_well(hang: Hang) -> None:
    stacks = {row.worker_id: row.text for row in hang.shown.stacks}
    assert stacks.keys() == {"w0", "w1"}
    assert "in spin_for_ever" in stacks["w1"]
    assert {row.worker_id for row in hang.shown.hangs} == {"w1", "w2"}
    for path in hang.flight.glob("hang-*.txt"):
        assert f"the stacks of all of them are in {path}" in hang.log
        assert path.stat().st_mode & 0o777 == 0o600


def test_after_kill_9_the_recording_tells_what_came_in_what_was_decided_and_why(hang: Hang) -> None:
    lines = [json.loads(line) for line in strata("replay", "run/flight", "--json", cwd=hang.folder).splitlines()]
    assert lines[0]["job"] == "default"
    steps: list[dict[str, Any]] = [line for line in lines if "step" in line]
    assert all(step["agrees"] for step in steps[:-1])
    joins = [
        (given["from"], given["worker_id"])
        for step in steps
        for given in step["given"]
        if given["kind"] == "register_worker"
    ]
    assert {"w0", "w1", "w2"} <= {name for pair in joins for name in pair}
    (released,) = [step for step in steps for one in step["decided"] if one["kind"] == "released"]
    assert {name for one in released["told"] for name in one["to"]} == {"w0", "w1", "w2"}
    (found,) = [step for step in steps for why in step["why"] if why["kind"] == "hang" and why["worker_id"] == "w1"]
    assert [one["command"] for one in found["decided"] if one["kind"] == "command"][:1] == ["dump_stacks"]
    text = strata("replay", "run/flight", "--from", str(found["at"] - 0.001), cwd=hang.folder)
    assert "w1 (rank" in text
    assert "hangs: 1 wait for it at barrier 'meet' step 2" in text
    assert "register_worker" not in text, "that was before"
    assert TOKEN not in text
    assert not recorded(hang.flight, TOKEN.encode())


def test_the_pages_examples_run_as_they_stand(hang: Hang, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    text = PAGE.read_text()
    commands = [line for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    replays = [line.split("#")[0].split() for line in commands if line.startswith("strata replay")]
    assert len(replays) >= 3
    outputs = [strata(*words[1:], cwd=hang.folder) for words in replays]
    assert all("step" in output for output in outputs)
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(hang.folder)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    exec(compile(block, str(PAGE), "exec"), {})  # noqa: S102 - the page is ours, this is its test
    assert "w1" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [("nowhere",), ("run", "--from", "noon"), ("run",)])
def test_what_cannot_be_replayed_is_one_line(hang: Hang, arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "strata_zmq", "replay", *arguments],
        cwd=hang.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_written_ends_the_recording_not_the_job(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "file").touch()
    coordinator = Coordinator(tmp_path, "--flight", str(tmp_path / "file" / "flight"))
    request.addfinalizer(coordinator.stop)
    coordinator.start()
    assert coordinator.status().term == 1
    assert "the flight recorder ends, the job goes on" in coordinator.log.read_text()
