"""Strata ZMQ: a message-bus runtime for distributed training.

Everything here is imported on first use, so that `import strata_zmq` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from strata_zmq.checkpoint.manager import CheckpointInfo, CheckpointManager
    from strata_zmq.checkpoint.sharded import Sharded
    from strata_zmq.errors import StrataError, WorkerFailure
    from strata_zmq.functions.executor import StrataExecutor
    from strata_zmq.workers.aio import AsyncWorkerSession
    from strata_zmq.workers.mixin import WorkerMixin
    from strata_zmq.workers.orchestrator import TrainingOrchestrator
    from strata_zmq.workers.registry import DatasetRegistry

__version__ = "0.1.0"

_HOMES = {
    "AsyncWorkerSession": "strata_zmq.workers.aio",
    "CheckpointInfo": "strata_zmq.checkpoint.manager",
    "CheckpointManager": "strata_zmq.checkpoint.manager",
    "DatasetRegistry": "strata_zmq.workers.registry",
    "Sharded": "strata_zmq.checkpoint.sharded",
    "StrataError": "strata_zmq.errors",
    "StrataExecutor": "strata_zmq.functions.executor",
    "TrainingOrchestrator": "strata_zmq.workers.orchestrator",
    "WorkerFailure": "strata_zmq.errors",
    "WorkerMixin": "strata_zmq.workers.mixin",
}

__all__ = [
    "AsyncWorkerSession",
    "CheckpointInfo",
    "CheckpointManager",
    "DatasetRegistry",
    "Sharded",
    "StrataError",
    "StrataExecutor",
    "TrainingOrchestrator",
    "WorkerFailure",
    "WorkerMixin",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'strata_zmq' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
