"""`strata status`: the coordinator's snapshot as tables for people or JSON for programs.

Owns the printed form; never computes a figure that the coordinator did not report.
"""

from __future__ import annotations

import json

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from strata_zmq.errors import ProtocolError
from strata_zmq.protocol.messages import GetStatus, Status
from strata_zmq.workers.client import CoordinatorClient

__all__ = ["print_status"]


def print_status(url: str, *, as_json: bool, timeout_s: float) -> None:
    """Ask the coordinator at `url` and print its answer; raises UnavailableError when nobody answers."""
    with CoordinatorClient(url).connect(timeout_s) as client:
        status = client.request(GetStatus(), timeout_s=timeout_s)
    if not isinstance(status, Status):
        raise ProtocolError(f"the coordinator answered a request for its status with {type(status).__name__}")
    if as_json:
        print(json.dumps(_plain(status), indent=2))
        return
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(
        f"job {status.job} · term {status.term} · generation {status.generation} · epoch {status.epoch} · "
        f"{status.commit_index} commit points · {len(status.writers)} writers"
    )
    for told in (status.pending, status.frozen):
        if told:
            console.print(_printable(told))
    for title, columns, rows in _sections(status):
        if rows:
            table = Table(*columns, title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
            for row in rows:
                table.add_row(*map(_printable, row))
            console.print(table)


def _printable(value: object) -> str:
    """Return `value` as text that does nothing to a terminal: what workers say of themselves is not to be trusted."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in str(value))


def _sections(status: Status) -> list[tuple[str, list[str], list[tuple[object, ...]]]]:
    return [
        (
            f"workers ({status.have}, {status.need} needed)",
            ["worker", "rank", "state", "step", "epoch", "host", "pid", "heard"],
            [
                (row.worker_id, row.rank, row.state, row.step, row.epoch, row.hostname, row.pid, f"{row.heard_s:.1f} s")
                for row in status.workers
            ],
        ),
        (
            "hangs",
            ["worker", "rank", "not moved for", "waited for by", "at"],
            [(row.worker_id, row.rank, f"{row.since_s:.1f} s", row.waited_for_by, row.where) for row in status.hangs],
        ),
        (
            "datasets",
            ["dataset", "samples", "shards", "not committed"],
            [
                (row["dataset_id"], row["total_samples"], row["total_shards"], row["remaining"])
                for row in status.datasets
            ],
        ),
        (
            "barriers open",
            ["barrier", "step", "arrived", "missing"],
            [(row["name"], row["step"], f"{row['arrived']}/{row['total']}", row["missing"]) for row in status.barriers],
        ),
        (
            "checkpoints",
            ["checkpoint", "step", "epoch", "bytes", "ranks"],
            [(row.checkpoint_id, row.step, row.epoch, row.size_bytes, row.world_size) for row in status.checkpoints],
        ),
    ]


def _plain(value: object) -> object:
    """Return structs as objects with named fields: on the wire they are arrays."""
    if isinstance(value, msgspec.Struct):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value
