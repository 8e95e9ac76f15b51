"""The messages by which a core shows itself: one snapshot on request, numbered deltas on PUB, and the fold of both.

A snapshot is a delta on nothing: both carry Changes. `number` counts the deltas of one `life`; a snapshot has the
number of the last delta that it includes. Who misses a number, or sees another life, asks for a snapshot again.

Deltas are made only while somebody has asked within LEASE_S, at most every FLUSH_S, and are empty once a second where
nothing changes, so that silence is news. One carries at most ROWS_MAX rows of a table; the others come with the next.
"""

from __future__ import annotations

from typing import Any

import msgspec

from strata_zmq.errors import ProtocolError
from strata_zmq.protocol.fields import Count, Header
from strata_zmq.protocol.function_parts import FunctionMessage
from strata_zmq.protocol.sight_rows import (
    CertificateSight,
    CheckpointSight,
    DatasetSight,
    EventSight,
    FunctionsSight,
    FunctionWorkerSight,
    HangSight,
    HistogramSight,
    JobSight,
    LostSight,
    OpenBarrierSight,
    RebalanceSight,
    ReleaseSight,
    SettingSight,
    StacksSight,
    WorkerSight,
    WriterSight,
)

__all__ = [
    "EVENTS_MAX",
    "FLUSH_S",
    "KEYS",
    "LEASE_S",
    "LOGS",
    "QUIET_S",
    "RELEASES_MAX",
    "ROWS_MAX",
    "SIGHT_TOPIC",
    "Changes",
    "GetFunctionsSight",
    "GetSight",
    "ShownFunctions",
    "Sight",
    "SightDelta",
    "decode_delta",
    "key_of",
]

SIGHT_TOPIC = b"sight"
FLUSH_S = 0.25
QUIET_S = 1.0
LEASE_S = 10.0
ROWS_MAX = 256
EVENTS_MAX = 512
"""How many events a core keeps for the next snapshot."""
RELEASES_MAX = 256
"""How many ended barriers a core keeps for the next snapshot."""
_DELTA_BYTES_MAX = 16 * 1024 * 1024


class Changes(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """Rows that are new or different, by table, and the keys of those that are gone.

    A core of one kind leaves the tables of the other empty. `gone` has the table's name, then keys as `key_of` writes
    them; it is applied before the rows.
    """

    job: JobSight | None = None
    workers: list[WorkerSight] = []
    writers: list[WriterSight] = []
    datasets: list[DatasetSight] = []
    certificates: list[CertificateSight] = []
    rebalances: list[RebalanceSight] = []
    checkpoints: list[CheckpointSight] = []
    barriers: list[OpenBarrierSight] = []
    releases: list[ReleaseSight] = []
    hangs: list[HangSight] = []
    lost: list[LostSight] = []
    stacks: list[StacksSight] = []
    events: list[EventSight] = []
    histograms: list[HistogramSight] = []
    settings: list[SettingSight] = []
    functions: FunctionsSight | None = None
    function_workers: list[FunctionWorkerSight] = []
    gone: dict[str, list[str]] = {}


KEYS: dict[str, tuple[str, ...]] = {
    "workers": ("worker_id",),
    "writers": ("writer_id",),
    "datasets": ("dataset_id",),
    "certificates": ("dataset_id", "epoch"),
    "rebalances": ("generation",),
    "checkpoints": ("checkpoint_id",),
    "barriers": ("barrier_id",),
    "hangs": ("worker_id",),
    "lost": ("worker_id",),
    "stacks": ("worker_id",),
    "histograms": ("name", "label"),
    "settings": ("name",),
    "function_workers": ("session",),
}
"""By table, the fields that make a row's key."""
LOGS: dict[str, int] = {"releases": RELEASES_MAX, "events": EVENTS_MAX}
"""Tables that only grow, and how many of their latest rows a core keeps."""


def key_of(table: str, row: Any) -> str:
    """Return a row's key as text: its key fields with slashes between them."""
    return "/".join(str(getattr(row, name)) for name in KEYS[table])


class GetSight(Header, frozen=True, kw_only=True, tag="get_sight"):
    """Asks for a snapshot, or with `renew` only that deltas go on. Answered by SIGHT, or DONE."""

    renew: bool = False


class Sight(Header, frozen=True, kw_only=True, tag="sight"):
    """A coordinator's snapshot as of `at`; the deltas on the broadcast endpoint's topic `sight` continue it."""

    life: str
    number: Count
    at: float
    state: Changes


class SightDelta(msgspec.Struct, array_like=True, frozen=True, kw_only=True, tag="sight_delta"):
    """What changed since the delta before. `missed` counts rows of logs that had no room in it."""

    life: str
    number: Count
    at: float
    changes: Changes
    missed: Count = 0


class GetFunctionsSight(FunctionMessage, frozen=True, tag="get_functions_sight"):
    """The same, asked of a dispatcher by a client that has attached. Answered by SHOWN_FUNCTIONS."""

    seq: Count
    renew: bool = False


class ShownFunctions(FunctionMessage, frozen=True, tag="shown_functions"):
    """A dispatcher's snapshot; its deltas come on PUB at `endpoint`, topic `sight`. No `state`: it was a renewal."""

    seq: Count
    life: str
    number: Count
    at: float
    endpoint: str
    state: Changes | None = None


_deltas: msgspec.msgpack.Decoder[SightDelta] = msgspec.msgpack.Decoder(SightDelta)


def decode_delta(data: bytes) -> SightDelta:
    """Return a core's delta; raises ProtocolError."""
    if len(data) > _DELTA_BYTES_MAX:
        raise ProtocolError(f"a delta of {len(data)} bytes exceeds the limit of {_DELTA_BYTES_MAX}: send fewer rows")
    try:
        return _deltas.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(f"a delta is not understood: {error}") from None
