"""What some ranks saved is loaded by another number of them, bit by bit; what cannot be told for certain is refused."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from storedkit import Way, write_checkpoint

from strata_zmq import CheckpointManager
from strata_zmq.checkpoint.reshard import Box, target_of
from strata_zmq.checkpoint.sharded import Sharded
from strata_zmq.errors import CheckpointCorruptError, InvalidArgumentError

quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
dtypes = st.sampled_from(["<f4", "|u1", ">i8", "<U3"])
ways = st.builds(
    Way, seed=st.integers(0, 2**32), cuts=st.integers(0, 20), pack_chunks=st.integers(1, 4), gap=st.just(9)
)


def numbered(shape: tuple[int, ...], dtype: str) -> Any:
    """An array of which every element is another."""
    return np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)


def rows(whole: Any, begin: int, end: int) -> Sharded:
    return Sharded(whole[begin:end].copy(), whole.shape, (begin, *(0 for _ in whole.shape[1:])))


@st.composite
def boxes(draw: st.DrawFn, shape: tuple[int, ...]) -> Box:
    edges = [sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape]
    return Box(tuple(a for a, _ in edges), tuple(b - a for a, b in edges))


@quick
@given(
    data=st.data(),
    length=st.integers(0, 13),
    tail=st.sampled_from([(), (3,), (2, 2)]),
    saved=st.integers(1, 5),
    dtype=dtypes,
    way=ways,
)
def test_rows_of_some_ranks_are_dealt_to_others(
    tmp_path: Path, data: st.DataObject, length: int, tail: tuple[int, ...], saved: int, dtype: str, way: Way
) -> None:
    whole = numbered((length, *tail), dtype)
    cuts = sorted(data.draw(st.lists(st.integers(0, length), min_size=saved - 1, max_size=saved - 1)))
    trees = [{"w": rows(whole, a, b), "same": whole[:2], "step": 7} for a, b in itertools.pairwise([0, *cuts, length])]
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    write_checkpoint(folder, trees, way=way)
    with CheckpointManager(folder) as manager:
        for world in {1, 3, saved + 1}:
            found = [manager.load(rank=rank, world=world) for rank in range(world)]
            assert b"".join(tree["w"].array.tobytes() for tree in found) == whole.tobytes()
            assert max(len(tree["w"].array) for tree in found) - min(len(tree["w"].array) for tree in found) <= 1 or (
                world == saved
            )
            begin = 0
            for tree in found:
                assert (tree["w"].global_shape, tree["w"].offsets) == (whole.shape, (begin, *(0 for _ in tail)))
                begin += len(tree["w"].array)
                assert tree["same"].tobytes() == whole[:2].tobytes()
                assert tree["step"] == 7
    shutil.rmtree(folder)


@quick
@given(data=st.data(), shape=hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=7), dtype=dtypes, way=ways)
def test_any_box_is_filled_from_any_grid_of_parts(
    tmp_path: Path, data: st.DataObject, shape: tuple[int, ...], dtype: str, way: Way
) -> None:
    whole = numbered(shape, dtype)
    axes = []
    for length in shape:
        cuts = data.draw(st.lists(st.integers(1, length), max_size=2, unique=True))
        axes.append(list(itertools.pairwise(sorted({0, length, *cuts}))))
    trees = []
    for cell in itertools.product(*axes):
        part = whole[tuple(slice(a, b) for a, b in cell)].copy()
        trees.append({"w": Sharded(part, shape, tuple(a for a, _ in cell))})
    copies = data.draw(st.lists(st.sampled_from(trees), max_size=2))
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    write_checkpoint(folder, data.draw(st.permutations(trees + copies)), way=way)
    want = data.draw(boxes(shape))
    mine = np.full(want.shape, whole.flat[0], dtype, order=data.draw(st.sampled_from("CF")))
    with CheckpointManager(folder) as manager:
        place = Sharded(mine, shape, want.offsets)
        found = manager.load(into={"w": place}, world=data.draw(st.sampled_from([None, 9])))
        assert found["w"] is place
        assert mine.tobytes() == whole[want.slices()].tobytes()
        joined = manager.load(world=1)["w"].array if len(trees + copies) > 1 else manager.load()["w"].array
        assert joined.tobytes() == whole.tobytes()
    shutil.rmtree(folder)


@quick
@given(data=st.data(), shape=hnp.array_shapes(min_dims=0, max_dims=4, max_side=5), dtype=dtypes)
def test_whatever_pieces_the_bytes_come_in_they_land_in_their_places(
    data: st.DataObject, shape: tuple[int, ...], dtype: str
) -> None:
    whole = numbered(shape, dtype)
    want, have = data.draw(boxes(shape)), data.draw(boxes(shape))
    array = np.zeros(want.shape, dtype)
    target = target_of(array, want, have)
    stored = np.array(whole[(*have.slices(), ...)], order="C")
    if target is not None:
        flat = np.frombuffer(stored.tobytes(), np.uint8)
        cuts = data.draw(st.lists(st.integers(0, len(flat)), max_size=5))
        for begin, end in data.draw(st.permutations(list(itertools.pairwise(sorted({0, len(flat), *cuts}))))):
            direct = target.within(begin, end - begin)
            if direct is not None:
                direct[:] = flat[begin:end]
            elif target.touches(begin, end - begin):
                target.place(begin, flat[begin:end])
    expected = np.zeros(shape, dtype)
    expected[(*have.slices(), ...)] = stored
    assert array.tobytes() == expected[(*want.slices(), ...)].tobytes()


def test_four_ranks_then_three_then_one(tmp_path: Path) -> None:
    model = numbered((10, 6), "<f8")
    optimizer = numbered((4, 12), "<f4")
    state = [
        {
            "model": rows(model, *edge),
            "optimizer": Sharded(optimizer[:, 3 * rank : 3 * rank + 3].copy(), (4, 12), (0, 3 * rank)),
        }
        for rank, edge in enumerate([(0, 3), (3, 6), (6, 8), (8, 10)])
    ]
    for name, world in (("of four", 3), ("of three", 1)):
        folder = tmp_path / name
        write_checkpoint(folder, state, way=Way(seed=world, cuts=11))
        with CheckpointManager(folder) as manager:
            state = [manager.load(rank=rank, world=world) for rank in range(world)]
    (found,) = state
    assert found["model"].array.tobytes() == model.tobytes()
    assert found["optimizer"].array.tobytes() == optimizer.tobytes()


def test_one_rank_had_all_and_another_nothing(tmp_path: Path) -> None:
    whole = numbered((1, 3), "<f8")
    write_checkpoint(tmp_path, [{"w": whole}, {"w": rows(whole, 1, 1)}])
    with CheckpointManager(tmp_path) as manager:
        parts = [manager.load(rank=rank, world=3)["w"] for rank in range(3)]
        assert [part.array.shape for part in parts] == [(0, 3), (0, 3), (1, 3)]
        assert parts[2].array.tobytes() == whole.tobytes()


def test_only_the_chunks_that_hold_something_wanted_are_read(tmp_path: Path) -> None:
    whole = numbered((64, 16), "<f8")
    write_checkpoint(tmp_path, [{"w": rows(whole, 16 * r, 16 * r + 16)} for r in range(4)], way=Way(cuts=0))
    with CheckpointManager(tmp_path) as manager:
        manager.load(rank=0, world=2)
        assert manager.last_restore is not None
        assert manager.last_restore.bytes_checked == whole.nbytes // 2
        for pack in tmp_path.glob("ckpt/one/rank-0000[23]/pack-*"):
            pack.unlink()
        assert manager.load("one", rank=0, world=2)["w"].array.tobytes() == whole[:32].tobytes()
        with pytest.raises(CheckpointCorruptError, match=r"rank-0000[23]"):
            manager.load("one", rank=1, world=2)


def test_copies_in_equal_chunks_are_read_once(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, [{"w": numbered((9, 9), "<f8")} for _ in range(4)], way=Way(cuts=0))
    with CheckpointManager(tmp_path) as manager:
        manager.load(world=1)
        assert manager.last_restore is not None
        assert manager.last_restore.bytes_checked == 9 * 9 * 8
        assert not manager.last_restore.whole, "the other copies were not looked at"


def test_one_rank_that_saved_plain_arrays_can_be_cut_for_many(tmp_path: Path) -> None:
    whole = numbered((6, 4), "<f4")
    write_checkpoint(tmp_path, [{"w": whole}])
    with CheckpointManager(tmp_path) as manager:
        assert manager.load(rank=1, world=2)["w"].tobytes() == whole.tobytes(), "all had it, all get it"
        mine = Sharded(np.zeros((6, 2), np.float32), (6, 4), (0, 2))
        manager.load(rank=1, world=2, into={"w": mine})
        assert mine.array.tobytes() == whole[:, 2:].tobytes()


WHOLE = numbered((4, 2), "<f4")


@pytest.mark.parametrize(
    ("trees", "reason"),
    [
        ([{"w": WHOLE}, {"w": WHOLE + 1}], r"data\['w'\] differs between the ranks 0 and 1.*Sharded"),
        ([{"w": WHOLE[:1]}, {"w": WHOLE[:2]}], r"data\['w'\] is <f4 of shape \(1, 2\) on rank 0 and .*Sharded"),
        ([{"w": 1}, {"w": 2}], r"^w differs between the ranks 0 and 1 of one"),
        ([{"w": WHOLE}, {"w": WHOLE, "x": 1}], r"the state differs between the ranks 0 and 1"),
        ([{"w": rows(WHOLE, 0, 1)}, {"w": rows(WHOLE, 2, 4)}], r"data\['w'\] was not saved whole: .* 6 of 8 elements"),
        ([{"w": rows(WHOLE, 0, 3)}, {"w": rows(WHOLE, 2, 4)}], r"data\['w'\] was saved in parts that overlap"),
        ([{"w": rows(WHOLE, 0, 4)}, {"w": rows(WHOLE + 1, 0, 4)}], r"data\['w'\] differs between the ranks 0 and 1"),
    ],
)
def test_what_cannot_be_told_for_certain_is_refused(tmp_path: Path, trees: list[Any], reason: str) -> None:
    write_checkpoint(tmp_path, trees)
    with CheckpointManager(tmp_path) as manager:
        with pytest.raises(InvalidArgumentError, match=reason):
            manager.load(world=1)
        assert set(manager.load(rank=0)) == {"w"}, "each rank's own can be had"


def test_how_many_ranks_share_an_array_that_was_cut_twice_is_not_guessed(tmp_path: Path) -> None:
    quarters = [{"w": Sharded(WHOLE[i : i + 2, j : j + 1].copy(), (4, 2), (i, j))} for i in (0, 2) for j in (0, 1)]
    write_checkpoint(tmp_path, quarters)
    with CheckpointManager(tmp_path) as manager:
        with pytest.raises(InvalidArgumentError, match=r"was cut along the axes 0, 1.*give Sharded.*in into"):
            manager.load(rank=0, world=2)
        assert manager.load(world=1)["w"].array.tobytes() == WHOLE.tobytes()
        with pytest.raises(InvalidArgumentError, match=r"a part of \(4, 3\), the checkpoint has .* of \(4, 2\)"):
            manager.load(into={"w": Sharded(np.zeros((1, 3), np.float32), (4, 3), (0, 0))})
        with pytest.raises(InvalidArgumentError, match=r"rank is 2: of 2 ranks give one from 0 to 1"):
            manager.load(rank=2, world=2)
