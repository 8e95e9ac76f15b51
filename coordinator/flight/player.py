"""Steps a recording through the core again and tells what it was given, what it decided and why. It prints nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from strata_zmq.coordinator.core.connections import GENERATED_BYTES, is_child
from strata_zmq.coordinator.core.core import Core
from strata_zmq.coordinator.core.effects import Effects, Fanout
from strata_zmq.coordinator.core.state import load
from strata_zmq.coordinator.core.world import CoreConfig, Received
from strata_zmq.coordinator.folding import Folding
from strata_zmq.errors import InvalidArgumentError, ProtocolError
from strata_zmq.protocol.codec import decode_upward, seq_of
from strata_zmq.protocol.messages import ErrorReply, Fold, Reply, Request

from .segments import Opening, Segment, Step, find_segments, read_opening, read_segment

__all__ = ["Began", "Ended", "Played", "play"]


@dataclass(frozen=True, slots=True)
class Began:
    """A segment begins: the state that it was recorded with stands."""

    path: Path
    opening: Opening
    job: str
    term: int
    generation: int


@dataclass(slots=True)
class Played:
    """One step: `at` is its Unix time, `number` counts in its segment from 0.

    `given` are the requests with the names of those who sent them, `refused` the answers to frames that could not be
    read, `told` the replies with the names of all who get them. `agrees` tells whether as much was decided as when it
    was recorded; None if that life did not get so far.
    """

    at: float
    number: int
    given: list[tuple[str, Request]] = field(default_factory=list)
    refused: list[tuple[str, ErrorReply]] = field(default_factory=list)
    effects: Effects = field(default_factory=Effects)
    told: list[tuple[list[str], Reply]] = field(default_factory=list)
    agrees: bool | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """A segment is over. `note` says what of it could not be played; empty: nothing."""

    path: Path
    note: str


def play(place: Path, *, since: float = 0.0) -> Iterator[Began | Played | Ended]:
    """Play a segment, or all of a folder, from the Unix time `since` on. Steps before it are taken, and not told.

    InvalidArgumentError for what is no recording, or that of another release's core.
    """
    paths = find_segments(place)
    if len(paths) == 1:
        yield from _play_segment(_read(paths[0]), since)
        return
    for path in paths[_first(paths, since) :]:
        try:
            segment = _read(path)
        except InvalidArgumentError as error:
            yield Ended(path, str(error))
        else:
            yield from _play_segment(segment, since)


def _first(paths: list[Path], since: float) -> int:
    """Return the place of the last segment that began before `since`; one that is damaged may have."""
    first = 0
    for place, path in enumerate(paths):
        try:
            if read_opening(path).began_at > since:
                break
        except (InvalidArgumentError, OSError):
            continue
        first = place
    return first


def _read(path: Path) -> Segment:
    try:
        return read_segment(path)
    except OSError as error:
        raise InvalidArgumentError(f"{path} cannot be read: {error.strerror}") from None


def _play_segment(segment: Segment, since: float) -> Iterator[Began | Played | Ended]:
    config = msgspec.msgpack.decode(segment.opening.config, type=CoreConfig)
    core = Core(config)
    load(core, segment.state)
    history = core.history
    yield Began(segment.path, segment.opening, config.job, history.term, history.generation)
    folding = Folding(core.admit, core.reject)
    for number, step in enumerate(segment.steps):
        played = _play_step(core, folding, step, number, config)
        if played.at >= since:
            yield played
    cut = f"the last {segment.cut_bytes} bytes were being written when it ended, and are left out"
    yield Ended(segment.path, segment.damage or (cut if segment.cut_bytes else ""))


def _play_step(core: Core, folding: Folding, step: Step, number: int, config: CoreConfig) -> Played:
    played = Played(step.now + config.wall_offset_s, number)
    batch: list[Received] = []
    refused: list[tuple[bytes, ErrorReply]] = []
    for connection, body in step.frames:
        try:
            # Who has taken the name of an agent's child is refused, whatever it says.
            pretends = len(connection) > GENERATED_BYTES and is_child(connection)
            message = decode_upward(b"" if pretends else body)
        except ProtocolError as error:
            refused.append((connection, core.reject(connection, error, seq_of(body))))
            continue
        if type(message) is Fold:
            for each in folding.open(connection, message):
                if isinstance(each, Received):
                    batch.append(each)
                else:
                    refused.append(each)
        else:
            batch.append(Received(connection, message))
    names = _Names(core)
    before = [core.name_of(event.connection) for event in batch]
    effects = core.step(batch, step.now, backlog=step.backlog)
    # Who is taken in, or let go, by this very step has a name only afterwards, or only before.
    played.given = [
        (name or names.of(event.connection), event.message) for name, event in zip(before, batch, strict=True)
    ]
    played.refused = [(names.of(connection), reply) for connection, reply in refused]
    for item in effects.outbox:
        if isinstance(item, Fanout):
            played.told.append(([names.of(connection) for connection, _, _ in item.recipients], item.template))
        else:
            played.told.append(([names.of(item[0])], item[1]))
    played.effects = effects
    if step.decided:
        now = (len(effects.records), len(effects.outbox), len(effects.broadcasts), len(effects.notes))
        played.agrees = now == tuple(step.decided)
    return played


class _Names:
    """Who is behind a connection."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def of(self, connection: bytes) -> str:
        return self._core.name_of(connection) or connection.hex()
