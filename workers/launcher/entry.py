"""What every command does with an error: one red line, an exit code, and no traceback unless it is asked for.

Owns the mapping from errors to exit codes; never knows which command failed.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable

from strata_zmq.errors import InvalidArgumentError, StrataError

__all__ = ["EXIT_FAILURE", "EXIT_USAGE", "complain", "guarded"]

EXIT_FAILURE, EXIT_USAGE = 1, 2


def complain(message: str) -> None:
    """Print one line to standard error, red on a terminal."""
    text = f"strata: {' '.join(message.split())}"
    if sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        text = f"\x1b[31m{text}\x1b[0m"
    print(text, file=sys.stderr, flush=True)


def guarded(command: Callable[[], int]) -> int:
    """Return what `command` returns, or the code of its error: 2 for the caller's mistake in usage, 1 for the rest."""
    try:
        return command()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Whoever read our output has gone; nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE
    except InvalidArgumentError as error:
        _show(error, str(error))
        return EXIT_USAGE
    except (StrataError, OSError) as error:
        _show(error, str(error))
        return EXIT_FAILURE
    except Exception as error:  # noqa: BLE001 - the last resort of a command line
        _show(error, f"unexpected {type(error).__name__}: {error}; STRATA_LOG=debug shows where")
        return EXIT_FAILURE


def _show(error: Exception, message: str) -> None:
    if os.environ.get("STRATA_LOG", "").lower() == "debug":
        traceback.print_exception(error)
    complain(message or type(error).__name__)
