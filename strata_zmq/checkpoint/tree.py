"""A state tree to a skeleton of JSON values plus a list of arrays, and back; knows neither bytes nor storage.

A skeleton writes null, booleans, text and 64-bit integers as themselves. Everything else is a list that begins with a
letter: ["f", 16 hex digits] a float's IEEE 754 bits, ["i", hex] a longer integer, ["b", base64] bytes, ["l", items] a
list, ["t", items] a tuple, ["d", [[key, value], ...]] a dict, ["a", n] array number n.
"""

from __future__ import annotations

import base64
import binascii
import struct
from typing import TYPE_CHECKING, Any

from strata_zmq.checkpoint.arrays import Leaf, as_leaf, bytes_leaf
from strata_zmq.errors import CheckpointCorruptError, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DEPTH_MAX", "INLINE_BYTES_MAX", "flatten", "plain_skeleton", "rebuild"]

DEPTH_MAX = 64
"""How deep containers may nest; a tree that contains itself ends here."""

INLINE_BYTES_MAX = 1024
"""Byte strings up to this length stand in the skeleton; longer ones are stored as arrays are."""

_INT64 = range(-(2**63), 2**63)


def flatten(data: object) -> tuple[Any, list[Leaf]]:
    """Return (skeleton, leaves) of a tree of dicts, lists, tuples, arrays and plain values.

    Objects with a `state_dict()` stand for what it returns. Nothing is copied yet. Raises InvalidArgumentError that
    names the place in the tree, as Python would write it, for anything that could not be restored as it is.
    """
    leaves: list[Leaf] = []
    return _encode(data, "data", leaves, 0), leaves


def plain_skeleton(data: object) -> Any:
    """Return the skeleton of a tree that holds no arrays; byte strings of any length stand in it.

    Raises InvalidArgumentError as `flatten` does, and for arrays.
    """
    return _encode(data, "data", None, 0)


def rebuild(skeleton: object, arrays: Sequence[object], name: str) -> Any:
    """Return the tree again, with `arrays` in their places; CheckpointCorruptError, naming `name`, if it is none."""
    try:
        return _decode(skeleton, arrays, 0)
    except (ValueError, TypeError, IndexError, KeyError, struct.error, binascii.Error) as error:
        raise CheckpointCorruptError(f"the skeleton of {name} is no state tree: {error}") from None


def _encode(value: object, path: str, leaves: list[Leaf] | None, depth: int) -> Any:
    if depth > DEPTH_MAX:
        raise InvalidArgumentError(
            f"{path[:200]} is nested deeper than {DEPTH_MAX}: does the tree contain itself? Flatten it"
        )
    if value is None or type(value) is bool or type(value) is str:
        return value
    if type(value) is int:
        return value if value in _INT64 else ["i", hex(value)]
    if type(value) is float:
        return ["f", struct.pack(">d", value).hex()]
    if type(value) is bytes:
        return _encode_bytes(value, path, leaves)
    if isinstance(value, dict):
        return ["d", [[_key(key, path), _encode(v, f"{path}[{key!r}]", leaves, depth + 1)] for key, v in value.items()]]
    if type(value) is list or type(value) is tuple:
        items = [_encode(item, f"{path}[{i}]", leaves, depth + 1) for i, item in enumerate(value)]
        return ["l" if type(value) is list else "t", items]
    leaf = as_leaf(path, value)
    if leaf is not None:
        if leaves is None:
            raise InvalidArgumentError(f"{path} is an array, which has no place here: give its bytes, shape and dtype")
        leaves.append(leaf)
        return ["a", len(leaves) - 1]
    state_dict = getattr(value, "state_dict", None)
    if callable(state_dict) and not isinstance(value, type):
        return _encode(state_dict(), path, leaves, depth + 1)
    raise InvalidArgumentError(_unsupported(path, value))


def _encode_bytes(value: bytes, path: str, leaves: list[Leaf] | None) -> Any:
    if leaves is None or len(value) <= INLINE_BYTES_MAX:
        return ["b", base64.b64encode(value).decode()]
    leaves.append(bytes_leaf(path, value))
    return ["a", len(leaves) - 1]


def _key(key: object, path: str) -> str | int:
    if type(key) is str:
        return key
    if type(key) is int and key in _INT64:
        return key
    raise InvalidArgumentError(
        f"{path} has the key {ascii(key)[:48]} of type {type(key).__name__}: only text and 64-bit integers are kept "
        "as keys; convert it with str() or int()"
    )


def _unsupported(path: str, value: object) -> str:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return f"{path} is the named tuple {kind}, which would come back as a plain one: save its ._asdict()"
    if isinstance(value, (set, frozenset)):
        return f"{path} is a {type(value).__name__}: save a sorted list of it"
    return (
        f"{path} is a {kind}, which is not stored (nothing is pickled): save arrays, numbers, text, bytes, dicts, "
        "lists and tuples, or give it a state_dict() that returns such"
    )


def _decode(node: Any, arrays: Sequence[object], depth: int) -> Any:
    if depth > DEPTH_MAX + 1:
        raise ValueError(f"nested deeper than {DEPTH_MAX}")
    if node is None or type(node) in {bool, str, int}:
        return node
    if type(node) is not list:
        raise TypeError(f"unknown node {ascii(node)[:48]}")
    letter, content = node
    if letter == "a":
        return arrays[content]
    if letter == "d":
        return {key: _decode(value, arrays, depth + 1) for key, value in content}
    if letter == "l":
        return [_decode(item, arrays, depth + 1) for item in content]
    if letter == "t":
        return tuple(_decode(item, arrays, depth + 1) for item in content)
    if letter == "f":
        return struct.unpack(">d", bytes.fromhex(content))[0]
    if letter == "i":
        return int(content, 16)
    if letter == "b":
        return base64.b64decode(content, validate=True)
    raise ValueError(f"unknown letter {ascii(letter)[:48]}")
