"""`strata status`: the job on one screen, its tables, or the coordinator's whole answer as JSON.

Owns the printed form; never computes a figure that the coordinator did not report.
"""

from __future__ import annotations

import json
import os
import sys
import time

import msgspec
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from strata_zmq.errors import DeadlineExceededError, ProtocolError, UnavailableError
from strata_zmq.logs import printable
from strata_zmq.protocol.messages import GetSight, GetStatus, Sight, Status
from strata_zmq.workers.client import CoordinatorClient

from .overview import Overview, figures, headline, rows

__all__ = ["print_status", "watch_status"]

_COLUMNS = ("worker", "rank", "state", "step", "shards", "host", "pid", "heard")
_PIPE_COLUMNS = 160
_ATTENTION = {"hang": "red", "lost": "yellow", "frozen": "yellow", "waiting": "yellow", "slow": "yellow"}


def print_status(url: str, *, as_json: bool, tables: bool, timeout_s: float) -> None:
    """Ask the coordinator at `url` and print its answer; raises UnavailableError when nobody answers."""
    with CoordinatorClient(url).connect(timeout_s) as client:
        if not as_json and not tables:
            _console().print(_screen(Overview(_sight(client, timeout_s))))
            return
        status = client.request(GetStatus(), timeout_s=timeout_s)
    if not isinstance(status, Status):
        raise ProtocolError(f"the coordinator answered a request for its status with {type(status).__name__}")
    if as_json:
        print(json.dumps(_plain(status), indent=2))
        return
    _print_tables(status)


def watch_status(url: str, *, interval_s: float, timeout_s: float) -> None:
    """Show the screen anew each `interval_s`, until interrupted; where nobody answers, what was said last stays."""
    console = _console()
    before = None
    with CoordinatorClient(url).connect(timeout_s) as client, Live(console=console, auto_refresh=False) as live:
        now = _sight(client, timeout_s)
        screen = _screen(Overview(now))
        while True:
            live.update(screen, refresh=True)
            time.sleep(interval_s)
            try:
                before, now = now, _sight(client, timeout_s)
            except (UnavailableError, DeadlineExceededError):
                silence = Text(
                    f"The coordinator has not answered for {client.heard_s:.0f} s. This is what it said last:"
                )
                screen = Group(silence, _screen(Overview(now, before)))
                continue
            screen = _screen(Overview(now, before))


def _sight(client: CoordinatorClient, timeout_s: float) -> Sight:
    answer = client.request(GetSight(), timeout_s=timeout_s, patience_s=0.0)
    if not isinstance(answer, Sight) or answer.state.job is None:
        raise ProtocolError(f"the coordinator answered a request for a snapshot with {type(answer).__name__}")
    return answer


def _console() -> Console:
    # A pipe has no width: lines are not broken for it before they are long.
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPE_COLUMNS
    return Console(highlight=False, markup=False, soft_wrap=True, width=width)


def _screen(view: Overview) -> RenderableType:
    told, well = headline(view)
    grid = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    for name, text in figures(view):
        grid.add_row(name, Text(printable(text), style=_ATTENTION.get(name, "")))
    parts: list[RenderableType] = [Text(printable(told), style="bold green" if well else "bold yellow"), grid]
    found = rows(view)
    if found:
        table = Table(*_COLUMNS, box=box.SIMPLE_HEAD, pad_edge=False)
        for row in found:
            table.add_row(*map(printable, row))
        parts.append(table)
    more = len(view.now.state.workers) - len(found)
    if more > 0:
        parts.append(Text(f"and {more} more: strata status --tables", style="dim"))
    return Group(*parts)


def _print_tables(status: Status) -> None:
    console = _console()
    console.print(
        f"job {status.job} · term {status.term} · generation {status.generation} · epoch {status.epoch} · "
        f"{status.commit_index} commit points · {len(status.writers)} writers"
    )
    for told in (status.pending, status.frozen):
        if told:
            console.print(printable(told))
    for title, columns, lines in _sections(status):
        if lines:
            table = Table(*columns, title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
            for line in lines:
                table.add_row(*map(printable, line))
            console.print(table)


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
