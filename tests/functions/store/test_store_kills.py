"""Stores under kill -9 of the dispatcher: every confirmed record is there again, and no half of a batch."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recordkit.places import Place

KITS = str(Path(__file__).parents[2] / "kits")

APPENDER = """
import sys
sys.path.insert(0, sys.argv[1])
from recordkit.tasks import accepted, begun, ended, named
from strata_zmq.coordinator.dispatcher.stores import open_store

store = open_store(sys.argv[2])
size = int(sys.argv[3])
first = len(store.load().tasks)
print("ready", first, flush=True)
while True:
    some = range(first, first + size)
    store.append([record(number) for number in some for record in (accepted, begun, ended)])
    first += size
    print(first, flush=True)
"""


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.integers(1, 200),
    lives=st.lists(st.tuples(st.integers(0, 40), st.floats(0, 0.004)), min_size=1, max_size=3),
)
def test_kill_9_at_any_moment_loses_nothing_confirmed_and_leaves_no_half_of_a_batch(
    fresh_place: Callable[[], Place], size: int, lives: list[tuple[int, float]]
) -> None:
    place = fresh_place()
    confirmed = 0
    for lines, pause_s in lives:
        command = [sys.executable, "-c", APPENDER, KITS, place.url, str(size)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline().split()[0] == "ready"
                for _ in range(lines):
                    confirmed = int(process.stdout.readline())
                time.sleep(pause_s)  # a moment that nothing can tell of
            finally:
                process.kill()
            for line in process.stdout:
                if line.endswith("\n"):
                    confirmed = int(line)
        _, found = place.open()
        place.end()
        assert len(found.tasks) - confirmed in {0, size}
        assert len(found.tasks) % size == 0
        assert {each.task.state for each in found.tasks} <= {"COMPLETED"}
        assert {each.attempt for each in found.tasks} <= {1}
        confirmed = len(found.tasks)
