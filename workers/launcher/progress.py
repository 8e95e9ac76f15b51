"""How a running job looks: a table for a terminal, one line for everything else.

Owns the words and their order; never asks anybody for a figure. What is not known is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from strata_zmq.protocol.messages import Status, WorkerRow

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["JobView", "MemberView", "line", "table"]

_ROWS_MAX = 16
_STALE_S = 5.0
_NAMES_MAX = 4
_COLOURS = {
    "TRAINING": "green",
    "CHECKPOINTING": "cyan",
    "LOADING_DATA": "blue",
    "RECOVERING": "yellow",
    "FAILED": "red",
    "lost": "red",
    "failed": "red",
    "done": "dim",
}


@dataclass(frozen=True, slots=True)
class MemberView:
    """What the supervisor itself knows of one child."""

    name: str
    role: str
    state: str
    pid: int
    restarts: int


@dataclass(frozen=True, slots=True)
class JobView:
    """One moment of a job; `status` is the coordinator's snapshot, `status_age_s` seconds old, or None without one.

    `dashboard` is its address, empty while there is none.
    """

    elapsed_s: float
    phase: str
    members: tuple[MemberView, ...]
    status: Status | None
    status_age_s: float
    dashboard: str = ""


def table(view: JobView) -> RenderableType:
    """Return the live view: one row per worker, the job's figures above."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    rows = _rows(view.status)
    grid = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("worker", "rank", "state", "step", "epoch", "pid", "restarts"):
        grid.add_column(name, justify="left" if name in {"worker", "state"} else "right")
    workers = [member for member in view.members if member.role == "worker"]
    for member in workers[:_ROWS_MAX]:
        row = rows.get(member.name)
        # A dead process says nothing any more: what the supervisor saw counts before what the coordinator heard.
        state = row.state if row is not None and member.state == "up" else member.state
        figures = (row.rank, row.step, row.epoch) if row is not None else ("", "", "")
        grid.add_row(
            member.name,
            str(figures[0]),
            Text(state, style=_COLOURS.get(state, "")),
            *map(str, figures[1:]),
            str(member.pid or ""),
            str(member.restarts or ""),
        )
    if len(workers) > _ROWS_MAX:
        grid.add_row(Text(f"and {len(workers) - _ROWS_MAX} more", style="dim"))
    above = [Text(line(view), style="bold")]
    if view.dashboard:
        above.append(Text(f"dashboard at {view.dashboard}", style="dim"))
    return Group(*above, grid)


def line(view: JobView) -> str:
    """Return the job's figures as one line: `12 s · 4/4 workers · TRAINING 4 · step 120-125 · ...`."""
    workers = [member for member in view.members if member.role == "worker"]
    up = sum(member.state == "up" for member in workers)
    done = sum(member.state == "done" for member in workers)
    parts = [f"{view.elapsed_s:.0f} s", f"{view.phase}, {up}/{len(workers)} workers up"]
    if done:
        parts.append(f"{done} finished")
    parts += [part for describe in _FIGURES if view.status and (part := describe(view.status))]
    restarts = sum(member.restarts for member in view.members)
    if restarts:
        parts.append(f"{restarts} restart{'s' * (restarts > 1)}")
    if view.phase == "running" and (view.status is None or view.status_age_s > _STALE_S):
        silent_s = view.status_age_s if view.status else view.elapsed_s
        if silent_s > _STALE_S:
            parts.append(f"the coordinator has not answered for {silent_s:.0f} s")
    return " · ".join(parts)


def _rows(status: Status | None) -> dict[str, WorkerRow]:
    return {row.worker_id: row for row in status.workers} if status else {}


def _states(status: Status) -> str:
    counts = Counter(row.state for row in status.workers)
    return ", ".join(f"{state} {count}" for state, count in sorted(counts.items()))


def _steps(status: Status) -> str:
    steps = [row.step for row in status.workers]
    if not steps:
        return ""
    low, high = min(steps), max(steps)
    return f"step {low}" if low == high else f"step {low}-{high}"


def _history(status: Status) -> str:
    return f"epoch {status.epoch} · generation {status.generation}"


def _checkpoints(status: Status) -> str:
    if not status.checkpoints:
        return ""
    newest = max(status.checkpoints, key=lambda checkpoint: checkpoint.created_at)
    return f"{len(status.checkpoints)} checkpoints, newest of step {newest.step}"


def _barriers(status: Status) -> str:
    if len(status.barriers) != 1:
        return f"{len(status.barriers)} barriers open" if status.barriers else ""
    barrier = status.barriers[0]
    text = f"barrier {barrier['name']} {barrier['arrived']}/{barrier['total']}"
    missing = barrier["missing"]
    if isinstance(missing, list) and missing:
        text += f", missing {', '.join(missing[:_NAMES_MAX])}{', ...' * (len(missing) > _NAMES_MAX)}"
    return text


_FIGURES: tuple[Callable[[Status], str], ...] = (_states, _steps, _history, _checkpoints, _barriers)
