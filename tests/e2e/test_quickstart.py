"""The main job, as a newcomer runs it: one worker dies half-way, and every line of the summary holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MAIN = Path(__file__).parents[2] / "examples" / "quickstart" / "main.py"
LIMIT_S = 240.0
END_S = 30.0


@pytest.mark.timeout(300)
def test_the_quickstart_keeps_every_promise_of_its_summary(tmp_path: Path) -> None:
    """Where it does not, or hangs, the failure shows all that the job has said, its end after SIGTERM included."""
    told = tmp_path / "told"
    # A file keeps what a job has said that does not end. Unbuffered, the lines of all its processes are in order.
    with told.open("wb") as output:
        job = subprocess.Popen([sys.executable, "-u", MAIN], stdout=output, stderr=subprocess.STDOUT)
        try:
            status: int | str = job.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            status = f"none within {LIMIT_S:g} s"
            job.terminate()
            try:
                job.wait(END_S)
            except subprocess.TimeoutExpired:
                job.kill()
                job.wait()
    text = told.read_text(errors="replace")
    if status != 0:
        pytest.fail(f"exit status: {status}\n{text}", pytrace=False)
    summary = text.partition("Summary")[2]
    assert "FAIL" not in summary, text
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
        assert any(line.strip().startswith("ok") and promise in line for line in summary.splitlines()), (promise, text)
