"""One call from its packet to its result: loaded, called, packed, told. Never reads the socket, never plans."""

from __future__ import annotations

import os
import sys
import traceback
from dataclasses import replace
from time import monotonic_ns
from typing import Any

import msgspec

from strata_zmq.domain.task import CALL_IN_PAYLOAD, Cause, Kind, OutcomeReport
from strata_zmq.failpoints import failpoint
from strata_zmq.functions.child.limits import MemoryLimit
from strata_zmq.functions.child.mapping import Mapping
from strata_zmq.functions.child.outbox import Outbox, Stored
from strata_zmq.functions.child.output import Output
from strata_zmq.functions.child.packing import Packed, TooLargeError, pack, pack_error
from strata_zmq.functions.child.reports import describe
from strata_zmq.functions.child.values import VALUES, load
from strata_zmq.functions.pool.blackbox import BlackBox
from strata_zmq.functions.pool.packets import BODY_BYTES_MAX, Call, Place, Result

__all__ = ["Caller"]

_encode = msgspec.msgpack.Encoder().encode


_ARGUMENTS = "its arguments are of type {}: pack ((args...), {{kwargs}})"
_IN_MAIN = (
    "children know what the main program had defined when they started: define it before the first call and not under"
    " `if __name__ == '__main__'`, or in a module: "
)
_IN_MAIN_DILL = "the main program here is another one: pack with dill.dumps, which takes its functions along: "
_NO_BUFFERS: list[Place] = []
_Ending = tuple[Kind, Cause, bytes | Packed | None, OutcomeReport | None, int]
"""What an outcome is made of, and when the function ended (monotonic ns)."""


class Caller:
    """Performs the calls of one process, one after the other, in its main thread."""

    def __init__(self, box: BlackBox, outbox: Outbox, output: Output, limit: MemoryLimit) -> None:
        self._box = box
        self._outbox = outbox
        self._output = output
        self._limit = limit
        self._forked = False
        os.register_at_fork(after_in_child=self._in_forked_process)

    def perform(self, call: Call, descriptors: list[int]) -> int:
        """Perform one call, put what came of it into the outbox, and return when its function ended (monotonic ns).

        Whatever the call raises is its result. Raises BrokenPipeError or ConnectionResetError where the parent is gone.
        """
        n = call.n
        self._box.loading(n)
        began_ns = monotonic_ns()
        mapping = None if type(call.body) is bytes and not call.buffers else Mapping(descriptors)
        kind, cause, packed, report, ended_ns = self._run(call, mapping)
        if call.capture:
            report = self._with_output(report)
        told = b"" if report is None else _encode(report)
        body: bytes | None = None
        stored: Stored | None = None
        if not isinstance(packed, Packed) and (len(packed) if packed else 0) + len(told) <= BODY_BYTES_MAX:
            body = packed
        else:
            try:
                stored = _store(packed, told)
            except OSError as error:
                kind, cause = "failure", "result_too_large"
                text = f"this process has no room for its result: {error.strerror or error}"
                told = _encode(OutcomeReport(text=text))
        packed = None  # it may look at the call's own memory
        released = mapping is None or mapping.release()
        failpoint("child.call.done")
        service_ns = ended_ns - began_ns
        if stored is None:
            self._outbox.add(Result(n, kind, cause, body, _NO_BUFFERS, service_ns, released, told))
        else:
            with stored:
                result = Result(n, kind, cause, stored.body, stored.buffers, service_ns, released, stored.report)
                self._outbox.send(result, stored.descriptor)
        self._box.idle(n)
        return ended_ns

    def _run(self, call: Call, mapping: Mapping | None) -> _Ending:
        """Load, call and pack; nothing of the call but its packed result outlives this."""
        n = call.n
        try:
            self._limit.apply(call.memory_bytes)
            fn, args, kwargs = _loaded(call, mapping)
        except BaseException as error:  # noqa: BLE001 - loading runs the payload's own code, which may even exit
            return self._failed("unloadable_call", error, monotonic_ns(), _way_out(call, error))
        failpoint("child.call.loaded")
        if call.capture:
            self._output.catch()
        try:
            self._box.running(n, monotonic_ns())  # from here on Ctrl-C may interrupt
            value = fn(*args, **kwargs)
            if self._forked:
                os._exit(0)
            self._box.packing(n)
        except BaseException as error:  # noqa: BLE001 - as in the stock pool, SystemExit and KeyboardInterrupt included
            if self._forked:
                _end_forked(error)
            self._box.packing(n)
            return self._raised(call, error, monotonic_ns())
        return self._returned(call, value, monotonic_ns())

    def _in_forked_process(self) -> None:
        """A function has forked this process: the new one may run the function to its end, but the call is not its."""
        self._forked = True

    def _returned(self, call: Call, value: object, ended_ns: int) -> _Ending:
        try:
            return "ok", "", pack(value, call.result_bytes_max, dill=call.dill), None, ended_ns
        except TooLargeError as error:
            return _too_large(error, ended_ns)
        except BaseException as error:  # noqa: BLE001 - a value's own __reduce__ may raise anything
            return self._failed(
                "unpicklable_result", error, ended_ns, f"{type(value).__name__}: {type(error).__name__}: "
            )

    def _raised(self, call: Call, error: BaseException, ended_ns: int) -> _Ending:
        if isinstance(error, MemoryError) and self._limit.nbytes:
            return self._failed("", error, ended_ns, "")
        report = describe(error)
        try:
            packed = pack_error(error, call.result_bytes_max, dill=call.dill)
        except TooLargeError as reason:
            return _too_large(reason, ended_ns)
        except BaseException as reason:  # noqa: BLE001 - an exception's own __reduce__ and constructor may raise anything
            why = describe(reason, f"{report.type_name}: {report.text}; it cannot come back as itself, ")
            return "failure", "unpicklable_error", None, replace(report, text=why.text), ended_ns
        return "error", "", packed, report, ended_ns

    def _failed(self, cause: Cause, error: BaseException, ended_ns: int, prefix: str) -> _Ending:
        """Return a failure; under a memory limit a MemoryError is always its doing."""
        if isinstance(error, MemoryError) and self._limit.nbytes:
            cause, prefix = (
                "out_of_memory",
                f"it needed more memory than its {self._limit.nbytes} bytes, raise memory_bytes: MemoryError ",
            )
            self._limit.lift()
        return "failure", cause, None, describe(error, prefix), ended_ns

    def _with_output(self, report: OutcomeReport | None) -> OutcomeReport | None:
        stdout, stderr, cut_bytes = self._output.caught()
        if not (stdout or stderr or cut_bytes):
            return report
        return replace(report or OutcomeReport(), stdout=stdout, stderr=stderr, cut_bytes=cut_bytes)


def _loaded(call: Call, mapping: Mapping | None) -> tuple[Any, Any, Any]:
    """Return callable, arguments and keyword arguments of a call."""
    if mapping is None:
        content = load(call.body, [], dill=call.dill)  # type: ignore[arg-type]  # a Place has a mapping
    else:
        buffers = [mapping.view(place) for place in call.buffers]
        content = load(mapping.part(call.body), buffers, dill=call.dill)
    if call.function == CALL_IN_PAYLOAD:
        fn, args, kwargs = content
    else:
        try:
            args, kwargs = content
        except (TypeError, ValueError):
            raise TypeError(_ARGUMENTS.format(type(content).__name__)) from None
        if call.dill and not isinstance(kwargs, dict):
            raise TypeError(_ARGUMENTS.format(type(content).__name__))
        fn = VALUES.get(call.function, dill=call.dill)
    return fn, args, kwargs


def _way_out(call: Call, error: BaseException) -> str:
    """Return what stands before an error of loading: what to do about it, where that is known, and its type."""
    text = error.args[0] if type(error) is AttributeError and error.args else None
    # Its name may be any: `__mp_main__`, or that of the module that a worker was started as.
    known = isinstance(text, str) and ("'__main__'" in text or repr(sys.modules.get("__main__")) in text)
    return f"{(_IN_MAIN_DILL if call.dill else _IN_MAIN) if known else ''}{type(error).__name__}: "


def _store(packed: bytes | Packed | None, told: bytes) -> Stored:
    if isinstance(packed, Packed):
        return Stored(packed.stream, packed.buffers, told)
    return Stored(None if packed is None else [packed], (), told)


def _end_forked(error: BaseException) -> None:
    """End a process that a function has forked and that came out of it by an exception, as a program would end."""
    if isinstance(error, SystemExit):
        os._exit(error.code if isinstance(error.code, int) else error.code is not None)
    traceback.print_exception(error)
    sys.stderr.flush()
    os._exit(1)


def _too_large(error: TooLargeError, ended_ns: int) -> _Ending:
    text = f"{error}: raise result_bytes_max, or store it and return where it is"
    return "failure", "result_too_large", None, OutcomeReport(text=text), ended_ns
