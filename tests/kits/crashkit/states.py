"""From a list of calls to the states in which a power cut can leave a disk, by the weakest promises that disks make.

A file's bytes are durable when the file was synced after they were written; a name (made, renamed or removed) is
durable when its folder was synced afterwards. Of all the rest each call may have reached the disk or not, in any order;
the last write may be torn at any block, or be there as zeros. Real file systems lose less.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from crashkit.recorder import Op

__all__ = ["Cut", "Tree", "crash_states", "materialise"]

BLOCK = 4096
_ALL_SUBSETS_OF = 7
_TORN_PLACES_MAX = 4

Tree = dict[str, bytes | None]
"""Relative path to content; None for a folder."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The power was cut after `after` calls, when `acked` was the last number acknowledged; `tree` is what is left."""

    after: int
    acked: int
    tree: Tree
    lost: tuple[str, ...]
    """Which calls had not reached the disk, for a failure's message."""


@dataclass(frozen=True, slots=True)
class _Change:
    """One call in terms of nodes: a file's or folder's identity, whatever names it has."""

    kind: str
    place: int
    """The node whose sync makes it durable: the file for a write, the folder for names."""
    node: int = 0
    name: str = ""
    target: str = ""
    offset: int = 0
    data: bytes = b""
    number: int = 0


@dataclass(slots=True)
class _Disk:
    contents: dict[int, bytearray] = field(default_factory=dict)
    folders: dict[int, dict[str, int]] = field(default_factory=lambda: {0: {}})

    def apply(self, change: _Change) -> None:
        names = self.folders.setdefault(change.place, {}) if change.kind != "write" else {}
        if change.kind == "write":
            content = self.contents.setdefault(change.node, bytearray())
            content.extend(bytes(max(0, change.offset + len(change.data) - len(content))))
            content[change.offset : change.offset + len(change.data)] = change.data
        elif change.kind == "create":
            self.contents.setdefault(change.node, bytearray())
            names[change.name] = change.node
        elif change.kind == "make_folder":
            self.folders.setdefault(change.node, {})
            names[change.name] = change.node
        elif change.kind == "rename":
            self.contents.setdefault(change.node, bytearray())
            if names.get(change.name) == change.node:
                del names[change.name]
            names[change.target] = change.node
        elif names.get(change.name) == change.node:
            del names[change.name]

    def tree(self) -> Tree:
        found: Tree = {}

        def walk(folder: int, path: PurePosixPath) -> None:
            for name, node in self.folders.get(folder, {}).items():
                if node in self.contents:
                    found[str(path / name)] = bytes(self.contents[node])
                else:
                    found[str(path / name)] = None
                    walk(node, path / name)

        walk(0, PurePosixPath())
        return found


def crash_states(ops: Sequence[Op], base: Path) -> Iterator[Cut]:
    """Yield every state after every call, each content once for each number acknowledged. `base` is there for good."""
    changes = _in_nodes(ops, base)
    seen: set[tuple[int, bytes]] = set()
    for after in range(len(changes) + 1):
        acked = max((change.number for change in changes[:after]), default=0)
        for tree, lost in _states(changes[:after]):
            key = (acked, _digest(tree))
            if key not in seen:
                seen.add(key)
                yield Cut(after, acked, tree, lost)


def materialise(tree: Tree, folder: Path) -> None:
    """Write a state down below `folder`."""
    folder.mkdir()
    for path, content in sorted(tree.items()):
        if content is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(content)


def _in_nodes(ops: Iterable[Op], base: Path) -> list[_Change]:
    """Say each call in terms of nodes, by following all of them. Folders' numbers are negative, `base` is 0."""
    nodes: dict[str, int] = {str(base): 0}
    folders = 0
    changes = []
    for op in ops:
        path = PurePosixPath(op.path)
        parent, name = str(path.parent), path.name
        if op.kind == "ack":
            changes.append(_Change("ack", 0, number=op.number))
        elif op.kind == "write":
            changes.append(_Change("write", op.node, op.node, offset=op.offset, data=op.data))
        elif op.kind == "sync":
            changes.append(_Change("sync", op.node))
        elif op.kind == "sync_folder":
            # What lies above the base is not ours to model.
            changes.append(_Change("sync", nodes.get(op.path, -(10**9))))
        elif op.kind == "rename":
            node = nodes.pop(op.path)
            nodes[op.target] = node
            target = PurePosixPath(op.target)
            if target.parent != path.parent:
                raise NotImplementedError(f"a rename from one folder to another: {op.path} to {op.target}")
            changes.append(_Change("rename", nodes[parent], node, name, target.name))
        elif op.kind in {"unlink", "remove_folder"}:
            changes.append(_Change("unlink", nodes[parent], nodes.pop(op.path), name))
        else:
            if op.kind == "make_folder":
                folders += 1
            nodes[op.path] = op.node if op.kind == "create" else -folders
            changes.append(_Change(op.kind, nodes[parent], nodes[op.path], name))
    return changes


def _states(changes: Sequence[_Change]) -> Iterator[tuple[Tree, tuple[str, ...]]]:
    synced_after: dict[int, int] = {}
    open_: list[int] = []
    for at in reversed(range(len(changes))):
        change = changes[at]
        if change.kind == "sync":
            synced_after.setdefault(change.place, at)
        elif change.kind != "ack" and synced_after.get(change.place, -1) < at:
            open_.append(at)
    open_.reverse()
    for lost in _losses(changes, open_):
        yield _after(changes, lost), tuple(f"{changes[at].kind} {changes[at].name}" for at in sorted(lost))
    for at in [at for at in open_ if changes[at].kind == "write"][-1:]:
        for torn in _torn(changes[at]):
            whole = [*changes[:at], torn, *changes[at + 1 :]]
            yield _after(whole, frozenset()), (f"write torn at {torn.offset} + {len(torn.data)}",)


def _losses(changes: Sequence[_Change], open_: Sequence[int]) -> Iterator[frozenset[int]]:
    """Choose among the calls that are not durable those that are lost: all choices of a few, else the telling ones."""
    if len(open_) <= _ALL_SUBSETS_OF:
        for count in range(len(open_) + 1):
            yield from map(frozenset, combinations(open_, count))
        return
    everything = frozenset(open_)
    writes = frozenset(at for at in open_ if changes[at].kind == "write")
    yield from (frozenset(), everything, writes, everything - writes)
    for few in (1, 2):
        for chosen in map(frozenset, combinations(open_, few)):
            yield chosen
            yield everything - chosen
    # In the order in which they were made, as a journal would keep them, with bytes and without.
    for at in open_:
        later = frozenset(other for other in open_ if other > at)
        yield later
        yield later | writes


def _after(changes: Sequence[_Change], lost: frozenset[int]) -> Tree:
    disk = _Disk()
    for at, change in enumerate(changes):
        if change.kind not in {"sync", "ack"} and at not in lost:
            disk.apply(change)
    return disk.tree()


def _torn(write: _Change) -> Iterator[_Change]:
    size = len(write.data)
    places = [0, *range(BLOCK, size, BLOCK)]
    for cut in places if len(places) <= _TORN_PLACES_MAX else [*places[:2], places[len(places) // 2], places[-1]]:
        yield replace(write, data=write.data[:cut])
        yield replace(write, data=write.data[:cut] + bytes(size - cut))
    yield replace(write, data=write.data[: size // 2])


def _digest(tree: Tree) -> bytes:
    """Name a state by what a reader can find in it: what a temporary file holds is nobody's concern."""
    found = hashlib.blake2b()
    for path, content in sorted(tree.items()):
        hidden = PurePosixPath(path).name.startswith(".tmp-")
        shown = b"" if content is None or hidden else hashlib.blake2b(content).digest()
        found.update(f"{'.tmp' if hidden else path}\0{content is None}\0".encode() + shown)
    return found.digest()
