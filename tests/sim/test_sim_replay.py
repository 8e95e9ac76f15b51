"""One seed is one run: every byte, every time and every fault, whatever the interpreter's hash seed is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SEEDS = 100


def start(hash_seed: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "simulator", "--digests", "--seeds", str(SEEDS)],
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(HERE)},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.timeout(600)
def test_the_first_hundred_seeds_run_the_same_under_another_hash_seed() -> None:
    runs = [start(1), start(2)]
    one, two = ([json.loads(line) for line in run.communicate()[0].splitlines()] for run in runs)
    assert [line["seed"] for line in one] == list(range(SEEDS))
    assert one == two
    assert len({line["digest"] for line in one}) == SEEDS, "another seed is another run"
