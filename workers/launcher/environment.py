"""The environment variables that a run sets for its processes.

Owns their names; docs/run.md lists them. A launcher of another kind that sets the same ones can take this one's place.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["common_environment", "coordinator_environment", "worker_environment"]

_TOKEN = "STRATA_SUPERVISOR_TOKEN"  # noqa: S105 - the variable's name


def common_environment(job: str, run_dir: Path, store: Path) -> dict[str, str]:
    """Return what every process of a run gets, on top of the supervisor's own environment."""
    env = {name: value for name, value in os.environ.items() if name != _TOKEN}
    env.setdefault("PYTHONUNBUFFERED", "1")  # lines show when they are printed, also through a pipe
    return env | {
        "STRATA_JOB": job,
        "STRATA_RUN_DIR": str(run_dir),
        "STRATA_CHECKPOINT_PATH": str(store),
        "STRATA_SUPERVISOR_PID": str(os.getpid()),
    }


def coordinator_environment(common: Mapping[str, str], token: str) -> dict[str, str]:
    """Return the coordinator's environment: only it and the supervisor know the token that may report deaths."""
    return dict(common) | {_TOKEN: token}


def worker_environment(
    common: Mapping[str, str], *, url: str, rank: int, world_size: int, restarts: int
) -> dict[str, str]:
    """Return one worker's environment; all workers are on this host, so that local and global ranks are the same."""
    return dict(common) | {
        "COORDINATOR_URL": url,
        "WORKER_ID": f"worker-{rank}",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(world_size),
        "STRATA_RESTARTS": str(restarts),
    }
