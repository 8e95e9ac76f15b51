"""Owns how suites are found: every module in `suites/` that defines `SUITE`; knows none of them by name."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from strata_zmq.errors import NotFoundError

from . import suites
from .model import Suite

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["chosen", "suite_names"]


def suite_names() -> list[str]:
    """Return the names of all suites, sorted; nothing is imported for it."""
    return sorted(module.name for module in iter_modules(suites.__path__) if not module.name.startswith("_"))


def chosen(names: Sequence[str]) -> list[Suite]:
    """Return the named suites in the order given, each once; no names means all of them.

    Raises NotFoundError, with the list, for a name that no suite has.
    """
    known = suite_names()
    unknown = [name for name in names if name not in known]
    if unknown:
        raise NotFoundError(f"no suite named {', '.join(map(repr, unknown))}; the suites are: {', '.join(known)}")
    return [_load(name) for name in dict.fromkeys(names or known)]


def _load(name: str) -> Suite:
    suite = import_module(f"{suites.__name__}.{name}").SUITE
    if not isinstance(suite, Suite) or suite.name != name:
        raise TypeError(f"suites/{name}.py must define SUITE = Suite(name={name!r}, ...)")
    return suite
