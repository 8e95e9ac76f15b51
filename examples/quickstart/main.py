"""The main job: train real images on four workers, kill one with SIGKILL half-way, and show that nothing was lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from images import prepare

from strata_zmq.domain.shuffle import dataset_checksum
from strata_zmq.feed.gpu import describe_device

WORKERS = 4
VICTIM = "worker-2"
HERE = Path(__file__).parent


def main() -> int:
    """Run the job, check what it promises, print the summary; 0 if everything holds."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the temporary folder goes, too
    with tempfile.TemporaryDirectory(prefix="strata-quickstart-") as name:
        folder = Path(name)
        images = prepare(folder / "images")
        samples = len(images.load("train")[0])
        print(f"Training a perceptron on {images.name} ({samples} images) on {WORKERS} workers, {images.epochs} epochs")
        print("A browser shows it while it runs, at the address that [strata] tells below.")
        half = images.epochs * samples // (2 * WORKERS * images.batch_size)
        job = _start(folder)
        try:
            killed = _kill_at(folder, half, job)
            status = job.wait()
        except BaseException:
            job.send_signal(signal.SIGINT)
            job.wait()
            raise
        if status != 0 or killed is None:
            print(f"The job ended with status {status}{'' if killed else ' before a worker could be killed'}.")
            return 1
        restored = json.loads(
            subprocess.run(
                [sys.executable, HERE / "evaluate.py", folder, folder / "checkpoints"],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        reports = [json.loads(path.read_text()) for path in sorted((folder / "reports").iterdir())]
        return summarise(samples, images.epochs, killed, restored, reports)


def summarise(
    samples: int, epochs: int, killed: dict[str, int], restored: dict[str, Any], reports: list[dict[str, Any]]
) -> int:
    """Print what happened beside what was promised; 0 if every promise holds."""
    first = next(report for report in reports if report["rank"] == 0)
    expected = dataset_checksum(samples)
    whole = [
        entry
        for entry in first["certificates"]
        if entry["complete"] and entry["samples"] == samples and int(entry["checksum"]) == expected
    ]
    survivors = [report for report in reports if report["worker"] != VICTIM and report["restarts"] == 0]
    replaced = [report for report in reports if report["worker"] == VICTIM and report["pid"] != killed["pid"]]
    moved = sum(change["moved"] for change in first["rebalances"])
    bound = sum(change["lower_bound"] for change in first["rebalances"])
    waits_ms = np.concatenate([report["barrier_waits_s"] for report in reports]) * 1000
    stalls_ms = np.concatenate([report["stalls_s"] for report in reports]) * 1000
    slowdowns_ms = [
        report["slowdown_per_save_s"] * 1000 for report in reports if report["slowdown_per_save_s"] is not None
    ]
    rows = [
        ("test accuracy, in the job", f"{first['accuracy']:.4%}", True),
        (
            f"test accuracy, {restored['checkpoint']} in a fresh process",
            f"{restored['accuracy']:.4%}",
            restored["accuracy"] == first["accuracy"],
        ),
        (
            "parameters, the same bits on all ranks",
            first["parameters"][:16],
            len({report["parameters"] for report in reports}) == 1,
        ),
        (
            "epochs in which every sample was seen exactly once",
            f"{len(whole)} of {epochs} ({samples} samples, sum of mixed ids {expected:016x})",
            len(whole) == epochs,
        ),
        (
            f"{VICTIM} (pid {killed['pid']}) killed with SIGKILL at step {killed['step']}, a new one joined",
            f"pid {replaced[0]['pid']}" if replaced else "none",
            bool(replaced),
        ),
        ("workers that kept their process", f"{len(survivors)} of {WORKERS - 1}", len(survivors) == WORKERS - 1),
        ("shards moved, against the lower bound", f"{moved} of {bound}", moved == bound),
        ("checkpoints committed and kept", f"{len(first['committed'])}", bool(first["committed"])),
        ("training stall per save, median / max", f"{np.median(stalls_ms):.1f} / {stalls_ms.max():.1f} ms", True),
        (
            "slowdown per save, until durable, median over ranks",
            f"{np.median(slowdowns_ms):.1f} ms" if slowdowns_ms else "not measured",
            bool(slowdowns_ms),
        ),
        (
            "barrier wait, p50 / p99",
            f"{np.percentile(waits_ms, 50):.2f} / {np.percentile(waits_ms, 99):.2f} ms over {waits_ms.size} waits",
            True,
        ),
        ("feed", describe_device(), True),
    ]
    width = max(len(name) for name, _, _ in rows)
    print(f"\nSummary ({first['dataset']})")
    for name, value, holds in rows:
        print(f"  {'ok  ' if holds else 'FAIL'} {name:<{width}}  {value}")
    return 0 if all(holds for _, _, holds in rows) else 1


def _start(folder: Path) -> subprocess.Popen[bytes]:
    # One thread per worker: four of them on a few cores would only get into each other's way.
    env = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, "-m", "strata_zmq", "run", "-n", str(WORKERS)]
    command += ["--run-dir", str(folder / "run"), "--checkpoint-path", str(folder / "checkpoints")]
    return subprocess.Popen([*command, str(HERE / "train.py"), str(folder)], env=env)


def _kill_at(folder: Path, step: int, job: subprocess.Popen[bytes]) -> dict[str, int] | None:
    """Send SIGKILL to the victim once it has reached `step`; None if the job ended before."""
    path = folder / "progress" / f"{VICTIM}.json"
    while job.poll() is None:
        if path.exists():
            progress: dict[str, int] = json.loads(path.read_text())
            if progress["step"] >= step:
                print(f"\n>>> kill -9 {progress['pid']} ({VICTIM}, at step {progress['step']})\n", flush=True)
                os.kill(progress["pid"], signal.SIGKILL)
                return progress
        time.sleep(0.02)
    return None


if __name__ == "__main__":
    sys.exit(main())
