"""The coordinator's process in the simulation: the real core, and a shell that does what the real shell does.

Drain, step, journal, send, broadcast, in that order. It can be stopped for a while, and killed between any two.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import replace
from typing import Protocol

from strata_zmq.coordinator.core.connections import child_of, is_child
from strata_zmq.coordinator.core.core import Core
from strata_zmq.coordinator.core.effects import Effects, Fanout
from strata_zmq.coordinator.core.history import History
from strata_zmq.coordinator.core.records import Record
from strata_zmq.coordinator.core.world import CoreConfig, Received
from strata_zmq.coordinator.folding import Folding
from strata_zmq.errors import ProtocolError
from strata_zmq.protocol.codec import MAX_FOLDED_BYTES, around_address, decode_upward, encode, seq_of
from strata_zmq.protocol.messages import Broadcast, Fold, Reply

from .disk import Disk
from .network import Network
from .timeline import Timeline
from .transcript import Transcript

__all__ = ["CRASH_POINTS", "Coordinator", "Watcher"]

DRAIN_MAX = 256
POLL_S = 0.1
PULSE_S = 1.0
CRASH_POINTS = ("before the journal", "after the journal", "amid the sends", "before the broadcasts")
WALL_S = 1_700_000_000.0


class Watcher(Protocol):
    """Whoever looks at each stage of a step; raises when something is wrong."""

    def replayed(self, history: History) -> None:
        """A new life has read this from the disk."""

    def began(self, history: History, effects: Effects, clock: float) -> None:
        """A life has begun at the core's time `clock`: `effects` are its first."""

    def stepped(self, history: History, batch: list[Received], effects: Effects, clock: float) -> None:
        """A step was taken at the core's time `clock`; nothing of it is durable or sent yet."""

    def journaled(self, records: list[Record]) -> None:
        """These records are durable now."""

    def sent(self, connection: bytes, reply: Reply) -> None:
        """A reply leaves."""

    def folded(self, told: list[tuple[bytes, Reply]], frames: list[tuple[bytes, bytes]]) -> None:
        """These frames leave for agents; `told` is all that their children are to hear."""

    def announced(self, broadcast: Broadcast) -> None:
        """A broadcast leaves."""


class Coordinator:
    """One coordinator through all its lives. `disk` is what they have in common."""

    def __init__(
        self,
        config: CoreConfig,
        timeline: Timeline,
        network: Network,
        rng: random.Random,
        transcript: Transcript,
        watcher: Watcher,
        disk: Disk,
    ) -> None:
        self.config = config
        self.disk = disk
        self.core: Core | None = None
        self.lives = 0
        self.sync_s = 0.002
        """How long an append takes."""
        self.crash_at = ""
        """One of CRASH_POINTS: where the next step with effects of that kind ends this life."""
        self.folded_bytes_max = MAX_FOLDED_BYTES
        """Longest frame to an agent."""
        self.written_at = 0.0
        """When the append that was begun last is over."""
        self._timeline = timeline
        self._network = network
        self._rng = rng
        self._transcript = transcript
        self._watcher = watcher
        self._inbox: deque[tuple[bytes, bytes]] = deque()
        self._folding: Folding
        self._refusals: list[tuple[bytes, Reply]] = []
        """What children of agents are told of requests that could not be read, in this step."""
        self._clock_offset = 0.0
        self._turn = 0
        self._idle = False
        self._paused = False
        self._pulse_at = 0.0
        network.arrive = self._arrive

    @property
    def alive(self) -> bool:
        """Whether there is a process."""
        return self.core is not None

    def start(self) -> None:
        """Begin a life from what the disk holds. Its clock has nothing to do with that of the life before."""
        self.lives += 1
        self._clock_offset = self._rng.uniform(0.0, 1e6)
        config = replace(self.config, wall_offset_s=WALL_S - self._clock_offset)
        history = self.disk.replay()
        self._watcher.replayed(history)
        self.core = Core(config, history)
        self._folding = Folding(self.core.admit, self.core.reject, self.folded_bytes_max)
        self._refusals.clear()
        self._paused, self._pulse_at = False, 0.0
        self._transcript.tell(self._timeline.now, "coordinator", f"life {self.lives} begins")
        clock = self._timeline.now + self._clock_offset
        effects = self.core.start(clock)
        self._watcher.began(self.core.history, effects, clock)
        self._network.serve()
        self._journal(self._next_turn(), effects)

    def kill(self, why: str) -> None:
        """End this life at once: all that is not on the disk is gone."""
        if self.core is None:
            return
        self._transcript.tell(self._timeline.now, "coordinator", f"killed {why}")
        self.core = None
        self.crash_at = ""
        self._next_turn()
        self._inbox.clear()
        self._network.fall_silent()

    def pause(self) -> None:
        """Stop the process (SIGSTOP): what arrives piles up."""
        if self.core is not None and not self._paused:
            self._transcript.tell(self._timeline.now, "coordinator", "stopped")
            self._paused = True

    def resume(self) -> None:
        """Let the process run on (SIGCONT)."""
        if self.core is not None and self._paused:
            self._transcript.tell(self._timeline.now, "coordinator", "continued")
            self._paused = False
            if self._idle:
                self._timeline.after(0.0, self._loop, self._next_turn())

    # ---- the loop

    def _next_turn(self) -> int:
        """Void whatever is planned; return the number that the next action has to bring."""
        self._turn += 1
        self._idle = False
        return self._turn

    def _arrive(self, connection: bytes, body: bytes) -> None:
        if self.core is None:
            return
        self._inbox.append((connection, body))
        if self._idle and not self._paused:
            # What arrives meanwhile is in the same batch.
            self._timeline.after(self._rng.random() * 0.0005, self._loop, self._next_turn())

    def _loop(self, turn: int) -> None:
        core = self.core
        if turn != self._turn or core is None:
            return
        if self._paused:
            self._idle = True
            return
        self._idle = False
        batch: list[Received] = []
        while self._inbox and len(batch) < DRAIN_MAX:
            connection, body = self._inbox.popleft()
            try:
                message = decode_upward(body)
            except ProtocolError as error:
                self._network.reply(connection, encode(core.reject(connection, error, seq_of(body))))
                continue
            if isinstance(message, Fold):
                self._unfold(connection, message, batch)
            else:
                self._transcript.note(self._timeline.now, ">", self._network.name_of(connection), message, body)
                batch.append(Received(connection, message))
        clock = self._timeline.now + self._clock_offset
        effects = core.step(batch, clock, backlog=bool(self._inbox))
        for note in effects.notes:
            self._transcript.note(self._timeline.now, "~", "core", note, note.encode())
        self._watcher.stepped(core.history, batch, effects, clock)
        self._journal(turn, effects)

    def _unfold(self, agent: bytes, fold: Fold, batch: list[Received]) -> None:
        name = self._network.name_of(agent)
        for each in self._folding.open(agent, fold):
            if isinstance(each, Received):
                who = f"{name}/{child_of(each.connection)}"
                self._transcript.note(self._timeline.now, ">", who, each.message, encode(each.message))
                batch.append(each)
            elif is_child(each[0]):
                self._refusals.append(each)
            else:
                self._network.reply(each[0], encode(each[1]))

    def _journal(self, turn: int, effects: Effects) -> None:
        if not effects.records:
            self._send(turn, effects)
        elif self._crashes(CRASH_POINTS[0]):
            self.kill("before the journal has what it decided")
        else:
            self.written_at = self._timeline.now + self.sync_s * (0.5 + self._rng.random())
            self._timeline.at(self.written_at, self._written, turn, effects)

    def _written(self, turn: int, effects: Effects) -> None:
        core = self.core
        if turn != self._turn or core is None:
            return
        if self._paused:
            self._timeline.after(0.05, self._written, turn, effects)
            return
        bodies = self.disk.encode(effects.records)
        self.disk.append(bodies, core.history)
        for record, body in zip(effects.records, bodies, strict=True):
            self._transcript.note(self._timeline.now, "=", "journal", record, body)
        self._watcher.journaled([self.disk.decode(body) for body in bodies])
        if self._crashes(CRASH_POINTS[1]):
            self.kill("before anybody hears what the journal has")
            return
        self._send(turn, effects)

    def _send(self, turn: int, effects: Effects) -> None:
        sends = effects.sends
        last = len(sends)
        if last > 1 and self._crashes(CRASH_POINTS[2]):
            last = self._rng.randrange(1, last)
        for connection, reply in sends[:last]:
            self._watcher.sent(connection, reply)
            if not is_child(connection):
                self._network.reply(connection, encode(reply))
        if last < len(sends):
            self.kill(f"after {last} of {len(sends)} replies")
            return
        self._send_folded(effects, sends)
        if effects.broadcasts and self._crashes(CRASH_POINTS[3]):
            self.kill("before it has announced anything")
            return
        for broadcast in effects.broadcasts:
            self._publish(broadcast)
        if self.core is not None and self._timeline.now >= self._pulse_at:
            self._pulse_at = self._timeline.now + PULSE_S
            self._publish(self.core.pulse())
        if self._inbox:
            self._timeline.after(0.0, self._loop, turn)
        else:
            self._idle = True
            self._timeline.after(POLL_S, self._loop, turn)

    def _send_folded(self, effects: Effects, sends: list[tuple[bytes, Reply]]) -> None:
        """Send what children of agents are told, at the end, as the real shell does."""
        refusals, self._refusals = self._refusals, []
        told = [*refusals, *((connection, reply) for connection, reply in sends if is_child(connection))]
        if not told:
            return
        folding = self._folding
        for connection, reply in refusals:
            folding.add(connection, encode(reply))
        for item in effects.outbox:
            if isinstance(item, Fanout):
                children = [one for one in item.recipients if is_child(one[0])]
                if children:
                    folding.share(*around_address(item.template), children)
            elif is_child(item[0]):
                folding.add(item[0], encode(item[1]))
        frames = list(folding.take())
        self._watcher.folded(told, frames)
        for agent, frame in frames:
            self._network.reply(agent, frame)

    def _publish(self, broadcast: Broadcast) -> None:
        self._watcher.announced(broadcast)
        self._network.publish(encode(broadcast))

    def _crashes(self, point: str) -> bool:
        if self.crash_at != point:
            return False
        self.crash_at = ""
        return True
