"""The whole state of a core in memory as bytes, and back: a core that is put down and taken up again decides the same.

It knows what the state is made of, never what any of it means. Everything is named in a table of types; nothing of what
is read can name another, or make anything run.

What a core is made of are its rooms, which every core of one configuration has alike, and the values in them. Rooms and
what ties them together (other rooms, their methods) are not put down: they are those of the core that takes the state
up. Values are put down as a graph, in which an object that is held twice is one object again afterwards.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from operator import attrgetter
from types import ModuleType
from typing import Any, NamedTuple

import msgspec
import numpy as np

from strata_zmq import errors
from strata_zmq.domain import barrier, lease, ledger, membership, sharding
from strata_zmq.errors import InvalidArgumentError, StrataError
from strata_zmq.protocol import fields, replies, requests, sight, sight_rows, sight_tables

from . import (
    answers,
    barriers,
    checkpoints,
    commands,
    core,
    datasets,
    deadlocks,
    drains,
    effects,
    entries,
    hangs,
    history,
    leases,
    records,
    rendezvous,
    restores,
    sessions,
    sight_checkpoints,
    sight_events,
    sight_releases,
    stacks,
    world,
)
from . import sight as sight_room
from . import sight_rows as sight_row_room

__all__ = ["dump", "load"]

_FORMAT = 1
_PLAIN = frozenset({bool, int, float, str, bytes, type(None)})
_CONTAINERS = (dict, OrderedDict, Counter, list, deque, set)
_ROOMS: frozenset[type] = frozenset(
    {
        core.Core,
        world.World,
        history.History,
        sessions.Sessions,
        rendezvous.Rendezvous,
        commands.Commands,
        leases.Leases,
        barriers.Barriers,
        datasets.Datasets,
        checkpoints.Checkpoints,
        drains.Drains,
        restores.Restores,
        hangs.Hangs,
        stacks.HangReports,
        deadlocks.Deadlocks,
        answers.Answers,
        sight_room.Sight,
        sight_releases.Releases,
        sight_checkpoints.CheckpointPhases,
        sight_events.Events,
        sight_row_room.Datasets,
        sight_tables.Table,
        sight_tables.Log,
        sight_tables.Histogram,
    }
)
_OF_ONE_STEP = frozenset({(world.World, "effects")})
"""What the next step begins by making anew."""
_RECORDS: tuple[type, ...] = (
    world.Session,
    world.Worker,
    world.Writer,
    world.Parked,
    effects.Happening,
    effects.Stacks,
    effects.HangReport,
    barrier.Barrier,
    lease.Freeze,
    membership.QuorumPending,
    sharding.Assignment,
)
"""Dataclasses, beside those that the rooms keep for themselves."""


def dump(whole: core.Core) -> bytes:
    """Return the state of a core between two steps."""
    writer = _Writer()
    rooms = [[type(room).__name__, writer.values(_values_of(room))] for room in _rooms(whole)]
    rooms[0][0] = core.Core.__name__
    return msgspec.msgpack.encode([_FORMAT, rooms, writer.nodes])


def load(whole: core.Core, data: bytes) -> None:
    """Make a core, new and of the same configuration, go on from what `dump` has returned; InvalidArgumentError if that
    is of another release.
    """
    try:
        version, rooms, nodes = msgspec.msgpack.decode(data)
    except (msgspec.MsgspecError, ValueError) as error:
        raise InvalidArgumentError(f"the state of a core is not readable: {error}") from None
    mine = list(_rooms(whole))
    values = [_values_of(room) for room in mine]
    shape = [[type(room).__name__, list(held)] for room, held in zip(mine, values, strict=True)]
    shape[0][0] = core.Core.__name__
    if version != _FORMAT or shape != [[name, held[::2]] for name, held in rooms]:
        raise InvalidArgumentError(
            "the state of a core was written by another release of Strata: read it with that release"
        )
    try:
        _fill(mine, rooms, _Reader(nodes))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InvalidArgumentError(f"the state of a core is damaged: {error}") from None


def _fill(mine: list[Any], rooms: list[Any], reader: _Reader) -> None:
    for room, (_, held) in zip(mine, rooms, strict=True):
        for name, value in zip(held[::2], held[1::2], strict=True):
            reader.reuse(value, getattr(room, name))
    for room, (_, held) in zip(mine, rooms, strict=True):
        for name, value in zip(held[::2], held[1::2], strict=True):
            setattr(room, name, reader.value(value))


# ---- rooms


def _rooms(whole: core.Core) -> Iterator[Any]:
    """Yield all rooms of a core, each once, in an order that two cores have alike."""
    found: dict[int, Any] = {id(whole): whole}
    waiting: deque[Any] = deque([whole])
    while waiting:
        room = waiting.popleft()
        yield room
        for value in vars(room).values():
            for one in _parts(value):
                if type(one) in _ROOMS and id(one) not in found:
                    found[id(one)] = one
                    waiting.append(one)


def _parts(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values() if _is_wiring(next(iter(value.values()), None)) else ()
    return (value,)


def _values_of(room: Any) -> dict[str, Any]:
    kind = type(room)
    return {
        name: value
        for name, value in vars(room).items()
        if (kind, name) not in _OF_ONE_STEP and not any(_is_wiring(one) for one in _parts(value))
    }


def _is_wiring(value: Any) -> bool:
    return callable(value) or type(value) in _ROOMS or type(value) is world.CoreConfig


# ---- values


class _Kind(NamedTuple):
    """How one type of object is put down and made again. `build` has to tell the reader of its object before it reads
    what is in it, where that could lead back.
    """

    name: str
    write: Callable[[_Writer, Any], Any]
    build: Callable[[_Reader, int, Any], Any]


class _Writer:
    """The graph of what has been written so far. A value is itself where it is plain, else the number of a node."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self._known: dict[int, int] = {}

    def value(self, one: Any) -> Any:
        if type(one) in _PLAIN:
            return one
        number = self._known.get(id(one))
        if number is None:
            kind = _KINDS.get(type(one))
            if kind is None:
                raise TypeError(f"a core holds {type(one)}, which core/state.py has no entry for")
            number = self._known[id(one)] = len(self.nodes)
            node = [kind.name, None]
            self.nodes.append(node)
            node[1] = kind.write(self, one)
        return [number]

    def each(self, items: Any) -> list[Any]:
        value = self.value
        return [one if type(one) in _PLAIN else value(one) for one in items]

    def values(self, items: Any) -> list[Any]:
        """Return keys and values of a mapping in turn."""
        return self.each([one for pair in items.items() for one in pair])


class _Reader:
    """Makes the objects of a graph, each once."""

    def __init__(self, nodes: list[Any]) -> None:
        self._nodes = nodes
        self._made: dict[int, Any] = {}
        self._shells: dict[int, Any] = {}
        self._used: set[int] = set()

    def reuse(self, value: Any, there: Any) -> None:
        """Have a container become one that is there: who was told of that one has to find the new content in it."""
        if type(value) is list and type(there) in _CONTAINERS and id(there) not in self._used:
            self._used.add(id(there))
            self._shells.setdefault(value[0], there)

    def value(self, value: Any) -> Any:
        if type(value) is not list:
            return value
        number = value[0]
        if number not in self._made:
            name, payload = self._nodes[number]
            self.know(number, _BY_NAME[name].build(self, number, payload))
        return self._made[number]

    def each(self, values: list[Any]) -> list[Any]:
        value = self.value
        return [value(one) if type(one) is list else one for one in values]

    def know(self, number: int, made: Any) -> None:
        self._made[number] = made

    def container(self, number: int, new: Any) -> Any:
        """Return an empty container like `new` for this node."""
        shell: Any = self._shells.get(number)
        if type(shell) is not type(new) or getattr(shell, "maxlen", None) != getattr(new, "maxlen", None):
            shell = new
        shell.clear()
        self.know(number, shell)
        return shell


def _mapping(kind: type) -> _Kind:
    def build(reader: _Reader, number: int, payload: list[Any]) -> Any:
        made = reader.container(number, kind())
        flat = reader.each(payload)
        for key, value in zip(flat[::2], flat[1::2], strict=True):  # a Counter's update counts
            made[key] = value
        return made

    return _Kind(kind.__name__, _Writer.values, build)


def _build_list(reader: _Reader, number: int, payload: list[Any]) -> Any:
    made = reader.container(number, [])
    made.extend(reader.each(payload))
    return made


def _build_deque(reader: _Reader, number: int, payload: list[Any]) -> Any:
    made = reader.container(number, deque(maxlen=payload[0]))
    made.extend(reader.each(payload[1:]))
    return made


def _sorted(writer: _Writer, one: Any) -> list[Any]:
    return writer.each(sorted(one))


def _build_ledger(_: _Reader, __: int, payload: Any) -> ledger.EpochLedger:
    return ledger.EpochLedger.from_state(payload)


def _build_set(reader: _Reader, number: int, payload: list[Any]) -> Any:
    made = reader.container(number, set())
    made.update(reader.each(payload))
    return made


def _named_tuple(kind: type) -> _Kind:
    return _Kind(_name(kind), _Writer.each, lambda reader, _, payload: kind(*reader.each(payload)))


def _record(kind: Any) -> _Kind:
    names = [field.name for field in dataclasses.fields(kind)]
    held = attrgetter(*names) if len(names) > 1 else lambda one: [getattr(one, name) for name in names]

    def write(writer: _Writer, one: Any) -> list[Any]:
        return writer.each(held(one))

    def build(reader: _Reader, number: int, payload: list[Any]) -> Any:
        made = object.__new__(kind)
        reader.know(number, made)
        for name, value in zip(names, payload, strict=True):
            object.__setattr__(made, name, reader.value(value))
        return made

    return _Kind(_name(kind), write, build)


def _struct(kind: type[msgspec.Struct]) -> _Kind:
    """Of plain values all the way down: they are written as one."""
    return _Kind(_name(kind), lambda _, one: one, lambda _, __, payload: msgspec.convert(payload, kind))


def _write_dataset(writer: _Writer, one: entries.DatasetHistory) -> list[Any]:
    return writer.values(vars(one))


def _build_dataset(reader: _Reader, number: int, payload: list[Any]) -> entries.DatasetHistory:
    made = object.__new__(entries.DatasetHistory)
    reader.know(number, made)
    vars(made).update(zip(payload[::2], reader.each(payload[1::2]), strict=True))
    return made


def _write_array(_: _Writer, one: np.ndarray[Any, Any]) -> list[Any]:
    return [one.dtype.str, list(one.shape), bool(one.flags.writeable), one.tobytes()]


def _build_array(_: _Reader, __: int, payload: list[Any]) -> np.ndarray[Any, Any]:
    dtype, shape, writeable, data = payload
    made = np.frombuffer(data, dtype=np.dtype(dtype)).reshape(shape).copy()
    made.flags.writeable = writeable
    return made


def _write_error(writer: _Writer, one: StrataError) -> list[Any]:
    return [str(one), *writer.values(vars(one))]


def _error(kind: type[StrataError]) -> _Kind:
    def build(reader: _Reader, _: int, payload: list[Any]) -> StrataError:
        made = kind.__new__(kind)
        made.args = (payload[0],)
        vars(made).update(zip(payload[1::2], reader.each(payload[2::2]), strict=True))
        return made

    return _Kind(_name(kind), _write_error, build)


# ---- the table of types


def _name(kind: type) -> str:
    return f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}"


def _classes(*modules: ModuleType) -> Iterator[type]:
    """Yield the classes that modules define themselves."""
    for module in modules:
        for value in vars(module).values():
            if isinstance(value, type) and value.__module__ == module.__name__:
                yield value


def _plain_kinds() -> Iterator[tuple[type, _Kind]]:
    for mapping in (dict, OrderedDict, Counter):
        yield mapping, _mapping(mapping)
    yield list, _Kind("list", _Writer.each, _build_list)
    yield deque, _Kind("deque", lambda writer, one: [one.maxlen, *writer.each(one)], _build_deque)
    yield set, _Kind("set", _sorted, _build_set)
    yield frozenset, _Kind("frozenset", _sorted, lambda reader, _, payload: frozenset(reader.each(payload)))
    yield tuple, _Kind("tuple", _Writer.each, lambda reader, _, payload: tuple(reader.each(payload)))
    yield np.ndarray, _Kind("array", _write_array, _build_array)
    yield entries.DatasetHistory, _Kind("dataset", _write_dataset, _build_dataset)
    yield ledger.EpochLedger, _Kind("ledger", lambda _, one: one.to_state(), _build_ledger)


def _kinds() -> Iterator[tuple[type, _Kind]]:
    yield from _plain_kinds()
    for kind in _RECORDS:
        yield kind, _record(kind)
    # What a room keeps for itself.
    for kind in _classes(barriers, checkpoints, hangs, stacks, deadlocks, sight_checkpoints):
        if dataclasses.is_dataclass(kind):
            yield kind, _record(kind)
    for kind in _classes(barrier, ledger, membership, sight_releases):
        if issubclass(kind, tuple):
            yield kind, _named_tuple(kind)
    for kind in _classes(fields, requests, replies, sight, sight_rows, records, entries):
        if issubclass(kind, msgspec.Struct):
            yield kind, _struct(kind)
    for kind in _classes(errors):
        if issubclass(kind, StrataError):
            yield kind, _error(kind)


_KINDS: dict[type, _Kind] = dict(_kinds())
_BY_NAME: dict[str, _Kind] = {kind.name: kind for kind in _KINDS.values()}
