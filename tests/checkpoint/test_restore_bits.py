"""What any release wrote, cut and packed in any way, comes back bit by bit; what was damaged does not come back."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from storedkit import Way, loaded_bytes, write_checkpoint

from strata_zmq import CheckpointManager
from strata_zmq.checkpoint.codec import decompress
from strata_zmq.errors import CheckpointCorruptError, InvalidArgumentError, NotFoundError

arrays = hnp.arrays(
    dtype=st.sampled_from(["<f4", ">f8", "|u1", "<i2", "|b1", "<c16", "<U3", "<M8[s]"]),
    shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6),
)
trees = st.recursive(
    st.one_of(arrays, st.integers(), st.text(max_size=3), st.binary(max_size=2000), st.none()),
    lambda inner: st.one_of(
        st.dictionaries(st.text("abc.", min_size=1, max_size=3), inner, max_size=4), st.lists(inner, max_size=4)
    ),
    max_leaves=12,
)
ways = st.builds(
    Way,
    seed=st.integers(0, 2**32),
    record_format=st.sampled_from([1, 2, 2]),
    cuts=st.integers(0, 12),
    pack_chunks=st.integers(1, 5),
    gap=st.sampled_from([0, 1, 300]),
)
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def written(root: Path, *ranks: Any, **options: Any) -> Path:
    """A new folder with one checkpoint."""
    folder = Path(tempfile.mkdtemp(dir=root))
    write_checkpoint(folder, ranks, **options)
    return folder


@quick
@given(tree=trees, way=ways, zstd=st.booleans(), budget=st.sampled_from([1, 64, 1 << 28]))
def test_any_tree_in_any_chunks_of_any_release_comes_back_bit_by_bit(
    tmp_path: Path, tree: Any, way: Way, zstd: bool, budget: int
) -> None:
    way = Way(way.seed, way.record_format, way.cuts, way.pack_chunks, way.gap, 0.7 * (zstd and way.record_format == 2))
    folder = written(tmp_path, {"tree": tree}, way=way)
    with CheckpointManager(folder) as manager:
        found = manager.load(memory_budget_bytes=budget)
        assert loaded_bytes(found) == loaded_bytes({"tree": tree})
        assert manager.last_restore is not None
        assert manager.last_restore.whole
    shutil.rmtree(folder)


@quick
@given(
    data=st.data(),
    shape=hnp.array_shapes(min_dims=0, max_dims=3, max_side=7),
    way=ways,
    order=st.sampled_from("CF"),
    step=st.sampled_from([1, 2, -1]),
)
def test_arrays_of_any_strides_are_filled_in_place(
    tmp_path: Path, data: st.DataObject, shape: tuple[int, ...], way: Way, order: Any, step: int
) -> None:
    saved = data.draw(hnp.arrays(np.dtype("<f4"), shape))
    room = np.full([2 * length for length in shape], np.float32(np.nan), order=order)
    mine = room[(*(slice(None, None, step) if step > 1 else slice(0, length) for length in shape), ...)]
    mine = mine[(*(slice(None, None, -1),) * len(shape), ...)] if step < 0 else mine
    folder = written(tmp_path, {"a": saved, "b": [saved, 5]}, way=way)
    with CheckpointManager(folder) as manager:
        found = manager.load(into={"a": mine})
        assert found["a"] is mine
        assert mine.tobytes() == saved.tobytes() == found["b"][0].tobytes()
        assert found["b"][1] == 5
    if step > 1 and shape:
        assert np.isnan(room[tuple(slice(1, None, 2) for _ in shape)]).all(), "nothing beside them is touched"
    shutil.rmtree(folder)


STATE = {
    "model": {"w": np.arange(12.0).reshape(3, 4), "layers": [np.ones(2), np.zeros(3)]},
    "optimizer": {"m": np.arange(5), "step": 7},
}


def test_only_what_is_named_is_read(tmp_path: Path) -> None:
    folder = written(tmp_path, STATE, way=Way(cuts=40, pack_chunks=1))
    with CheckpointManager(folder) as manager:
        assert loaded_bytes(manager.load(names=["optimizer.*"])) == loaded_bytes(STATE["optimizer"])
        assert manager.load(names=["optimizer.step"]) == {"optimizer": {"step": 7}}
        assert manager.last_restore is not None
        assert manager.last_restore.bytes_checked == 0
        assert not manager.last_restore.whole
        assert list(manager.load(names=["model", "model.w"])["model"]) == ["w", "layers"]
        part = manager.load(names=["*.layers.1"])
        assert list(part["model"]["layers"]) == [1], "positions stay what they were"
        with pytest.raises(NotFoundError, match=r"nothing matches modle\.\*; there are: model, model\.w"):
            manager.load(names=["model.*", "modle.*"])
        with pytest.raises(InvalidArgumentError, match=r"names is 'model': give a list"):
            manager.load(names="model")


def test_a_part_can_be_loaded_from_a_checkpoint_whose_other_parts_are_damaged(tmp_path: Path) -> None:
    big = {"a": np.zeros(1000, np.uint8), "b": np.ones(1000, np.uint8)}
    folder = written(tmp_path, big, way=Way(cuts=0))
    pack = next(folder.rglob("pack-*"))
    pack.write_bytes(pack.read_bytes()[:-1] + b"x")
    with CheckpointManager(folder) as manager:
        with pytest.raises(CheckpointCorruptError, match="has the digest"):
            manager.load("one", names=["a"])
    folder = written(tmp_path, {"a": big["a"]}, checkpoint_id="one")
    with CheckpointManager(folder) as manager:
        assert manager.load("one", names=["a"])["a"].sum() == 0


@pytest.mark.parametrize(
    ("into", "reason"),
    [
        ({"model": {"w": np.zeros((3, 4), np.float32)}}, r"into\['model'\]\['w'\] is of <f4, .* of <f8"),
        ({"model": {"w": np.zeros((4, 3))}}, r"into\['model'\]\['w'\] has the shape \(4, 3\), .* has \(3, 4\)"),
        ({"model": {"x": np.zeros(1)}}, r"into\['model'\]\['x'\] is not in the checkpoint"),
        ({"model": {"w": [1.0]}}, r"into\['model'\]\['w'\] is a list, which cannot be filled in place"),
        ({"model": {"layers": [None]}}, r"into\['model'\]\['layers'\]: the checkpoint has 2 items there"),
        ({"model": [None]}, r"into\['model'\] is a list, and the checkpoint has a dict there"),
        ({"model": {"w": np.broadcast_to(np.zeros(4), (3, 4))}}, r"into\['model'\]\['w'\] is read-only"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_read(tmp_path: Path, into: Any, reason: str) -> None:
    folder = written(tmp_path, STATE)
    for pack in folder.rglob("pack-*"):
        pack.unlink()
    with CheckpointManager(folder) as manager:
        with pytest.raises(InvalidArgumentError, match=reason):
            manager.load("one", into=into)


@pytest.mark.parametrize("record_format", [1, 2])
def test_a_flipped_bit_and_a_lost_end_are_damage_wherever_they_are(tmp_path: Path, record_format: int) -> None:
    folder = written(tmp_path, STATE, way=Way(record_format=record_format, cuts=9, pack_chunks=3))
    with CheckpointManager(folder) as manager:
        for pack in sorted(folder.rglob("pack-*")):
            good = pack.read_bytes()
            for at in range(len(good)):
                bad = bytearray(good)
                bad[at] ^= 1 << at % 8
                pack.write_bytes(bad)
                with pytest.raises(CheckpointCorruptError, match=pack.name):
                    manager.load("one")
            pack.write_bytes(good[:-1])
            with pytest.raises(CheckpointCorruptError, match=rf"{pack.name} ends 1 bytes before"):
                manager.load("one")
            pack.unlink()
            with pytest.raises(CheckpointCorruptError, match=rf"{pack.name} is missing"):
                manager.load("one")
            pack.write_bytes(good)
        assert loaded_bytes(manager.load("one")) == loaded_bytes(STATE)


def test_compressed_bytes_that_lie_about_themselves_are_damage(tmp_path: Path) -> None:
    folder = written(tmp_path, {"w": np.zeros(100_000)}, way=Way(cuts=0, zstd=1.0))
    pack = next(folder.rglob("pack-*"))
    good = pack.read_bytes()
    assert len(good) < 1000, "it is compressed"
    with CheckpointManager(folder) as manager:
        for at in range(len(good)):
            for bit in range(8):
                bad = bytearray(good)
                bad[at] ^= 1 << bit
                pack.write_bytes(bad)
                # A few bits of a frame say nothing about its content.
                with contextlib.suppress(CheckpointCorruptError):
                    assert manager.load("one")["w"].tobytes() == bytes(800_000)


def test_a_frame_that_claims_to_hold_more_than_any_memory_is_damage() -> None:
    claims = b"\x28\xb5\x2f\xfd" + b"\xe0" + (2**62).to_bytes(8, "little") + b"\x01\x00\x00"
    with pytest.raises(CheckpointCorruptError, match="the chunk"):
        decompress("zstd", claims, 4096, "the chunk")


MEMORY = """
import sys, numpy as np
from strata_zmq import CheckpointManager
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024
with CheckpointManager(sys.argv[1]) as manager:
    manager.load(names=["small"])
    before = peak()
    state = manager.load(memory_budget_bytes=int(sys.argv[2]))
    print(peak() - before, sum(array.nbytes for array in state["many"]))
"""


@pytest.mark.parametrize("pieces", [1, 400])
def test_a_load_takes_the_memory_of_the_state_and_its_budget_and_not_more(tmp_path: Path, pieces: int) -> None:
    size = 96 * 2**20
    state = {"small": np.zeros(1), "many": [np.full(size // pieces // 8, i, np.int64) for i in range(pieces)]}
    with CheckpointManager(tmp_path) as manager:
        manager.save(state, 1, 0)
    del state
    budget = 8 * 2**20
    ended = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path), str(budget)], capture_output=True, text=True, timeout=100
    )
    assert ended.returncode == 0, ended.stderr
    took, held = map(int, ended.stdout.split())
    assert held > size * 0.99
    assert took < held + budget + 8 * 2**20, "the threads' own stacks and heaps are a few MiB"
