"""Three hundred small clusters under storms: every promise of the dispatcher's core holds in every step of each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from dispatchsim import simulate

KITS = Path(__file__).resolve().parents[2] / "kits"
SEEDS = 300
AT_ONCE = 50
COMPARED = 12
EVENTS = (
    "accepted",
    "already_exists",
    "cancelled",
    "crashes",
    "deadline",
    "environment_mismatch",
    "error",
    "expired",
    "kept",
    "kept after a restart",
    "killed",
    "kills",
    "late",
    "ok",
    "out_of_memory",
    "quarantined",
    "queue_expired",
    "recalls",
    "reconnects",
    "resource_exhausted",
    "retirements",
    "returned",
    "stopped",
    "stops",
    "submitted again",
    "thought better of",
    "worker_lost",
)


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_every_promise_holds_in_every_step_of_every_storm(first: int) -> None:
    """A failure names its seed; `python -m dispatchsim --seed N` in tests/kits runs it again."""
    seen: Counter[str] = Counter()
    for seed in range(first, first + AT_ONCE):
        seen.update(simulate(seed).counts)
    # A simulation in which something never happens proves nothing about it.
    assert [name for name in EVENTS if not seen[name]] == []


def test_the_same_events_have_the_same_effects_under_any_hash_seed() -> None:
    def start(hash_seed: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "dispatchsim", "--seeds", str(COMPARED)],
            env={**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(KITS)},
            stdout=subprocess.PIPE,
            text=True,
        )

    runs = [start(1), start(2)]
    one, two = ([json.loads(line) for line in run.communicate()[0].splitlines()] for run in runs)
    assert [line["seed"] for line in one] == list(range(COMPARED))
    assert one == two
    assert len({line["digest"] for line in one}) == COMPARED, "another seed is another run"
