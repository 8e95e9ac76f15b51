"""The page about the journal is true: its command does what it shows, on the damage that it shows."""

from __future__ import annotations

import os
import re
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from strata_zmq.coordinator.core import records
from strata_zmq.coordinator.journal import Journal
from strata_zmq.coordinator.migrate import SCHEMA_VERSION

PAGE = (Path(__file__).parents[2] / "docs" / "journal.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def words(text: str) -> str:
    return " ".join(text.split())


def test_the_example_of_the_page_runs_and_prints_what_it_shows(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "job.sqlite")
    history = journal.replay()
    member = records.MemberRecord("w0", "life", "host", 1, 0, 0, {})
    step = {"generation": 1, "name": "step", "participants": ["w0"], "commit": True, "ranges": {}}
    formed = records.GenerationFormed(generation=1, members=[member], joined=["w0"], left=[])
    batches: list[list[records.Record]] = [[records.TermStarted(term=1), formed]]
    batches += [[records.BarrierReleased(step=number * 2 + at, **step) for at in range(2)] for number in range(59)]
    for some in batches:
        for record in some:
            history.apply(record)
        journal.append(some, history)
    journal.close()
    with closing(sqlite3.connect(tmp_path / "job.sqlite", isolation_level=None)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        db.execute("DELETE FROM batch WHERE position = 50")

    (command,) = [text for kind, text in BLOCKS if kind == "bash"]
    _, refusal, printed = [text for kind, text in BLOCKS if kind == "text"]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)

    started = run(*shlex.split(command.replace("--recover", "--control 127.0.0.1:0 --broadcast 127.0.0.1:0")))
    assert started.returncode == 1
    assert words(refusal) in words(started.stderr)
    done = run(*shlex.split(command))
    assert (done.returncode, done.stderr) == (0, "")
    assert words(done.stdout) == words(printed)
