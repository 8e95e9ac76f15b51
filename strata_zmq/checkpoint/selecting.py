"""Which arrays of a saved tree are wanted, by name or by the places that are given for them; reads nothing.

A name joins keys and positions by dots: `data['model']['layers'][0]` is `model.layers.0`. Keys may hold dots.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from strata_zmq.errors import CheckpointCorruptError, InvalidArgumentError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["chosen", "first_difference", "match_into", "names_of"]

_NAMES_SHOWN = 8


def names_of(skeleton: Any) -> dict[int, str]:
    """Return the name of each array by its number."""
    return {node[1]: name for name, node in _walk(skeleton, "") if node[0] == "a"}


def chosen(skeleton: Any, names: Sequence[str]) -> Any:
    """Return `skeleton` with only what `names` choose, patterns as of a shell; what lies below a match is chosen, too.

    Of a list or tuple of which only some items are chosen, a dict from position to item remains. Raises NotFoundError
    for a pattern that matches nothing.
    """
    if isinstance(names, (str, bytes)) or not all(type(name) is str and name for name in names):
        raise InvalidArgumentError(f"names is {ascii(names)[:60]}: give a list of patterns such as ['model.*']")

    def prune(node: Any, name: str) -> tuple[Any, bool]:
        if name and any(fnmatchcase(name, pattern) for pattern in names):
            return node, True
        if not _is_container(node):
            return node, False
        items = [(key, *prune(item, _join(name, key)), item) for key, item in _items(node)]
        kept = [[key, pruned] for key, pruned, keep, _ in items if keep]
        whole = node[0] != "d" and bool(items) and all(keep and pruned is item for _, pruned, keep, item in items)
        return (node if whole else ["d", kept]), bool(kept)

    there = [name for name, _ in _walk(skeleton, "") if name]
    missing = [pattern for pattern in names if not any(fnmatchcase(name, pattern) for name in there)]
    if missing or not names:
        shown = ", ".join(there[:_NAMES_SHOWN]) + (", ..." if len(there) > _NAMES_SHOWN else "")
        raise NotFoundError(f"names: nothing matches {', '.join(missing) or 'an empty list'}; there are: {shown}")
    return prune(skeleton, "")[0]


def match_into(skeleton: Any, into: Any) -> dict[int, tuple[str, Any]]:
    """Return (place, what `into` holds there) for each array of `skeleton`, by its number.

    Raises InvalidArgumentError where `into` has something that the checkpoint has not, or has it as another kind.
    """
    found: dict[int, tuple[str, Any]] = {}
    _match(skeleton, into, "into", found)
    return found


def first_difference(one: Any, other: Any, name: str = "") -> str | None:
    """Return the name of the first place at which two skeletons differ, but for the numbers of arrays; else None."""
    if _is_container(one) and _is_container(other) and one[0] == other[0]:
        mine, theirs = list(_items(one)), list(_items(other))
        if [key for key, _ in mine] != [key for key, _ in theirs]:
            return name or "the state"
        for (key, a), (_, b) in zip(mine, theirs, strict=True):
            found = first_difference(a, b, _join(name, key))
            if found is not None:
                return found
        return None
    same = one[0] == other[0] == "a" if _is_array(one) and _is_array(other) else _same_value(one, other)
    return None if same else name or "the state"


def _match(node: Any, into: Any, place: str, found: dict[int, tuple[str, Any]]) -> None:
    if into is None:
        return
    if _is_array(node):
        found[node[1]] = (place, into)
    elif _is_container(node):
        if node[0] == "d":
            if not isinstance(into, Mapping):
                raise InvalidArgumentError(
                    f"{place} is a {type(into).__name__}, and the checkpoint has a dict there: give a dict "
                    "(of an object with a state_dict(), what that returns)"
                )
            there = dict(_items(node))
            for key, value in into.items():
                if key not in there:
                    raise InvalidArgumentError(f"{place}[{key!r}] is not in the checkpoint: leave it out")
                _match(there[key], value, f"{place}[{key!r}]", found)
            return
        items = list(_items(node))
        if not isinstance(into, (list, tuple)) or len(into) != len(items):
            raise InvalidArgumentError(f"{place}: the checkpoint has {len(items)} items there; give as many, or None")
        for (key, item), value in zip(items, into, strict=True):
            _match(item, value, f"{place}[{key}]", found)


def _walk(node: Any, name: str) -> Iterator[tuple[str, Any]]:
    yield name, node if type(node) is list else ["", node]
    if _is_container(node):
        for key, item in _items(node):
            yield from _walk(item, _join(name, key))


def _items(node: Any) -> Iterator[tuple[str | int, Any]]:
    if node[0] == "d":
        yield from ((key, value) for key, value in node[1])
    else:
        yield from enumerate(node[1])


def _is_container(node: Any) -> bool:
    if type(node) is not list:
        return False
    if len(node) != 2:
        raise CheckpointCorruptError("a skeleton is no state tree: a node has not two parts")
    return node[0] in {"d", "l", "t"}


def _is_array(node: Any) -> bool:
    return type(node) is list and len(node) == 2 and node[0] == "a"


def _same_value(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _join(name: str, key: str | int) -> str:
    return f"{name}.{key}" if name else str(key)
