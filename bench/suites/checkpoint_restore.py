"""How fast a checkpoint is read back, and how little a save writes of which a tenth changed.

The limit of a restore reads the same files into memory and takes the same digests, in the best of several ways; the
page cache holds the files, or has been told to forget them. `CHECKPOINT_SIZE_MB` sets the size of the state.
"""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING

import numpy as np
from blake3 import blake3

from strata_zmq.bench.environment import filesystem_of
from strata_zmq.bench.floors import Absolute, Floor, ToLimit
from strata_zmq.bench.loads.state import FLOOR_BYTES, State, check_room, size_of, state_bytes
from strata_zmq.bench.model import Case, Contender, Sample, Settings, Suite
from strata_zmq.checkpoint.manager import CheckpointManager

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from strata_zmq.bench.model import Measure

__all__ = ["SUITE"]

TENSORS = 20
CHANGED = 2
"""Of TENSORS: a tenth of the bytes, in whole arrays."""
FLOOR_ROUNDS = 7
_READ_BYTES = (8 << 20, 32 << 20)
_THREADS = (1, 2, 3)
_SMALL_BYTES = 64 << 10
"""Below this a file is an index or a manifest, not data."""


def _cases(settings: Settings) -> Iterator[Case]:
    nbytes = state_bytes(settings)
    rounds = settings.rounds or settings.pick(6, 9)
    check_room(settings.scratch, (rounds + 4) * 2 * nbytes)
    whole = nbytes >= FLOOR_BYTES
    on_disk = filesystem_of(settings.scratch) not in {"tmpfs", "ramfs"}
    size = size_of(nbytes, TENSORS)
    floor = Floor(
        "checkpoint.restore", (ToLimit(0.8, ">= 0.8x reading and checksumming the same bytes"),), FLOOR_ROUNDS
    )
    for name, cold, into in (
        ("restored from the disk", True, False),
        ("restored from the page cache", False, False),
        ("restored from the page cache into arrays that are there", False, True),
    ):
        yield Case(
            name=name,
            size=size,
            unit="MB/s",
            better="higher",
            subject=Contender(
                "strata CheckpointManager", partial(_loaded, settings.scratch, nbytes, cold=cold, into=into)
            ),
            limit=Contender("read + blake3", partial(_read, settings.scratch, nbytes, cold=cold, into=into)),
            floor=floor if whole and not into and (on_disk or not cold) else None,
            rounds=rounds,
        )
    yield Case(
        name="written by a save of which a tenth changed",
        size=f"{size}, {CHANGED} changed",
        unit="% of the first save",
        better="lower",
        subject=Contender("strata CheckpointManager", partial(_referring, settings.scratch, nbytes, rounds)),
        limit=Contender("the arrays that changed", _changed),
        floor=Floor("checkpoint.reference", (Absolute(15, "<= 15 % of the first save's bytes"),)) if whole else None,
        rounds=rounds,
    )


SUITE = Suite("checkpoint_restore", "How fast does a state come back, and what does a small change cost?", _cases)


@contextmanager
def _loaded(scratch: Path, nbytes: int, *, cold: bool, into: bool) -> Iterator[Measure]:
    state = State(nbytes, TENSORS)
    with tempfile.TemporaryDirectory(prefix="checkpoints-", dir=scratch) as folder:
        with CheckpointManager(folder) as manager:
            saved = manager.save(state.arrays, step=1, epoch=0)
            manager.wait_pending()
            files = _data_files(Path(folder))
            target = {name: np.zeros_like(array) for name, array in state.arrays.items()} if into else None

            def measure() -> Sample:
                _prepare(files, cold=cold)
                cpu, start = process_time(), perf_counter()
                found = manager.load(saved, into=target) if into else manager.load(saved)
                wall_s, cpu_s = perf_counter() - start, process_time() - cpu
                last = f"layer.{TENSORS - 1}"
                if not np.array_equal(found[last], state.arrays[last]):
                    raise AssertionError("the restored state is not the one that was saved")
                return Sample(state.bytes / wall_s / 1e6, wall_s=wall_s, cpu_s=cpu_s)

            yield measure


@contextmanager
def _read(scratch: Path, nbytes: int, *, cold: bool, into: bool) -> Iterator[Measure]:
    state = State(nbytes, TENSORS)
    with tempfile.TemporaryDirectory(prefix="checkpoints-", dir=scratch) as folder:
        with CheckpointManager(folder) as manager:
            manager.save(state.arrays, step=1, epoch=0)
        files = _data_files(Path(folder))
        held = [np.zeros(path.stat().st_size, np.uint8) for path in files] if into else None

        def once(way: tuple[int, int]) -> float:
            _prepare(files, cold=cold)
            start = perf_counter()
            _read_all(files, held, *way)
            return perf_counter() - start

        ways = [(threads, read_bytes) for threads in _THREADS for read_bytes in _READ_BYTES]
        best = min((min(once(way) for _ in range(2)), way) for way in ways)[1]

        def measure() -> Sample:
            cpu = process_time()
            wall_s = once(best)
            extras = {"threads": float(best[0]), "read_mib": float(best[1] >> 20)}
            return Sample(state.bytes / wall_s / 1e6, wall_s=wall_s, cpu_s=process_time() - cpu, extras=extras)

        yield measure


def _read_all(files: list[Path], held: list[NDArray[np.uint8]] | None, threads: int, read_bytes: int) -> None:
    """Read every file, into new memory or into `held`, and take the digest of each piece."""
    memory = held if held is not None else [np.empty(path.stat().st_size, np.uint8) for path in files]
    opened = [os.open(path, os.O_RDONLY) for path in files]

    def piece(descriptor: int, into: NDArray[np.uint8], begin: int) -> None:
        view = into[begin : begin + read_bytes].data
        if os.preadv(descriptor, [view], begin) != view.nbytes:
            raise AssertionError("a file is shorter than it was")
        blake3(view).digest()

    try:
        with ThreadPoolExecutor(threads) as pool:
            jobs = [
                pool.submit(piece, descriptor, into, begin)
                for descriptor, into in zip(opened, memory, strict=True)
                for begin in range(0, into.nbytes, read_bytes)
            ]
            for job in jobs:
                job.result()
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _prepare(files: list[Path], *, cold: bool) -> None:
    """Have the files in the page cache, or out of it."""
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            if cold:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            else:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
                while os.read(descriptor, 1 << 20):
                    pass
        finally:
            os.close(descriptor)


def _data_files(folder: Path) -> list[Path]:
    return sorted(
        path for path in (folder / "ckpt").rglob("*") if path.is_file() and path.stat().st_size > _SMALL_BYTES
    )


@contextmanager
def _referring(scratch: Path, nbytes: int, rounds: int) -> Iterator[Measure]:
    state, steps = State(nbytes, TENSORS), count(1)
    with tempfile.TemporaryDirectory(prefix="checkpoints-", dir=scratch) as folder:
        with CheckpointManager(folder, keep_count=2 * rounds + 4) as manager:

            def written() -> int:
                before = _bytes_in(Path(folder))
                manager.save(state.arrays, step=next(steps), epoch=0)
                manager.wait_pending()
                return _bytes_in(Path(folder)) - before

            def measure() -> Sample:
                cpu, start = process_time(), perf_counter()
                state.change()
                first = written()
                state.change(list(state.arrays)[:CHANGED])
                second = written()
                extras = {"first_mb": first / 1e6, "second_mb": second / 1e6}
                wall_s = perf_counter() - start
                return Sample(100 * second / first, wall_s=wall_s, cpu_s=process_time() - cpu, extras=extras)

            yield measure


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextmanager
def _changed() -> Iterator[Measure]:
    yield lambda: Sample(100 * CHANGED / TENSORS, wall_s=0.0)
