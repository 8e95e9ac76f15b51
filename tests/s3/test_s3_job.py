"""A whole job whose storage writers write into a bucket, started as on a folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("boto3")
pytest.importorskip("obstore")

from s3kit.place import S3Place

from strata_zmq import CheckpointManager

pytestmark = pytest.mark.s3

TRAIN = """
import numpy as np
from strata_zmq import WorkerMixin

class Train(WorkerMixin):
    pass

worker = Train()
weights = np.zeros(1000)
worker.track(weights=weights)
worker.register_dataset("numbers", "", 40, 10)
if worker.restore_checkpoint():
    print("restored", int(weights[0]), flush=True)
else:
    for batch in worker.batches("numbers", 10, every_rank=True, timeout_s=60):
        weights += 1
    worker.save_checkpoint().result(60)
worker.deregister()
"""


@pytest.mark.parametrize("way", ["option", "environment"])
def test_a_job_saves_into_a_bucket_and_the_next_one_restores_from_it(
    way: str, moto_server: S3Place, weed_server: S3Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `--checkpoint-path s3://...`, or by STORAGE_BACKEND and CHECKPOINT_BUCKET; no folder is made."""
    place = (moto_server if way == "option" else weed_server).fresh()
    for name, value in place.environ.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "train.py").write_text(TRAIN)
    command = [sys.executable, "-m", "strata_zmq", "run", "-n", "2", "--progress", "off"]
    if way == "option":
        command += ["--checkpoint-path", place.url]
    else:
        monkeypatch.setenv("STORAGE_BACKEND", "s3")
        monkeypatch.setenv("CHECKPOINT_BUCKET", place.url.removeprefix("s3://"))
    told = []
    for _ in range(2):
        done = subprocess.run(
            [*command, "train.py"], cwd=tmp_path, capture_output=True, text=True, timeout=100, env=dict(os.environ)
        )
        assert done.returncode == 0, done.stdout + done.stderr
        told.append(done.stdout)
    with CheckpointManager(place.url) as manager:
        (info,) = manager.all_checkpoints()
        steps = [manager.load(rank=rank)["weights"] for rank in range(2)]
    assert info.world_size == 2
    assert all(np.array_equal(found, np.full(1000, found[0])) and found[0] > 0 for found in steps)
    assert "restored" not in told[0]
    assert sorted(re.findall(r"restored (\d+)", told[1])) == sorted(str(int(found[0])) for found in steps)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.py"]


def test_a_place_that_cannot_be_is_said_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print('started')")
    for place, reason in {"s3://NO": "3 to 63 characters", "gs://x": "scheme 'gs' is unknown"}.items():
        done = subprocess.run(
            [sys.executable, "-m", "strata_zmq", "run", "--checkpoint-path", place, "train.py"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 2
        assert reason in done.stderr
        assert done.stderr.count("\n") == 1
        assert "started" not in done.stdout
