"""Batches on their way to a device: in order, intact, and every slot goes back. On a GPU where there is one."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest

from strata_zmq.errors import InvalidArgumentError, UnavailableError
from strata_zmq.feed import Batch, DeviceFeed, Peer, Ring, describe_device, device_feed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from strata_zmq.feed import RingConsumer

DESCRIPTION = describe_device()
needs_gpu = pytest.mark.skipif(not DESCRIPTION.startswith("cuda:"), reason=DESCRIPTION)


def contents(k: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(k)
    return {
        "x": rng.random((k % 5 + 1, 300), dtype=np.float32),
        "y": rng.integers(0, 10, k % 5 + 1),
        "m": rng.random(k % 3) > 0.5,
        "scalar": np.float64(k).reshape(()),
    }


@contextmanager
def feed_of(count: int, slots: int) -> Iterator[tuple[Iterator[Batch], RingConsumer]]:
    """Batches of `contents`, written when they are asked for; asking without a free slot fails."""
    with Ring.create("strata-test", slots, 1 << 14) as ring, Peer.of("test", os.getpid()) as peer:
        producer, consumer = ring.producer(peer), ring.consumer(peer)

        def batches() -> Iterator[Batch]:
            for k in range(count):
                slot = producer.reserve(timeout_s=0)
                for name, array in contents(k).items():
                    slot.put(name, array)
                slot.commit()
                yield Batch(k, consumer.receive(timeout_s=0))

        yield batches(), consumer


def check(device: DeviceFeed, slots: int, to_numpy) -> None:
    for count in (0, 1, 2, 3, 40):
        with feed_of(count, slots) as (batches, consumer):
            seen = 0
            for batch in device.over(batches):
                assert batch.tag == seen
                expected = contents(seen)
                assert list(batch.arrays) == list(expected)
                for name, array in expected.items():
                    got = to_numpy(batch.arrays[name])
                    assert got.dtype == array.dtype
                    assert got.shape == array.shape
                    assert np.array_equal(got, array)
                seen += 1
            assert seen == count
            assert consumer.held == 0


@pytest.mark.parametrize(("copy", "slots"), [(False, 1), (False, 3), (True, 1), (True, 4)])
def test_every_batch_arrives_intact_in_order_and_every_slot_goes_back(copy, slots):
    with DeviceFeed("cpu", copy=copy) as device:
        check(device, slots, np.asarray)


def test_without_copy_the_arrays_are_the_slots_own():
    with feed_of(3, 1) as (batches, consumer), DeviceFeed("cpu") as device:
        for batch in device.over(batches):
            assert consumer.held == 1
            assert not batch.arrays["x"].flags.writeable


def test_two_buffers_take_one_batch_ahead_and_leave_the_one_in_use_alone():
    with feed_of(10, 1) as (batches, consumer), DeviceFeed("cpu", copy=True) as device:
        taken = []

        def watched() -> Iterator[Batch]:
            for batch in batches:
                taken.append(batch.tag)
                yield batch

        for batch in device.over(watched()):
            assert taken[-1] == min(batch.tag + 1, 9), "the next batch is moving already"
            assert consumer.held == 0, "though no slot is held"
            assert np.array_equal(batch.arrays["x"], contents(batch.tag)["x"])
            batch.arrays["x"][:] = -1


@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize("after", [1, 2, 5])
def test_leaving_in_the_middle_gives_every_slot_back(copy, after):
    with feed_of(10, 4) as (batches, consumer), DeviceFeed("cpu", copy=copy) as device:
        iterator = device.over(batches)
        for _ in range(after):
            next(iterator)
        iterator.close()
        assert consumer.held == 0


@pytest.mark.parametrize("copy", [False, True])
def test_a_source_that_fails_gives_every_slot_back(copy):
    with feed_of(10, 4) as (batches, consumer), DeviceFeed("cpu", copy=copy) as device:

        def failing() -> Iterator[Batch]:
            for _ in range(3):
                yield next(batches)
            raise KeyError("out of samples")

        with pytest.raises(KeyError, match="out of samples"):
            for _ in device.over(failing()):
                pass
        assert consumer.held == 0


def test_auto_takes_what_there_is_by_the_same_call():
    with feed_of(4, 2) as (batches, consumer):
        tags = [batch.tag for batch in device_feed(batches)]
        assert tags == [0, 1, 2, 3]
        assert consumer.held == 0


def test_where_there_is_no_gpu_it_is_said_plainly():
    assert describe_device("cpu") == "cpu"
    assert DESCRIPTION.startswith(("cuda:0 ", "no CUDA device: CuPy"))
    with pytest.raises(UnavailableError, match="device 99: no CUDA device: "):
        DeviceFeed(99)
    for wrong in ("gpu", 1.5, True, None):
        with pytest.raises(InvalidArgumentError, match="'auto', 'cpu' or a CUDA device's number"):
            DeviceFeed(wrong)


def test_a_cupy_that_cannot_be_imported_is_named_and_the_cpu_serves(tmp_path: Path):
    (tmp_path / "cupy.py").write_text("raise ImportError('libcuda.so.1: cannot open\\nshared object file')\n")
    code = (
        "from strata_zmq.feed import DeviceFeed, describe_device\n"
        "print(describe_device())\n"
        "print(list(DeviceFeed().over([])))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert result.stdout.splitlines() == [
        "no CUDA device: CuPy is installed and cannot be imported (libcuda.so.1: cannot open shared object file)",
        "[]",
    ]


def test_importing_the_feed_does_not_import_cupy(tmp_path: Path):
    (tmp_path / "cupy.py").write_text("raise SystemExit('imported')\n")
    code = "import strata_zmq.feed, strata_zmq.feed.gpu, strata_zmq.feed.loader_process"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(tmp_path)}, check=True)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("slots", [2, 4])
def test_on_a_gpu_every_batch_arrives_intact_and_every_slot_goes_back(slots):
    with DeviceFeed(0) as device:
        check(device, slots, lambda array: array.get())


@pytest.mark.gpu
@needs_gpu
def test_on_a_gpu_a_buffer_is_not_refilled_while_earlier_work_reads_it():
    import cupy

    with feed_of(30, 3) as (batches, _), DeviceFeed(0) as device:
        sums = []
        for batch in device.over(batches):
            matrix = cupy.random.random((2000, 2000))
            for _ in range(5):
                matrix = matrix @ matrix / 2000
            sums.append(batch.arrays["x"].astype(cupy.float64).sum() + 0 * matrix[0, 0])
        expected = [contents(k)["x"].astype(np.float64).sum() for k in range(30)]
        assert np.allclose([float(each) for each in sums], expected)


@pytest.mark.gpu
@needs_gpu
def test_on_a_gpu_the_callers_own_stream_is_ordered_with_the_copies():
    import cupy

    with cupy.cuda.Stream(non_blocking=True) as stream:
        with feed_of(20, 3) as (batches, _), DeviceFeed(0, stream=stream.ptr) as device:
            for batch in device.over(batches):
                exported = cupy.from_dlpack(batch.arrays["x"])
                assert np.array_equal(exported.get(), contents(batch.tag)["x"])


@pytest.mark.gpu
@needs_gpu
def test_on_a_gpu_the_ring_is_unregistered_with_the_feed():
    with feed_of(4, 2) as (batches, _):
        first = [next(batches), next(batches)]
        for batch in first:
            for _ in range(2):
                with DeviceFeed(0) as device:
                    assert [moved.tag for moved in device.over([batch])] == [batch.tag]
