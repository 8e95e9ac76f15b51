"""Imports point down the floors, and an import that does not is caught, in linked folders too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"


def lint(checkout: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-P", "-c", PROGRAM], cwd=checkout, capture_output=True, text=True)


def test_the_floors_hold(pristine: Path) -> None:
    linted = lint(pristine)
    assert linted.returncode == 0, linted.stdout + linted.stderr
    assert "7 kept, 0 broken" in linted.stdout


@pytest.mark.parametrize(
    ("file", "line", "complaint"),
    [
        ("strata_zmq/domain/lease.py", "import strata_zmq.protocol", "strata_zmq.domain is not allowed to import"),
        ("strata_zmq/domain/lease.py", "import time", "strata_zmq.domain is not allowed to import time"),
        ("strata_zmq/storage/__init__.py", "import strata_zmq.feed", "strata_zmq.storage is not allowed to import"),
        ("strata_zmq/feed/__init__.py", "import pickle", "strata_zmq is not allowed to import pickle"),
        ("coordinator/__init__.py", "import strata_zmq.workers", "strata_zmq.coordinator is not allowed to import"),
        ("workers/__init__.py", "import strata_zmq.coordinator", "strata_zmq.workers is not allowed to import"),
        ("coordinator/core/__init__.py", "import strata_zmq.transport", "strata_zmq.coordinator.core is not allowed"),
        ("coordinator/core/__init__.py", "import asyncio", "strata_zmq.coordinator.core is not allowed to import"),
        ("strata_zmq/functions/dispatch/__init__.py", "import zmq", "strata_zmq.functions.dispatch is not allowed"),
        ("coordinator/api/app.py", "import strata_zmq.coordinator.core", "strata_zmq.coordinator.api is not allowed"),
        ("coordinator/api/state/picture.py", "import time", "strata_zmq.coordinator.api.state.picture is not allowed"),
        ("strata_zmq/functions/pool/__init__.py", "import pickle", "strata_zmq is not allowed to import pickle"),
        ("strata_zmq/functions/pool/__init__.py", "import strata_zmq.functions.child", "functions.pool is not allowed"),
        ("coordinator/__init__.py", "import strata_zmq.functions.codec", "strata_zmq.coordinator is not allowed"),
    ],
)
def test_an_import_up_or_across_the_floors_is_caught(checkout: Path, file: str, line: str, complaint: str) -> None:
    with (checkout / file).open("a") as module:
        module.write(f"\n{line}\n")
    linted = lint(checkout)
    assert linted.returncode == 1
    assert complaint in linted.stdout


def test_a_new_room_has_to_say_which_floor_it_is_on(checkout: Path) -> None:
    (checkout / "strata_zmq" / "attic.py").write_text('"""A room without a floor."""\n')
    linted = lint(checkout)
    assert linted.returncode == 1
    assert "attic" in linted.stdout + linted.stderr
