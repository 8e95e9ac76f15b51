"""How a server process of the package starts: its options, its log, and the line that says it serves.

It knows no process in particular: each has options and endpoints of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING, Literal, NoReturn

from strata_zmq.errors import InvalidArgumentError
from strata_zmq.logs import log_to

__all__ = [
    "DEFAULT_API_PORT",
    "NO_API",
    "Parser",
    "add_coordinator",
    "announce",
    "become",
    "check_api_port",
    "log_to_stderr",
    "sources_of",
]


if TYPE_CHECKING:
    import typer

DEFAULT_API_PORT = 3000
NO_API = "none"
_PORT_MAX = 65_535


class Parser(argparse.ArgumentParser):
    """A parser that raises InvalidArgumentError for a mistake, where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong, with the way to the help."""
        raise InvalidArgumentError(f"{message} ({self.prog} --help)")


def add_coordinator(parser: argparse.ArgumentParser) -> None:
    """Let `parser` take the coordinator's address as `coordinator_url`."""
    parser.add_argument(
        *("--coordinator", "--coordinator-url"),
        dest="coordinator_url",
        default=os.environ.get("COORDINATOR_URL", "localhost:50051"),
        help="host:port or ipc:///path (default: COORDINATOR_URL, or localhost:50051)",
    )


def check_api_port(text: str) -> str:
    """Return what `--api-port` takes: a number, "none" for no API, "" for the default, which yields when it is taken.

    InvalidArgumentError for anything else.
    """
    text = text.strip()
    if text in ("", NO_API) or (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= _PORT_MAX):
        return text
    raise InvalidArgumentError(
        f"--api-port (STRATA_API_PORT) is {text!r}: it takes 1 to {_PORT_MAX}, 0 for a free one, or {NO_API} for no API"
    )


def sources_of(context: typer.Context) -> dict[str, Literal["option", "environment"]]:
    """Return where a command's values come from, by parameter; those that are at their defaults are missing."""
    words: dict[str, Literal["option", "environment"]] = {"COMMANDLINE": "option", "ENVIRONMENT": "environment"}
    told = {name: context.get_parameter_source(name) for name in context.params}
    return {name: words[one.name] for name, one in told.items() if one is not None and one.name in words}


def become(module: str, *args: str) -> NoReturn:
    """Go on as `python -m module args...`, in this very process."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *args])  # noqa: S606 - no shell is wanted


def log_to_stderr() -> None:
    """Log to standard error as STRATA_LOG and STRATA_LOG_FORMAT say; InvalidArgumentError where they say nonsense."""
    log_to(sys.stderr)


def announce(ready_fd: int, **facts: str | list[str]) -> None:
    """Write `facts` and this process's pid as one JSON line to the descriptor `ready_fd` and close it; none below 0.

    InvalidArgumentError if it cannot be written.
    """
    if ready_fd < 0:
        return
    try:
        with os.fdopen(ready_fd, "w") as ready:
            ready.write(json.dumps({**facts, "pid": os.getpid()}) + "\n")
    except OSError as error:
        raise InvalidArgumentError(f"--ready-fd {ready_fd} cannot be written: {error.strerror}") from None
