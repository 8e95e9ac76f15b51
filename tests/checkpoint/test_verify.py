"""A verification finds all damage, says where it is, and has what was good kept."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from storedkit import Way, write_checkpoint

from strata_zmq import CheckpointManager
from strata_zmq.checkpoint.store import CheckpointStore
from strata_zmq.checkpoint.verify import VerifyReport, verify
from strata_zmq.errors import InvalidArgumentError, StorageError
from strata_zmq.storage import LocalStorage
from strata_zmq.storage.base import Data

TREES = [{"w": np.arange(1000.0) + rank, "v": [np.zeros(3), 1]} for rank in range(2)]


def verified(folder: Path, checkpoint_id: str = "one", *, sample: float = 1.0) -> VerifyReport:
    async def run() -> VerifyReport:
        store = CheckpointStore(LocalStorage(folder))
        return await verify(store, await store.find(checkpoint_id), sample=sample)

    return asyncio.run(run())


def noted(folder: Path) -> str:
    return asyncio.run(CheckpointStore(LocalStorage(folder)).head()).verified


def flip(path: Path, at: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("record_format", [1, 2])
def test_what_is_whole_is_found_whole_and_noted(tmp_path: Path, record_format: int) -> None:
    write_checkpoint(tmp_path, TREES, way=Way(cuts=0, record_format=record_format))
    found = verified(tmp_path)
    assert found.ok
    assert found.complete
    assert (found.objects, found.chunks, found.bytes) == (5, 2, 2 * 8024), "a manifest, two indexes, two packs"
    assert noted(tmp_path) == "one"


def test_all_damage_is_told_at_once(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, TREES, way=Way(cuts=8, pack_chunks=2))
    packs = sorted(tmp_path.rglob("pack-*"))
    flip(packs[0])
    packs[1].unlink()
    packs[2].write_bytes(packs[2].read_bytes()[:-1])
    flip(tmp_path / "ckpt/one/rank-00001/index")
    found = verified(tmp_path)
    assert not found.ok
    told = dict(found.damaged)
    keys = [*(f"ckpt/one/rank-00000/{pack.name}" for pack in packs[:3]), "ckpt/one/rank-00001/index"]
    assert list(told) == keys
    assert "has the digest" in told[f"ckpt/one/rank-00000/{packs[0].name}"]
    assert "is missing" in told[f"ckpt/one/rank-00000/{packs[1].name}"]
    assert "ends 1 bytes before" in told[f"ckpt/one/rank-00000/{packs[2].name}"]
    assert noted(tmp_path) == ""


def test_a_damaged_manifest_is_damage(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, TREES)
    flip(tmp_path / "ckpt/one/manifest")
    found = verified(tmp_path)
    assert [key for key, _ in found.damaged] == ["ckpt/one/manifest"]
    assert not found.complete


def test_a_sample_reads_all_records_and_vouches_for_nothing(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, TREES)
    for pack in tmp_path.rglob("pack-*"):
        flip(pack)
    found = verified(tmp_path, sample=0.0)
    assert found.ok
    assert not found.complete
    assert (found.objects, found.chunks, noted(tmp_path)) == (3, 0, "")
    flip(tmp_path / "ckpt/one/rank-00000/index")
    assert not verified(tmp_path, sample=0.0).ok
    with pytest.raises(InvalidArgumentError, match=r"sample is 1\.5: give a share from 0 to 1"):
        verified(tmp_path, sample=1.5)


def test_the_note_goes_to_newer_checkpoints_only(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        write_checkpoint(tmp_path, TREES, checkpoint_id=f"c{step}", step=step)
    for asked, expected in (("c2", "c2"), ("c1", "c2"), ("c3", "c3")):
        assert verified(tmp_path, asked).ok
        assert noted(tmp_path) == expected


class ReadOnly(LocalStorage):
    async def replace(self, key: str, data: Data, expected_version: str | None) -> str:
        raise StorageError(f"{key} cannot be written: Read-only file system")


def test_who_may_only_read_can_verify(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, TREES)

    async def run() -> VerifyReport:
        store = CheckpointStore(ReadOnly(tmp_path))
        return await verify(store, await store.find("one"))

    assert asyncio.run(run()).ok
    assert noted(tmp_path) == ""


def test_a_manager_verifies_and_writes_anew_what_is_damaged(tmp_path: Path) -> None:
    with CheckpointManager(tmp_path) as manager:
        first = manager.save({"w": np.ones(5000)}, 1, 0)
        manager.wait_pending()
        assert manager.verify().ok
        flip(next((tmp_path / "ckpt" / first).rglob("pack-*")))
        found = manager.verify(1)
        assert (found.checkpoint_id, found.ok, len(found.damaged)) == (first, False, 1)
        manager.save({"w": np.ones(5000)}, 2, 0)
        manager.wait_pending()
        assert manager.verify(2).ok, "it does not refer to the damaged bytes"
