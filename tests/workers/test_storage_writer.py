"""Checkpoints of several ranks through real storage writers: what is committed is whole, whoever dies on the way."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
import zmq
from storedkit import write_chunk

from strata_zmq import CheckpointManager
from strata_zmq.checkpoint.store import CheckpointStore
from strata_zmq.errors import (
    AlreadyExistsError,
    DeadlineExceededError,
    InvalidArgumentError,
    StaleGenerationError,
    UnavailableError,
)
from strata_zmq.protocol import stream
from strata_zmq.storage import LocalStorage
from strata_zmq.transport.curve import CurveKeys
from strata_zmq.workers import writer_link

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Make = Any


def state(rank: int, nbytes: int = 300_000) -> dict[str, Any]:
    return {"w": np.random.default_rng(rank).integers(0, 256, nbytes, np.uint8), "rank": rank, "nested": [(1, 2.5)]}


def chunks_on_disk(store: Path) -> list[Path]:
    return list(store.glob("ckpt/*/rank-*/pack-*"))


def assert_loads(store: Path, checkpoint_id: str, ranks: int, nbytes: int = 300_000) -> None:
    with CheckpointManager(store) as manager:
        for rank in range(ranks):
            found = manager.load(checkpoint_id, rank=rank)
            wanted = state(rank, nbytes)
            assert found["w"].tobytes() == wanted["w"].tobytes()
            assert (found["rank"], found["nested"]) == (rank, [(1, 2.5)])


@pytest.mark.parametrize("share_memory", [True, False], ids=["shared memory", "bytes"])
@pytest.mark.parametrize("listen", ["", "tcp://127.0.0.1:0"], ids=["ipc", "tcp"])
def test_what_every_rank_saved_is_committed_once_and_loads_bit_by_bit(
    make_cluster: Make, share_memory: bool, listen: str
) -> None:
    cluster = make_cluster(2)
    for name in ("one", "two"):
        cluster.writer(name, *(["--listen", listen] if listen else []))
    clients = [cluster.client(s, chunk_bytes=16_384, share_memory=share_memory) for s in cluster.join()]
    for step in (1, 2):
        handles = [
            client.save(state(rank), step=step, epoch=0, metadata={"note": "n"}) for rank, client in enumerate(clients)
        ]
        ids = {handle.result(30.0) for handle in handles}
        assert len(ids) == 1
        assert all(handle.is_durable and handle.error is None and handle.nbytes == 300_000 for handle in handles)
        assert_loads(cluster.store, ids.pop(), 2)
    with CheckpointManager(cluster.store) as manager:
        assert [(info.step, info.world_size, info.size_bytes) for info in manager.all_checkpoints()] == [
            (1, 2, 600_000),
            (2, 2, 600_000),
        ]
        manager.load()
        assert manager.last_restore is not None
        assert manager.last_restore.manifest.metadata == {"note": "n"}
        assert manager.last_restore.manifest.ledger["epoch"] == 0


def test_nothing_exists_before_every_rank_has_arrived(make_cluster: Make, eventually: Callable[..., object]) -> None:
    cluster = make_cluster(2)
    cluster.writer("one")
    early, late = (cluster.client(session) for session in cluster.join())
    first = early.save(state(0), step=1, epoch=0)
    eventually(lambda: chunks_on_disk(cluster.store))
    with pytest.raises(DeadlineExceededError, match="step 1 is not durable"):
        first.wait(0.3)
    with CheckpointManager(cluster.store) as manager:
        assert manager.all_checkpoints() == []
        late.save(state(1), step=1, epoch=0).result(30.0)
        assert first.wait(30.0)
        assert len(manager.all_checkpoints()) == 1


def test_training_may_change_its_state_as_soon_as_save_returns(make_cluster: Make) -> None:
    cluster = make_cluster()
    cluster.writer("one")
    client = cluster.client(cluster.join()[0])
    weights = np.zeros(2_000_000)
    handles = []
    for step in range(1, 5):
        weights[:] = step
        handles.append(client.save({"w": weights}, step=step, epoch=0))
    weights[:] = -1
    with CheckpointManager(cluster.store) as manager:
        for step, handle in list(enumerate(handles, 1))[-3:]:
            found = manager.load(handle.result(30.0))["w"]
            assert found.min() == found.max() == step


@pytest.mark.parametrize("place", ["writer.chunk.received", "writer.ack.before", "writer.ack.after"])
def test_a_writer_killed_in_the_middle_costs_nothing_while_another_lives(make_cluster: Make, place: str) -> None:
    cluster = make_cluster()
    victim = cluster.writer("victim", env={"STRATA_FAILPOINTS": f"{place}=kill@50"})
    cluster.writer("survivor")
    client = cluster.client(cluster.join()[0], chunk_bytes=4096)
    nbytes = 8_000_000
    handle = client.save(state(0, nbytes), step=1, epoch=0)
    assert_loads(cluster.store, handle.result(60.0), 1, nbytes)
    assert victim.wait() == -signal.SIGKILL


def test_a_killed_writer_that_comes_back_carries_on(make_cluster: Make) -> None:
    """The only writer dies; started again under its name it takes what is missing, and the save does not fail."""
    cluster = make_cluster()
    writer = cluster.writer("only", env={"STRATA_FAILPOINTS": "writer.ack.before=kill@50"})
    client = cluster.client(cluster.join()[0], chunk_bytes=4096)
    nbytes = 8_000_000
    handle = client.save(state(0, nbytes), step=1, epoch=0)
    assert writer.wait() == -signal.SIGKILL
    assert not handle.done
    cluster.writer("only")
    assert_loads(cluster.store, handle.result(60.0), 1, nbytes)


def test_a_writer_that_hangs_is_given_up(make_cluster: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_link, "_SILENCE_MAX_S", 1.5)
    cluster = make_cluster()
    stuck = cluster.writer("stuck", env={"STRATA_FAILPOINTS": "writer.chunk.received=stop@50"})
    cluster.writer("survivor")
    client = cluster.client(cluster.join()[0], chunk_bytes=4096)
    nbytes = 8_000_000
    handle = client.save(state(0, nbytes), step=1, epoch=0)
    checkpoint_id = handle.result(60.0)
    # What it held in its queues comes late and changes nothing.
    assert psutil.Process(stuck.pid).status() == psutil.STATUS_STOPPED
    stuck.signal(signal.SIGCONT)
    client.save(state(0, 5000), step=2, epoch=0).result(30.0)
    assert_loads(cluster.store, checkpoint_id, 1, nbytes)


def test_a_coordinator_killed_in_the_middle_does_not_lose_the_save(
    make_cluster: Make, eventually: Callable[..., object]
) -> None:
    cluster = make_cluster()
    go, log = cluster.folder / "go", cluster.folder / "failpoints"
    env = {"STRATA_FAILPOINTS": f"writer.chunk.received=pause:{go}@50", "STRATA_FAILPOINTS_LOG": str(log)}
    cluster.writer("one", env=env)
    client = cluster.client(cluster.join()[0], chunk_bytes=4096)
    nbytes = 8_000_000
    handle = client.save(state(0, nbytes), step=1, epoch=0)
    eventually(log.exists)
    cluster.coordinator.kill()
    assert not handle.done
    cluster.start_coordinator()
    go.touch()
    assert_loads(cluster.store, handle.result(60.0), 1, nbytes)


def test_a_new_job_over_an_old_folder_saves_on(make_cluster: Make) -> None:
    """Another journal, another run: its checkpoints follow those of the first."""
    steps = []
    for _ in range(2):
        cluster = make_cluster()
        cluster.writer("one")
        client = cluster.client(cluster.join()[0])
        for step in (1, 2):
            client.save(state(0), step=step, epoch=0).result(30.0)
            steps.append(step)
        cluster.close()
    with CheckpointManager(cluster.store) as manager:
        assert [info.step for info in manager.all_checkpoints()] == steps[-3:]


def test_retired_checkpoints_and_aborted_saves_leave_the_disk(
    make_cluster: Make, eventually: Callable[..., object]
) -> None:
    cluster = make_cluster()
    cluster.writer("one")
    store = CheckpointStore(LocalStorage(cluster.store))
    aborted, foreign = "step-000000000000-g1-t1", "step-0000000007-abcdef01"
    for name in (aborted, foreign):
        asyncio.run(write_chunk(store, name, 0, b"left behind"))
    client = cluster.client(cluster.join()[0])
    for step in range(1, 6):
        # Nothing is equal: what is referred to would stay.
        client.save(state(step, 5000), step=step, epoch=0).result(30.0)
    with CheckpointManager(cluster.store) as manager:
        kept = {info.checkpoint_id for info in manager.all_checkpoints()}
    assert len(kept) == 3
    # What is not a save of this cluster may be somebody's who is still writing.
    eventually(lambda: {path.name for path in (cluster.store / "ckpt").iterdir()} == kept | {foreign})


def test_a_save_that_is_fenced_off_says_so_and_changes_nothing(make_cluster: Make) -> None:
    cluster = make_cluster()
    cluster.writer("one")
    client = cluster.client(cluster.join()[0])
    client.save(state(0), step=5, epoch=0).result(30.0)
    late = client.save(state(0), step=4, epoch=0)
    assert late.wait(30.0) is False
    assert isinstance(late.error, StaleGenerationError)
    assert "was committed" in str(late.error)
    with pytest.raises(StaleGenerationError):
        late.result()
    with CheckpointManager(cluster.store) as manager:
        assert [info.step for info in manager.all_checkpoints()] == [5]
    again = client.save(state(0), step=5, epoch=0)
    assert again.wait(30.0) is False
    assert isinstance(again.error, AlreadyExistsError)


def test_one_ranks_failure_is_told_to_the_others(make_cluster: Make, eventually: Callable[..., object]) -> None:
    cluster = make_cluster(2)
    cluster.writer("one", "--window-mib", "1")
    good, bad = (cluster.client(session, chunk_bytes=2**21) for session in cluster.join())
    waiting = good.save(state(0), step=1, epoch=0)
    eventually(lambda: list(cluster.store.glob("ckpt/*/rank-*/index-*")))
    failing = bad.save(state(1, 3_000_000), step=1, epoch=0)
    assert [waiting.wait(30.0), failing.wait(30.0)] == [False, False]
    assert "use smaller chunks" in str(failing.error)
    assert "rank 1 (worker-1)" in str(waiting.error)
    assert "use smaller chunks" in str(waiting.error)


def test_storage_that_stands_still_stops_no_training(make_cluster: Make) -> None:
    """When no staging memory is given back in time, the save's handle says so; the call itself returns."""
    cluster = make_cluster()
    writer = cluster.writer("one")
    client = cluster.client(cluster.join()[0], arenas=1, timeout_s=0.5)
    writer.signal(signal.SIGSTOP)
    first, second = (client.save(state(0), step=step, epoch=0) for step in (1, 2))
    assert second.done
    assert isinstance(second.error, DeadlineExceededError)
    assert "save less often" in str(second.error)
    assert first.wait(30.0) is False
    assert isinstance(first.error, DeadlineExceededError)
    writer.signal(signal.SIGCONT)


def test_without_a_writer_a_save_says_how_to_start_one(make_cluster: Make) -> None:
    cluster = make_cluster()
    handle = cluster.client(cluster.join()[0]).save(state(0), step=1, epoch=0)
    assert handle.wait(30.0) is False
    assert isinstance(handle.error, UnavailableError)
    assert "strata writer" in str(handle.error)


def test_what_cannot_be_saved_is_refused_at_once(make_cluster: Make) -> None:
    cluster = make_cluster()
    client = cluster.client(cluster.join()[0])
    for arguments, reason in [
        ({"data": {"f": object()}}, r"data\['f'\]"),
        ({"step": -1}, "step"),
        ({"metadata": {"k": "x" * 1025}}, "metadata"),
    ]:
        with pytest.raises(InvalidArgumentError, match=reason):
            client.save(**{"data": {}, "step": 1, "epoch": 0, **arguments})
    client.close()
    with pytest.raises(InvalidArgumentError, match="closing"):
        client.save({}, step=1, epoch=0)


def test_closing_gives_up_what_cannot_be_finished_and_says_so(make_cluster: Make) -> None:
    cluster = make_cluster(2)
    cluster.writer("one")
    client, _ = (cluster.client(session) for session in cluster.join())
    handle = client.save(state(0), step=1, epoch=0)
    client.close(timeout_s=0.2)
    assert handle.wait(10.0) is False
    assert isinstance(handle.error, UnavailableError)


def test_with_keys_a_save_works_and_strangers_are_not_heard(
    make_cluster: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CurveKeys.create(tmp_path / "keys")
    monkeypatch.setenv("STRATA_CURVE_KEYS", str(tmp_path / "keys"))
    cluster = make_cluster()
    told = cluster.writer("one").told
    client = cluster.client(cluster.join()[0], chunk_bytes=16_384, share_memory=False)
    assert_loads(cluster.store, client.save(state(0), step=1, epoch=0).result(30.0), 1)
    with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.linger = 0
        stranger.connect(told["control"])
        stranger.send(stream.encode_stream(stream.StreamOpen("s", "c", "w")))
        assert not stranger.poll(500), "a stranger was answered"


# ---- the process ----------------------------------------------------------------------------------------------------


def test_a_writer_that_is_asked_to_end_finishes_and_leaves_no_file(make_cluster: Make) -> None:
    cluster = make_cluster()
    writer = cluster.writer("one")
    assert sorted(path.name for path in cluster.folder.glob("one.[cd]*")) == ["one.control", "one.data"]
    writer.signal(signal.SIGTERM)
    assert writer.wait() == 0
    assert list(cluster.folder.glob("one.[cd]*")) == []


def test_a_writer_outlives_its_supervisor_only_to_finish(make_cluster: Make) -> None:
    cluster = make_cluster()
    supervisor = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        writer = cluster.writer("one", env={"STRATA_SUPERVISOR_PID": str(supervisor.pid)})
        assert writer.process.poll() is None
    finally:
        supervisor.kill()
        supervisor.wait()
    assert writer.wait() == 0


def run_writer(*options: str, url: str = "tcp://127.0.0.1:1") -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "strata_zmq.workers", "writer", "--coordinator-url", url, *options]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ([], "--path is not given"),
        (["--path", "x", "--writer-id", "a/b"], "--writer-id"),
        (["--path", "x", "--window-mib", "0"], "need 1 <= window <= inflight"),
        (["--path", "x", "--window-mib", "9", "--inflight-mib", "8"], "need 1 <= window <= inflight"),
        (["--path", "x", "--drain-s", "-1"], "--drain-s is -1"),
        (["--path", "x", "--nonsense"], "--nonsense"),
        (["--path", "x", "--listen", "http://a"], "--listen"),
    ],
)
def test_options_outside_their_limits_are_a_line_and_status_2(
    options: list[str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run_writer(*options)
    assert (ended.returncode, reason in ended.stderr) == (2, True), ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_writer_that_may_not_listen_beyond_this_machine_says_so(tmp_path: Path) -> None:
    ended = run_writer("--path", str(tmp_path), "--listen", "tcp://0.0.0.0:0")
    assert ended.returncode == 2
    assert "beyond this machine without keys" in ended.stderr


def test_a_folder_that_cannot_be_written_ends_the_writer_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = run_writer("--path", str(tmp_path / "file"))
    assert ended.returncode == 1
    assert "choose another folder" in ended.stderr


def test_a_port_in_use_is_named(make_cluster: Make) -> None:
    cluster = make_cluster()
    taken = cluster.writer("one", "--listen", "tcp://127.0.0.1:0").told["data"]
    ended = run_writer("--path", str(cluster.store), "--listen", taken, url=cluster.url)
    assert ended.returncode == 1
    assert "in use by another process" in ended.stderr


def test_saving_stalls_training_for_the_copy_only(make_cluster: Make) -> None:
    """A writer that has stopped for a while holds nothing up but the checkpoint."""
    cluster = make_cluster()
    writer = cluster.writer("one")
    client = cluster.client(cluster.join()[0])
    writer.signal(signal.SIGSTOP)
    began = time.monotonic()
    handles = [client.save(state(0), step=step, epoch=0) for step in (1, 2)]
    assert not any(handle.done for handle in handles)
    assert max(handle.stall_s for handle in handles) <= time.monotonic() - began
    writer.signal(signal.SIGCONT)
    assert [handle.wait(30.0) for handle in handles] == [True, True]
