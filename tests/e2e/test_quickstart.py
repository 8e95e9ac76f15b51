"""The main job, as a newcomer runs it: one worker dies half-way, and every line of the summary holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MAIN = Path(__file__).parents[2] / "examples" / "quickstart" / "main.py"


@pytest.mark.timeout(300)
def test_the_quickstart_keeps_every_promise_of_its_summary() -> None:
    done = subprocess.run([sys.executable, MAIN], capture_output=True, text=True, timeout=280)
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    summary = done.stdout.partition("Summary")[2]
    assert "FAIL" not in summary, told
    for promise in (
        "test accuracy, step-",
        "parameters, the same bits on all ranks",
        "epochs in which every sample was seen exactly once",
        "killed with SIGKILL",
        "workers that kept their process",
        "shards moved, against the lower bound",
        "checkpoints committed and kept",
        "training stall per save",
        "slowdown per save",
        "barrier wait, p50 / p99",
    ):
        assert any(line.strip().startswith("ok") and promise in line for line in summary.splitlines()), (promise, told)
