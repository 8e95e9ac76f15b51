"""The installed command `strata` is there, explains itself, and starts quickly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import strata_zmq

STRATA = Path(sys.executable).parent / "strata"
ROOT = Path(__file__).parents[2]


def strata(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([STRATA, *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("command", ["coordinator", "worker", "writer", "run", "checkpoints", "functions"])
def test_the_help_names_every_process_a_user_may_start(command: str) -> None:
    shown = strata("--help")
    assert shown.returncode == 0
    assert command in shown.stdout


@pytest.mark.parametrize("command", ["coordinator", "worker", "writer", "run", "checkpoints", "functions"])
def test_every_subcommand_explains_itself(command: str) -> None:
    shown = strata(command, "--help")
    assert shown.returncode == 0, shown.stderr
    assert "--" in shown.stdout


@pytest.mark.parametrize("command", ["up", "dispatcher", "api", "pull-worker", "push-worker", "bench"])
def test_the_parts_of_a_function_service_explain_themselves(command: str) -> None:
    assert command in strata("functions", "--help").stdout
    shown = strata("functions", command, "--help")
    assert shown.returncode == 0, shown.stderr
    assert "--" in shown.stdout


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("task_dispatcher", "--task-deadline"),
        ("pull_worker", "asking for each batch"),
        ("push_worker", "as its credit"),
        ("benchmark_client", "--type"),
    ],
)
def test_the_published_names_are_scripts(name: str, says: str) -> None:
    """They start from a checkout, whatever folder one is in, and know their own options."""
    shown = subprocess.run([ROOT / "scripts" / name, "--help"], capture_output=True, text=True, cwd="/")
    assert shown.returncode == 0, shown.stderr
    assert says in shown.stdout


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
