"""A worker that is killed once its state is staged loses nothing: a writer finishes the save, and it is committed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from blake3 import blake3

from strata_zmq import CheckpointManager
from strata_zmq.checkpoint.arena import ArenaPool
from strata_zmq.checkpoint.snapshot import take_snapshot
from strata_zmq.checkpoint.store import CheckpointStore
from strata_zmq.domain.manifest import ChunkRecord
from strata_zmq.errors import CheckpointCorruptError, ProtocolError
from strata_zmq.protocol import stream
from strata_zmq.storage import LocalStorage
from strata_zmq.workers.last_will import Executor, encode_will

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from strata_zmq.domain.manifest import RankIndex

Make = Any

TRAINER = """
import sys
import numpy as np
from strata_zmq.workers.checkpoint_client import CheckpointClient
from strata_zmq.workers.session import WorkerIdentity, WorkerSession

session = WorkerSession(WorkerIdentity(worker_id="worker-0"), sys.argv[1])
session.connect(30.0)
session.join(30.0)
client = CheckpointClient(session, chunk_bytes=16384)
weights = np.random.default_rng(7).integers(0, 256, 8_000_000, np.uint8)
handles = []
for step in map(int, sys.argv[2:]):
    handles.append(client.save({"w": weights, "small": [np.arange(9), 4.5]}, step=step, epoch=0))
    weights[: 1000 * step] += 1
for handle in handles:
    print(handle.result(60.0), flush=True)
session.close()
"""


def trainer(cluster: Any, *steps: int, **env: str) -> subprocess.Popen[str]:
    """Start a process that saves these steps, the first of them `state`, and says what it was told."""
    return subprocess.Popen(
        [sys.executable, "-c", TRAINER, cluster.url, *map(str, steps)],
        env={**cluster.environ, **env},
        stdout=subprocess.PIPE,
        text=True,
    )


def indexes(store: Path) -> list[tuple[bool, RankIndex]]:
    """Return of each committed checkpoint whether its rank was drained, and its index."""

    async def read() -> list[tuple[bool, RankIndex]]:
        held = CheckpointStore(LocalStorage(store))
        manifests = [await held.read_manifest(entry) for entry in await held.entries()]
        return [(one.ranks[0].drained, await held.read_rank_index(one, 0)) for one in manifests]

    return asyncio.run(read())


def state() -> dict[str, Any]:
    weights = np.random.default_rng(7).integers(0, 256, 8_000_000, np.uint8)
    return {"w": weights, "small": [np.arange(9), 4.5]}


def without_places(index: RankIndex) -> Any:
    return index.skeleton, index.tensors, [(chunk.digest, chunk.nbytes) for chunk in index.chunks]


def as_staged(chunk_bytes: int) -> Any:
    """Return what the index of `state` holds that its worker stores itself."""
    pool = ArenaPool(1)
    snapshot = take_snapshot(state(), pool, chunk_bytes=chunk_bytes)
    pieces = [bytes(snapshot.chunk(number)) for number in range(len(snapshot.layout.slices))]
    chunks = [ChunkRecord("k", blake3(piece).hexdigest(), len(piece)) for piece in pieces]
    return without_places(snapshot.index(0, chunks))


@pytest.mark.parametrize("writers", [1, 2])
@pytest.mark.parametrize("place", ["stream.chunk.sent@300", "stream.index.sent", "save.arrive"])
def test_a_worker_killed_after_staging_has_its_checkpoint_committed(
    make_cluster: Make,
    eventually: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    writers: int,
) -> None:
    """Killed among its chunks, behind its index, or before it could say that all is durable; the index is the same."""
    log, now = tmp_path / "failpoints", tmp_path / "now"
    now.touch()
    monkeypatch.setenv("STRATA_FAILPOINTS_LOG", str(log))
    monkeypatch.setenv("STRATA_FAILPOINTS", f"coordinator.staged=pause:{now}")
    cluster = make_cluster()
    for number in range(writers):
        cluster.writer(f"writer-{number}", "--window-mib", "1", "--inflight-mib", "1")
    name, _, at = place.partition("@")
    told = f"{name}=pause:{tmp_path / 'never'}" + (f"@{at}" if at else "")
    dying = trainer(cluster, 1, STRATA_FAILPOINTS=told)
    try:
        eventually(lambda: log.exists() and f" {name} " in log.read_text(), 30.0)
        eventually(lambda: " coordinator.staged " in log.read_text(), 30.0)
        with CheckpointManager(cluster.store) as manager:
            assert manager.all_checkpoints() == []
    finally:
        dying.kill()
        dying.communicate()
    eventually(lambda: indexes(cluster.store), 30.0)
    ((drained, index),) = indexes(cluster.store)
    assert drained
    assert without_places(index) == as_staged(16_384)
    with CheckpointManager(cluster.store) as manager:
        found = manager.load()
    assert found["w"].tobytes() == state()["w"].tobytes()
    assert (found["small"][0].tolist(), found["small"][1]) == (list(range(9)), 4.5)


@pytest.mark.parametrize("writers", [1, 2])
def test_a_save_that_waits_for_the_one_before_it_is_not_lost_with_its_worker(
    make_cluster: Make, eventually: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writers: int
) -> None:
    """Killed while the disk stands still under the first save: both are finished, the older one first."""
    log, go_on = tmp_path / "failpoints", tmp_path / "go-on"
    monkeypatch.setenv("STRATA_FAILPOINTS_LOG", str(log))
    (tmp_path / "now").touch()
    stands = f"storage.write=pause:{go_on}@3"
    monkeypatch.setenv("STRATA_FAILPOINTS", f"coordinator.staged=pause:{tmp_path / 'now'}@2;{stands}")
    cluster = make_cluster()
    for number in range(writers):
        cluster.writer(f"writer-{number}")
    dying = trainer(cluster, 1, 2)
    try:
        eventually(lambda: log.exists() and " coordinator.staged 2" in log.read_text(), 30.0)
        with CheckpointManager(cluster.store) as manager:
            assert manager.all_checkpoints() == []
    finally:
        dying.kill()
        dying.communicate()
    go_on.touch()
    eventually(lambda: len(indexes(cluster.store)) == 2, 30.0)
    assert [drained for drained, _ in indexes(cluster.store)] == [True, True]
    newer = state()["w"]
    newer[:1000] += 1
    with CheckpointManager(cluster.store) as manager:
        assert manager.load(1)["w"].tobytes() == state()["w"].tobytes()
        assert manager.load(2)["w"].tobytes() == newer.tobytes()


@pytest.mark.parametrize("steps", [(1,), (1, 2, 3)])
def test_a_worker_that_ends_well_leaves_nothing_to_be_finished(make_cluster: Make, steps: tuple[int, ...]) -> None:
    cluster = make_cluster()
    writer = cluster.writer("one")
    saves = trainer(cluster, *steps)
    assert [name.split("-")[1] for name in saves.communicate(timeout=60)[0].split()] == [f"{n:012d}" for n in steps]
    writer.stop()
    assert "is gone: finishing" not in writer.log.read_text()
    assert [drained for drained, _ in indexes(cluster.store)] == [False] * len(steps)


# ---- what is refused ------------------------------------------------------------------------------------------------


def request_for(will: bytes, place: int, **changes: Any) -> stream.StreamWill:
    fields: dict[str, Any] = {
        "stream": "s",
        "checkpoint_id": "step-000000000001-g1-t1",
        "rank": 0,
        "segment": 1,
        "offset": place,
        "nbytes": len(will),
        "digest": blake3(will).hexdigest(),
    }
    return stream.StreamWill(**{**fields, **changes})


def test_a_will_that_cannot_be_carried_out_is_not_taken() -> None:
    pool = ArenaPool(1)
    snapshot = take_snapshot({"w": np.arange(5000)}, pool, with_will=True)
    arena, (offset, _) = snapshot.arena, snapshot.room
    will = encode_will(
        lambda chunks: snapshot.index(0, chunks), [(piece.offset, piece.nbytes) for piece in snapshot.layout.slices]
    )
    arena.leave_will(offset, will)
    unused: Any = None
    executor = Executor(unused, unused, unused, unused)
    for changes, error in [
        ({"digest": "0" * 64}, CheckpointCorruptError),
        ({"epoch": arena.epoch + 1}, CheckpointCorruptError),
        ({"offset": arena.segment.size}, ProtocolError),
        ({"rank": 1}, ProtocolError),
    ]:
        with pytest.raises(error):
            executor.take(request_for(will, offset, **{"epoch": arena.epoch, **changes}), "c", "w", arena.segment)
        assert executor.streams_of("c") == []
    beyond = encode_will(lambda chunks: snapshot.index(0, chunks), [(arena.segment.size - 8, 40_000)])
    arena.leave_will(offset, beyond)
    with pytest.raises(ProtocolError, match="beyond the end"):
        executor.take(request_for(beyond, offset, epoch=arena.epoch), "c", "w", arena.segment)
    arena.leave_will(offset, will)
    executor.take(request_for(will, offset, epoch=arena.epoch), "c", "w", arena.segment)
    assert executor.streams_of("c") == ["s"]
    executor.close("s", keep_will=True)
    assert executor.streams_of("c") == ["s"]
    executor.close("s", keep_will=False)
    assert executor.streams_of("c") == []
    pool.close()
