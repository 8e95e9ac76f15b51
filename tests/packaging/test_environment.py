"""The environment that the scripts make is pinned, and what a machine lacks is said instead of guessed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def pins(root: Path) -> dict[str, str]:
    lines = [line for line in (root / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    found = [re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.+!]+)", line) for line in lines]
    assert all(found), "constraints.txt holds something other than name==version"
    return {canonicalize_name(match[1]): match[2] for match in found if match}


def requirements(root: Path) -> list[Requirement]:
    project = tomllib.loads((root / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    lines = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    return [Requirement(line) for line in (*lines, *extras["dev"], *extras["examples"])]


def test_every_requirement_is_pinned_to_a_version_that_it_allows(root: Path) -> None:
    pinned = pins(root)
    for requirement in requirements(root):
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), str(requirement)


def shell(root: Path, program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    bash = shutil.which("bash")
    assert bash is not None
    return subprocess.run(
        [bash, "-euc", f"source {root}/scripts/lib/environment.sh; {program}"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def tools(folder: Path, *names: str) -> str:
    """A PATH that offers nothing but the named commands of this machine."""
    for name in names:
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return str(folder)


def test_without_a_new_enough_python_the_message_says_what_to_install(root: Path, tmp_path: Path) -> None:
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python3").chmod(0o755)
    shown = shell(root, "strata_find_python", PATH=tools(tmp_path, "dirname"))
    assert shown.returncode == 1
    assert "No Python of version 3.11 or later" in shown.stderr
    assert "apt-get install python3" in shown.stderr


def test_a_python_that_is_new_enough_is_found(root: Path) -> None:
    assert shell(root, "strata_find_python").stdout.startswith("python")


def test_a_missing_debian_package_is_named_and_no_failure(root: Path, tmp_path: Path) -> None:
    shown = shell(root, "strata_debian dataset-that-is-not-there; echo went on", PATH=tools(tmp_path, "dirname"))
    assert shown.stdout == "went on\n"
    assert "without the Debian package dataset-that-is-not-there: this is not a Debian system" in shown.stderr


@pytest.mark.parametrize("script", ["scripts/test", "scripts/check", ".ci/run"])
def test_a_script_can_be_started_as_it_is(root: Path, script: str) -> None:
    assert os.access(root / script, os.X_OK)
    assert (root / script).read_text().startswith("#!/usr/bin/env bash\n")
