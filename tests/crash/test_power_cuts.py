"""A power cut at any moment of any save: what was committed comes back bit by bit, and what was acknowledged is there.

The calls of a real run on a real folder are written down; every state that a disk could be in after any of them is
made and opened. Disks are taken at their weakest: what was not synced may be lost or kept in any combination.
"""

from __future__ import annotations

import asyncio
import errno
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from crashkit.recorder import Op, RecordingFiles, UnsyncedFiles
from crashkit.runs import CHUNK_BYTES, HISTORIES, expected_steps, run, trouble
from crashkit.states import crash_states, materialise

from strata_zmq.checkpoint.store import CheckpointStore
from strata_zmq.errors import DurabilityError
from strata_zmq.storage import LocalStorage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from strata_zmq.storage.base import Traits

# Several seconds of opening states, on a machine that may be busy.
pytestmark = pytest.mark.timeout(600)


class SmallObjects(LocalStorage):
    """A folder that likes objects of two blocks, so that a small state makes several."""

    @property
    def traits(self) -> Traits:
        return replace(super().traits, object_bytes_best=2 * CHUNK_BYTES)


def record(
    folder: Path, steps: Sequence[int], keep_count: int, *, references: bool = False, overlap: bool = False
) -> list[Op]:
    files = RecordingFiles()
    storage = SmallObjects(folder / "store", files=files)
    run(storage, steps, keep_count, files.ack, references=references, overlap=overlap)
    return files.ops


def open_all(
    ops: Sequence[Op], base: Path, steps: Sequence[int], keep_count: int, *, enough: int = 10**9
) -> tuple[int, list[str]]:
    """Return how many states were opened, and what was wrong with which; stops when `enough` are wrong."""
    wrong: list[str] = []
    count = 0
    for cut in crash_states(ops, base):
        folder = base.with_name("states") / str(count)
        folder.parent.mkdir(exist_ok=True)
        materialise(cut.tree, folder)
        count += 1
        storage = LocalStorage(folder / "store", files=UnsyncedFiles())
        found = trouble(storage, expected_steps(steps, keep_count, cut.acked), keep_count)
        if found is not None:
            wrong.append(f"after call {cut.after} (acknowledged: {cut.acked}), without {list(cut.lost)}: {found}")
            if len(wrong) >= enough:
                break
    return count, wrong


@pytest.mark.parametrize(("steps", "keep_count", "references", "overlap"), HISTORIES.values(), ids=HISTORIES)
def test_a_power_cut_at_any_moment_loses_nothing_that_was_acknowledged(
    tmp_path: Path,
    steps: list[int],
    keep_count: int,
    references: bool,
    overlap: bool,
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    ops = record(base, steps, keep_count, references=references, overlap=overlap)
    assert [op.number for op in ops if op.kind == "ack"] == steps
    count, wrong = open_all(ops, base, steps, keep_count)
    assert wrong == []
    assert count > 50


@pytest.mark.parametrize("kind", ["sync", "sync_folder"])
def test_a_backend_that_forgets_to_sync_is_found_out(tmp_path: Path, kind: str) -> None:
    """Without the fsync of files, or of folders, at least one state has lost what was acknowledged."""
    base = tmp_path / "base"
    base.mkdir()
    ops = [op for op in record(base, [1, 2], 1) if op.kind != kind]
    _, wrong = open_all(ops, base, [1, 2], 1, enough=1)
    assert wrong


def test_a_retirement_before_the_new_head_is_durable_is_found_out(tmp_path: Path) -> None:
    """Were the old checkpoint deleted a moment too early, a state would have a HEAD that leads nowhere."""
    base = tmp_path / "base"
    base.mkdir()
    ops = record(base, [1, 2], 1)
    heads = [at for at, op in enumerate(ops) if op.kind == "rename" and op.target.endswith("/HEAD")]
    deletions = [op for op in ops[heads[1] :] if op.kind == "unlink" and "step-0000000001" in op.path]
    rest = [op for op in ops if op not in deletions and op.kind != "remove_folder"]
    at = rest.index(ops[heads[1]])
    _, wrong = open_all([*rest[:at], *deletions, *rest[at:]], base, [1, 2], 1, enough=1)
    assert deletions
    assert wrong


class DyingFiles(RecordingFiles):
    """The process dies between the second HEAD's rename and the folder's sync: nothing of it goes on after that."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 0
        self.dead = False

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self.heads += target.name == "HEAD"
        self.dead = self.heads == 2

    def sync_folder(self, path: Path) -> None:
        if self.dead:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync_folder(path)


def test_what_the_next_process_deletes_stays_until_the_head_that_allows_it_is_durable(tmp_path: Path) -> None:
    """A process dies having renamed HEAD; another sees it, collects what it no longer reaches; then the power fails."""
    base = tmp_path / "base"
    base.mkdir()
    files = DyingFiles()
    storage = SmallObjects(base / "store", files=files)
    with pytest.raises(DurabilityError):
        run(storage, [1, 2], 1, files.ack)
    files.dead = False
    gone = asyncio.run(CheckpointStore(LocalStorage(base / "store", files=files)).collect())
    assert len(gone) == 1
    assert any(op.kind == "unlink" and "step-0000000001" in op.path for op in files.ops)
    count, wrong = open_all(files.ops, base, [1, 2], 1)
    assert wrong == []
    assert count > 50
