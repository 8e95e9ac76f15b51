"""Starting a child process with its connections, by fork, spawn or the fork server; never what a child is told.

A process that is forked from this one, whoever forks it, closes its copies of the pool's descriptors at once: else a
sibling would keep a dead parent's lifelines open. No library lock is held while a process starts.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Protocol

from strata_zmq.functions.pool.entry import CHILD_PROGRAM, ChildEnds, ChildSettings, Inherited, child_process
from strata_zmq.functions.pool.packets import child_socket_pair

__all__ = ["Descriptor", "StartedChild", "of_this_process", "start_child"]


class _End(Protocol):
    def fileno(self) -> int: ...
    def close(self) -> None: ...


class Descriptor:
    """A descriptor that is closed once."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        """Return the number, -1 once closed."""
        return self._fd

    def close(self) -> None:
        """Give it back."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class _Inheritance(threading.local):
    """What a process that this thread forks may keep."""

    spared: tuple[int, ...] = ()


_ends: set[_End] = set()
_kept: list[_End] = []
_inheritance = _Inheritance()


def _in_forked_process() -> None:
    """Close what belongs to the parent. What is spared stays referred to: nothing closes it behind the child's back."""
    spared = _inheritance.spared
    for end in list(_ends):
        if end.fileno() in spared:
            _kept.append(end)
        else:
            with contextlib.suppress(OSError):
                end.close()
    _ends.clear()


os.register_at_fork(after_in_child=_in_forked_process)


def of_this_process(end: _End, *, closed: bool = False) -> None:
    """Keep `end` from every process that is forked from this one; with `closed`, forget it."""
    if closed:
        _ends.discard(end)
    else:
        _ends.add(end)


@dataclass(frozen=True, slots=True)
class StartedChild:
    """A child process and the parent's connections to it.

    `theirs` is a copy of the child's end: what the child has not read yet can be read back there. `pidfd` is readable
    once the process has ended.
    """

    process: BaseProcess
    pidfd: Descriptor
    ours: socket.socket
    theirs: socket.socket
    lifeline: Descriptor

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid or 0

    def close(self) -> None:
        """Close every connection; a child that still runs ends by itself."""
        for end in (self.pidfd, self.ours, self.theirs, self.lifeline):
            _ends.discard(end)
            end.close()


def start_child(context: BaseContext, box: Descriptor, settings: ChildSettings, name: str) -> StartedChild:
    """Start one child that shares the memory behind `box`; the caller goes on owning `box`.

    Raises what multiprocessing raises: OSError where there is no room for a process, and whatever pickling the
    initializer's arguments raises under spawn and the fork server.
    """
    _preload(context)
    ours, theirs = child_socket_pair()
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    theirs_lifeline, lifeline = Descriptor(read_end), Descriptor(write_end)
    ends: tuple[_End, ...] = (ours, theirs, lifeline, theirs_lifeline)
    _ends.update(ends)
    given = (theirs.fileno(), box.fileno(), theirs_lifeline.fileno())
    _inheritance.spared = given
    try:
        process = _process(context, ChildEnds(*map(Inherited, given)), settings, name)
        process.start()
        pidfd = Descriptor(_pidfd(process))
    except BaseException:
        for end in ends:
            _ends.discard(end)
            end.close()
        raise
    finally:
        _inheritance.spared = ()
    _ends.discard(theirs_lifeline)
    theirs_lifeline.close()
    _ends.add(pidfd)
    return StartedChild(process, pidfd, ours, theirs, lifeline)


def _process(context: BaseContext, ends: ChildEnds, settings: ChildSettings, name: str) -> BaseProcess:
    make = context.Process  # type: ignore[attr-defined]  # typeshed gives it to the concrete contexts only
    process: BaseProcess = make(target=child_process, args=(ends, settings), name=name)
    return process


def _pidfd(process: BaseProcess) -> int:
    try:
        return os.pidfd_open(process.pid or 0)
    except ProcessLookupError:
        # It has ended already, and the fork server has reaped it: then its sentinel is readable.
        return os.dup(process.sentinel)


def _preload(context: BaseContext) -> None:
    """Let the fork server, which is not running yet, import the child's program once for all children."""
    if context.get_start_method() == "forkserver":
        modules = forkserver._forkserver._preload_modules  # type: ignore[attr-defined]  # noqa: SLF001 - no getter
        if CHILD_PROGRAM not in modules:
            context.set_forkserver_preload([*modules, CHILD_PROGRAM])
