"""How fast a state gets onto the disk, and for how long the call that starts it stops the training.

`CHECKPOINT_SIZE_MB` sets the size of the state. Some bytes in every 64 KiB change from save to save, so that no save
can refer to an earlier one's bytes. The limits are the best plain way to write the same bytes (buffered or O_DIRECT,
whichever is faster here) with an fsync, and one memcpy of the state.
"""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING

import numpy as np

from strata_zmq.bench.environment import filesystem_of
from strata_zmq.bench.floors import Floor, ToLimit
from strata_zmq.bench.model import Case, Contender, Sample, Settings, Suite
from strata_zmq.bench.peer_process import peer_process
from strata_zmq.bench.timing import MILLISECONDS
from strata_zmq.checkpoint.manager import CheckpointManager
from strata_zmq.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from strata_zmq.bench.model import Measure

__all__ = ["SIZE_VARIABLE", "SUITE"]

SIZE_VARIABLE = "CHECKPOINT_SIZE_MB"
TENSORS = 16
MEGABYTE = 1 << 20
FLOOR_BYTES = 1 << 30
FLOOR_ROUNDS = 7
WARMUP = 3
"""Two generations of staging memory, and one save that finds both warm."""
_WRITE_BYTES = 8 << 20
_STRIDE = 16_384


def _cases(settings: Settings) -> Iterator[Case]:
    state_bytes = _state_bytes(settings)
    rounds = settings.rounds or settings.pick(6, 9)
    # Every save stays until the end of its case: deleting an old one is not part of becoming durable.
    _check_room(settings.scratch, (rounds + WARMUP + 4) * state_bytes)
    # A floor about a disk is not shown by a folder in memory, nor one about a gigabyte by less.
    whole = state_bytes >= FLOOR_BYTES
    on_disk = filesystem_of(settings.scratch) not in {"tmpfs", "ramfs"}
    size = f"{state_bytes // MEGABYTE:,} MiB in {TENSORS} arrays"
    durable = Floor(
        "checkpoint.local",
        (ToLimit(0.85, "the paired interval reaches >= 0.85x the best plain write + fsync", "interval"),),
        FLOOR_ROUNDS,
    )
    stall = Floor("checkpoint.stall", (ToLimit(1.3, "<= 1.3x a bare memcpy of the state"),), FLOOR_ROUNDS)
    yield Case(
        name="saved until durable on the local disk",
        size=size,
        unit="MB/s",
        better="higher",
        subject=Contender(
            "strata CheckpointManager", partial(_saved, settings.scratch, state_bytes, rounds, _until_durable)
        ),
        limit=Contender("plain write + fsync", partial(_plain_write, settings.scratch, state_bytes)),
        peers=(
            _peer("torch.save + fsync", "peer_torch_checkpoint", "torch_save", settings.scratch, state_bytes),
            _peer("torch DCP", "peer_torch_checkpoint", "dcp_save", settings.scratch, state_bytes),
            _peer("safetensors + fsync", "peer_safetensors", "save", settings.scratch, state_bytes),
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
        subject=Contender(
            "strata CheckpointManager", partial(_saved, settings.scratch, state_bytes, rounds, _until_returned)
        ),
        limit=Contender("memcpy, one thread", partial(_memcpy, state_bytes)),
        floor=stall if whole else None,
        rounds=rounds,
        warmup=WARMUP,
    )


SUITE = Suite("checkpoint", "How fast is a state durable, and how long does the call stop the training?", _cases)


def _state_bytes(settings: Settings) -> int:
    text = os.environ.get(SIZE_VARIABLE, "")
    if not text:
        return settings.pick(64, 1024) * MEGABYTE
    if not text.isdecimal() or not TENSORS <= int(text) <= 1 << 20:
        raise InvalidArgumentError(f"{SIZE_VARIABLE} is {text!r}: give whole mebibytes, {TENSORS} to {1 << 20}")
    return int(text) // TENSORS * TENSORS * MEGABYTE


def _check_room(scratch: Path, needed: int) -> None:
    free = shutil.disk_usage(scratch).free
    if free < needed:
        raise InvalidArgumentError(
            f"{scratch} has {free // MEGABYTE} MiB free and {needed // MEGABYTE} MiB are needed: name another folder "
            f"with --scratch, or a smaller {SIZE_VARIABLE}"
        )


class _State:
    """Page-aligned arrays over one mapping, so that the plain write may bypass the page cache."""

    def __init__(self, state_bytes: int) -> None:
        self.memory = mmap.mmap(-1, state_bytes)
        whole = np.frombuffer(self.memory, dtype=np.float32)
        np.random.default_rng(1).random(out=whole, dtype=np.float32)
        self.arrays = {f"layer.{place}": part for place, part in enumerate(np.split(whole, TENSORS))}
        self.bytes = state_bytes

    def change(self) -> None:
        """Change something in every 64 KiB."""
        for array in self.arrays.values():
            array[::_STRIDE] += 1


@contextmanager
def _saved(
    scratch: Path,
    state_bytes: int,
    rounds: int,
    figure_of: Callable[[int, float, float], float],
) -> Iterator[Measure]:
    state, steps = _State(state_bytes), count(1)
    with tempfile.TemporaryDirectory(prefix="checkpoints-", dir=scratch) as folder:
        with CheckpointManager(folder, keep_count=rounds + WARMUP + 1) as manager:

            def measure() -> Sample:
                state.change()
                cpu, start = process_time(), perf_counter()
                manager.save(state.arrays, step=next(steps), epoch=0)
                returned_s = perf_counter() - start
                manager.wait_pending()
                wall_s, cpu_s = perf_counter() - start, process_time() - cpu
                return Sample(figure_of(state_bytes, returned_s, wall_s), wall_s=wall_s, cpu_s=cpu_s)

            yield measure


def _until_durable(state_bytes: int, _returned_s: float, wall_s: float) -> float:
    return state_bytes / wall_s / 1e6


def _until_returned(_state_bytes: int, returned_s: float, _wall_s: float) -> float:
    return returned_s * MILLISECONDS


@contextmanager
def _plain_write(scratch: Path, state_bytes: int) -> Iterator[Measure]:
    state = _State(state_bytes)
    with tempfile.TemporaryDirectory(prefix="plain-", dir=scratch) as folder:
        ways = {flags: _trial(Path(folder), state, flags) for flags in (0, os.O_DIRECT)}
        best = min((seconds, flags) for flags, seconds in ways.items() if seconds is not None)[1]

        def measure() -> Sample:
            state.change()
            cpu = process_time()
            wall_s = _write(Path(folder), state, best)
            extras = {"o_direct": float(best == os.O_DIRECT)}
            return Sample(state_bytes / wall_s / 1e6, wall_s=wall_s, cpu_s=process_time() - cpu, extras=extras)

        yield measure


def _trial(folder: Path, state: _State, flags: int) -> float | None:
    """Return the faster of two plain writes in seconds, or None where the filesystem knows no O_DIRECT."""
    try:
        return min(_write(folder, state, flags) for _ in range(2))
    except OSError:
        if flags == 0:
            raise
        return None


def _write(folder: Path, state: _State, flags: int) -> float:
    """Write the state to a new file, sync file and folder, and return the seconds; the file is deleted untimed."""
    path, view = folder / "state", memoryview(state.memory)
    start = perf_counter()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | flags, 0o600)
    try:
        done = 0
        while done < state.bytes:
            done += os.write(descriptor, view[done : done + _WRITE_BYTES])
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
def _memcpy(state_bytes: int) -> Iterator[Measure]:
    state = _State(state_bytes)
    copies: dict[str, NDArray[np.float32]] = {name: array.copy() for name, array in state.arrays.items()}

    def measure() -> Sample:
        cpu, start = process_time(), perf_counter()
        for name, array in state.arrays.items():
            np.copyto(copies[name], array)
        wall_s = perf_counter() - start
        return Sample(wall_s * MILLISECONDS, wall_s=wall_s, cpu_s=process_time() - cpu)

    yield measure


def _peer(name: str, module: str, method: str, scratch: Path, state_bytes: int) -> Contender:
    @contextmanager
    def opened() -> Iterator[Measure]:
        with peer_process(module, folder=str(scratch), state_bytes=state_bytes, tensors=TENSORS) as peer:

            def measure() -> Sample:
                found = peer.call(method)
                return Sample(state_bytes / found["wall_s"] / 1e6, wall_s=found["wall_s"], cpu_s=found["cpu_s"])

            yield measure

    return Contender(name, opened)
