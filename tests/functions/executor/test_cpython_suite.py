"""CPython's own tests of executors are found where an interpreter ships them, and said to be missing where none does.

The suite itself takes minutes: `scripts/cpython_suite` runs it, and so does `scripts/test` when it runs everything.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def started(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The script on a machine that has a shell, and no Python but those that the environment names."""
    bash = shutil.which("bash")
    assert bash is not None
    for name in ("dirname", "sed"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    return subprocess.run(
        [bash, str(ROOT / "scripts/cpython_suite"), *arguments],
        env={"HOME": str(tmp_path), "PATH": str(tmp_path), **environment},
        capture_output=True,
        text=True,
    )


def test_without_an_interpreter_that_ships_the_suite_the_script_says_so(tmp_path: Path) -> None:
    shown = started(tmp_path)
    assert shown.returncode == 3
    assert "No Python 3.13 that ships test.test_concurrent_futures is here" in shown.stderr


@pytest.mark.parametrize("place", ["PYTHON", "PATH", "pyenv"])
def test_an_interpreter_without_the_suite_is_not_taken(tmp_path: Path, place: str) -> None:
    python = {"pyenv": ".pyenv/versions/3.13.9/bin/python3.13", "PATH": "python3.13", "PYTHON": "mine"}[place]
    program = tmp_path / python
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    environment = {"PYTHON": str(program)} if place == "PYTHON" else {}
    assert started(tmp_path, **environment).returncode == 3


def test_the_script_tells_what_it_does(tmp_path: Path) -> None:
    shown = started(tmp_path, "--help")
    assert shown.returncode == 0
    assert "against StrataExecutor" in shown.stdout
    assert os.access(ROOT / "scripts/cpython_suite", os.X_OK)
