"""How calls are packed and results loaded at a client: with the child the only place that pickles. Servers never do.

A callable that has a name travels apart from its arguments and is known by its digest, so that it is sent once. What
pickle can do is done by pickle, which is fast; cloudpickle does the rest. Buffers of at least `BUFFER_BYTES_MIN` stay
outside the stream (protocol 5): who carries the call copies them once, or never.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, cast

import cloudpickle

from strata_zmq.domain.task import CALL_IN_PAYLOAD, Outcome, OutcomeReport, Payload
from strata_zmq.errors import WorkerFailure
from strata_zmq.functions.calls import payload_digest
from strata_zmq.functions.captured import Captured, capture
from strata_zmq.functions.failures import failure_of
from strata_zmq.functions.refs import collected

__all__ = [
    "BUFFER_BYTES_MIN",
    "Codec",
    "Packed",
    "RemoteTraceback",
    "load_result",
    "open_outcome",
    "portable",
]

BUFFER_BYTES_MIN = 64 * 1024
"""A smaller buffer is cheaper inside the stream."""

_PROTOCOL = 5
_CAPTURED_MAX = 64
"""So many functions that travel by value are remembered, and with that kept alive."""
_ATOMS = frozenset({bool, bytes, complex, float, int, str, type(None)})
_NO_KEYWORDS: dict[str, Any] = {}
_Reduce = Callable[[Any], Any]
_PROCESS_REDUCERS: dict[type, _Reduce] = ForkingPickler._extra_reducers  # type: ignore[attr-defined] # noqa: SLF001
"""How multiprocessing hands its own objects (connections, sockets) to a process that it started."""


class RemoteTraceback(Exception):  # noqa: N818 - the cause of an error, never one itself
    """The cause of an exception that a function raised elsewhere: its traceback there, as text."""

    def __init__(self, tb: str) -> None:
        super().__init__(tb)
        self.tb = tb

    def __str__(self) -> str:
        return f'\n"""\n{self.tb}"""'


@dataclass(frozen=True, slots=True)
class Packed:
    """A packed callable or value, and the digest by which it is known. Buffers in it are those of the value itself."""

    digest: bytes
    payload: Payload


@dataclass(slots=True)
class _Known:
    """A callable that was packed before; `captured` where it went by value."""

    alive: weakref.ref[Any]
    packed: Packed
    captured: Captured | None


class Codec:
    """Packs what one client submits; thread-safe.

    With `by_value`, what `__main__` defines travels with its code: children elsewhere have another `__main__`. To `own`
    children, which are those without `by_value` unless it is said, multiprocessing hands over its own objects, too.
    """

    def __init__(self, *, by_value: bool, own: bool | None = None) -> None:
        self._by_value = by_value
        self._own = not by_value if own is None else own
        self._known: dict[int, _Known] = {}
        self._captured: deque[int] = deque()
        self._reducers: dict[type, _Reduce] = {}
        self._reducers_of = (-1, -1)

    def pack_function(self, fn: Callable[..., object]) -> Packed | None:
        """Return the packed callable, made once where that is safe; None: it travels in the payload.

        Those that travel in the payload hold data: bound methods, partial objects, instances.
        """
        known = self._known.get(id(fn))
        if known is not None and known.alive() is fn and (known.captured is None or known.captured.unchanged()):
            return known.packed
        if not _is_plain(fn):
            return None
        stream = self._pack_by_name(fn)
        if stream is not None:
            packed = Packed(payload_digest(stream), stream)
            self._remember(fn, packed, None)
            return packed
        stream = cast(bytes, cloudpickle.dumps(fn, _PROTOCOL))
        packed = Packed(payload_digest(stream), stream)
        captured = capture(fn) if isinstance(fn, FunctionType) else None
        if captured is not None:
            self._remember(fn, packed, captured)
        return packed

    def pack_call(
        self, fn: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[bytes, Packed | None, Payload, tuple[bytes, ...]]:
        """Return the function's digest, the packed function, the packed arguments, and the digests of Refs in them.

        The packed function is for `Engine.keep`, which takes it once. Where it is None the digest is CALL_IN_PAYLOAD.
        Raises whatever the arguments raise when they are pickled.
        """
        packed = self.pack_function(fn)
        if packed is None:
            payload, refs = self._pack((fn, args, kwargs))
            return CALL_IN_PAYLOAD, None, payload, refs
        if not kwargs:
            for value in args:
                if type(value) not in _ATOMS:
                    break
            else:
                return packed.digest, packed, pickle.dumps((args, _NO_KEYWORDS), _PROTOCOL), ()
        payload, refs = self._pack((args, kwargs))
        return packed.digest, packed, payload, refs

    def pack_value(self, value: object) -> Packed:
        """Pack a value to be referred to. It holds no Ref itself: InvalidArgumentError."""
        payload = self._dump(value)
        return Packed(payload_digest(payload), payload)

    def _pack(self, value: object) -> tuple[Payload, tuple[bytes, ...]]:
        with collected() as refs:
            payload = self._dump(value)
            return payload, tuple(refs)

    def _dump(self, value: object) -> Payload:
        """Pack with pickle, and with cloudpickle what pickle cannot or, `by_value`, must not."""
        buffers: list[memoryview] = []
        if not (self._by_value and cloudpickle.list_registry_pickle_by_value()):
            try:
                stream = self._pickle(value, buffers)
            except Exception:  # noqa: BLE001 - of any kind: a __reduce__ may raise what it likes; cloudpickle decides
                stream = b""
            if stream and not (self._by_value and b"__main__" in stream):
                return (stream, *buffers) if buffers else stream
        buffers.clear()
        file = io.BytesIO()
        pickler = cloudpickle.Pickler(file, _PROTOCOL, buffer_callback=_outside(buffers))
        if self._own:
            pickler.dispatch_table = {**_PROCESS_REDUCERS, **pickler.dispatch_table}
        pickler.dump(value)
        stream = file.getvalue()
        return (stream, *buffers) if buffers else stream

    def _pickle(self, value: object, buffers: list[memoryview]) -> bytes:
        file = io.BytesIO()
        pickler = pickle.Pickler(file, _PROTOCOL, buffer_callback=_outside(buffers))
        if self._own:
            pickler.dispatch_table = self._process_reducers()
        pickler.dump(value)
        return file.getvalue()

    def _process_reducers(self) -> dict[type, _Reduce]:
        sizes = (len(copyreg.dispatch_table), len(_PROCESS_REDUCERS))
        if sizes != self._reducers_of:  # somebody registered another since
            self._reducers = {**copyreg.dispatch_table, **_PROCESS_REDUCERS}
            self._reducers_of = sizes
        return self._reducers

    def _pack_by_name(self, fn: Callable[..., object]) -> bytes | None:
        """Return `fn` as a name that a child can import, None if there is none."""
        if self._by_value and (
            getattr(fn, "__module__", "") == "__main__" or cloudpickle.list_registry_pickle_by_value()
        ):
            return None
        try:
            return pickle.dumps(fn, _PROTOCOL)
        except Exception:  # noqa: BLE001 - not found under its name, or a metaclass's own objection
            return None

    def _remember(self, fn: Callable[..., object], packed: Packed, captured: Captured | None) -> None:
        key, known = id(fn), self._known

        def forget(gone: weakref.ref[Any]) -> None:
            entry = known.get(key)
            if entry is not None and entry.alive is gone:
                del known[key]

        known[key] = _Known(weakref.ref(fn, forget), packed, captured)
        if captured is not None and key not in self._captured:
            self._captured.append(key)
            if len(self._captured) > _CAPTURED_MAX:
                known.pop(self._captured.popleft(), None)


def open_outcome(outcome: Outcome) -> tuple[object, BaseException | None]:
    """Return what the call returned, or what it raised, with the traceback there as its cause.

    A WorkerFailure stands for what is neither, and for what cannot be loaded in this process. A function may have
    raised any BaseException, SystemExit too.
    """
    if outcome.kind == "failure":
        return None, failure_of(outcome)
    try:
        loaded = _load(outcome.body)
    except BaseException as error:  # noqa: BLE001 - loading runs the value's own code, which may even exit
        return None, _not_loadable(outcome, error)
    if outcome.kind == "ok":
        return loaded, None
    if not isinstance(loaded, BaseException):
        return None, _not_loadable(outcome, TypeError(f"{type(loaded).__name__} is no exception"))
    report = outcome.report or OutcomeReport()
    loaded.__cause__ = RemoteTraceback(report.traceback)
    return None, loaded


def load_result(outcome: Outcome) -> object:
    """Return what the call returned, or raise what `open_outcome` finds instead."""
    value, error = open_outcome(outcome)
    if error is not None:
        raise error
    return value


def portable(error: BaseException) -> BaseException:
    """Return `error` if it can be pickled and loaded again, else the WorkerFailure that stands for it."""
    try:
        pickle.loads(pickle.dumps(error, _PROTOCOL))
    except BaseException as reason:  # noqa: BLE001 - pickling runs the exception's own code
        return WorkerFailure(
            f"its exception cannot be pickled and loaded again: {type(reason).__name__}: {reason};"
            f" it was {type(error).__name__}: {error}",
            cause="unpicklable_error",
        )
    return error


def _load(body: object) -> object:
    if isinstance(body, tuple):
        return pickle.loads(body[0], buffers=cast("Sequence[Any]", body[1:]))
    return pickle.loads(cast(bytes, body))


def _not_loadable(outcome: Outcome, error: BaseException) -> WorkerFailure:
    what = "result" if outcome.kind == "ok" else "exception"
    failure = WorkerFailure(
        f"its {what} cannot be loaded here: {type(error).__name__}: {error}; the call itself ended",
        cause="unpicklable_result" if outcome.kind == "ok" else "unpicklable_error",
        task_id=outcome.task_id.hex(),
        attempt=outcome.attempt,
    )
    failure.__cause__ = error
    return failure


def _outside(buffers: list[memoryview]) -> Callable[[pickle.PickleBuffer], bool]:
    """Return pickle's question whether a buffer goes into the stream; those that do not are collected."""

    def goes_inside(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # it has gaps: pickle says what it thinks of it
            return True
        if raw.nbytes < BUFFER_BYTES_MIN:
            return True
        buffers.append(raw)
        return False

    return goes_inside


def _is_plain(fn: object) -> bool:
    """Say whether a callable is a function or a class: what it is does not change from call to call."""
    if isinstance(fn, BuiltinFunctionType):
        return fn.__self__ is None or isinstance(fn.__self__, ModuleType)
    return isinstance(fn, FunctionType | type)
