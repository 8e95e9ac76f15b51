"""Saves while the storage stands still, is slow or fails: what the handle says, who goes on, what is referred to."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from strata_zmq import CheckpointManager
from strata_zmq.checkpoint.store import CheckpointStore
from strata_zmq.errors import InvalidArgumentError, SupersededError
from strata_zmq.storage import LocalStorage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from strata_zmq.domain.manifest import Manifest

Make = Any


def state(seed: int, nbytes: int = 200_000) -> dict[str, Any]:
    return {"w": np.random.default_rng(seed).integers(0, 256, nbytes, np.uint8)}


def assert_holds(store: Path, checkpoint_id: str, wanted: dict[str, Any]) -> None:
    with CheckpointManager(store) as manager:
        found = manager.load(checkpoint_id)
    assert found.keys() == wanted.keys()
    assert all(found[name].tobytes() == wanted[name].tobytes() for name in wanted)


def manifests(store: Path) -> list[Manifest]:
    async def read() -> list[Manifest]:
        held = CheckpointStore(LocalStorage(store))
        return [await held.read_manifest(entry) for entry in await held.entries()]

    return asyncio.run(read())


# ---- a writer that is slow ------------------------------------------------------------------------------------------


def test_a_writer_whose_disk_stands_still_gets_no_more_and_the_others_finish(make_cluster: Make) -> None:
    """It answers every ping, and would be waited for for a minute; what it writes in the end does no harm."""
    cluster = make_cluster()
    go = cluster.folder / "go"
    small = ("--window-mib", "1", "--inflight-mib", "1")
    slow = cluster.writer("slow", *small, env={"STRATA_FAILPOINTS": f"storage.write=pause:{go}@3"})
    cluster.writer("quick", *small)
    client = cluster.client(cluster.join()[0], chunk_bytes=16_384)
    first = client.save(state(1, 12_000_000), step=1, epoch=0)
    assert_holds(cluster.store, first.result(25.0), state(1, 12_000_000))
    assert first.durable_s >= 2.0, "the slow writer was to hold some chunks"
    go.touch()
    second = client.save(state(2, 12_000_000), step=2, epoch=0)
    assert_holds(cluster.store, second.result(25.0), state(2, 12_000_000))
    assert_holds(cluster.store, first.checkpoint_id, state(1, 12_000_000))
    slow.stop()


def test_a_stopped_writer_costs_seconds_and_not_the_save(make_cluster: Make) -> None:
    cluster = make_cluster()
    stopped = cluster.writer("stopped", env={"STRATA_FAILPOINTS": "writer.chunk.received=stop@20"})
    cluster.writer("quick")
    client = cluster.client(cluster.join()[0], chunk_bytes=16_384)
    handle = client.save(state(1, 3_000_000), step=1, epoch=0)
    assert_holds(cluster.store, handle.result(9.0), state(1, 3_000_000))
    stopped.signal(signal.SIGCONT)


# ---- a save that meets others ---------------------------------------------------------------------------------------


def test_a_save_that_finds_no_memory_may_be_skipped_and_then_all_ranks_skip_it(make_cluster: Make) -> None:
    cluster = make_cluster(2)
    writer = cluster.writer("one")
    busy, free = (cluster.client(session, arenas=count) for session, count in zip(cluster.join(), (1, 2), strict=True))
    writer.signal(signal.SIGSTOP)
    firsts = [client.save(state(rank), step=1, epoch=0) for rank, client in enumerate((busy, free))]
    other = free.save(state(1), step=2, epoch=0)
    skipped = busy.save(state(0), step=2, epoch=0, when_busy="skip")
    assert (skipped.state, skipped.done, skipped.is_durable) == ("SKIPPED", True, False)
    assert isinstance(skipped.error, SupersededError)
    assert "skipped" in str(skipped.error)
    writer.signal(signal.SIGCONT)
    assert all(handle.result(30.0) for handle in firsts)
    assert other.wait(30.0) is False
    assert other.state == "SKIPPED", other.error
    for handle in (skipped, other):
        with pytest.raises(SupersededError):
            handle.result()
    lasts = [client.save(state(rank), step=3, epoch=0) for rank, client in enumerate((busy, free))]
    assert all(handle.result(30.0) for handle in lasts)
    assert [one.step for one in manifests(cluster.store)] == [1, 3]


def test_a_newer_save_may_take_the_place_of_one_that_waits(make_cluster: Make, eventually: Callable[..., Any]) -> None:
    """The one that is being stored goes on; the newest in the queue gives way."""
    cluster = make_cluster()
    writer = cluster.writer("one")
    client = cluster.client(cluster.join()[0], arenas=2, when_busy="supersede")
    writer.signal(signal.SIGSTOP)
    first = client.save(state(1), step=1, epoch=0)
    eventually(lambda: first.state == "STREAMING")
    second = client.save(state(2), step=2, epoch=0)
    third = client.save(state(3), step=3, epoch=0)
    assert [first.done, second.state, third.done] == [False, "SKIPPED", False]
    assert "gave way to that of step 3" in str(second.error)
    writer.signal(signal.SIGCONT)
    assert first.result(30.0)
    assert_holds(cluster.store, third.result(30.0), state(3))
    assert [one.step for one in manifests(cluster.store)] == [1, 3]


def test_an_unknown_policy_is_refused(make_cluster: Make) -> None:
    client = make_cluster().client(make_cluster().join()[0])
    wrong: Any = "drop"
    with pytest.raises(InvalidArgumentError, match="block, skip, supersede"):
        client.save(state(1), step=1, epoch=0, when_busy=wrong)


# ---- a save that fails and is tried again ---------------------------------------------------------------------------


def test_storage_that_fails_for_a_while_costs_attempts_and_not_the_checkpoint(
    make_cluster: Make, eventually: Callable[..., Any]
) -> None:
    """The handle says that it is being tried again, and why; both futures tell the end."""
    cluster = make_cluster()
    cluster.writer("one")
    client = cluster.client(cluster.join()[0])
    in_the_way = cluster.store / "ckpt"
    in_the_way.write_text("no folder can be made here")
    handle = client.save(state(1), step=1, epoch=0)
    assert handle.staged.done()
    eventually(lambda: handle.attempts >= 2, 20.0)
    assert handle.error is not None
    in_the_way.unlink()
    assert handle.durable.result(30.0) == handle.checkpoint_id
    assert (handle.state, handle.error) == ("DURABLE", None)
    assert_holds(cluster.store, handle.checkpoint_id, state(1))


# ---- two tiers -----------------------------------------------------------------------------------------------------


def test_a_writer_copies_what_is_committed_to_the_far_tier_and_goes_on_where_one_before_it_ended(
    make_cluster: Make, eventually: Callable[..., Any], tmp_path: Path
) -> None:
    cluster = make_cluster()
    near, far = cluster.store, tmp_path / "far"
    cluster.store = f"{near},file://{far}"
    first = cluster.writer("first", env={"STRATA_FAILPOINTS": "tier.object.copied=kill"})
    client = cluster.client(cluster.join()[0])
    handle = client.save(state(1), step=1, epoch=0)
    assert_holds(near, handle.result(30.0), state(1))
    assert first.wait() == -signal.SIGKILL
    cluster.writer("first")
    eventually((far / "HEAD").exists, 30.0)
    assert_holds(far, handle.checkpoint_id, state(1))


# ---- references -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share_memory", [True, False], ids=["shared memory", "bytes"])
def test_what_has_not_changed_is_referred_to_and_not_written(make_cluster: Make, share_memory: bool) -> None:
    """Two of twenty arrays change: about a tenth is written, and each checkpoint loads by itself."""
    cluster = make_cluster()
    cluster.writer("one")
    client = cluster.client(cluster.join()[0], chunk_bytes=16_384, share_memory=share_memory)
    first = {f"a{number:02}": state(number, 50_000)["w"] for number in range(20)}
    whole = client.save(first, step=1, epoch=0)
    before = whole.result(30.0)
    second = {**first, "a03": state(103, 50_000)["w"], "a11": state(111, 50_000)["w"]}
    part = client.save(second, step=2, epoch=0)
    after = part.result(30.0)
    assert whole.written_bytes == whole.nbytes == 1_000_000
    assert part.written_bytes == 100_000
    assert [one.refs for one in manifests(cluster.store)] == [(), (before,)]
    assert [one.ranks[0].written_bytes for one in manifests(cluster.store)] == [1_000_000, 100_000]
    assert_holds(cluster.store, before, first)
    assert_holds(cluster.store, after, second)


def test_a_checkpoint_that_was_retired_is_still_there_for_those_that_refer_to_it(make_cluster: Make) -> None:
    """Three are kept here; the first one's chunks outlive it as long as somebody needs them."""
    cluster = make_cluster()
    cluster.writer("one")
    client = cluster.client(cluster.join()[0], chunk_bytes=16_384)
    kept = state(1, 100_000)["w"]
    for step in range(1, 7):
        handle = client.save({"kept": kept, "new": state(step)["w"]}, step=step, epoch=0)
        last = handle.result(30.0)
    assert [one.step for one in manifests(cluster.store)] == [4, 5, 6]
    assert handle.written_bytes == 200_000
    assert_holds(cluster.store, last, {"kept": kept, "new": state(6)["w"]})
