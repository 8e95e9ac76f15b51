"""A power cut at any moment of any save: what was committed comes back bit by bit, and what was acknowledged is there.

The calls of a real run on a real folder are written down; every state that a disk could be in after any of them is
made and opened. Disks are taken at their weakest: what was not synced may be lost or kept in any combination.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from crashkit.recorder import Op, RecordingFiles, UnsyncedFiles
from crashkit.runs import expected_steps, run, trouble
from crashkit.states import crash_states, materialise

from strata_zmq.storage import LocalStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

# Several seconds of opening states, on a machine that may be busy.
pytestmark = pytest.mark.timeout(600)


def record(folder: Path, steps: Sequence[int], keep_count: int) -> list[Op]:
    files = RecordingFiles()
    run(LocalStorage(folder / "store", files=files), steps, keep_count, files.ack)
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


@pytest.mark.parametrize(
    ("steps", "keep_count"),
    [([1, 2], 1), ([1, 2, 3], 2)],
    ids=["two checkpoints, the first retired", "three checkpoints, two kept"],
)
def test_a_power_cut_at_any_moment_loses_nothing_that_was_acknowledged(
    tmp_path: Path, steps: list[int], keep_count: int, record_property: Callable[[str, object], None]
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    ops = record(base, steps, keep_count)
    assert [op.number for op in ops if op.kind == "ack"] == steps
    count, wrong = open_all(ops, base, steps, keep_count)
    record_property("calls", len(ops))
    record_property("states", count)
    assert wrong == []
    assert count > 100


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
