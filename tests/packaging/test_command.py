"""The installed command `strata` is there, explains itself, and starts quickly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import strata_zmq

STRATA = Path(sys.executable).parent / "strata"


def strata(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([STRATA, *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("command", ["coordinator", "worker", "writer", "run", "checkpoints"])
def test_the_help_names_every_process_a_user_may_start(command: str) -> None:
    shown = strata("--help")
    assert shown.returncode == 0
    assert command in shown.stdout


@pytest.mark.parametrize("command", ["coordinator", "worker", "writer", "run", "checkpoints"])
def test_every_subcommand_explains_itself(command: str) -> None:
    shown = strata(command, "--help")
    assert shown.returncode == 0, shown.stderr
    assert "--" in shown.stdout


def test_the_version_is_the_librarys() -> None:
    assert strata("--version").stdout.strip() == f"strata {strata_zmq.__version__}"


def test_an_unknown_subcommand_is_a_usage_error_in_one_line() -> None:
    shown = strata("conductor")
    assert shown.returncode == 2
    assert "conductor" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_the_command_is_also_the_module() -> None:
    shown = subprocess.run([sys.executable, "-m", "strata_zmq", "--version"], capture_output=True, text=True)
    assert shown.stdout == strata("--version").stdout != ""
