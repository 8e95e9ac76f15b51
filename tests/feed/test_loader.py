"""What training code relies on when another process reads its batches."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from processkit.patience import until

from strata_zmq.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    NotFoundError,
    PeerLostError,
    ResourceExhaustedError,
)
from strata_zmq.feed.loader import Loader
from strata_zmq.feed.messages import ReaderError
from strata_zmq.feed.readers import ArrayReader, FactoryReader

HERE = Path(__file__).parent


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.fixture(autouse=True)
def _readers_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)


def factory(name: str, **kwargs: object) -> FactoryReader:
    return FactoryReader(f"sample_readers:{name}", kwargs)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    arrays = {
        "x": rng.integers(0, 256, (500, 28, 28), dtype=np.uint8),
        "y": rng.integers(0, 10, 500),
        "w": rng.random((500, 2)).astype(">f4"),
    }
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    return arrays


def arrays_of(tmp_path: Path) -> ArrayReader:
    return ArrayReader({name: str(tmp_path / f"{name}.npy") for name in ("x", "y", "w")})


def test_every_batch_arrives_bit_exact_and_in_order_though_slots_are_reused(tmp_path, files):
    rng = np.random.default_rng(3)
    wanted = [rng.integers(0, 500, rng.integers(1, 33)) for _ in range(100)]
    with Loader(arrays_of(tmp_path), batch_rows=32, slots=3) as loader:
        assert loader.samples == 500
        for tag, batch in enumerate(loader.stream(enumerate(wanted))):
            with batch:
                assert batch.tag == tag
                for name, array in files.items():
                    assert np.array_equal(batch.arrays[name], array[wanted[tag]])
                    assert batch.arrays[name].dtype == array.dtype.newbyteorder("=")
                    assert not batch.arrays[name].flags.writeable
        assert tag == 99


def test_any_reader_that_python_can_import_will_do():
    with Loader(factory("Squares", length=50, width=4), batch_rows=8) as loader:
        loader.submit(np.array([3, 1, 49]), tag=11)
        with loader.receive() as batch:
            assert batch.tag == 11
            assert batch.arrays["index"].tolist() == [3, 1, 49]
            assert batch.arrays["square"].tolist() == [[9] * 4, [1] * 4, [2401] * 4]


def test_no_more_is_under_way_or_held_than_the_ring_has_slots(tmp_path):
    with Loader(factory("Slow", length=100, folder=str(tmp_path)), batch_rows=2, slots=2) as loader:
        assert loader.room == 2
        loader.submit(np.array([10, 11]))
        loader.submit(np.array([20, 21]))
        assert loader.room == 0
        with pytest.raises(ResourceExhaustedError, match="2 batches are under way and 0 held"):
            loader.submit(np.array([30, 31]))
        (tmp_path / "go").touch()
        first, second = loader.receive(), loader.receive()
        assert loader.room == 0
        second.release()
        loader.submit(np.array([30, 31]))
        assert loader.receive().arrays["index"].tolist() == [30, 31]
        assert first.arrays["index"].tolist() == [10, 11], "held, so not written over by the third"


def test_a_stream_whose_batches_are_never_released_says_so():
    with Loader(factory("Squares", length=10), batch_rows=2, slots=2) as loader:
        with pytest.raises(ResourceExhaustedError, match="release each batch"):
            list(loader.stream((k, np.array([k])) for k in range(5)))


def test_requests_larger_than_any_socket_buffer_do_not_block_submit(tmp_path):
    rows = 200_000
    np.save(tmp_path / "x.npy", np.arange(rows, dtype=np.int32))
    with Loader(ArrayReader({"x": str(tmp_path / "x.npy")}), batch_rows=rows, slots=4) as loader:
        wanted = [np.random.default_rng(k).permutation(rows) for k in range(4)]
        for indices in wanted:
            loader.submit(indices)
        for indices in wanted:
            with loader.receive() as batch:
                assert np.array_equal(batch.arrays["x"], indices)


def test_after_a_flush_only_what_was_submitted_later_arrives(tmp_path):
    with Loader(factory("Slow", length=100, folder=str(tmp_path)), batch_rows=2, slots=4) as loader:
        for first in (10, 20, 30, 40):
            loader.submit(np.array([first, first + 1]), tag=first)
        assert loader.flush() == 4
        assert loader.room == 4
        for first in (50, 60, 70, 80):
            loader.submit(np.array([first, first + 1]), tag=first)
        (tmp_path / "go").touch()
        for first in (50, 60, 70, 80):
            with loader.receive() as batch:
                assert (batch.tag, batch.arrays["index"].tolist()) == (first, [first, first + 1])
        assert not (tmp_path / "read-40").exists(), "what was flushed before its turn is not read"


def test_a_batch_that_is_held_survives_a_flush():
    with Loader(factory("Squares", length=100), batch_rows=2, slots=2) as loader:
        loader.submit(np.array([5]))
        held = loader.receive()
        for k in range(20):
            loader.submit(np.array([k]))
            loader.flush()
        loader.submit(np.array([9]), tag=9)
        with loader.receive() as batch:
            assert batch.arrays["index"].tolist() == [9]
        assert held.arrays["index"].tolist() == [5]


def test_a_reader_that_raises_costs_its_batch_and_keeps_its_traceback():
    with Loader(factory("Troublesome", length=100), batch_rows=4, slots=2) as loader:
        loader.submit(np.array([90, 1]), tag=77)
        loader.submit(np.array([2, 3]), tag=78)
        with pytest.raises(ReaderError, match=r"tag 77.*no such sample: ninety") as raised:
            loader.receive()
        assert raised.value.tag == 77
        assert raised.value.remote_type == "builtins.KeyError"
        assert "in read" in raised.value.remote_traceback
        assert "sample_readers.py" in raised.value.remote_traceback
        with loader.receive() as batch:
            assert batch.tag == 78
            assert batch.arrays["index"].tolist() == [2, 3]


@pytest.mark.parametrize(
    ("first", "says"),
    [
        (91, r"Troublesome.*'index' has 3 rows, 4 were asked for"),
        (92, r"Troublesome.*no arrays"),
        (93, r"'index': dtype object cannot travel"),
        (94, r"ends at byte 33554432 of a slot that holds \d+; raise slot_bytes"),
    ],
)
def test_a_short_an_empty_an_unshareable_and_an_oversize_read_are_named(first, says):
    with Loader(factory("Troublesome", length=100), batch_rows=4, slots=2) as loader:
        for _ in range(3):
            loader.submit(np.array([first, 1, 2, 3]))
            with pytest.raises(ReaderError, match=says):
                loader.receive()
        loader.submit(np.array([4]))
        with loader.receive() as batch:
            assert batch.arrays["index"].tolist() == [4]


def test_more_arrays_than_a_slot_describes_cost_their_batch_only():
    with Loader(factory("Troublesome", length=100), batch_rows=4, slots=2, slot_bytes=1 << 16) as loader:
        loader.submit(np.array([97]))
        loader.submit(np.array([4]))
        with pytest.raises(ReaderError, match="at most 64 arrays, got 65"):
            loader.receive()
        with loader.receive() as batch:
            assert batch.arrays["index"].tolist() == [4]


def test_slot_bytes_makes_room_for_samples_of_varying_size():
    with Loader(factory("Troublesome", length=100), batch_rows=4, slots=1, slot_bytes=33_558_528) as loader:
        loader.submit(np.array([94, 1, 2, 3]))
        with loader.receive() as batch:
            assert batch.arrays["index"].shape == (4, 1 << 20)


def test_a_loader_process_that_is_killed_is_named_at_once():
    with Loader(factory("Troublesome", length=100), batch_rows=4, slots=4) as loader:
        loader.submit(np.array([1]), tag=1)
        loader.submit(np.array([95]), tag=2)
        loader.submit(np.array([2]), tag=3)
        with loader.receive() as batch:
            assert batch.tag == 1
        started = time.monotonic()
        with pytest.raises(PeerLostError, match=rf"loader process {loader.pid} died.*tag 2.*SIGKILL"):
            loader.receive(timeout_s=30)
        assert time.monotonic() - started < 10, "found by its death, not by the time-out"
        with pytest.raises(PeerLostError):
            loader.receive(timeout_s=30)


def test_what_was_delivered_before_the_loader_process_died_is_still_received(tmp_path):
    (tmp_path / "go").touch()
    with Loader(factory("Slow", length=100, folder=str(tmp_path)), batch_rows=2, slots=4) as loader:
        loader.submit(np.array([1, 2]), tag=1)
        loader.submit(np.array([3, 4]), tag=2)
        loader.submit(np.array([5, 6]), tag=3)
        until((tmp_path / "read-5").exists, 20.0, "the third read, which begins when the second is delivered")
        os.kill(loader.pid, signal.SIGKILL)
        until(lambda: gone(loader.pid), 20.0, "the end of the loader process")
        for tag in (1, 2):
            assert loader.receive().arrays["index"].tolist() == [2 * tag - 1, 2 * tag]


def test_a_stuck_reader_ends_in_a_timeout_that_names_it_and_close_still_works():
    with Loader(factory("Troublesome", length=100), batch_rows=4) as loader:
        loader.submit(np.array([96]), tag=5)
        with pytest.raises(DeadlineExceededError, match=rf"loader process {loader.pid}.*tag 5.*0\.2 s") as raised:
            loader.receive(timeout_s=0.2)
        assert raised.value.missing == (f"loader process {loader.pid}",)
        loader.close(grace_s=0.1)
        assert gone(loader.pid)


@pytest.mark.parametrize(
    ("reader", "error", "says"),
    [
        (ArrayReader({"x": "/nowhere/x.npy"}), NotFoundError, "'x': /nowhere/x.npy does not exist"),
        (ArrayReader({}), InvalidArgumentError, "at least one array"),
        (ArrayReader({"x": __file__}), InvalidArgumentError, r"'x': .*is no whole \.npy file"),
        (FactoryReader("no_such_module:x"), NotFoundError, "no_such_module"),
        (FactoryReader("sample_readers:nothing"), NotFoundError, "nothing"),
        (FactoryReader("sample_readers"), InvalidArgumentError, "package.module:callable"),
        (factory("not_a_reader"), InvalidArgumentError, "returned int, which lacks __len__ or read"),
        (factory("refuse", reason="not today"), ReaderError, "ValueError: not today"),
        (factory("Squares", length=0), InvalidArgumentError, "no samples"),
        (FactoryReader("sample_readers:Squares", {"length": print}), InvalidArgumentError, "JSON types"),
    ],
)
def test_a_reader_that_cannot_be_opened_says_why_and_leaves_no_process(reader, error, says):
    with pytest.raises(error, match=says):
        Loader(reader, batch_rows=4)


def test_files_of_different_lengths_and_half_a_file_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((10, 2)))
    np.save(tmp_path / "y.npy", np.zeros(9))
    whole = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "half.npy").write_bytes(whole[:-40])
    with pytest.raises(InvalidArgumentError, match="same number of rows"):
        Loader(ArrayReader({"x": str(tmp_path / "x.npy"), "y": str(tmp_path / "y.npy")}), batch_rows=4)
    with pytest.raises(InvalidArgumentError, match=r"half\.npy is no whole"):
        Loader(ArrayReader({"x": str(tmp_path / "half.npy")}), batch_rows=4)


@pytest.mark.parametrize(
    ("indices", "says"),
    [
        (np.array([10]), r"each in \[0, 10\), got 10 to 10"),
        (np.array([-1, 3]), "got -1 to 3"),
        (np.array([], dtype=np.int64), "1 to batch_rows=4"),
        (np.arange(5), "batch_rows=4 of them, got 5"),
        (np.array([0.5]), "one axis of integers, got float64"),
        (np.zeros((2, 2), dtype=np.int64), "one axis"),
    ],
)
def test_bad_indices_are_refused_before_they_travel(indices, says):
    with Loader(factory("Squares", length=10), batch_rows=4) as loader:
        with pytest.raises(InvalidArgumentError, match=says):
            loader.submit(indices)
        assert loader.room == loader.slots


def test_the_limits_of_a_loader_are_named():
    for batch_rows, slots, says in (
        (0, 2, "batch_rows"),
        (1 << 21, 2, "batch_rows"),
        (2, 0, "slots"),
        (2, 5000, "slots"),
    ):
        with pytest.raises(InvalidArgumentError, match=says):
            Loader(factory("Squares", length=10), batch_rows=batch_rows, slots=slots)
    with pytest.raises(ResourceExhaustedError, match="do not fit"):
        Loader(factory("Squares", length=10), batch_rows=2, slots=4, slot_bytes=1 << 50)


def test_receive_without_submit_and_use_after_close_are_refused():
    loader = Loader(factory("Squares", length=10), batch_rows=2)
    with pytest.raises(InvalidArgumentError, match="submit indices first"):
        loader.receive()
    loader.submit(np.array([3]))
    held = loader.receive()
    loader.close()
    loader.close()
    assert gone(loader.pid)
    assert held.arrays["index"].tolist() == [3]
    held.release()
    with pytest.raises(InvalidArgumentError, match="closed"):
        loader.submit(np.array([3]))


TRAINER = """
import sys, threading, time
import numpy as np
from strata_zmq.feed import FactoryReader, Loader
def train():
    loader = Loader(FactoryReader("sample_readers:Troublesome", {"length": 100}), batch_rows=4, slots=4)
    loader.submit(np.array([1]))
    loader.receive()
    if sys.argv[1] == "reading":
        loader.submit(np.array([96]))
    print(loader.pid, flush=True)
    keep.append(loader)
keep = []
if sys.argv[2] == "thread":
    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    keep[0].submit(np.array([1]))
    keep[0].receive() if sys.argv[1] == "idle" else None
    print("still there", flush=True)
else:
    train()
time.sleep(3600)
"""


@pytest.mark.parametrize("where", ["main", "thread"])
@pytest.mark.parametrize("state", ["idle", "reading"])
def test_the_loader_process_dies_with_a_trainer_that_is_killed(state, where):
    trainer = subprocess.Popen(
        [sys.executable, "-c", TRAINER, state, where],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(HERE)},
    )
    with trainer:
        assert trainer.stdout is not None
        pid = int(trainer.stdout.readline())
        if where == "thread":
            assert trainer.stdout.readline() == "still there\n", "the loader outlives the thread that made it"
        assert not gone(pid)
        trainer.kill()
    until(lambda: gone(pid), 20.0, "the end of the loader process")


def test_a_killed_process_group_leaves_nothing_behind():
    trainer = subprocess.Popen(
        [sys.executable, "-c", TRAINER, "idle", "main"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(HERE)},
        start_new_session=True,
    )
    with trainer:
        assert trainer.stdout is not None
        pid = int(trainer.stdout.readline())
        maps = Path(f"/proc/{pid}/maps").read_text()
        assert "/memfd:strata-batches" in maps, "memory that goes with its last holder"
        assert "/dev/shm" not in maps, "and none that has to be unlinked"  # noqa: S108 - only looked for
        os.killpg(trainer.pid, signal.SIGKILL)
    until(lambda: gone(pid), 20.0, "the end of the loader process")


FORKED = """
import os, signal
import numpy as np
from strata_zmq.feed import FactoryReader, Loader
loader = Loader(FactoryReader("sample_readers:Squares", {"length": 10}), batch_rows=2)
child = os.fork()
if child == 0:
    signal.pause()
loader.close(grace_s=600)
os.kill(child, signal.SIGKILL)
"""


def test_close_ends_the_loader_process_though_a_forked_copy_of_the_trainer_lives():
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    subprocess.run([sys.executable, "-c", FORKED], env=environment, check=True, timeout=60)


def test_ctrl_c_for_the_whole_group_leaves_the_decision_to_the_trainer():
    with Loader(factory("Squares", length=10), batch_rows=2) as loader:
        os.kill(loader.pid, signal.SIGINT)
        loader.submit(np.array([3]))
        with loader.receive() as batch:
            assert batch.arrays["index"].tolist() == [3]
