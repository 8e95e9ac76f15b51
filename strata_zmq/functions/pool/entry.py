"""Where a child process begins: it takes its descriptors over and calls the child's program by name.

The parent imports this module and never the program itself: what unpickles is not even loaded there.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import context, reduction
from typing import Any

from strata_zmq.functions.pool.lifeline import hold

__all__ = ["CHILD_PROGRAM", "ChildEnds", "ChildSettings", "Inherited", "child_process"]

CHILD_PROGRAM = "strata_zmq.functions.child.main"


class Inherited:
    """A descriptor on its way into a child, by fork, by spawn or through the fork server; `take` it there once.

    In the parent it is only named here: who opened it closes it.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __reduce__(self) -> tuple[Callable[[Any], Inherited], tuple[Any]]:
        context.assert_spawning(self)
        return _arrived, (reduction.DupFd(self.fd),)

    def take(self) -> int:
        """Return the descriptor, which is the caller's from now on."""
        return self.fd


def _arrived(way: Any) -> Inherited:
    return Inherited(way.detach())


@dataclass(frozen=True, slots=True)
class ChildEnds:
    """What connects a child to its pool: its end of the SEQPACKET socket, its shared memory (black box and outbox), and
    the read end of a pipe that closes when the parent is gone.
    """

    socket: Inherited
    box: Inherited
    lifeline: Inherited


@dataclass(frozen=True, slots=True)
class ChildSettings:
    """What a child is told once. `memory_bytes` bounds its data (0: not), `environment` is set before anything else."""

    initializer: Callable[..., object] | None = None
    initargs: tuple[Any, ...] = ()
    memory_bytes: int = 0
    output_bytes_max: int = 64 * 1024
    environment: dict[str, str] = field(default_factory=dict)


def child_process(ends: ChildEnds, settings: ChildSettings) -> None:
    """Run the child's program until its socket closes; the target of the process.

    The program is `main(socket: int, box: int, settings: ChildSettings)` of CHILD_PROGRAM; it owns both descriptors.
    """
    # First of all: a child that hangs while it imports has to end with its parent, too.
    hold(ends.lifeline.take())
    os.environ.update(settings.environment)
    program = importlib.import_module(CHILD_PROGRAM)
    program.main(ends.socket.take(), ends.box.take(), settings)
