"""Bad input: one named line on standard error, the right code, and nothing is started."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest


def strata(*args: object, cwd=None, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "strata_zmq", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=os.environ | env, timeout=60)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["run", "absent.py"], "absent.py: no such script"),
        (["run", "."], ".: no such script"),
        (["run", "-m", "no_such_module_here"], "-m no_such_module_here: no module 'no_such_module_here'"),
        (["run", "-n", "0", "train.py"], "-n 0 is outside 1 to 1024"),
        (["run", "-n", "-3", "train.py"], "-n -3 is outside"),
        (["run", "-n", "many", "train.py"], "'-n'"),
        (["run", "-n", "2", "--min-workers", "3", "train.py"], "--min-workers 3 is outside 1 to 2"),
        (["run", "--writers", "-1", "train.py"], "--writers -1 is outside 0 to 64"),
        (["run", "--max-restarts", "-1", "train.py"], "--max-restarts -1 is outside"),
        (["run", "--tcp", "--port", "70000", "train.py"], "--port 70000 is outside"),
        (["run", "--job", "a b", "train.py"], "--job 'a b'"),
        (["run", "--progress", "loud", "train.py"], "--progress"),
        (["run"], "SCRIPT"),
        (["fly"], "No such command 'fly'"),
        (["worker", "absent.py"], "absent.py: no such script"),
        (["worker", "--worker-id"], "expected one argument"),
    ],
)
def test_a_mistake_in_usage_is_one_line_and_code_2(args, message, tmp_path) -> None:
    (tmp_path / "train.py").write_text("")
    done = strata(*args, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == [tmp_path / "train.py"]


@pytest.mark.parametrize("option", ["--run-dir", "--checkpoint-path"])
def test_a_folder_that_cannot_be_written_is_named(option, tmp_path) -> None:
    (tmp_path / "train.py").write_text("")
    (tmp_path / "file").write_text("")
    done = strata("run", option, tmp_path / "file" / "below", "train.py", cwd=tmp_path)
    assert done.returncode == 1
    assert f"{option} {tmp_path}/file/below cannot be written: Not a directory" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_temporary_folder_too_deep_for_sockets_is_named(tmp_path) -> None:
    (tmp_path / "train.py").write_text("")
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    done = strata("run", "train.py", cwd=tmp_path, TMPDIR=str(deep))
    assert done.returncode == 2
    assert "too long for socket paths of 107 bytes" in done.stderr
    assert list(deep.iterdir()) == []


def test_a_port_in_use_is_named_and_no_worker_is_started(tmp_path) -> None:
    (tmp_path / "train.py").write_text("print('started')")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = strata("run", "--tcp", "--port", port, "--writers", 0, "train.py", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert f"127.0.0.1:{port}" in done.stderr
    assert "the coordinator did not start: it exited with code 1" in done.stderr
    assert "Traceback" not in done.stderr
    assert "started" not in done.stdout


def test_debug_shows_where_an_error_came_from(tmp_path) -> None:
    done = strata("run", "absent.py", cwd=tmp_path, STRATA_LOG="debug")
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_help_and_version_need_nothing_else() -> None:
    assert strata("--version").stdout.startswith("strata ")
    text = strata("--help").stdout
    for command in ("run", "coordinator", "worker", "writer", "status", "events", "api", "demo", "command", "bench"):
        assert command in text
    assert "--control" in strata("coordinator", "--help").stdout
    assert "--worker-id" in strata("worker", "--help").stdout


def test_importing_the_command_imports_no_subcommand() -> None:
    code = "import sys, strata_zmq.cli; print([m for m in ('zmq', 'numpy', 'msgspec', 'rich') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
