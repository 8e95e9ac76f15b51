"""kill -9 at any moment of a save leaves the previous checkpoint loadable, the torn one invisible, and its files
collectable by the next process."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from strata_zmq import CheckpointManager
from strata_zmq.storage import LocalStorage

if TYPE_CHECKING:
    from pathlib import Path

# The child saves step 1 in peace, then dies at the n-th durable operation of step 2. Operations are counted where every
# write must pass: fsync (of a file or a folder) and rename.
_CHILD = r"""
import os, signal, sys, threading
import numpy as np
from strata_zmq import CheckpointManager
from strata_zmq.storage import local

folder, fatal = sys.argv[1], int(sys.argv[2])
log = os.open(folder + ".log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
count, lock, armed = 0, threading.Lock(), False
real_sync, real_replace = os.fsync, os.replace

def counted(name):
    global count
    if armed:
        with lock:
            count += 1
            if count == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            os.write(log, name.encode() + b"\n")

def fsync(descriptor):
    counted("fsync")
    real_sync(descriptor)

def replace(source, target):
    counted("replace " + os.path.basename(target).partition("-")[0])
    real_replace(source, target)

local.os.fsync, local.os.replace = fsync, replace
manager = CheckpointManager(folder, keep_count=1, chunk_bytes=4096)
manager.save({"w": np.full(1500, 1.0)}, 1, 0)
manager.wait_pending()
armed = True
manager.save({"w": np.full(1500, 2.0)}, 2, 0)
manager.wait_pending()
"""


def run(folder: Path, fatal: int) -> tuple[int, list[str]]:
    """Return the exit code and the durable operations that were let through."""
    ended = subprocess.run([sys.executable, "-c", _CHILD, str(folder), str(fatal)], timeout=60)
    return ended.returncode, folder.with_name(f"{folder.name}.log").read_text().splitlines()


def test_at_every_durable_operation_a_kill_leaves_one_good_checkpoint(tmp_path: Path) -> None:
    """The rename of HEAD is the commit: killed before it, there is the old checkpoint; after it, the new one."""
    outcomes = []
    for fatal in range(1, 100):
        folder = tmp_path / f"killed-{fatal}"
        code, done = run(folder, fatal)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        outcomes.append(step := 2 if "replace HEAD" in done else 1)
        with CheckpointManager(folder, keep_count=1) as manager:
            assert [info.step for info in manager.all_checkpoints()] == [step], done
            assert manager.load()["w"].tolist() == [float(step)] * 1500
            manager.save({}, 3, 0)
            manager.wait_pending()
            kept = manager.all_checkpoints()
            assert [info.step for info in kept] == [step, 3], "what was read whole stays, beside the newest"
        storage = LocalStorage(folder)
        ids = {key.split("/")[1] for key in asyncio.run(storage.list("ckpt/"))}
        assert ids == {info.checkpoint_id for info in kept}, (done, "leftovers were not collected")
        # A kill before the first object was there left at most a temporary file; those go by age.
        asyncio.run(storage.sweep(older_than_s=0.0))
        assert {path.name for path in (folder / "ckpt").iterdir()} == ids
    else:
        pytest.fail("the save never came to its end")
    assert len(outcomes) > 15
    assert set(outcomes) == {1, 2}


def test_what_a_living_process_is_writing_is_not_collected(tmp_path: Path) -> None:
    """A second manager in the folder leaves another process's unfinished save alone, and takes it when that is dead."""
    program = f"""
import sys, threading
from strata_zmq import CheckpointManager
from strata_zmq.storage import LocalStorage
class Stuck(LocalStorage):
    async def put(self, key, data):
        await super().put(key, data)
        if "index" in key:
            print("stuck", flush=True)
            threading.Event().wait()
manager = CheckpointManager(Stuck({str(tmp_path)!r}))
manager.save({{}}, 1, 0)
manager.wait_pending()
"""
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "stuck\n"
        with CheckpointManager(tmp_path) as manager:
            manager.save({}, 2, 0)
        assert len(list((tmp_path / "ckpt").iterdir())) == 2
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    with CheckpointManager(tmp_path) as manager:
        manager.save({}, 3, 0)
        manager.wait_pending()
        committed = {info.checkpoint_id for info in manager.all_checkpoints()}
    assert {path.name for path in (tmp_path / "ckpt").iterdir()} == committed


@pytest.mark.parametrize("delay_ms", [0, 2, 5, 10, 20, 40])
def test_a_kill_at_a_random_moment_leaves_a_good_checkpoint(tmp_path: Path, delay_ms: int) -> None:
    program = f"""
import os, signal, sys, time
import numpy as np
from strata_zmq import CheckpointManager
manager = CheckpointManager({str(tmp_path)!r}, keep_count=2)
manager.save({{"w": np.full(2_000_000, 1.0)}}, 1, 0)
manager.wait_pending()
manager.save({{"w": np.full(2_000_000, 2.0)}}, 2, 0)
time.sleep({delay_ms / 1000})
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == -signal.SIGKILL
    with CheckpointManager(tmp_path) as manager:
        newest = manager.all_checkpoints()[-1]
        assert newest.step in {1, 2}
        found = manager.load()["w"]
        assert found.min() == found.max() == newest.step
