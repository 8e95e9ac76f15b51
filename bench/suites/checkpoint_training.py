"""What a save costs the training beside it: the wall time that it adds to a fixed loop, until it is durable.

The loop is matrix products, the same in all interpreters, once without saves and once with them, in every round. The
state changes before each save. Ours is a worker with a storage writer beside it, and the manager, which writes from
within the training process. `CHECKPOINT_SIZE_MB` sets the size of the state.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from strata_zmq.bench.floors import Floor, ToPeer
from strata_zmq.bench.loads import cluster_saver, saver
from strata_zmq.bench.loads.state import FLOOR_BYTES, check_room, size_of, state_bytes
from strata_zmq.bench.model import Case, Contender, Sample, Settings, Suite
from strata_zmq.bench.peer_process import peer_process
from strata_zmq.bench.timing import MILLISECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from strata_zmq.bench.model import Measure

__all__ = ["SUITE"]

TENSORS = 16
SAVES = 2
"""In a loop; each is durable, or nearly, before the next begins."""
FLOOR_ROUNDS = 7
WARMUP = 2
_DCP = "torch DCP async_save"
_TIMEOUT_S = 300.0


def _cases(settings: Settings) -> Iterator[Case]:
    nbytes = state_bytes(settings)
    rounds = settings.rounds or settings.pick(6, 7)
    steps, warmup = settings.pick(4, 160), settings.pick(1, WARMUP)
    check_room(settings.scratch, (2 * SAVES * (rounds + WARMUP) + SAVES + 1) * nbytes)
    floor = Floor("checkpoint.slowdown", (ToPeer(_DCP, 0.5, f"<= 0.5x {_DCP}'s", paired=True),), FLOOR_ROUNDS)

    for threads, words in ((1, "one thread"), (2, "two threads")):

        def ours(module: str, threads: int = threads) -> Callable[[], AbstractContextManager[Measure]]:
            return partial(_ours, module, settings.scratch, nbytes, steps, threads)

        yield Case(
            name=f"added to a training loop of {words} by each save",
            size=f"{size_of(nbytes, TENSORS)}, {steps} steps, {SAVES} saves",
            unit="ms",
            better="lower",
            subject=Contender("strata worker", ours(cluster_saver.MODULE)),
            peers=(
                Contender("strata CheckpointManager", ours(saver.MODULE)),
                Contender(_DCP, partial(_dcp, settings.scratch, nbytes, steps, threads)),
            ),
            floor=floor if nbytes >= FLOOR_BYTES else None,
            rounds=rounds,
            warmup=warmup,
            notes=("plain_s and saved_s are the loop without saves and with them, until durable",),
        )


SUITE = Suite("checkpoint_training", "How much longer does training take with saves?", _cases)


@contextmanager
def _ours(module: str, scratch: Path, nbytes: int, steps: int, threads: int) -> Iterator[Measure]:
    with (
        tempfile.TemporaryDirectory(prefix="checkpoints-", dir=scratch) as folder,
        peer_process(
            module,
            interpreter=saver.INTERPRETER,
            environment=_environment(threads),
            place=folder,
            state_bytes=nbytes,
            tensors=TENSORS,
        ) as peer,
    ):
        yield lambda: _sample(peer.call("training", timeout_s=_TIMEOUT_S, steps=steps, saves=SAVES))


@contextmanager
def _dcp(scratch: Path, nbytes: int, steps: int, threads: int) -> Iterator[Measure]:
    options: dict[str, Any] = {"folder": str(scratch), "state_bytes": nbytes, "tensors": TENSORS}
    with peer_process("peer_torch_checkpoint", environment=_environment(threads), **options) as peer:
        yield lambda: _sample(peer.call("training", timeout_s=_TIMEOUT_S, steps=steps, saves=SAVES))


def _environment(threads: int) -> dict[str, str]:
    return {"OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}


def _sample(found: dict[str, float]) -> Sample:
    extras = {name: found[name] for name in ("plain_s", "saved_s")}
    return Sample(found["slowdown_s"] * MILLISECONDS, wall_s=found["wall_s"], cpu_s=found["cpu_s"], extras=extras)
