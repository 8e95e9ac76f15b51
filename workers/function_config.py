"""What a function worker can be told, and what follows from it. It starts nothing."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from dataclasses import dataclass, field
from typing import Literal

from strata_zmq.errors import InvalidArgumentError
from strata_zmq.transport.endpoints import parse_endpoint

__all__ = ["FunctionWorkerConfig", "parse_labels"]

_DEFAULT_PORT = 5555


def _own_name() -> str:
    return f"{socket.gethostname()[:128]}:{os.getpid()}:{secrets.token_hex(4)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionWorkerConfig:
    """Everything that decides how a function worker works. Durations in seconds, sizes in bytes."""

    dispatcher: str = f"tcp://127.0.0.1:{_DEFAULT_PORT}"
    children: int = field(default_factory=lambda: os.cpu_count() or 1)
    mode: Literal["push", "pull"] = "push"
    labels: dict[str, int] = field(default_factory=dict)
    """Resources that tasks may ask for; `gpu` is how many of `gpus` there are."""
    gpus: tuple[str, ...] = ()
    memory_bytes: int = 0
    """What one child may use; 0: no limit."""
    max_tasks_per_child: int = 0
    """A child is replaced after so many calls; 0: never."""
    grace_s: float = 10.0
    """How long running calls may take to end after SIGTERM."""
    blob_bytes_max: int = 2**30
    """Callables and values that are kept for calls to come."""
    worker_id: str = field(default_factory=_own_name)
    curve_keys: str = field(default_factory=lambda: os.environ.get("STRATA_CURVE_KEYS", ""))

    def __post_init__(self) -> None:
        if self.mode not in {"push", "pull"}:
            raise InvalidArgumentError(f"mode is {self.mode!r}: it is push or pull")
        for name, least, most in (
            ("children", 1, 4096),
            ("memory_bytes", 0, 2**50),
            ("max_tasks_per_child", 0, 2**31),
            ("blob_bytes_max", 0, 2**50),
            ("grace_s", 0, 86_400),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise InvalidArgumentError(f"{name} is {value}: it takes {least} to {most}")
        labels = dict(self.labels)
        gpus = self.gpus or tuple(map(str, range(labels.get("gpu", 0))))
        if gpus:
            labels["gpu"] = labels.get("gpu", len(gpus))
        if labels.get("gpu", 0) != len(gpus):
            raise InvalidArgumentError(
                f"label gpu is {labels['gpu']}, and there are {len(gpus)} gpus: {', '.join(gpus)}"
            )
        if len(labels) > 16 or not all(1 <= len(name) <= 64 for name in labels):
            raise InvalidArgumentError(f"labels are {labels}: at most 16, with names of 1 to 64 characters")
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "gpus", gpus)
        endpoint = parse_endpoint(self.dispatcher, field="dispatcher", default_port=_DEFAULT_PORT)
        object.__setattr__(self, "dispatcher", endpoint)

    @property
    def python(self) -> str:
        """The minor version whose pickles can be loaded here."""
        return f"{sys.version_info.major}.{sys.version_info.minor}"


def parse_labels(texts: list[str]) -> dict[str, int]:
    """Return labels from `name=count` texts; InvalidArgumentError for anything else."""
    labels: dict[str, int] = {}
    for text in texts:
        name, _, count = text.partition("=")
        if not name or not (count or "1").isdecimal():
            raise InvalidArgumentError(f"label {text!r} is not understood: write name=count, for example gpu=2")
        labels[name] = int(count or "1")
    return labels
