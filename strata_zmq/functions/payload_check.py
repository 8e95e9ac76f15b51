"""Whether bytes are a pickle, told from their opcodes alone: nothing is loaded, and no pickle module is imported.

A pickle is a program for a small stack machine (the opcodes are described in CPython's `pickletools`). A server has to
refuse what is no such program, and must never run one: so its opcodes are walked, arguments are measured, and that is
all. A pickle that passes may still fail where it is loaded, in the child that runs it.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass

from strata_zmq.errors import InvalidArgumentError

__all__ = ["PROTOCOL_MAX", "PickleFacts", "check_pickle"]

PROTOCOL_MAX = 5

_STOP, _PROTO = 0x2E, 0x80
_BARE = rb"N\x88\x89\x97\x98\]ael)t\x85\x86\x87}dsu\x8f\x90\x91021(\x94\x93Rbo\x81\x92Q"
"""Opcodes without an argument, but STOP."""
_FIXED = {
    **dict.fromkeys(b"Khq\x80\x82", 1),
    **dict.fromkeys(b"M\x83", 2),
    **dict.fromkeys(b"Jjr\x84", 4),
    **dict.fromkeys(b"G\x95", 8),
}
"""Opcode -> bytes of its argument."""
_RUN = re.compile(rb"(?:[" + _BARE + rb"]|[Khq\x82].|[M\x83].{2}|[Jjr\x84].{4}|[G\x95].{8})++", re.DOTALL)
"""As many of the above as stand together; possessive, so that it keeps no way back."""
_RUN_BYTES = 64 * 1024
"""How far one search goes: other threads get their turn in between."""
_COUNTED = {
    **dict.fromkeys(b"\x8aUC", (1, False, False)),
    **dict.fromkeys(b"\x8c", (1, False, True)),
    **dict.fromkeys(b"\x8bT", (4, True, False)),
    **dict.fromkeys(b"B", (4, False, False)),
    **dict.fromkeys(b"X", (4, False, True)),
    **dict.fromkeys(b"\x8e\x96", (8, False, False)),
    **dict.fromkeys(b"\x8d", (8, False, True)),
}
"""Opcode -> bytes of its count, whether that is signed, and whether UTF-8 follows."""


@dataclass(frozen=True, slots=True)
class PickleFacts:
    """What a pickle says of itself: the protocol of its PROTO opcode; 0 or 1 have none and count as 0."""

    protocol: int


def check_pickle(data: bytes) -> PickleFacts:
    """Return what `data` says of itself; InvalidArgumentError, with the place, where it is not exactly one pickle."""
    size, at, protocol = len(data), 0, 0
    while True:
        run = _RUN.match(data, at, at + _RUN_BYTES)
        if run is not None:
            at = run.end()
        if at >= size:
            raise _broken(at, "the data ends before STOP")
        code = data[at]
        if code == _STOP:
            break
        width = _FIXED.get(code)
        if width is not None:
            after = at + 1 + width
            if after <= size and code == _PROTO:
                protocol = max(protocol, _known(data[at + 1], at))
        elif code in _COUNTED:
            after = _after_counted(data, at)
        elif code in _LINES:
            after = _after_lines(data, at)
        else:
            raise _broken(at, f"0x{code:02x} is no opcode")
        if after > size:
            raise _broken(at, "the data ends within an argument")
        at = after
    if at + 1 != size:
        raise _broken(at + 1, f"{size - at - 1} bytes follow STOP")
    return PickleFacts(protocol)


def _broken(at: int, what: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"it is no pickle: at byte {at}, {what}; send what dill.dumps or pickle.dumps returns")


def _known(protocol: int, at: int) -> int:
    if protocol > PROTOCOL_MAX:
        raise _broken(at, f"pickle protocol {protocol} is not known, the highest is {PROTOCOL_MAX}")
    return protocol


def _after_counted(data: bytes, at: int) -> int:
    """Return where an opcode with a count and so many bytes ends; beyond the data where they are not there."""
    width, signed, text = _COUNTED[data[at]]
    begin = at + 1 + width
    if begin > len(data):
        return begin
    count = int.from_bytes(data[at + 1 : begin], "little", signed=signed)
    if count < 0:
        raise _broken(at, f"a count of {count}")
    end = begin + count
    if text and end <= len(data):
        try:
            str(memoryview(data)[begin:end], "utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise _broken(begin + error.start, "text is not UTF-8") from None
    return end


def _after_lines(data: bytes, at: int) -> int:
    """Return where an opcode of protocol 0 ends, whose arguments are lines of text."""
    lines, read = _LINES[data[at]]
    after = at + 1
    for _ in range(lines):
        end = data.find(b"\n", after)
        if end < 0:
            return len(data) + 1
        try:
            read(data[after:end])
        except ValueError as error:
            raise _broken(after, f"an argument is not understood ({error})") from None
        after = end + 1
    return after


def _short(line: bytes) -> None:
    int(line)


def _long(line: bytes) -> None:
    int(line.removesuffix(b"L"))


def _plain(line: bytes) -> None:
    codecs.escape_decode(line)[0].decode("ascii")


def _quoted(line: bytes) -> None:
    if line[:1] not in {b'"', b"'"} or line[-1:] != line[:1]:
        raise ValueError("no quotes around it")
    _plain(line[1:-1])


def _unicode(line: bytes) -> None:
    str(line, "raw-unicode-escape")


_LINES: dict[int, tuple[int, Callable[[bytes], object]]] = {
    **dict.fromkeys(b"Igp", (1, _short)),
    **dict.fromkeys(b"L", (1, _long)),
    **dict.fromkeys(b"F", (1, float)),
    **dict.fromkeys(b"S", (1, _quoted)),
    **dict.fromkeys(b"V", (1, _unicode)),
    **dict.fromkeys(b"P", (1, _plain)),
    **dict.fromkeys(b"ci", (2, _plain)),
}
"""Opcode -> how many lines, and what reads one: ValueError where it is malformed."""
