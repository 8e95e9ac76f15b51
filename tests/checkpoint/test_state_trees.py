"""What was saved comes back, bit by bit and type by type; what cannot is refused with its place in the tree."""

from __future__ import annotations

import collections
import enum
import math
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from strata_zmq import CheckpointManager
from strata_zmq.checkpoint.sharded import Sharded
from strata_zmq.checkpoint.tree import flatten
from strata_zmq.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CheckpointManager]:
    with CheckpointManager(tmp_path_factory.mktemp("trees"), keep_count=1, chunk_bytes=4096) as manager:
        yield manager


def there_and_back(manager: CheckpointManager, data: object) -> Any:
    saved = manager.save(data, step=1, epoch=0)
    manager.wait_pending()
    return manager.load(saved)


def assert_same(found: Any, wanted: Any) -> None:
    assert type(found) is type(wanted)
    if isinstance(wanted, dict):
        assert list(found) == list(wanted)
        assert [type(key) for key in found] == [type(key) for key in wanted]
        for key in wanted:
            assert_same(found[key], wanted[key])
    elif isinstance(wanted, (list, tuple)):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert_same(one, other)
    elif isinstance(wanted, (np.ndarray, np.generic)):
        assert (found.dtype.str, found.shape) == (wanted.dtype.str, wanted.shape)
        assert found.tobytes() == wanted.tobytes()
    elif isinstance(wanted, float):
        assert struct.pack("d", found) == struct.pack("d", wanted)
    else:
        assert found == wanted


arrays = hnp.arrays(
    dtype=st.one_of(
        hnp.boolean_dtypes(),
        hnp.integer_dtypes(endianness="?"),
        hnp.unsigned_integer_dtypes(endianness="?"),
        hnp.floating_dtypes(endianness="?"),
        hnp.complex_number_dtypes(endianness="?"),
        hnp.byte_string_dtypes(min_len=1),
        hnp.unicode_string_dtypes(min_len=1),
        hnp.datetime64_dtypes(),
    ),
    shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
)
plain = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**200), 2**200)
    | st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("d", struct.pack("Q", bits))[0])
    | st.text()
    | st.binary(max_size=20)
    | st.binary(min_size=1025, max_size=1100)
)
trees = st.recursive(
    plain | arrays,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text() | st.integers(-(2**63), 2**63 - 1), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(tree=trees)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_tree_of_what_is_offered_comes_back_bit_by_bit(manager: CheckpointManager, tree: object) -> None:
    assert_same(there_and_back(manager, tree), tree)


def _views() -> dict[str, np.ndarray]:
    base = np.arange(10_000, dtype=np.float32).reshape(100, 100)
    return {
        "transposed": base.T,
        "strided": base[::3, 1::7],
        "reversed": base[::-1],
        "fortran": np.asfortranarray(base),
        "broadcast": np.broadcast_to(np.float64(3), (50, 50)),
        "zero dimensions": np.array(7, np.int16),
        "empty": np.empty((0, 5), np.int8),
        "half": np.array([1, np.nan, -0.0, np.inf, 6e-8], np.float16),
        "nan payloads": np.array([0x7FF8DEADBEEF0001, 0x7FF0000000000001, 0xFFF8000000000000], np.uint64).view(float),
        "negative zero": np.array([-0.0, 0.0]),
        "big endian": np.arange(5, dtype=">i4"),
        "long double": np.array([1, 2], np.longdouble),
        "memory without alignment": np.frombuffer(b"\0" + bytes(range(16)), np.uint8)[1:].view("<f8"),
        "read-only": np.frombuffer(b"abcdefgh", np.int32),
    }


@pytest.mark.parametrize("name", list(_views()))
def test_arrays_of_any_layout_come_back_contiguous_and_equal_to_the_bit(manager: CheckpointManager, name: str) -> None:
    array = _views()[name]
    found = there_and_back(manager, {"x": array})["x"]
    assert (found.dtype.str, found.shape, found.tobytes()) == (array.dtype.str, array.shape, array.tobytes())
    assert found.flags.c_contiguous
    assert found.flags.writeable


def test_values_at_the_edges_of_their_types_come_back(manager: CheckpointManager) -> None:
    tree = [2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**5000, -0.0, math.inf, -math.inf, 5e-324, "\ud800", "", b""]
    assert_same(there_and_back(manager, tree), tree)
    assert math.isnan(there_and_back(manager, math.nan))


def test_an_array_larger_than_a_chunk_is_put_together_again(manager: CheckpointManager) -> None:
    tree = {"large": np.random.default_rng(1).integers(0, 256, 50_001, np.uint8), "small": np.arange(3)}
    assert_same(there_and_back(manager, tree), tree)


def test_objects_with_a_state_dict_come_back_as_what_it_returned(manager: CheckpointManager) -> None:
    class Model:
        def state_dict(self) -> dict[str, object]:
            return collections.OrderedDict(weight=np.ones(3), inner=Inner())

    class Inner:
        def state_dict(self) -> dict[str, object]:
            return {"bias": np.zeros(2)}

    found = there_and_back(manager, {"model": Model(), "step": 3})
    assert_same(found, {"model": {"weight": np.ones(3), "inner": {"bias": np.zeros(2)}}, "step": 3})


def test_anything_that_offers_itself_as_an_array_comes_back_as_one(manager: CheckpointManager) -> None:
    class Tensor:
        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            return np.arange(4.0)

    assert_same(there_and_back(manager, [Tensor()]), [np.arange(4.0)])


def test_a_state_that_is_changed_after_save_is_saved_as_it_was(manager: CheckpointManager) -> None:
    """Always copied: training may go on the moment that save returns."""
    weights = np.zeros(1_000_000)
    saved = manager.save({"w": weights}, step=1, epoch=0)
    weights[:] = 1
    manager.wait_pending()
    assert not manager.load(saved)["w"].any()


def test_equal_states_give_equal_chunks(tmp_path: Path) -> None:
    """Reused staging memory leaks nothing of an earlier state into a later checkpoint."""

    def chunks(folder: str, states: list[object]) -> set[str]:
        with CheckpointManager(tmp_path / folder, keep_count=1) as manager:
            for step, state in enumerate(states):
                manager.save(state, step, 0)
        return {path.name for path in (tmp_path / folder).rglob("chunk-*")}

    noise = np.random.default_rng(0).integers(0, 256, 5000, np.uint8)
    state = [np.ones(3, np.uint8), np.ones(5, np.uint8), np.ones(70, np.uint8)]
    assert chunks("fresh", [state]) == chunks("reused", [noise, noise, noise, state])


class _Colour(enum.IntEnum):
    RED = 1


class _Masked:
    def __array__(self) -> np.ndarray:
        raise TypeError("implicit conversion is not allowed")


_Point = collections.namedtuple("_Point", "x y")


def _itself() -> list[object]:
    loop: list[object] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (object(), r"data\['m'\]\[1\] is a builtins.object, which is not stored \(nothing is pickled\)"),
        ({1, 2}, r"data\['m'\]\[1\] is a set: save a sorted list"),
        (_Point(1, 2), r"named tuple .*_Point.*_asdict"),
        (_Colour.RED, r"_Colour"),
        ({(1, 2): 3}, r"data\['m'\]\[1\] has the key \(1, 2\) of type tuple.*str\(\)"),
        ({True: 3}, r"has the key True of type bool"),
        ({2**63: 3}, r"64-bit"),
        (np.array([object()]), r"data\['m'\]\[1\] is an array of Python objects"),
        (np.zeros(2, [("a", "i4")]), r"has the dtype .*fields one by one"),
        (np.ma.masked_array([1, 2], [0, 1]), r"MaskedArray, of which only the numbers could be kept"),
        (_Masked(), r"__array__ failed \(implicit conversion is not allowed\)"),
        (_itself(), r"nested deeper than 64: does the tree contain itself\?"),
        (lambda: None, r"function"),
        (dict, r"builtins.type"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_come_back_is_refused_with_its_place(
    manager: CheckpointManager, value: object, reason: str
) -> None:
    before = manager.latest()
    with pytest.raises(InvalidArgumentError, match=reason):
        manager.save({"m": [0, value]}, step=1, epoch=0)
    manager.wait_pending()
    assert manager.latest() == before


class OnlyDLPack:
    """An array of a library that offers DLPack and nothing else."""

    def __init__(self, array: np.ndarray[Any, Any], device: int = 1) -> None:
        self._array = array
        self._device = device

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device, 0


def test_an_array_that_offers_only_dlpack_is_saved_as_what_it_holds() -> None:
    array = np.arange(12.0).reshape(3, 4)[:, ::2]
    _, (leaf,) = flatten({"w": OnlyDLPack(array)})
    assert (leaf.shape, leaf.dtype, leaf.tag) == ((3, 2), "<f8", "numpy")
    assert np.array_equal(leaf.read(), array)


def test_an_array_on_a_device_that_cannot_be_read_here_and_a_broken_one_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"data\['w'\] is a OnlyDLPack on a device .* calls 2: save a copy"):
        flatten({"w": OnlyDLPack(np.zeros(3), device=2)})
    with pytest.raises(InvalidArgumentError, match="whose DLPack failed"):
        flatten({"w": OnlyDLPack(np.zeros(3, "M8[s]"))})


class Shaped:
    """Something that has a shape and is no array."""

    shape = (2,)


def test_a_part_of_a_larger_array_keeps_its_place() -> None:
    _, (leaf,) = flatten([Sharded(np.ones((2, 3), np.float32), (8, 3), (4, 0))])
    assert (leaf.shape, leaf.global_shape, leaf.global_offsets) == ((2, 3), (8, 3), (4, 0))
    with pytest.raises(InvalidArgumentError, match=r"data\[0\] is Sharded of a Shaped: give it an array"):
        flatten([Sharded(Shaped(), (8,), (0,))])
