"""A failure as the pickle of its WorkerFailure, written opcode by opcode: servers answer in pickles, and never pickle.

Clients of the HTTP interface load every result with dill or pickle. A result and an exception are pickled by the child
that ran the function. A failure has no such child, so its pickle is made here, of texts and numbers only. It loads
wherever `strata_zmq.errors` can be imported. Protocol 4; the opcodes are described in CPython's `pickletools`.
"""

from __future__ import annotations

from strata_zmq.domain.task import Outcome
from strata_zmq.errors import WorkerFailure
from strata_zmq.functions.failures import failure_of

__all__ = ["failure_pickle"]


def failure_pickle(outcome: Outcome) -> bytes:
    """Return the pickle of `failure_of(outcome)`."""
    failure = failure_of(outcome)
    kind = WorkerFailure
    parts = [b"\x80\x04", _text(kind.__module__), _text(kind.__qualname__), b"\x93"]  # PROTO 4, STACK_GLOBAL
    parts += [_text(str(failure)), b"\x85R"]  # TUPLE1, REDUCE: WorkerFailure(message)
    parts += [b"}("]  # EMPTY_DICT, MARK
    for name, value in vars(failure).items():
        parts += [_text(name), _number(value) if isinstance(value, int) else _text(str(value))]
    return b"".join([*parts, b"ub."])  # SETITEMS, BUILD: its attributes; STOP


def _text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + len(data).to_bytes(4, "little") + data  # BINUNICODE


def _number(value: int) -> bytes:
    data = value.to_bytes(9, "little", signed=True)
    return b"\x8a\x09" + data  # LONG1
