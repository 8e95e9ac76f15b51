"""Functions that behave badly, and what has to become of each: for the child, the pool and the executor alike.

Every room runs the same list (`NASTY`): whatever a function does, its call comes to the end that is said here, and the
calls beside it come to theirs.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from strata_zmq.domain.task import NO_LIMITS, Cause, Kind, TaskLimits

__all__ = [
    "NASTY",
    "Disguised",
    "Endless",
    "HalfPickled",
    "LocksInside",
    "Nasty",
    "Unprintable",
    "data_limit",
    "dies_when_packed",
    "explodes_when_loaded",
    "fork_and_leave",
    "hold_gil",
    "hold_on",
    "identity",
    "keep_argument",
    "never_return",
    "open_all_descriptors",
    "raise_with_argument",
    "replace_streams",
    "return_function",
]

MIB = 2**20


def exit_hard(code: int) -> NoReturn:
    """End the process, past every handler."""
    os._exit(code)


def exit_softly(code: int) -> NoReturn:
    """Raise SystemExit."""
    sys.exit(code)


def segfault() -> None:
    """Read what is not there."""
    ctypes.string_at(0)


def abort() -> None:
    """Do what a failed assertion in C does."""
    os.abort()


def kill_self() -> None:
    """Be killed, as by the system when it is out of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def stop_self() -> None:
    """Stop, and never go on."""
    os.kill(os.getpid(), signal.SIGSTOP)


def eat_memory() -> int:
    """Take more and more memory, and use it."""
    eaten = []
    while True:
        eaten.append(bytearray(b"\1") * (8 * MIB))
        if len(eaten) > 512:
            return len(eaten)


def eat_crumbs() -> int:
    """Take memory in the smallest pieces, until there is none for anything."""
    eaten: list[object] = []
    while len(eaten) < 100_000_000:
        eaten.append([len(eaten)])
    return len(eaten)


def data_limit() -> int:
    """Return how much private memory the process may have; -1: any."""
    return resource.getrlimit(resource.RLIMIT_DATA)[0]


def never_return() -> None:
    """Wait for what never comes."""
    while True:
        time.sleep(3600)


def hold_gil() -> int:
    """Count in C, where no other thread and no signal handler gets a turn."""
    return sum(range(10**15))


def hold_on() -> int:
    """Hold the interpreter, and let no signal that can be ignored end it."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    return hold_gil()


def generate() -> Iterator[int]:
    """Return a generator, which cannot be pickled."""
    yield from range(3)


def return_lock() -> dict[str, object]:
    """Return what cannot be pickled, inside of what can."""
    return {"lock": threading.Lock()}


class LocksInside(Exception):  # noqa: N818 - it is a test's
    """An exception that cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class HalfPickled(Exception):  # noqa: N818 - it is a test's
    """An exception that can be pickled and not loaded: its constructor takes more than its `args`."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")


class Disguised(Exception):  # noqa: N818 - it is a test's
    """An exception that is loaded as something else."""

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, ("what I was",)


class Unprintable(Exception):  # noqa: N818 - it is a test's
    """An exception that has no text."""

    def __str__(self) -> str:
        raise ValueError("there is no text")


class Endless(BaseException):
    """What `except Exception` does not catch."""


def raise_unpicklable() -> NoReturn:
    """Raise what cannot be pickled."""
    raise LocksInside("nobody can have this")


def raise_half_pickled() -> NoReturn:
    """Raise what can be pickled and not be loaded again."""
    raise HalfPickled(7, "half of it")


def raise_disguised() -> NoReturn:
    """Raise what comes back as a text."""
    raise Disguised("once an exception")


def raise_unprintable() -> NoReturn:
    """Raise what has no text."""
    raise Unprintable


def raise_base() -> NoReturn:
    """Raise past every `except Exception`."""
    raise Endless("past every handler")


def raise_huge() -> NoReturn:
    """Raise with a text of 4 MiB."""
    raise ValueError("x" * 4 * MIB)


def recurse(depth: int = 0) -> int:
    """Call itself until the interpreter objects."""
    return recurse(depth + 1) + 1


def print_much(megabytes: int) -> int:
    """Print, and return how many characters."""
    line = "y" * (MIB - 1)
    for _ in range(megabytes):
        print(line)
    return megabytes * MIB


def return_much(nbytes: int) -> bytes:
    """Return many bytes."""
    return bytes(nbytes)


def _explode() -> NoReturn:
    raise LookupError("nobody can load this")


def explodes_when_loaded() -> object:
    """Return an argument that raises where it is loaded."""
    return _Reduced(_explode)


def dies_when_loaded() -> object:
    """Return an argument whose loading ends the process."""
    return _Reduced(_die)


def _die() -> NoReturn:
    os._exit(9)


def dies_when_packed() -> object:
    """Return a value whose pickling ends the process."""
    return _Dying()


class _Reduced:
    def __init__(self, load: Callable[[], object]) -> None:
        self.load = load

    def __reduce__(self) -> tuple[Callable[[], object], tuple[()]]:
        return self.load, ()


class _Dying:
    def __reduce__(self) -> NoReturn:
        os._exit(9)


def accept(_: object) -> None:
    """Take an argument."""


def fork_and_return() -> int:
    """Return twice: in this process and in a copy of it."""
    started = os.fork()
    if started:
        os.waitpid(started, 0)
    return os.getpid()


def fork_and_leave() -> int:
    """Fork a process that ends by sys.exit, and return its exit code."""
    started = os.fork()
    if started == 0:
        sys.exit(3)
    return os.waitstatus_to_exitcode(os.waitpid(started, 0)[1])


def return_function(first: int) -> Callable[[int], int]:
    """Return a function that has no name to find it by."""
    return lambda second: first + second


_KEPT: list[object] = []


def keep_argument(value: object) -> None:
    """Go on looking at an argument when the call is over."""
    _KEPT.append(value)


def kept() -> list[object]:
    """Return what `keep_argument` has kept in this process."""
    return _KEPT


def raise_memory_error() -> NoReturn:
    """Raise what an allocation that fails raises."""
    raise MemoryError("not now")


def print_and_raise(text: str) -> NoReturn:
    """Print on both streams, and raise."""
    print(text)
    print(f"{text}, too", file=sys.stderr)
    raise ValueError(text)


def print_and_die(text: str) -> NoReturn:
    """Print, and end the process."""
    print(text)
    os._exit(5)


def identity(value: object) -> int:
    """Return which object this process knows an argument by."""
    return id(value)


def raise_with_argument(value: object) -> NoReturn:
    """Raise out of a frame that holds the argument."""
    held = [value]
    raise ValueError(len(held))


def open_all_descriptors(nbytes: int) -> bytes:
    """Use up the process's descriptors, and return many bytes."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with contextlib.suppress(OSError):
        while True:
            _KEPT.append(os.memfd_create("used"))
    return bytes(nbytes)


def close_everything() -> str:
    """Close every descriptor that the process has, its connections included."""
    os.closerange(3, 4096)
    return "closed"


def replace_streams() -> str:
    """Put something of its own in place of the standard streams."""
    sys.stdout = sys.stderr = io.StringIO()
    return "replaced"


def close_streams() -> str:
    """Close the standard streams."""
    sys.stdout.close()
    sys.stderr.close()
    return "closed"


@dataclass(frozen=True, slots=True)
class Nasty:
    """A badly behaved call and its end: the kind, for a failure its cause, for an exception its type and text.

    `signal` and `exit_code` are the child's end, where it has one. `text` stands in the message.
    """

    name: str
    function: Callable[..., object]
    args: tuple[Any, ...] = ()
    limits: TaskLimits = NO_LIMITS
    kind: Kind = "failure"
    cause: Cause = ""
    error: type[BaseException] | None = None
    text: str = ""
    signal: int = 0
    exit_code: int = -1

    @property
    def lethal(self) -> bool:
        """Whether the child ends with it."""
        return self.cause in ("killed", "exited", "deadline") or self.signal != 0


_SHORT = TaskLimits(attempt_s=0.3)
_FRUGAL = TaskLimits(memory_bytes=256 * MIB)

NASTY: tuple[Nasty, ...] = (
    Nasty("os._exit", exit_hard, (3,), cause="exited", exit_code=3, text="exit code 3"),
    Nasty("os._exit(0)", exit_hard, (0,), cause="exited", exit_code=0, text="exit code 0"),
    Nasty("sys.exit", exit_softly, (4,), kind="error", error=SystemExit, text="4"),
    Nasty("segfault", segfault, cause="killed", signal=signal.SIGSEGV, text="SIGSEGV"),
    Nasty("abort", abort, cause="killed", signal=signal.SIGABRT, text="SIGABRT"),
    Nasty("SIGKILL", kill_self, cause="killed", signal=signal.SIGKILL, text="SIGKILL"),
    Nasty("memory", eat_memory, limits=_FRUGAL, cause="out_of_memory", text="memory"),
    Nasty("crumbs of memory", eat_crumbs, limits=_FRUGAL, cause="out_of_memory", text="memory"),
    Nasty("never returns", never_return, limits=_SHORT, cause="deadline", text="exceeded deadline"),
    Nasty("holds the GIL", hold_gil, limits=_SHORT, cause="deadline", text="exceeded deadline"),
    Nasty("stops itself", stop_self, limits=_SHORT, cause="deadline", text="exceeded deadline"),
    Nasty("generator", generate, cause="unpicklable_result", text="generator"),
    Nasty("lock in the result", return_lock, cause="unpicklable_result", text="lock"),
    Nasty("unpicklable exception", raise_unpicklable, cause="unpicklable_error", text="nobody can have this"),
    Nasty("unloadable exception", raise_half_pickled, cause="unpicklable_error", text="half of it"),
    Nasty("disguised exception", raise_disguised, cause="unpicklable_error", text="once an exception"),
    Nasty("unprintable exception", raise_unprintable, kind="error", error=Unprintable),
    Nasty("base exception", raise_base, kind="error", error=Endless, text="past every handler"),
    Nasty("huge exception", raise_huge, kind="error", error=ValueError, text="xxx"),
    Nasty("endless recursion", recurse, kind="error", error=RecursionError, text="recursion"),
    Nasty("prints 100 MB", print_much, (100,), TaskLimits(capture=True), kind="ok"),
    Nasty(
        "result over the cap",
        return_much,
        (2 * MIB,),
        TaskLimits(result_bytes_max=MIB),
        cause="result_too_large",
        text="result_bytes_max",
    ),
    Nasty("argument cannot be loaded", accept, (explodes_when_loaded(),), cause="unloadable_call", text="LookupError"),
    Nasty("result kills when packed", dies_when_packed, cause="exited", exit_code=9, text="exit code 9"),
    Nasty("returns twice", fork_and_return, kind="ok"),
    Nasty("closes every descriptor", close_everything, kind="ok"),
    Nasty("closes its streams", close_streams, kind="ok"),
)
"""What a function can do to its process. The limits are part of the call."""
