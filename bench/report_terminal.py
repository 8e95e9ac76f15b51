"""Owns the table in the terminal; decides nothing about the figures it shows."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .formatting import cost, interval, number, ratio, verdict

if TYPE_CHECKING:
    from .model import Report, Row

__all__ = ["print_report"]

_PLAIN_WIDTH = 160
"""Columns where there is no terminal to ask, so that a log keeps each row on few lines."""

_STYLE = {"met": "green", "missed": "bold red", "not measured": "yellow", "": ""}


def print_report(report: Report, console: Console | None = None) -> None:
    """Print one table per suite, then notes, absences and failures."""
    console = console or Console(width=None if Console().is_terminal else _PLAIN_WIDTH)
    for suite, rows in groupby(report.rows, key=lambda row: row.suite):
        console.print(_table(suite, list(rows)))
    for row in report.rows:
        _print_remarks(console, row)
    absences = dict.fromkeys((name, reason) for row in report.rows for name, reason in row.absent.items())
    for name, reason in absences:
        console.print(Text(f"absent: {name}: {reason}", style="dim"))
    for failure in report.failures:
        console.print(Text(f"FAILED {failure.suite}/{failure.case}: {failure.reason}", style="bold red"))
    for skipped in report.skipped:
        console.print(Text(f"not run: {skipped}", style="yellow"))
    load = report.environment.get("load_warning")
    if load:
        console.print(Text(f"NOISY RUN: {load}", style="bold yellow"))
    console.print(Text(_environment_line(report), style="dim"))


def _table(suite: str, rows: list[Row]) -> Table:
    table = Table(title=suite, title_justify="left", title_style="bold", show_lines=True)
    for heading in ("case", "median [interval]", "p99", "limit", "x limit", "peers", "CPU / wall ms", "floor"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        style = "red" if row.regression else ("dim" if row.noisy else "")
        table.add_row(
            f"{row.case}\n{row.size}",
            f"{interval(row.subject.figure)}\n{row.unit}, {row.better} is better",
            number(row.subject.figure.p99) if row.subject.figure.p99 is not None else "-",
            f"{row.limit.name}\n{number(row.limit.figure.median)}" if row.limit else "-",
            ratio(row),
            "\n".join(_peer_lines(row)) or "-",
            cost(row.subject),
            _floor(row),
            style=style,
        )
    return table


def _peer_lines(row: Row) -> list[str]:
    present = [f"{peer.name} {number(peer.figure.median)}" for peer in row.peers]
    return [*present, *(f"{name}: absent" for name in row.absent)]


def _floor(row: Row) -> Text:
    word = verdict(row)
    noise = " in a noisy row" if row.noisy and row.met is not None else ""
    return Text(f"{row.floor_id}\n{row.floor}: {word}{noise}" if row.floor_id else "", style=_STYLE[word])


def _print_remarks(console: Console, row: Row) -> None:
    if row.regression:
        console.print(Text(f"REGRESSION {row.key}: {row.regression}", style="bold red"))
    for reason in row.noisy:
        console.print(Text(f"noisy {row.key}: {reason}", style="yellow"))
    for note in row.notes:
        console.print(Text(f"note {row.key}: {note}"))


def _environment_line(report: Report) -> str:
    wanted = ("cpu", "cores", "kernel", "python", "pyzmq", "libzmq", "numpy", "git_commit", "load_average", "time")
    return " · ".join(f"{name} {report.environment[name]}" for name in wanted if report.environment.get(name))
