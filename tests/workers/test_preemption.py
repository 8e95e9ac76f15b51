"""A signal that announces the end: heard while a loop runs, and what it always was otherwise."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from strata_zmq.workers.preemption import Preemption


@pytest.fixture
def handlers():
    """SIGUSR1 and SIGUSR2 as they were, afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_during_a_loop_is_kept_for_the_next_commit_point(handlers) -> None:
    preemption = Preemption(lambda: True, grace_s=60.0)
    preemption.install([signal.SIGUSR1])
    assert not preemption.told
    assert preemption.left_s is None
    os.kill(os.getpid(), signal.SIGUSR1)
    assert preemption.told
    assert 0.0 < preemption.left_s <= 60.0
    preemption.remove()


def test_the_handler_that_was_there_before_is_called_too_and_put_back(handlers) -> None:
    heard = []
    signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    own = signal.getsignal(signal.SIGUSR1)
    preemption = Preemption(lambda: True, grace_s=60.0)
    preemption.install([signal.SIGUSR1, signal.SIGUSR1])
    os.kill(os.getpid(), signal.SIGUSR1)
    assert heard == [signal.SIGUSR1]
    preemption.remove()
    preemption.remove()
    assert signal.getsignal(signal.SIGUSR1) is own


def test_without_a_loop_the_signal_does_what_it_did_before(handlers) -> None:
    heard = []
    signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    preemption = Preemption(lambda: False, grace_s=60.0)
    preemption.install([signal.SIGUSR1])
    os.kill(os.getpid(), signal.SIGUSR1)
    assert (heard, preemption.told) == ([signal.SIGUSR1], False)
    preemption.remove()


def test_what_is_ignored_stays_ignored(handlers) -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    preemption = Preemption(lambda: True, grace_s=60.0)
    preemption.install([signal.SIGUSR1])
    os.kill(os.getpid(), signal.SIGUSR1)
    assert not preemption.told
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN


def test_a_handler_that_training_code_has_set_since_is_left_alone(handlers) -> None:
    preemption = Preemption(lambda: True, grace_s=60.0)
    preemption.install([signal.SIGUSR1])

    def later(number, frame):
        """The training code's."""

    signal.signal(signal.SIGUSR1, later)
    preemption.remove()
    assert signal.getsignal(signal.SIGUSR1) is later


def test_another_thread_than_the_main_one_changes_no_handler(handlers) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    preemption = Preemption(lambda: True, grace_s=60.0)
    thread = threading.Thread(target=preemption.install, args=([signal.SIGUSR1],))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGUSR1) is before


PROGRAM = """
import os, signal, sys, time
from strata_zmq.workers.preemption import Preemption
loop, grace_s = sys.argv[1] == "loop", float(sys.argv[2])
preemption = Preemption(lambda: loop, grace_s)
preemption.install([signal.SIGTERM])
for _ in range(int(sys.argv[3])):
    os.kill(os.getpid(), signal.SIGTERM)
deadline = time.monotonic() + 30.0
while time.monotonic() < deadline:
    time.sleep(0.01)
"""


@pytest.mark.parametrize(
    ("where", "grace_s", "times"),
    [("elsewhere", "60", "1"), ("loop", "60", "2"), ("loop", "0.2", "1")],
    ids=["no loop runs", "a second signal", "the loop comes to no commit point in time"],
)
def test_the_process_ends_by_the_signal_where_nobody_obeys_it(where: str, grace_s: str, times: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, where, grace_s, times], capture_output=True, text=True, timeout=25
    )
    assert done.returncode == -signal.SIGTERM, done.stderr
