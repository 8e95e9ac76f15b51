"""StrataExecutor: the standard library's executor over children of this process or over a dispatcher.

It knows packing and futures; how calls reach a child is its engine's business.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import operator
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any, ParamSpec, TypeVar, cast

from strata_zmq.domain.task import NO_LIMITS, TaskLimits
from strata_zmq.errors import InvalidArgumentError, UnavailableError
from strata_zmq.functions.calls import Engine, PackedCall, Resolver, payload_bytes
from strata_zmq.functions.codec import Codec
from strata_zmq.functions.future import Delivery, StrataFuture
from strata_zmq.functions.local import LocalEngine
from strata_zmq.functions.mapping import automatic_chunk, chunk_results, cut, results_in_order, run_chunk
from strata_zmq.functions.pool.options import PoolOptions
from strata_zmq.functions.refs import Ref
from strata_zmq.functions.wire import limits_row

__all__ = ["StrataExecutor"]

P = ParamSpec("P")
T = TypeVar("T")

_BATCH = 64
"""Calls of a map that are packed before the first of them may run."""
_REMOTE_WORKERS = 8
"""What `map` takes for the number of a dispatcher's children where `max_workers` does not say."""


class StrataExecutor(Executor):
    """Runs calls in child processes: `StrataExecutor(4)` in its own, `StrataExecutor("tcp://host:port")` in others'.

    Locally it takes ProcessPoolExecutor's place: same arguments, same futures, same errors; but a child that dies fails
    its own call alone (WorkerFailure, a BrokenExecutor) and is replaced. At a dispatcher `max_workers` is only what
    `map` reckons with, and whatever makes children (`mp_context`, `initializer`, `max_tasks_per_child`, `gpus`) belongs
    to the workers there.

    `memory_bytes` bounds each child, `capture` keeps what calls print for their futures' `report`, `gpus` are device
    names to deal out to calls with the label "gpu", `limits` hold for every call without its own, and `curve_keys` is
    the folder of the dispatcher's keys.
    """

    def __init__(
        self,
        where: str | int | None = None,
        mp_context: BaseContext | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_workers: int | None = None,
        max_tasks_per_child: int | None = None,
        memory_bytes: int = 0,
        capture: bool = False,
        gpus: Sequence[str] = (),
        limits: TaskLimits = NO_LIMITS,
        curve_keys: str = "",
    ) -> None:
        if where is not None and not isinstance(where, str):
            if max_workers is not None:
                raise InvalidArgumentError("max_workers: given twice; a number in the first place is max_workers")
            max_workers = where
        max_workers = _counted(max_workers)
        if isinstance(mp_context, str):
            raise InvalidArgumentError(
                f"mp_context is {mp_context!r}: give multiprocessing.get_context({mp_context!r})"
            )
        limits_row(limits)
        if capture:
            limits = replace(limits, capture=True)
        self._shut = False
        self._kept: set[bytes] = set()
        self._engine: Engine
        if isinstance(where, str):
            makes_children = (mp_context, initializer, max_tasks_per_child, *gpus)
            if any(given is not None for given in makes_children):
                raise InvalidArgumentError(
                    "mp_context, initializer, max_tasks_per_child and gpus belong to the process that makes children:"
                    f" give them to the workers of {where}, or leave the address out to run calls here"
                )
            self._max_workers = max_workers or _REMOTE_WORKERS
            self._mp_context: BaseContext | None = None
            self._limits = replace(limits, memory_bytes=limits.memory_bytes or memory_bytes)
            self._local: LocalEngine | None = None
            self._engine = _remote_engine(where, curve_keys)
        else:
            # An unbound `spawn` is the stock pool's choice, too: forked children would share what they replace.
            self._mp_context = mp_context or multiprocessing.get_context("spawn" if max_tasks_per_child else None)
            self._max_workers = (os.cpu_count() or 1) if max_workers is None else max_workers
            self._limits = limits
            self._local = LocalEngine(
                PoolOptions(
                    children=self._max_workers,
                    context=self._mp_context,
                    initializer=initializer,
                    initargs=initargs,
                    max_tasks_per_child=max_tasks_per_child,
                    memory_bytes=memory_bytes,
                    gpus=tuple(gpus),
                )
            )
            self._engine = self._local
        self._codec = Codec(by_value=not self._children_have_main(), own=self._local is not None)
        _ENGINES.add(self._engine)
        # A dropped executor ends when its calls have. At the interpreter's end, `_close_all` comes first.
        weakref.finalize(self, _let_go, self._engine, os.getpid()).atexit = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> StrataFuture[T]:
        """Schedule `fn(*args, **kwargs)`; what keeps a call from being packed is raised by its future.

        Raises RuntimeError after shutdown, WorkerFailure (a BrokenExecutor) where children cannot be started any more,
        and ResourceExhaustedError where too many calls wait.
        """
        return cast(StrataFuture[T], self._submit(self._limits, "", fn, args, kwargs))

    def submit_with(
        self, limits: TaskLimits, fn: Callable[..., T], /, *args: Any, key: str = "", **kwargs: Any
    ) -> StrataFuture[T]:
        """Schedule a call under limits of its own. With a `key`, the same key and the same call are one task.

        Raises as `submit`, and InvalidArgumentError for limits that cannot be kept, by their field.
        """
        limits_row(limits)
        return cast(StrataFuture[T], self._submit(limits, key, fn, args, kwargs))

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Any,
        timeout: float | None = None,
        chunksize: int | None = None,
        **unknown: Any,
    ) -> Iterator[T]:
        """Return the results of `fn` over the zipped iterables, in order; all calls are scheduled at once.

        Without a `chunksize` many short calls travel together as it suits their number. TimeoutError if the results are
        not all there `timeout` seconds after this call.
        """
        if unknown:
            raise TypeError(f"map() got an unexpected keyword argument {next(iter(unknown))!r}")
        if chunksize is not None and chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        calls = list(zip(*iterables, strict=False))
        size = chunksize or automatic_chunk(len(calls), self._max_workers)
        if size == 1:
            return results_in_order(self._submit_all(fn, calls), timeout)
        chunks: list[tuple[Any, ...]] = [(fn, chunk) for chunk in cut(calls, size)]
        return chunk_results(results_in_order(self._submit_all(run_chunk, chunks), timeout))

    def put(self, value: object) -> Ref:
        """Hand a value over once, to be named in many calls: a Ref in a call's arguments arrives there as the value.

        The value is packed as it is now. Children map a large buffer of it read-only.
        """
        self._check_open()
        packed = self._codec.pack_value(value)
        if packed.digest not in self._kept:
            self._engine.keep(packed.digest, packed.payload)
            self._kept.add(packed.digest)
        return Ref(packed.digest, payload_bytes(packed.payload))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing new; with `wait`, return when every call has ended, with `cancel_futures` none more begins."""
        self._shut = True
        self._engine.shutdown(wait=wait, cancel_pending=cancel_futures)

    @property
    def _processes(self) -> dict[int, BaseProcess]:
        """The children by their process ids, as in the stock pool."""
        return self._local.processes() if self._local is not None else {}

    @property
    def _broken(self) -> str:
        """Why nothing can run any more, as in the stock pool; empty while it can."""
        return self._local.broken if self._local is not None else ""

    def _children_have_main(self) -> bool:
        """Say whether children know what `__main__` defines: forked ones do, others import it if it is a file."""
        if self._mp_context is None:
            return False
        method = self._mp_context.get_start_method(allow_none=False)
        return method == "fork" or hasattr(sys.modules["__main__"], "__file__")

    def _check_open(self) -> None:
        if _interpreter_ends.is_set():
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        if self._shut:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def _submit(
        self, limits: TaskLimits, key: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> StrataFuture[Any]:
        self._check_open()
        future: StrataFuture[Any] = StrataFuture()
        call = self._packed(future, limits, key, fn, args, kwargs)
        if call is not None:
            future._submitted(self._engine, self._to_engine([(call, Delivery(future))])[0])  # noqa: SLF001
        return future

    def _submit_all(self, fn: Callable[..., Any], calls: list[tuple[Any, ...]]) -> list[StrataFuture[Any]]:
        self._check_open()
        futures: list[StrataFuture[Any]] = []
        batch: list[tuple[PackedCall, Resolver]] = []
        members: list[StrataFuture[Any]] = []
        for last, args in enumerate(calls, 1 - len(calls)):
            future: StrataFuture[Any] = StrataFuture()
            futures.append(future)
            call = self._packed(future, self._limits, "", fn, args, {})
            if call is not None:
                batch.append((call, Delivery(future)))
                members.append(future)
            if batch and (len(batch) == _BATCH or last == 0):
                for member, task_id in zip(members, self._to_engine(batch), strict=True):
                    member._submitted(self._engine, task_id)  # noqa: SLF001
                batch, members = [], []
        return futures

    def _packed(
        self,
        future: StrataFuture[Any],
        limits: TaskLimits,
        key: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> PackedCall | None:
        """Return the packed call; None if it cannot be packed, which its future then says."""
        try:
            digest, function, body, refs = self._codec.pack_call(fn, args, kwargs)
        except Exception as error:  # noqa: BLE001 - packing runs the arguments' own code
            future.set_running_or_notify_cancel()
            future.set_exception(error)
            return None
        if function is not None and digest not in self._kept:
            self._engine.keep(digest, function.payload)
            self._kept.add(digest)
        return PackedCall(digest, body, limits, refs, key)

    def _to_engine(self, batch: list[tuple[PackedCall, Resolver]]) -> list[bytes]:
        try:
            return self._engine.submit(batch)
        except UnavailableError:
            self._check_open()  # shut down by another thread meanwhile
            raise


_ENGINES: weakref.WeakSet[Engine] = weakref.WeakSet()
_interpreter_ends = threading.Event()


def _close_all() -> None:
    """Let every call end before the interpreter does, as the stock pools do."""
    _interpreter_ends.set()
    engines = list(_ENGINES)
    for engine in engines:
        engine.shutdown(wait=False, cancel_pending=False)
    for engine in engines:
        engine.shutdown(wait=True, cancel_pending=False)


def _disown_all() -> None:
    """Give the engines up in a forked process: it has copies of them, and neither their threads nor their children."""
    for engine in list(_ENGINES):
        if isinstance(engine, LocalEngine):
            engine.disown()
    _ENGINES.clear()


def _let_go(engine: Engine, owner: int) -> None:
    """End the engine of an executor that nobody has any more, in the process that made it."""
    if os.getpid() == owner:
        with contextlib.suppress(UnavailableError):
            engine.shutdown(wait=False, cancel_pending=False)


# Before the threads are joined: an `atexit` function would come too late, as it would for the stock pools.
threading._register_atexit(_close_all)  # type: ignore[attr-defined] # noqa: SLF001
os.register_at_fork(after_in_child=_disown_all)


def _counted(max_workers: int | None) -> int | None:
    """Return how many workers there are to be, as an int; InvalidArgumentError for what is no number of them."""
    if max_workers is None:
        return None
    try:
        count = operator.index(max_workers)
    except TypeError:
        raise InvalidArgumentError(
            f"max_workers is {max_workers!r}: give a whole number of processes, or a dispatcher's address in the first"
            " place, for example tcp://localhost:5555"
        ) from None
    if count <= 0:
        raise InvalidArgumentError("max_workers must be greater than 0")
    return count


def _remote_engine(endpoint: str, curve_keys: str) -> Engine:
    from strata_zmq.functions.remote.engine import RemoteEngine
    from strata_zmq.transport.curve import CurveKeys

    keys = CurveKeys.load(curve_keys) if curve_keys else None
    return RemoteEngine(endpoint, keys=keys, python=f"{sys.version_info.major}.{sys.version_info.minor}")
