"""A kill at every system call of a commit, made by the kernel: nothing that was acknowledged is lost, nothing is torn.

A process saves one checkpoint in peace; then strace takes hold of it and ends it with SIGKILL at the N-th call of one
kind, for every kind by which files are changed and for every N that there is. It takes minutes: `pytest -m syscalls`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import crashkit
import pytest
from crashkit.recorder import UnsyncedFiles
from crashkit.runs import trouble

from strata_zmq.storage import LocalStorage

pytestmark = [
    pytest.mark.syscalls,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace, to kill at a system call"),
]

_CALLS = ("openat", "mkdir", "pwritev,pwritev2", "fsync", "flock", "rename", "unlink", "rmdir", "close")
_CHILD = """
import sys
from crashkit.runs import CHUNK_BYTES, state_of
from strata_zmq import CheckpointManager
# Without references, so that the commit retires the checkpoint before and deletes it.
manager = CheckpointManager(sys.argv[1], keep_count=1, chunk_bytes=CHUNK_BYTES, references=False)
manager.save(state_of(1), 1, 0)
manager.wait_pending()
print("ready", flush=True)
sys.stdin.readline()
manager.save(state_of(2), 2, 0)
manager.wait_pending()
print("durable", flush=True)
"""


def killed_at(folder: Path, call: str, number: int) -> tuple[bool, bool]:
    """Run the child; return whether it was killed, and whether the second checkpoint was acknowledged before."""
    kits = str(Path(crashkit.__file__).parent.parent)
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [kits, os.environ.get("PYTHONPATH")]))}
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environ,
    )
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "ready\n"
        command = ["strace", "-f", "-p", str(child.pid), "-o", "/dev/null", "-e", f"trace={call}"]
        command += ["-e", f"inject={call}:signal=SIGKILL:when={number}"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr is not None
            said = tracer.stderr.readline()
            assert "attached" in said, said
            out, _ = child.communicate("go\n", timeout=60)
            tracer.communicate(timeout=60)
    finally:
        child.kill()
        child.wait()
    assert child.returncode in {0, -signal.SIGKILL}
    return child.returncode != 0, "durable" in out


@pytest.mark.parametrize("call", _CALLS)
def test_a_kill_at_every_call_of_a_commit_leaves_a_good_checkpoint(tmp_path: Path, call: str) -> None:
    for number in range(1, 1000):
        folder = tmp_path / str(number)
        killed, durable = killed_at(folder, call, number)
        expected = [[2]] if durable else [[1], [2]]
        found = trouble(LocalStorage(folder, files=UnsyncedFiles()), expected, 1)
        assert found is None, f"killed at {call} {number}: {found}"
        if not killed:
            break
        shutil.rmtree(folder)
    else:
        pytest.fail(f"the save never came past {call}")
    assert number > 1, f"a commit without {call}: leave it out here"
