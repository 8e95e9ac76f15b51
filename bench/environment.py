"""Owns the stamp that says where figures were taken, and how quiet the machine was; knows no case."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import zmq

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "LOAD_PER_CORE_MAX",
    "StealMeter",
    "filesystem_of",
    "git_commit",
    "last_level_cache_bytes",
    "load_warning",
    "stamp",
]

LOAD_PER_CORE_MAX = 0.5
"""Runnable processes per core, over the last minute and before the first round, above which a run is called noisy."""

_CACHE = Path("/sys/devices/system/cpu/cpu0/cache")


def stamp(*, quick: bool) -> dict[str, object]:
    """Return the environment of this run as JSON-ready values; sizes are in bytes, `load_average` is (1, 5, 15) min."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "last_level_cache_bytes": last_level_cache_bytes(),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": platform.release(),
        "virtual": _is_virtual(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "strata_zmq": _version("strata-zmq"),
        "pyzmq": zmq.pyzmq_version(),
        "libzmq": zmq.zmq_version(),
        "numpy": np.__version__,
        "git_commit": git_commit(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def load_warning(environment: Mapping[str, object]) -> str | None:
    """Return why the run is noisy from its start, or None on a quiet machine."""
    loads, cores = environment["load_average"], environment["cores"]
    if not isinstance(loads, list) or not isinstance(cores, int):
        return None
    per_core = loads[0] / cores
    if per_core <= LOAD_PER_CORE_MAX:
        return None
    return f"load average {loads[0]} on {cores} cores before the first round (quiet: {LOAD_PER_CORE_MAX * cores:g})"


def git_commit() -> str | None:
    """Return the commit of the source tree, with "+changes" if it has any, or None outside a checkout."""
    root = Path(__file__).resolve().parents[1]
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None
    try:
        described = subprocess.run(
            [git, "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+changes"],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() or None


def filesystem_of(path: Path) -> str:
    """Return the type of the filesystem that holds `path`, such as "ext4" or "tmpfs"."""
    resolved = path.resolve()
    mounts = [part for part in psutil.disk_partitions(all=True) if resolved.is_relative_to(part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else "unknown"


def last_level_cache_bytes() -> int | None:
    """Return the size of the largest cache of the first core, or None where the kernel does not tell."""
    sizes = []
    for path in _CACHE.glob("index*/size"):
        text = path.read_text().strip()
        scale = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
        sizes.append(int(text.rstrip("KMG")) * scale)
    return max(sizes, default=None)


class StealMeter:
    """Measures the share of CPU time that the hypervisor gave to others since construction."""

    def __init__(self) -> None:
        self._start = psutil.cpu_times()

    def share(self) -> float:
        """Return stolen time over all time, 0 to 1."""
        now = psutil.cpu_times()
        total = sum(now) - sum(self._start)
        return (now.steal - self._start.steal) / total if total > 0 else 0.0


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _is_virtual() -> bool:
    return " hypervisor" in Path("/proc/cpuinfo").read_text()


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
