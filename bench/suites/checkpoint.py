"""How fast a state gets onto the disk, and for how long the call that starts it stops the training.

`CHECKPOINT_SIZE_MB` sets the size of the state. Some bytes in every 64 KiB change from save to save, so that no save
can refer to an earlier one's bytes. The limits are the best plain way to write the same bytes (buffered or O_DIRECT, in
8 or in 64 MiB, whichever is fastest here) with an fsync, and one memcpy of the state.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING

import numpy as np

from strata_zmq.bench.environment import filesystem_of
from strata_zmq.bench.floors import Absolute, Floor, ToLimit
from strata_zmq.bench.loads.state import FLOOR_BYTES, State, check_room, size_of, state_bytes
from strata_zmq.bench.model import Case, Contender, Sample, Settings, Suite
from strata_zmq.bench.peer_process import peer_process
from strata_zmq.bench.timing import MILLISECONDS
from strata_zmq.checkpoint.manager import CheckpointManager

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from strata_zmq.bench.model import Measure

__all__ = ["SUITE"]

TENSORS = 16
FLOOR_ROUNDS = 7
WARMUP = 3
"""Two generations of staging memory, and one save that finds both warm."""
_WRITE_BYTES = (8 << 20, 64 << 20)


def _cases(settings: Settings) -> Iterator[Case]:
    nbytes = state_bytes(settings)
    rounds = settings.rounds or settings.pick(6, 9)
    # Every save stays until the end of its case: deleting an old one is not part of becoming durable.
    check_room(settings.scratch, (rounds + WARMUP + 4) * nbytes)
    # A floor about a disk is not shown by a folder in memory, nor one about a gigabyte by less.
    whole = nbytes >= FLOOR_BYTES
    on_disk = filesystem_of(settings.scratch) not in {"tmpfs", "ramfs"}
    size = size_of(nbytes, TENSORS)
    durable = Floor(
        "checkpoint.local",
        (ToLimit(0.85, "the paired interval reaches >= 0.85x the best plain write + fsync", "interval"),),
        FLOOR_ROUNDS,
    )
    stall = Floor("checkpoint.stall", (ToLimit(1.3, "<= 1.3x a bare memcpy of the state"),), FLOOR_ROUNDS)

    def ours(figure_of: Callable[[int, float, float], float]) -> Contender:
        return Contender("strata CheckpointManager", partial(_saved, settings.scratch, nbytes, rounds, figure_of))

    yield Case(
        name="saved until durable on the local disk",
        size=size,
        unit="MB/s",
        better="higher",
        subject=ours(_until_durable),
        limit=Contender("plain write + fsync", partial(_plain_write, settings.scratch, nbytes)),
        peers=(
            _peer("torch.save + fsync", "peer_torch_checkpoint", "torch_save", settings.scratch, nbytes),
            _peer("torch DCP", "peer_torch_checkpoint", "dcp_save", settings.scratch, nbytes),
            _peer("safetensors + fsync", "peer_safetensors", "save", settings.scratch, nbytes),
            _peer("Orbax", "peer_orbax", "save", settings.scratch, nbytes),
        ),
        floor=durable if whole and on_disk else None,
        rounds=rounds,
        warmup=WARMUP,
    )
    yield Case(
        name="the save call itself",
        size=size,
        unit="ms",
        better="lower",
        subject=ours(_until_returned),
        limit=Contender("memcpy, one thread", partial(_memcpy, nbytes, _milliseconds)),
        floor=stall if whole else None,
        rounds=rounds,
        warmup=WARMUP,
    )
    yield Case(
        name="published: onto the local disk",
        size=size,
        unit="MB/s",
        better="higher",
        subject=ours(_until_durable),
        limit=Contender("plain write + fsync", partial(_plain_write, settings.scratch, nbytes)),
        floor=Floor("published.local", (Absolute(500, ">= 500 MB/s"),)) if whole and on_disk else None,
        rounds=rounds,
        warmup=WARMUP,
    )
    yield Case(
        name="published: serialised, in staging memory",
        size=size,
        unit="GB/s",
        better="higher",
        subject=ours(_staged),
        limit=Contender("memcpy, one thread", partial(_memcpy, nbytes, _rate)),
        floor=Floor("published.serialisation", (Absolute(1.2, ">= 1.2 GB/s"),)) if whole else None,
        rounds=rounds,
        warmup=WARMUP,
    )


SUITE = Suite("checkpoint", "How fast is a state durable, and how long does the call stop the training?", _cases)


@contextmanager
def _saved(
    scratch: Path,
    nbytes: int,
    rounds: int,
    figure_of: Callable[[int, float, float], float],
) -> Iterator[Measure]:
    state, steps = State(nbytes, TENSORS), count(1)
    with tempfile.TemporaryDirectory(prefix="checkpoints-", dir=scratch) as folder:
        with CheckpointManager(folder, keep_count=rounds + WARMUP + 1) as manager:

            def measure() -> Sample:
                state.change()
                cpu, start = process_time(), perf_counter()
                manager.save(state.arrays, step=next(steps), epoch=0)
                returned_s = perf_counter() - start
                manager.wait_pending()
                wall_s, cpu_s = perf_counter() - start, process_time() - cpu
                return Sample(figure_of(state.bytes, returned_s, wall_s), wall_s=wall_s, cpu_s=cpu_s)

            yield measure


def _until_durable(nbytes: int, _returned_s: float, wall_s: float) -> float:
    return nbytes / wall_s / 1e6


def _until_returned(_nbytes: int, returned_s: float, _wall_s: float) -> float:
    return returned_s * MILLISECONDS


def _staged(nbytes: int, returned_s: float, _wall_s: float) -> float:
    return nbytes / returned_s / 1e9


@contextmanager
def _plain_write(scratch: Path, nbytes: int) -> Iterator[Measure]:
    state = State(nbytes, TENSORS)
    with tempfile.TemporaryDirectory(prefix="plain-", dir=scratch) as folder:
        trials = {
            way: _trial(Path(folder), state, *way) for way in ((f, b) for f in (0, os.O_DIRECT) for b in _WRITE_BYTES)
        }
        flags, write_bytes = min((seconds, way) for way, seconds in trials.items() if seconds is not None)[1]

        def measure() -> Sample:
            state.change()
            cpu = process_time()
            wall_s = _write(Path(folder), state, flags, write_bytes)
            extras = {"o_direct": float(flags == os.O_DIRECT), "write_mib": float(write_bytes >> 20)}
            return Sample(state.bytes / wall_s / 1e6, wall_s=wall_s, cpu_s=process_time() - cpu, extras=extras)

        yield measure


def _trial(folder: Path, state: State, flags: int, write_bytes: int) -> float | None:
    """Return the faster of two plain writes in seconds, or None where the filesystem knows no O_DIRECT."""
    try:
        return min(_write(folder, state, flags, write_bytes) for _ in range(2))
    except OSError:
        if flags == 0:
            raise
        return None


def _write(folder: Path, state: State, flags: int, write_bytes: int) -> float:
    """Write the state to a new file, sync file and folder, and return the seconds; the file is deleted untimed."""
    path, view = folder / "state", memoryview(state.memory)
    start = perf_counter()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | flags, 0o600)
    try:
        done = 0
        while done < state.bytes:
            done += os.write(descriptor, view[done : done + write_bytes])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    above = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(above)
    os.close(above)
    seconds = perf_counter() - start
    path.unlink()
    return seconds


@contextmanager
def _memcpy(nbytes: int, figure_of: Callable[[int, float], float]) -> Iterator[Measure]:
    state = State(nbytes, TENSORS)
    copies: dict[str, NDArray[np.float32]] = {name: array.copy() for name, array in state.arrays.items()}

    def measure() -> Sample:
        cpu, start = process_time(), perf_counter()
        for name, array in state.arrays.items():
            np.copyto(copies[name], array)
        wall_s = perf_counter() - start
        return Sample(figure_of(state.bytes, wall_s), wall_s=wall_s, cpu_s=process_time() - cpu)

    yield measure


def _milliseconds(_nbytes: int, wall_s: float) -> float:
    return wall_s * MILLISECONDS


def _rate(nbytes: int, wall_s: float) -> float:
    return nbytes / wall_s / 1e9


def _peer(name: str, module: str, method: str, scratch: Path, nbytes: int) -> Contender:
    @contextmanager
    def opened() -> Iterator[Measure]:
        with peer_process(module, folder=str(scratch), state_bytes=nbytes, tensors=TENSORS) as peer:

            def measure() -> Sample:
                found = peer.call(method)
                return Sample(nbytes / found["wall_s"] / 1e6, wall_s=found["wall_s"], cpu_s=found["cpu_s"])

            yield measure

    return Contender(name, opened)
