"""Owns what a person sees while a run goes on: a live line on a terminal, plain lines elsewhere; measures nothing."""

from __future__ import annotations

from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

__all__ = ["Progress", "progress"]


class Progress(Protocol):
    """Told of every case and round; a context manager for as long as the run lasts."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def begin(self, title: str) -> None:
        """A case starts (the first rounds follow when its processes are up)."""

    def advance(self, done: int, total: int) -> None:
        """`done` of `total` rounds of the current case have ended."""

    def end(self, outcome: str) -> None:
        """The current case is over."""


def progress() -> Progress:
    """Return the live form when standard error is a terminal, else the plain one."""
    console = Console(stderr=True)
    return _Live(console) if console.is_terminal else _Plain(console)


class _Live:
    def __init__(self, console: Console) -> None:
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin(self, title: str) -> None:
        self._bar.update(self._task, description=title, completed=0, total=None)

    def advance(self, done: int, total: int) -> None:
        self._bar.update(self._task, completed=done, total=total)

    def end(self, outcome: str) -> None:
        self._bar.console.print(outcome, highlight=False, markup=False)


class _Plain:
    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def begin(self, title: str) -> None:
        self._print(f"{title} ...")

    def advance(self, done: int, total: int) -> None:
        if done == total:
            self._print(f"  {done} rounds")

    def end(self, outcome: str) -> None:
        self._print(f"  {outcome}")

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)
