"""An ordinary training loop becomes a Strata worker with a diff of at most six lines, and both run."""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from strata_zmq import CheckpointManager

EXAMPLES = Path(__file__).parents[2] / "examples"
# PyTorch is an extra: its pair is run where it is installed, its diff is counted everywhere.
RUNNABLE = ["numpy", *(["torch"] if importlib.util.find_spec("torch") else [])]
CALLS = ("track", "register_dataset", "epochs", "batches", "save_checkpoint")


def _added_lines(pair: str) -> list[str]:
    """The lines that a unified diff marks with '+': a new line counts once, and so does a changed one."""
    plain, strata = ((EXAMPLES / f"{kind}_{pair}.py").read_text().splitlines() for kind in ("plain", "strata"))
    diff = difflib.unified_diff(plain, strata, lineterm="", n=0)
    return [line for line in diff if line.startswith("+") and not line.startswith("+++")]


@pytest.mark.parametrize("pair", ["numpy", "torch"])
def test_six_lines_make_a_worker(pair: str) -> None:
    """Data, epochs, rollback and checkpoints come with six changed lines, blank ones included."""
    added = _added_lines(pair)
    assert len(added) <= 6, added
    text = "\n".join(added)
    assert all(f".{call}(" in text for call in CALLS), text
    assert all(line.count(";") == 0 for line in added), "two statements on one line are two lines"


@pytest.mark.parametrize("pair", RUNNABLE)
def test_the_plain_script_learns(pair: str, tmp_path: Path) -> None:
    """The script before the change is an ordinary one that needs nothing of Strata."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"plain_{pair}.py")], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert _accuracies(done.stdout)[-1] > 0.8


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose socket paths fit into 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="st-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("pair", RUNNABLE)
def test_the_changed_script_runs_on_two_workers(pair: str, tmp_path: Path, short_folder: Path) -> None:
    """`strata run -n 2` trains it: both ranks learn in every epoch, and the checkpoints of both are committed."""
    checkpoints = tmp_path / "checkpoints"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "strata_zmq", "run", "-n", "2", "--progress", "off"),
            *("--checkpoint-path", str(checkpoints), str(EXAMPLES / f"strata_{pair}.py")),
        ],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(short_folder)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for rank in (0, 1):
        own = [line for line in done.stdout.splitlines() if line.startswith(f"[worker-{rank}]")]
        assert len(_accuracies("\n".join(own))) == 5, done.stdout
        assert _accuracies("\n".join(own))[-1] > 0.8
    assert _committed(checkpoints) == 5, done.stdout + done.stderr


def _accuracies(output: str) -> list[float]:
    return [float(number) for number in re.findall(r"epoch \d: accuracy (\d\.\d+)", output)]


def _committed(folder: Path) -> int:
    with CheckpointManager(folder) as manager:
        return len(manager.all_checkpoints())
