"""What a dispatcher process can be told, from its command line or the environment. It starts nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal, get_args

from strata_zmq.errors import InvalidArgumentError
from strata_zmq.transport.endpoints import parse_endpoint

__all__ = ["DEFAULT_PORT", "DispatcherConfig", "Mode"]

Mode = Literal["local", "push", "pull"]
"""Only `local` means a difference to the dispatcher: it has children of its own. Workers say at their enlistment
whether they are pushed to or ask, and both kinds may come to any dispatcher."""
DEFAULT_PORT = 5555


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatcherConfig:
    """Everything that decides how a dispatcher serves. Durations in seconds, sizes in bytes."""

    endpoint: str = f"tcp://127.0.0.1:{DEFAULT_PORT}"
    mode: Mode = "push"
    workers: int = 4
    """Children of its own, in mode `local`."""
    task_deadline_s: float = 0.0
    """An attempt that runs longer is ended, for tasks that name no `attempt_s` of their own; 0: no limit."""
    store: str = "sqlite:strata-functions.sqlite"
    """Where tasks of durability `commit` are written down: sqlite:PATH, redis://host:port/db, or none."""
    lease_s: float = 5.0
    """A worker that is silent for so long is lost."""
    heartbeat_s: float = 1.0
    client_lease_s: float = 30.0
    queue_tasks_max: int = 1_000_000
    queue_bytes_max: int = 2 * 2**30
    results_bytes_max: int = 2**30
    blob_bytes_max: int = 2**30
    """Callables and values of clients that are kept in memory."""
    memory_bytes: int = 0
    """What one child of its own may use, in mode `local`; 0: no limit."""
    gpus: tuple[str, ...] = ()
    grace_s: float = 10.0
    """How long calls of its own children may take to end after SIGTERM."""
    curve_keys: str = field(default_factory=lambda: os.environ.get("STRATA_CURVE_KEYS", ""))

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise InvalidArgumentError(f"mode is {self.mode!r}: it is local, push or pull")
        for name, least, most in (
            ("workers", 1, 4096),
            ("queue_tasks_max", 1, 100_000_000),
            ("queue_bytes_max", 1, 2**50),
            ("results_bytes_max", 1, 2**50),
            ("blob_bytes_max", 1, 2**50),
            ("memory_bytes", 0, 2**50),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise InvalidArgumentError(f"{name} is {value}: it takes {least} to {most}")
        for name, least_s in (
            ("lease_s", 0.05),
            ("heartbeat_s", 0.01),
            ("client_lease_s", 0.05),
            ("task_deadline_s", 0),
            ("grace_s", 0),
        ):
            value = getattr(self, name)
            if not least_s <= value <= 86_400:
                raise InvalidArgumentError(f"{name} is {value}: it takes {least_s} to 86400 seconds")
        if self.heartbeat_s * 2 > self.lease_s:
            raise InvalidArgumentError(
                f"heartbeat_s is {self.heartbeat_s} and lease_s {self.lease_s}: a lease needs at least two heartbeats"
            )
        endpoint = parse_endpoint(self.endpoint, field="endpoint", default_port=DEFAULT_PORT)
        object.__setattr__(self, "endpoint", endpoint)
