"""What a pool of children is told when it is made, and what a turn of it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.context import BaseContext
from typing import Any, Literal

from strata_zmq.domain.task import Outcome

__all__ = ["Attempt", "PoolOptions", "PoolTurn"]

Attempt = tuple[bytes, int]
"""(task id, attempt number)."""


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """How children are made and what they may do.

    `context` is multiprocessing's; `grow` "demand" starts a child when a call finds none idle, "all" starts them at
    once. `capture` catches what calls print where their limits ask for it, `output_bytes_max` of each stream.
    `memory_bytes` bounds each child (0: not), `gpus` are device names to deal out by the label "gpu".
    """

    children: int
    context: BaseContext | None = None
    initializer: Callable[..., object] | None = None
    initargs: tuple[Any, ...] = ()
    max_tasks_per_child: int | None = None
    memory_bytes: int = 0
    output_bytes_max: int = 64 * 1024
    gpus: tuple[str, ...] = ()
    grow: Literal["demand", "all"] = "demand"
    worker_name: str = ""
    packets_ahead: int = 2
    """How many packets a child of a short function may have unread. A parent that dies with them cannot say so."""


@dataclass(slots=True)
class PoolTurn:
    """What happened in a pool since its last turn, and what it needs."""

    outcomes: list[Outcome] = field(default_factory=list)
    started: list[Attempt] = field(default_factory=list)
    """Handed to a child in this turn, in order; `ChildPool.turn` tells them to `before` before the bytes leave."""
    asking: list[Attempt] = field(default_factory=list)
    """Of calls that ask: those that could be handed to a child now, or in a moment, if `ChildPool.grant` is called."""
    returned: list[Attempt] = field(default_factory=list)
    """Given back: they were granted, and all children are in calls that take longer than expected."""
    lacking: list[bytes] = field(default_factory=list)
    """Digests that waiting calls need and `keep` has not brought."""
    broken: str = ""
    """Not "": children cannot be started (a failing initializer, no processes left); nothing will run any more."""
