"""The page about checkpoints is true: its examples run as they stand, and its options are those of the command."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "checkpoints.md"


def test_the_examples_of_the_page_run_as_they_stand_in_order(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 8
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks))
    ended = subprocess.run(
        [sys.executable, "-W", "error", script.name], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("step-0000000100-")
    assert ended.stderr == ""


def test_the_options_of_the_page_are_those_of_the_writer() -> None:
    told = set(re.findall(r"^\| `(--[a-z-]+)`", PAGE.read_text(), re.MULTILINE))
    ended = subprocess.run(
        [sys.executable, "-m", "strata_zmq.workers", "writer", "--help"], capture_output=True, text=True, timeout=60
    )
    # --coordinator-url is what --coordinator was called before.
    assert told == set(re.findall(r"--[a-z-]+", ended.stdout)) - {"--help", "--coordinator-url"}
