"""`python -m strata_zmq.coordinator.flight FILE`: a recording, step by step. It opens no socket."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from strata_zmq.errors import InvalidArgumentError, StrataError

from .player import play
from .telling import as_json, as_lines

__all__ = ["main", "replay"]


def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A recording (*.flight), or a folder of them.")],
    since: Annotated[
        str, typer.Option("--from", help="Where to begin: Unix seconds, or an ISO 8601 time.", show_default=False)
    ] = "",
    as_json_lines: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Heartbeats and looks at the state, too.")] = False,
) -> None:
    """Step a recording through the coordinator's core again: what came in, what was decided, and why."""
    if not file.exists():
        raise InvalidArgumentError(f"{file} does not exist: name a recording (*.flight), or a folder of them")
    for one in play(file, since=_moment(since)):
        if as_json_lines:
            line = as_json(one, everything=everything)
            if line:
                typer.echo(line)
        else:
            for text in as_lines(one, everything=everything):
                typer.echo(text)


def _moment(text: str) -> float:
    if not text:
        return 0.0
    try:
        return float(text)
    except ValueError:
        try:
            return datetime.fromisoformat(text).timestamp()
        except ValueError:
            raise InvalidArgumentError(
                f"--from is {text!r}: it takes Unix seconds, or an ISO 8601 time such as 2026-01-31T14:02:11"
            ) from None


def main() -> None:
    """Run the command; a named error is one line and exit status 1."""
    try:
        typer.run(replay)
    except BrokenPipeError:
        # Whoever read it has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except StrataError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
