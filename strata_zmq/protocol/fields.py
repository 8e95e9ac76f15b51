"""What several messages are made of: bounded field types, the header, and the records inside messages."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

__all__ = [
    "CHECKPOINT_VOTE",
    "DATA_WAIT_BOUNDS_S",
    "PROTOCOL_VERSION",
    "STOP_VOTE",
    "CheckpointSummary",
    "Command",
    "Count",
    "Header",
    "Identifier",
    "Lag",
    "Metadata",
    "Metrics",
    "Names",
    "Reduction",
    "Resources",
    "RetentionRule",
    "Role",
    "Seconds",
    "Spent",
    "Text",
    "Value",
    "WorkerState",
    "WriterInfo",
]

PROTOCOL_VERSION = 1

Count = Annotated[int, Meta(ge=0, le=2**62)]
Identifier = Annotated[str, Meta(min_length=1, max_length=256)]
Text = Annotated[str, Meta(max_length=4096)]
Seconds = Annotated[float, Meta(ge=0, le=86_400 * 30)]
Names = Annotated[list[Identifier], Meta(max_length=100_000)]
Metadata = Annotated[dict[Annotated[str, Meta(max_length=1024)], Text], Meta(max_length=64)]
Metrics = Annotated[dict[Annotated[str, Meta(max_length=128)], float], Meta(max_length=64)]
WorkerState = Literal[
    "UNKNOWN", "INITIALIZING", "IDLE", "LOADING_DATA", "TRAINING", "CHECKPOINTING", "RECOVERING", "FAILED"
]
Role = Literal["worker", "writer", "supervisor", "client", "agent"]
Command = Literal["checkpoint", "drain", "stop", "dump_stacks"]
STOP_VOTE = "strata.stop"
CHECKPOINT_VOTE = "strata.checkpoint"
"""Names of the values by which the ranks of a training loop agree on a command."""
Reduction = Literal["sum", "mean", "min", "max", "any", "all"]


class Header(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """What every request and reply begins with.

    `term` counts the coordinator's lives, `generation` the memberships; a request carries those its sender believes in.
    `session` is given by WELCOME and `seq` pairs a reply with its request (0 on what nobody asked for).
    """

    job: Annotated[str, Meta(max_length=128)] = ""
    term: Count = 0
    generation: Count = 0
    session: Count = 0
    seq: Count = 0


class Resources(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """What a worker uses: percentages in [0, 100 x cores], sizes in bytes, temperatures in degrees Celsius."""

    cpu_percent: float = 0.0
    memory_bytes: Count = 0
    gpu_percent: Annotated[list[float], Meta(max_length=1024)] = []
    gpu_memory_bytes: Annotated[list[Count], Meta(max_length=1024)] = []
    gpu_celsius: Annotated[list[float], Meta(max_length=1024)] = []
    disk_read_bytes: Count = 0
    disk_write_bytes: Count = 0
    network_sent_bytes: Count = 0
    network_received_bytes: Count = 0


DATA_WAIT_BOUNDS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Upper bounds of a worker's waits for data; the last of its ten counts is of longer ones."""
_Spent = Annotated[float, Meta(ge=0, le=1e9)]


class Spent(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """Where a worker's time went since it began, in seconds, and how many samples it was handed; all of it only rises.

    What is left of its life was spent on nothing of these. `data_waits` counts its waits for a batch by their length.
    """

    training_s: _Spent = 0.0
    data_s: _Spent = 0.0
    barrier_s: _Spent = 0.0
    checkpoint_s: _Spent = 0.0
    samples: Count = 0
    batches: Count = 0
    data_waits: Annotated[list[Count], Meta(max_length=16)] = []


class CheckpointSummary(msgspec.Struct, array_like=True, frozen=True):
    """One committed checkpoint; `created_at` in Unix seconds."""

    checkpoint_id: Identifier
    step: Count
    epoch: Count
    size_bytes: Count
    created_at: float
    world_size: Count = 1


class RetentionRule(msgspec.Struct, array_like=True, frozen=True):
    """Which checkpoints HEAD keeps: the newest `keep_count`, one of every `keep_every` steps (0: none for that), and
    the `best_count` best by a metric.
    """

    keep_count: Count = 5
    keep_every: Count = 0
    best_metric: Annotated[str, Meta(max_length=128)] = ""
    best_mode: Literal["min", "max"] = "min"
    best_count: Count = 0


class WriterInfo(msgspec.Struct, array_like=True, frozen=True):
    """Where a storage writer takes chunks: PUSH to `data_endpoint`, credits and acks on `control_endpoint`."""

    writer_id: Identifier
    incarnation: Identifier
    data_endpoint: Text
    control_endpoint: Text
    boot_id: Text = ""
    fd_path: Text = ""


class Value(msgspec.Struct, array_like=True, frozen=True):
    """A small number that an arrival carries, to be reduced over all arrivals of its barrier. `any` and `all` take 0 or
    not 0.
    """

    name: Identifier
    op: Reduction
    value: float


class Lag(msgspec.Struct, array_like=True, frozen=True):
    """How long after the first arrival the others came, in milliseconds: quantiles over all arrivals."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
