"""The environment variables that a run sets for its processes.

Owns their names; docs/run.md lists them. A launcher of another kind that sets the same ones can take this one's place.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from .commands import Endpoints
from .options import RunOptions

__all__ = [
    "api_environment",
    "common_environment",
    "coordinator_environment",
    "supervisor_token",
    "worker_environment",
]

_GRACE_SHARE = 0.8
_TOKEN = "STRATA_SUPERVISOR_TOKEN"  # noqa: S105 - the variable's name
# Of another run around this one: its relay knows nothing of this one's coordinator.
_OUTER = {_TOKEN, "STRATA_AGENT_URL"}


def common_environment(job: str, run_dir: Path, store: str, run_id: str) -> dict[str, str]:
    """Return what every process of a run gets, on top of the supervisor's own environment."""
    env = {name: value for name, value in os.environ.items() if name not in _OUTER}
    env.setdefault("PYTHONUNBUFFERED", "1")  # lines show when they are printed, also through a pipe
    return env | {
        "STRATA_JOB": job,
        "STRATA_RUN_DIR": str(run_dir),
        "STRATA_RUN_ID": run_id,
        "STRATA_CHECKPOINT_PATH": store,
        "STRATA_SUPERVISOR_PID": str(os.getpid()),
    }


def supervisor_token() -> str:
    """Return the token that the user has named, which lets its holder report deaths and give commands, or nothing."""
    return os.environ.get(_TOKEN, "")


def coordinator_environment(common: Mapping[str, str], token: str) -> dict[str, str]:
    """Return the coordinator's environment: only it and the supervisor know the token that may report deaths."""
    return dict(common) | {_TOKEN: token}


def api_environment(common: Mapping[str, str]) -> dict[str, str]:
    """Return the API's environment: with a token that the user has named, whoever reaches the API may stop the job."""
    token = supervisor_token()
    return dict(common) | ({_TOKEN: token} if token else {})


def worker_environment(
    common: Mapping[str, str], endpoints: Endpoints, options: RunOptions, *, worker_id: str, index: int, restarts: int
) -> dict[str, str]:
    """Return the environment of this host's worker number `index`."""
    env = dict(common) | {
        "COORDINATOR_URL": endpoints.control,
        "WORKER_ID": worker_id,
        "RANK": str(options.first_rank + index),
        "LOCAL_RANK": str(index),
        "WORLD_SIZE": str(options.world_size or options.first_rank + options.workers),
        "LOCAL_WORLD_SIZE": str(options.workers),
        "STRATA_RESTARTS": str(restarts),
        # Before SIGKILL comes, what is saved has to be durable and said so.
        "STRATA_GRACE_S": f"{options.limits.grace_s * _GRACE_SHARE:g}",
    }
    if options.policy:
        env["STRATA_CHECKPOINT_POLICY"] = options.policy
    if options.when_busy:
        env["STRATA_WHEN_BUSY"] = options.when_busy
    if endpoints.agent:
        env["STRATA_AGENT_URL"] = endpoints.agent
    return env
