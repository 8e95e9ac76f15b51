"""Whether a function that travels by value is still what it was when it was packed; never how it is packed.

By value, a function takes along what it refers to: its defaults, the variables that it closes over, the globals that it
names. Any of them may change between two calls, and the second call has to see it. A `Captured` notices a name that was
bound anew. What can change in place (a list, an object) cannot be watched, and `capture` says so: such a function is
packed anew each time.
"""

from __future__ import annotations

import sys
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, ModuleType
from typing import Any

__all__ = ["Captured", "capture"]

_ATOMS = frozenset({bool, bytes, complex, float, int, str, type(None), type(Ellipsis)})
_ABSENT = object()
_WATCHED_MAX = 64
"""A function that refers to more than this is packed anew each time: looking would take as long."""


class Captured:
    """The code, defaults, cells and globals of a function at one moment; compared by identity."""

    __slots__ = ("cells", "functions", "names")

    def __init__(self) -> None:
        self.functions: list[tuple[FunctionType, CodeType, object]] = []
        self.cells: list[tuple[CellType, object]] = []
        self.names: list[tuple[dict[str, Any], str, object]] = []

    def unchanged(self) -> bool:
        """Say whether packing now would give what it gave then."""
        for fn, code, defaults in self.functions:
            if fn.__code__ is not code or fn.__defaults__ is not defaults or fn.__kwdefaults__ or fn.__dict__:
                return False
        for cell, content in self.cells:
            if _content(cell) is not content:
                return False
        return all(namespace.get(name, _ABSENT) is value for namespace, name, value in self.names)


def capture(fn: FunctionType) -> Captured | None:
    """Return what `fn` takes along, None if some of it can change without a trace."""
    taken = Captured()
    return taken if _follow(fn, taken, set()) else None


def _follow(fn: FunctionType, taken: Captured, met: set[int]) -> bool:
    if id(fn) in met:
        return True
    met.add(id(fn))
    if fn.__kwdefaults__ or fn.__dict__ or not all(type(value) in _ATOMS for value in fn.__defaults__ or ()):
        return False
    taken.functions.append((fn, fn.__code__, fn.__defaults__))
    for cell in fn.__closure__ or ():
        content = _content(cell)
        taken.cells.append((cell, content))
        if not _watchable(content, taken, met):
            return False
    for name in _names(fn.__code__):
        value = fn.__globals__.get(name, _ABSENT)
        taken.names.append((fn.__globals__, name, value))
        if not _watchable(value, taken, met):
            return False
    return len(taken.names) <= _WATCHED_MAX


def _watchable(value: object, taken: Captured, met: set[int]) -> bool:
    if value is _ABSENT or type(value) in _ATOMS:
        return True
    if isinstance(value, ModuleType):
        return sys.modules.get(value.__name__) is value
    if isinstance(value, BuiltinFunctionType):
        return value.__self__ is None or isinstance(value.__self__, ModuleType)
    if isinstance(value, type | FunctionType) and _by_name(value):
        return True
    return isinstance(value, FunctionType) and _follow(value, taken, met)


def _by_name(value: Any) -> bool:
    """Say whether a function or class travels as a name: it is then not looked into."""
    module = sys.modules.get(value.__module__)
    if module is None or value.__module__ == "__main__":
        return False
    found: object = module
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is value


def _names(code: CodeType) -> set[str]:
    """Return every name that the code and the functions inside it use, attributes included: at least the globals."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names(constant)
    return names


def _content(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return _ABSENT
