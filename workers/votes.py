"""What a worker has been commanded, and how the ranks agree on it: a command becomes a vote at every commit point.

A command may reach one rank or all, and each at another time; carried by a commit point and reduced by "any", it takes
effect on every rank behind the same one. What to do then is the loop's and the training code's business.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from strata_zmq.protocol.fields import CHECKPOINT_VOTE, STOP_VOTE

from .operations import Values
from .stacks import read_stacks

__all__ = ["Decision", "Votes"]

log = logging.getLogger("strata.worker")

_STDERR = 2
_VOTED = {"stop": STOP_VOTE, "checkpoint": CHECKPOINT_VOTE}
"""Commands that all ranks carry out together, and their votes' names."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What all ranks do behind a commit point."""

    stop: bool = False
    checkpoint: bool = False


class Votes:
    """The commands that one worker has taken and not yet carried out. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: dict[str, int] = {}
        """By command that is to be voted for its number."""
        self.stopped = False
        """Whether the ranks have agreed to stop."""
        self.draining = False
        """Whether this rank alone is to leave behind its next commit point."""
        self.on_stacks: Callable[[str, int], None] | None = None
        """Takes the stacks that were asked for, and the number of the command."""
        self.due: Callable[[], bool] = bool
        """Asks whether this rank wants a save behind the next commit point, without having been commanded."""

    def take(self, command: str, number: int) -> None:
        """Take the command with this number; `dump_stacks` is carried out at once, on whichever thread this is."""
        log.info("commanded: %s", command)
        if command == "dump_stacks":
            self._tell_stacks(number)
        elif command == "drain":
            self.draining = True
        elif command in _VOTED:
            with self._lock:
                self._wanted[command] = number
        else:
            log.warning("the command %r is not known to this release and is ignored", command)

    def _tell_stacks(self, number: int) -> None:
        text = read_stacks()
        with suppress(OSError):
            os.write(_STDERR, text.encode(errors="replace"))
        if self.on_stacks is not None:
            self.on_stacks(text, number)

    def come_late(self) -> None:
        """Hear that the ranks of this worker's run have agreed to stop while it was away."""
        if not self.stopped:
            log.info("the ranks of this run have agreed to stop: nothing is trained here any more")
        self.stopped = True

    @property
    def wanted(self) -> frozenset[str]:
        """The commands that the next commit point will vote for."""
        with self._lock:
            return frozenset(self._wanted)

    def answered(self, number: int) -> None:
        """Let go of a `checkpoint` up to this number: the job has taken it while this worker was no member of it."""
        with self._lock:
            if self._wanted.get("checkpoint", number + 1) <= number:
                del self._wanted["checkpoint"]

    def ballot(self) -> Values:
        """Return what an arrival at a commit point carries; every rank carries the same names."""
        wanted = self.wanted | ({"checkpoint"} if self.due() else set())
        return {name: ("any", float(command in wanted)) for command, name in _VOTED.items()}

    def count(self, reduced: Mapping[str, float]) -> Decision:
        """Return what was decided at a commit point. It answers every command that came before, voted for or not; what
        came in meanwhile and was not decided is voted for at the next one.
        """
        decided = {command for command, name in _VOTED.items() if reduced.get(name)}
        with self._lock:
            self._wanted = {command: at for command, at in self._wanted.items() if command not in decided}
        self.stopped = self.stopped or "stop" in decided
        return Decision(stop="stop" in decided, checkpoint="checkpoint" in decided)
