"""Who a worker says it is: its name, its machine, and the one process life that it stands for."""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from strata_zmq.domain.names import WORKER_NAME_MAX, check_metadata, check_name
from strata_zmq.protocol import messages as wire

from .resources import count_gpus

__all__ = ["WorkerIdentity", "boot_id"]


def boot_id() -> str:
    """Return what tells this machine's current boot from every other; two processes with the same one share memory."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerIdentity:
    """Who a worker says it is. `incarnation` names this process life; `memory_bytes` is the machine's."""

    worker_id: str
    hostname: str = field(default_factory=socket.gethostname)
    port: int = 0
    gpu_count: int = field(default_factory=count_gpus)
    memory_bytes: int = field(default_factory=lambda: psutil.virtual_memory().total)
    metadata: dict[str, str] = field(default_factory=dict)
    incarnation: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        check_name("worker_id", self.worker_id, WORKER_NAME_MAX)
        check_metadata("metadata", self.metadata)

    @classmethod
    def default_id(cls) -> str:
        """Return WORKER_ID, or a name made of the host's and the process's."""
        return os.environ.get("WORKER_ID") or f"{socket.gethostname()}-{os.getpid()}"

    def registration(self) -> wire.RegisterWorker:
        """Return the message that introduces this worker."""
        return wire.RegisterWorker(
            worker_id=self.worker_id,
            incarnation=self.incarnation,
            hostname=self.hostname,
            port=self.port,
            pid=os.getpid(),
            boot_id=boot_id(),
            gpu_count=self.gpu_count,
            memory_bytes=self.memory_bytes,
            metadata=self.metadata,
            run=os.environ.get("STRATA_RUN_ID", ""),
        )
