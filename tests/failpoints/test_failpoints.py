"""A failpoint does what the environment says at the time that it says, in a process of its own, and nothing else."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from strata_zmq.errors import InvalidArgumentError
from strata_zmq.failpoints import failpoint, parse_failpoints

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
from strata_zmq.failpoints import failpoint
for number in range(3):
    failpoint("here")
    failpoint("elsewhere")
    print(number, flush=True)
"""


def run(tmp_path: Path, armed: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "STRATA_FAILPOINTS": armed, "STRATA_FAILPOINTS_LOG": str(tmp_path / "log")},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_process_is_killed_at_the_named_place_and_time(tmp_path: Path) -> None:
    ended = run(tmp_path, "here=kill@2")
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, "0\n")
    told = (tmp_path / "log").read_text().split()
    assert told[1:] == ["here", "2"]


def test_a_system_call_that_fails_is_an_error_of_its_number(tmp_path: Path) -> None:
    ended = run(tmp_path, "elsewhere=error:ENOSPC@3")
    assert ended.stdout == "0\n1\n"
    assert os.strerror(errno.ENOSPC) in ended.stderr


def test_a_pause_ends_when_its_file_is_there(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "STRATA_FAILPOINTS": f"here=pause:{gate}@2"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"
        assert process.poll() is None
        gate.touch()
        assert process.stdout.read() == "1\n2\n"
    assert process.returncode == 0


def test_nothing_happens_where_nothing_is_armed(tmp_path: Path) -> None:
    ended = run(tmp_path, "nowhere=kill")
    assert (ended.returncode, ended.stdout) == (0, "0\n1\n2\n")
    failpoint("not armed in this process either")


@pytest.mark.parametrize("text", ["here", "here=die", "=kill", "here=kill@0", "here=kill@x", "here=pause", "a=error:E"])
def test_what_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="kill, stop, pause:FILE"):
        parse_failpoints(text)


def test_an_action_that_was_to_happen_once_does_not_happen_in_the_next_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRATA_FAILPOINTS_ONCE", "1")
    assert run(tmp_path, "here=kill@2").returncode == -signal.SIGKILL
    again = run(tmp_path, "here=kill@2")
    assert (again.returncode, again.stdout) == (0, "0\n1\n2\n")
    assert len((tmp_path / "log").read_text().splitlines()) == 1
