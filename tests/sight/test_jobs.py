"""A job is started as it was allowed, is what its processes are, and outlives whoever looks after it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from strata_zmq.coordinator.api.state import job_process, jobs
from strata_zmq.coordinator.api.state.job_keeper import started_of
from strata_zmq.coordinator.api.state.jobs import Jobs
from strata_zmq.coordinator.api.state.models import CreateJob
from strata_zmq.coordinator.api.state.rows import Job
from strata_zmq.errors import (
    AlreadyExistsError,
    EnvironmentMismatchError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
)

# An agent takes its own options, which all have a value here, and becomes the program behind them.
AGENT = """
import os, sys
words = sys.argv[1:]
while words[0].startswith("-"):
    words = words[2:]
os.execv(sys.executable, [sys.executable, "-I", "-S", *words])
"""
PROGRAMS = {
    "tell": "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]), flush=True)",
    "wait": "import time; print('here', flush=True); time.sleep(600)",
    "gate": "import sys, time, pathlib; print('here', flush=True)\n"
    "while not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.01)",
    "stubborn": "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here', flush=True)\n"
    "while True: time.sleep(600)",
    "fail": "import sys; print('loading', flush=True); print('no such column: label', file=sys.stderr); sys.exit(3)",
    "shout": "import sys; sys.stdout.write('x' * 100_000 + '\\n')",
}
LIST = """
[jobs.tell]
description = "Says what it was given"
script = "tell.py"
arguments = ["--text", "{text}", "--name={name}/{dataset_id}", "{worker_count}", "{{}}"]
workers_max = 4
environment = { COLOUR = "green" }
[jobs.tell.parameters]
text = { type = "text", default = "plain" }
[jobs.wait]
script = "wait.py"
[jobs.gate]
script = "gate.py"
arguments = ["{path}"]
[jobs.gate.parameters]
path = { type = "text" }
[jobs.stubborn]
script = "stubborn.py"
[jobs.fail]
script = "fail.py"
[jobs.shout]
script = "shout.py"
"""


class Place:
    """A list of jobs, their programs, and the folder that they run in."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.list = root / "jobs.toml"
        self.list.write_text(LIST)
        self.agent = root / "agent.py"
        self.agent.write_text(AGENT)
        for name, text in PROGRAMS.items():
            (root / f"{name}.py").write_text(text)
        self.folder = root / "kept"

    def make(self, **options: Any) -> Jobs:
        agent = (sys.executable, "-I", "-S", str(self.agent))
        return Jobs(self.list, self.folder, "ipc:///nowhere", **{"agent": agent, "grace_s": 10.0, **options})

    def kill_all(self) -> None:
        """End every process of every job, however it stands."""
        for path in self.folder.glob("*/keeper.json"):
            keeper = json.loads(path.read_text())
            if started_of(keeper["pid"]) == keeper["started"]:
                os.killpg(keeper["pid"], signal.SIGKILL)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    try:
        yield made
    finally:
        made.kill_all()


@asynccontextmanager
async def serving(made: Jobs) -> AsyncIterator[Jobs]:
    async with made.running():
        yield made


def row_of(made: Jobs, job_id: str) -> Job:
    return next(row for row in made.rows() if row.id == job_id)


async def until(predicate: Callable[[], object], timeout_s: float = 30.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not predicate():  # noqa: ASYNC110 - what is waited for is another process
            await asyncio.sleep(0.01)


async def until_status(made: Jobs, job_id: str, status: str) -> Job:
    await until(lambda: row_of(made, job_id).status == status)
    return row_of(made, job_id)


def run(work: Awaitable[None]) -> None:
    async def main() -> None:
        await work

    asyncio.run(main())


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def asked(kind: str, **fields: Any) -> CreateJob:
    return CreateJob(**{"name": kind, "type": kind, **fields})


def test_a_program_gets_its_words_and_nothing_else(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRATA_API_TOKEN", "secret-1")
    monkeypatch.setenv("STRATA_SUPERVISOR_TOKEN", "secret-2")
    text = "a b; $(touch owned) `id` {name} | * 'q' \"d\" \\"

    async def work() -> None:
        async with serving(place.make(environment={"WEATHER": "fine"})) as made:
            job_id = await made.create(
                asked("tell", name="one", dataset_id="images", worker_count=3, config={"text": text})
            )
            row = await until_status(made, job_id, "completed")
            assert (row.exit_code, row.worker_count, row.config) == (0, 3, {"text": text})
            (line,) = (place.folder / job_id / "output.txt").read_text().splitlines()
            words, environment, folder = json.loads(line)
            assert words == ["--text", text, "--name=one/images", "3", "{}"]
            assert (environment["COLOUR"], environment["WEATHER"]) == ("green", "fine")
            assert not {"STRATA_API_TOKEN", "STRATA_SUPERVISOR_TOKEN"} & environment.keys()
            assert folder == str(place.root)
            assert "secret" not in (place.folder / job_id / "job.json").read_text()

    run(work())


def test_a_job_that_fails_says_what_it_said_last(place: Place) -> None:
    async def work() -> None:
        async with serving(place.make()) as made:
            job_id = await made.create(asked("fail"))
            row = await until_status(made, job_id, "failed")
            assert (row.exit_code, row.message) == (3, "no such column: label")
            assert row.stoppable is False
            assert row.created_at <= row.started_at <= row.ended_at  # type: ignore[operator]
            lines = made.logs(job_id).page(limit=10).lines
            assert [line.message for line in lines] == ["loading", "no such column: label"]
            with pytest.raises(AlreadyExistsError, match="has ended already"):
                await made.stop(job_id)

    run(work())


def test_a_job_is_stopped_when_it_is_asked_to(place: Place) -> None:
    async def work() -> None:
        async with serving(place.make()) as made:
            job_id = await made.create(asked("wait"))
            row = await until_status(made, job_id, "running")
            assert row.pid is not None
            assert await made.stop(job_id) == "running"
            row = await until_status(made, job_id, "stopped")
            assert row.exit_code == -signal.SIGTERM
            assert (row.pid, row.stoppable) == (None, False)

    run(work())


def test_one_that_does_not_hear_is_ended_after_its_grace(place: Place) -> None:
    async def work() -> None:
        async with serving(place.make(grace_s=0.2)) as made:
            job_id = await made.create(asked("stubborn"))
            await until_status(made, job_id, "running")
            await made.stop(job_id)
            row = await until_status(made, job_id, "stopped")
            assert row.exit_code == -signal.SIGKILL

    run(work())


def test_a_keeper_that_does_nothing_is_ended_with_all_that_it_keeps(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_process, "_KILL_AFTER_S", 0.2)

    async def work() -> None:
        async with serving(place.make(grace_s=0.1)) as made:
            job_id = await made.create(asked("wait"))
            row = await until_status(made, job_id, "running")
            assert row.pid is not None
            os.kill(row.pid, signal.SIGSTOP)
            await made.stop(job_id)
            row = await until_status(made, job_id, "stopped")
            assert row.exit_code is None
            assert "was killed" in row.message

    run(work())


def test_jobs_outlive_who_looks_after_them_and_are_found_again_with_their_end(place: Place, tmp_path: Path) -> None:
    gate = tmp_path / "open"

    async def begin() -> tuple[str, Job]:
        async with serving(place.make()) as made:
            job_id = await made.create(asked("gate", config={"path": str(gate)}))
            other = await made.create(asked("gate", config={"path": str(gate)}))
            assert other != job_id
            return job_id, await until_status(made, job_id, "running")

    async def go_on(job_id: str, before: Job) -> None:
        async with serving(place.make()) as made:
            assert len(made.rows()) == 2
            assert row_of(made, job_id) == before
            gate.touch()
            row = await until_status(made, job_id, "completed")
            assert row.exit_code == 0

    async def look(job_id: str) -> None:
        async with serving(place.make()) as made:
            assert row_of(made, job_id).status == "completed"

    job_id, before = asyncio.run(begin())
    run(go_on(job_id, before))
    run(look(job_id))


def test_a_process_that_only_has_the_number_of_a_job_is_left_alone(place: Place) -> None:
    stranger = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"])
    try:

        async def work() -> None:
            async with serving(place.make()) as made:
                job_id = await made.create(asked("wait"))
                row = await until_status(made, job_id, "running")
                assert row.pid is not None
            keeper = place.folder / job_id / "keeper.json"
            known = json.loads(keeper.read_text())
            os.killpg(known["pid"], signal.SIGKILL)
            keeper.write_text(json.dumps({**known, "pid": stranger.pid}))
            async with serving(place.make()) as made:
                row = row_of(made, job_id)
                assert (row.status, row.exit_code) == ("failed", None)
                assert "without a word" in row.message
            # Nor is it signalled by one that has not looked yet.
            found = job_process.JobProcess.found(place.folder / job_id)
            assert found is not None
            found.ask_to_stop()
            assert stranger.poll() is None

        run(work())
    finally:
        stranger.kill()
        stranger.wait()


def test_an_agent_does_not_outlive_its_keeper(place: Place) -> None:
    async def work() -> None:
        async with serving(place.make()) as made:
            job_id = await made.create(asked("wait"))
            row = await until_status(made, job_id, "running")
            assert row.pid is not None
            children = children_of(row.pid)
            os.kill(row.pid, signal.SIGKILL)
            row = await until_status(made, job_id, "failed")
            assert "killed" in row.message
            assert len(children) == 1
            await until(lambda: started_of(int(children[0])) is None)

    run(work())


def test_no_more_jobs_run_than_may(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "RUNNING_MAX", 2)

    async def work() -> None:
        async with serving(place.make()) as made:
            begun = await asyncio.gather(*(made.create(asked("wait")) for _ in range(3)), return_exceptions=True)
            refused = [one for one in begun if isinstance(one, BaseException)]
            assert [type(one) for one in refused] == [ResourceExhaustedError]
            assert "2 jobs run already" in str(refused[0])

    run(work())


def test_of_those_that_have_ended_the_oldest_go(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "KEPT", 2)

    async def work() -> None:
        async with serving(place.make()) as made:
            for _ in range(4):
                await until_status(made, await made.create(asked("fail")), "failed")
            await until(lambda: len(made.rows()) == 2)
            assert [row.id for row in made.rows()] == ["fail-4", "fail-3"]
            assert sorted(path.name for path in place.folder.iterdir()) == ["fail-3", "fail-4", "lock"]

    run(work())


def test_what_an_agent_says_is_kept_up_to_a_limit(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_process, "OUTPUT_BYTES_MAX", 1000)

    async def work() -> None:
        async with serving(place.make()) as made:
            job_id = await made.create(asked("shout"))
            await until_status(made, job_id, "completed")
            kept = (place.folder / job_id / "output.txt").read_text()
            assert kept.startswith("x" * 1000 + "\n(what was said after this")
            assert len(kept) < 1100

    run(work())


def test_a_folder_is_looked_after_by_one_process_at_a_time(place: Place) -> None:
    async def work() -> None:
        async with serving(place.make()):
            with pytest.raises(AlreadyExistsError, match="looked after by another process"):
                async with serving(place.make()):
                    pass

    run(work())


def test_a_list_that_changes_is_read_again_and_a_mistake_in_it_changes_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jobs, "_LIST_S", 0.0)

    async def work() -> None:
        async with serving(place.make()) as made:
            before = made.version
            place.list.write_text('[jobs.other]\nscript = "tell.py"\n')
            await until(lambda: [one.type for one in made.templates()] == ["other"])
            assert made.version > before
            with pytest.raises(NotFoundError, match="there is other"):
                await made.create(asked("wait"))
            place.list.write_text('[jobs.other]\nscript = "tell.py"\nshell = true\n')
            await until(lambda: "what was allowed before stays so" in caplog.text)
            assert [one.type for one in made.templates()] == ["other"]
            assert "jobs.other has 'shell'" in caplog.text
            (place.root / "tell.py").unlink()
            with pytest.raises(EnvironmentMismatchError, match="there is no script"):
                await made.create(asked("other"))

    run(work())


def test_without_a_list_nothing_is_started_and_the_way_out_is_named(tmp_path: Path) -> None:
    async def work() -> None:
        async with serving(Jobs(None, None, "ipc:///nowhere")) as made:
            with pytest.raises(EnvironmentMismatchError, match="strata api --jobs FILE"):
                await made.create(asked("tell"))
            assert (list(made.rows()), list(made.templates()), made.stops_training) == ([], [], False)

    run(work())


def test_the_coordinators_own_run_is_stopped_only_on_its_token(place: Place) -> None:
    stopped = []

    async def order() -> None:
        stopped.append(True)

    async def work() -> None:
        async with serving(place.make()) as made:
            with pytest.raises(EnvironmentMismatchError, match="STRATA_SUPERVISOR_TOKEN"):
                await made.stop("demo")
        async with serving(place.make(stop_training=order)) as made:
            assert made.stops_training
            assert await made.stop("demo") == "running"

    run(work())
    assert stopped == [True]


def test_what_is_not_as_the_list_has_it_starts_nothing(place: Place) -> None:
    async def work() -> None:
        async with serving(place.make()) as made:
            for request, message in (
                (asked("tell", name="-x"), "name is"),
                (asked("tell", name=".."), "name is"),
                (asked("tell", dataset_id="../up"), "dataset_id is"),
                (asked("tell", worker_count=5), "takes 1 to 4"),
                (asked("tell", config={"shell": "true"}), "config has 'shell'"),
                (asked("tell", config={"text": "--option"}), "begins with a dash"),
            ):
                with pytest.raises(InvalidArgumentError, match=message):
                    await made.create(request)
            assert list(place.folder.iterdir()) == [place.folder / "lock"]

    run(work())
