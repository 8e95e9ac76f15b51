"""What an upload costs and how fast it is: a whole save beside boto3's upload_fileobj of as many bytes.

The server is a null sink of our own, which forgets what it gets: over TLS, and in the clear. It and its client share
all cores: a sink that has one of two to itself is what the rate of a cheap client would measure. CPU time is the
client's alone. A save also copies and hashes the state and commits it; boto3 has one object to send. SeaweedFS, and the
bucket that STORAGE_BACKEND and CHECKPOINT_BUCKET name, have rows beside it. `CHECKPOINT_SIZE_MB` sets the size.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from strata_zmq.bench.floors import Absolute, Floor, ToPeer
from strata_zmq.bench.loads import saver
from strata_zmq.bench.loads.s3_servers import configured, null_sink, seaweedfs
from strata_zmq.bench.loads.state import FLOOR_BYTES, size_of, state_bytes
from strata_zmq.bench.model import Case, Contender, Sample, Settings, Suite
from strata_zmq.bench.peer_process import peer_process
from strata_zmq.storage import default_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from strata_zmq.bench.loads.s3_servers import Place
    from strata_zmq.bench.model import Measure

    Server = Callable[[], AbstractContextManager[Place]]
    FigureOf = Callable[[dict[str, float]], float]

__all__ = ["SUITE"]

TENSORS = 16
FLOOR_ROUNDS = 7
WARMUP = 2
_BOTO3 = "boto3 upload_fileobj"
_TIMEOUT_S = 300.0


def _cases(settings: Settings) -> Iterator[Case]:
    nbytes = state_bytes(settings)
    whole = nbytes >= FLOOR_BYTES
    rounds = settings.rounds or settings.pick(6, 9)
    tls, clear = partial(null_sink, tls=True), partial(null_sink, tls=False)

    def case(name: str, serving: Server, figure_of: FigureOf, floor: Floor | None) -> Case:
        cost = figure_of is _cpu_per_gb
        boto3 = Contender(_BOTO3, partial(_boto3, serving, nbytes, figure_of))
        return Case(
            name=name,
            size=size_of(nbytes, TENSORS),
            unit="CPU s/GB" if cost else "MB/s",
            better="lower" if cost else "higher",
            subject=Contender("strata CheckpointManager", partial(_ours, serving, nbytes, figure_of)),
            peers=() if floor is published else (boto3,),
            floor=floor if whole else None,
            rounds=rounds,
            warmup=WARMUP,
            notes=("cpu_s is the client's alone",),
        )

    cpu = Floor("checkpoint.s3.cpu", (ToPeer(_BOTO3, 0.5, f"<= 0.5x {_BOTO3}'s", paired=True),), FLOOR_ROUNDS)
    rate = Floor("checkpoint.s3.rate", (ToPeer(_BOTO3, 2.0, f">= 2x {_BOTO3}'s", paired=True),), FLOOR_ROUNDS)
    published = Floor("published.s3", (Absolute(200, ">= 200 MB/s"),))
    yield case("CPU time of a save onto S3 over TLS, null sink", tls, _cpu_per_gb, cpu)
    yield case("saved onto S3 over TLS, null sink", tls, _rate, rate)
    yield case("published: onto S3, null sink over TLS", tls, _rate, published)
    yield case("CPU time of a save onto S3 in the clear, null sink", clear, _cpu_per_gb, None)
    yield case("saved onto S3 in the clear, null sink", clear, _rate, None)
    yield case("saved onto SeaweedFS in the clear", seaweedfs, _rate, None)
    place = default_place(os.environ)
    if place is not None and place.startswith("s3://"):
        yield case(f"saved onto {place}", configured, _rate, None)


SUITE = Suite("checkpoint_s3", "What does a save onto S3 cost, and how fast is it?", _cases)


@contextmanager
def _ours(serving: Server, nbytes: int, figure_of: FigureOf) -> Iterator[Measure]:
    with serving() as place:
        options: dict[str, Any] = {
            "place": f"{place.url}/strata",
            "state_bytes": nbytes,
            "tensors": TENSORS,
        }
        with peer_process(saver.MODULE, interpreter=saver.INTERPRETER, environment=place.environ, **options) as peer:
            yield lambda: _sample(peer.call("save", timeout_s=_TIMEOUT_S), figure_of)


@contextmanager
def _boto3(serving: Server, nbytes: int, figure_of: FigureOf) -> Iterator[Measure]:
    with serving() as place:
        options: dict[str, Any] = {
            "bucket": place.bucket,
            "key": f"{place.prefix}/boto3",
            "state_bytes": nbytes,
        }
        with peer_process("peer_boto3", environment=place.environ, **options) as peer:
            yield lambda: _sample(peer.call("upload", timeout_s=_TIMEOUT_S), figure_of)


def _sample(found: dict[str, float], figure_of: FigureOf) -> Sample:
    return Sample(figure_of(found), wall_s=found["wall_s"], cpu_s=found["cpu_s"])


def _cpu_per_gb(found: dict[str, float]) -> float:
    return found["cpu_s"] / (found["bytes"] / 1e9)


def _rate(found: dict[str, float]) -> float:
    return found["bytes"] / found["wall_s"] / 1e6
