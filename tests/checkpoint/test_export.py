"""What a checkpoint holds can be read by other programs, bit by bit; what cannot is refused or told."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import safe_open
from safetensors.numpy import load_file
from storedkit import Way, write_checkpoint

from strata_zmq.checkpoint.export import ExportReport, export_safetensors
from strata_zmq.checkpoint.sharded import Sharded
from strata_zmq.checkpoint.store import CheckpointStore
from strata_zmq.errors import AlreadyExistsError, CheckpointCorruptError, InvalidArgumentError, StorageError
from strata_zmq.storage import LocalStorage


def exported(folder: Path, path: Path, **options: Any) -> ExportReport:
    async def run() -> ExportReport:
        store = CheckpointStore(LocalStorage(folder))
        return await export_safetensors(store, await store.find("one"), path, **options)

    return asyncio.run(run())


known = st.sampled_from(["|b1", "|u1", "|i1", "<u2", "<i2", "<f2", "<u4", "<i4", "<f4", "<u8", "<i8", "<f8", "<c8"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tree=st.dictionaries(
        st.text("abc", min_size=1, max_size=2),
        hnp.arrays(known, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)),
        min_size=1,
        max_size=6,
    ),
    seed=st.integers(0, 99),
)
def test_every_array_is_read_back_by_the_formats_own_library(tmp_path: Path, tree: Any, seed: int) -> None:
    folder = tmp_path / "checkpoints"
    (folder / "HEAD").unlink(missing_ok=True)
    write_checkpoint(folder, [{"model": tree, "note": "text"}], way=Way(seed=seed))
    report = exported(folder, tmp_path / "out.safetensors", overwrite=True)
    found = load_file(report.path)
    assert report.arrays == len(found) == len(tree)
    assert report.bytes == sum(array.nbytes for array in tree.values())
    for key, array in tree.items():
        other = found[f"model.{key}"]
        assert (other.dtype, other.shape, other.tobytes()) == (array.dtype, array.shape, array.tobytes())


def test_parts_of_all_ranks_are_joined_and_where_it_came_from_is_told(tmp_path: Path) -> None:
    whole = np.arange(24.0).reshape(6, 4)
    trees = [
        {
            "w": Sharded(whole[2 * rank : 2 * rank + 2].copy(), (6, 4), (2 * rank, 0)),
            "same": np.ones(3),
            "raw": b"x" * 2000,
        }
        for rank in range(3)
    ]
    write_checkpoint(tmp_path, trees, step=12)
    report = exported(tmp_path, tmp_path / "all.safetensors")
    assert report.left_out == ("raw",)
    found = load_file(report.path)
    assert found["w"].tobytes() == whole.tobytes()
    assert found["same"].tolist() == [1.0] * 3
    with safe_open(report.path, framework="numpy") as file:
        assert file.metadata() == {"format": "strata", "checkpoint_id": "one", "step": "12", "epoch": "0"}
    own = load_file(exported(tmp_path, tmp_path / "own.safetensors", rank=1, names=["w"]).path)
    assert list(own) == ["w"]
    assert own["w"].tobytes() == whole[2:4].tobytes()


def test_a_file_that_is_there_stays_and_a_failed_export_leaves_none(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    write_checkpoint(folder, [{"w": np.arange(100.0)}])
    target = tmp_path / "out.safetensors"
    target.write_text("mine")
    with pytest.raises(AlreadyExistsError, match=r"out\.safetensors is there already"):
        exported(folder, target)
    pack = next(folder.rglob("pack-*"))
    pack.write_bytes(bytes(len(pack.read_bytes())))
    with pytest.raises(CheckpointCorruptError):
        exported(folder, target, overwrite=True)
    assert target.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "out.safetensors"]
    with pytest.raises(StorageError, match="cannot be written: No such file or directory"):
        exported(folder, tmp_path / "nowhere" / "out")


@pytest.mark.parametrize(
    ("trees", "reason"),
    [
        ([{"t": np.array(["text"])}], r"t is <U4, which safetensors does not know: leave it out by names"),
        ([{"t": np.ones(2, ">f4")}], r"t is >f4, which"),
        ([{"a": {"b": np.ones(1)}, "a.b": np.ones(1)}], r"would both be called 'a\.b'"),
        ([{"w": np.ones(1)}, {"w": np.zeros(1)}], r"data\['w'\] differs between the ranks 0 and 1"),
        ([{"n": 5}], r"no array to export in one"),
    ],
)
def test_what_the_format_cannot_say_is_refused(tmp_path: Path, trees: Any, reason: str) -> None:
    write_checkpoint(tmp_path, trees)
    with pytest.raises(InvalidArgumentError, match=reason):
        exported(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_file_is_as_the_format_says(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, [{"small": np.ones(3, np.uint8), "large": np.ones(2)}])
    content = exported(tmp_path, tmp_path / "out").path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert (8 + length) % 8 == 0
    assert header["large"] == {"dtype": "F64", "shape": [2], "data_offsets": [0, 16]}
    assert header["small"] == {"dtype": "U8", "shape": [3], "data_offsets": [16, 19]}
    assert content[8 + length :] == np.ones(2).tobytes() + b"\1\1\1"
