"""Who comes from the past changes nothing: a writer that slept through retentions, a coordinator that was replaced."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from processkit.patience import until
from stepkit import Actor, Places, StepStorage, damages, finished

from strata_zmq import CheckpointManager
from strata_zmq.checkpoint.store import CheckpointStore, Commit
from strata_zmq.domain.manifest import Manifest, RankEntry, RankIndex
from strata_zmq.domain.retention import Retention
from strata_zmq.errors import StaleGenerationError
from strata_zmq.storage import LocalStorage
from strata_zmq.workers.checkpoint_commit import tidy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from strata_zmq.storage import Storage

_SAVER = r"""
import sys
import numpy as np
from strata_zmq import CheckpointManager
with CheckpointManager(sys.argv[1], keep_count=1, chunk_bytes=4096) as manager:
    manager.save({"w": np.full(1500, 1.0)}, 1, 0)
    manager.wait_pending()
    manager.save({"w": np.full(1500, 2.0), "x": np.full(1500, 1.0)}, 2, 0)
    try:
        manager.wait_pending()
    except Exception as error:
        print(type(error).__name__, error)
    else:
        print("committed")
"""


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """A process that saves two steps, and is stopped (SIGSTOP) at a failpoint of the second."""
    running: list[subprocess.Popen[str]] = []

    def start(name: str) -> subprocess.Popen[str]:
        told = tmp_path / "told"
        environ = {
            **os.environ,
            "STRATA_FAILPOINTS": f"{name}=stop@2",
            "STRATA_FAILPOINTS_LOG": str(told),
        }
        child = subprocess.Popen(
            [sys.executable, "-c", _SAVER, str(tmp_path / "run")], env=environ, stdout=subprocess.PIPE, text=True
        )
        running.append(child)
        until(told.exists, 60)
        return child

    yield start
    for child in running:
        if child.poll() is None:
            child.kill()
        child.communicate()


@pytest.mark.parametrize("name", ["commit.begin", "commit.manifest.stored", "commit.head.before"])
def test_a_writer_that_was_stopped_over_many_retentions_commits_a_whole_checkpoint_or_none(
    tmp_path: Path, sleeper: Callable[[str], subprocess.Popen[str]], name: str
) -> None:
    """While it sleeps others save and retire; what it goes on with is loaded bit by bit, and nothing is left over."""
    child = sleeper(name)
    with CheckpointManager(tmp_path / "run", keep_count=1, chunk_bytes=4096) as manager:
        for step in range(10, 20):
            manager.save({"w": np.full(1500, float(step))}, step, 0)
            manager.wait_pending()
        child.send_signal(signal.SIGCONT)
        told, _ = child.communicate(timeout=60)
        latest = manager.latest()
        assert latest is not None
        state = manager.load()
        assert state["w"].tobytes() == np.full(1500, float(latest.step)).tobytes()
        assert (latest.step == 2) == told.startswith("committed"), told
        folders = {path.name for path in (tmp_path / "run" / "ckpt").iterdir()}
        head = asyncio.run(CheckpointStore(LocalStorage(tmp_path / "run")).head())
        assert folders == {latest.checkpoint_id, *head.kept, *(e.checkpoint_id for e in head.retained)}


async def save(
    store: CheckpointStore, step: int, *, term: int, generation: int, opened: int | None = None, keep: int = 1
) -> Commit:
    """A checkpoint as a coordinator names it, committed by its writer; then what is over is deleted."""
    name = f"step-{step}-g{generation}-t{term if opened is None else opened}"
    part = name.encode()
    chunks = await store.write_pack(name, 0, 0, [(blake3(part).hexdigest(), part)])
    key, digest = await store.write_rank_index(name, RankIndex(0, None, (), tuple(chunks)))
    entry = RankEntry(0, "w", key, digest, len(part))
    commit = await store.commit(Manifest(name, step, 0, term, generation, 1.0, (entry,)), Retention(keep))
    await tidy(store, commit)
    return commit


def test_of_two_coordinators_the_one_of_the_lower_term_is_refused_on_every_storage(
    tmp_path: Path, storage_of: Callable[[Path], Storage]
) -> None:
    """And its clearing up does not touch what the other has begun, although that counts generations anew."""

    async def scenario() -> None:
        storage = storage_of(tmp_path)
        await storage.prepare()
        old, new = CheckpointStore(storage, "run"), CheckpointStore(storage, "run")
        await save(old, 28, term=5, generation=9)
        part = b"begun under the next term"
        begun = await new.write_pack("step-1-g1-t6", 0, 0, [(blake3(part).hexdigest(), part)])
        await save(old, 29, term=5, generation=9)
        assert await new.read_chunk(begun[0]) == part
        await save(new, 2, term=6, generation=1)
        before = await new.head()
        with pytest.raises(StaleGenerationError, match=r"comes after \(6, 1, 2\) was committed"):
            await save(old, 30, term=5, generation=9)
        assert await new.head() == before
        await storage.close()

    asyncio.run(scenario())


def test_one_that_is_stopped_before_its_compare_and_swap_finds_itself_fenced() -> None:
    places = Places()
    storage = StepStorage(places)
    zombie = Actor("zombie", save(CheckpointStore(storage), 7, term=1, generation=3), storage)
    zombie.until(lambda: any("manifest-" in key for key in places.objects))
    head = finished(save(CheckpointStore(StepStorage(places)), 2, term=2, generation=3)).head
    assert isinstance(zombie.finish().error, StaleGenerationError)
    found = finished(CheckpointStore(StepStorage(places)).head())
    assert found == head


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), max_size=60), st.integers(1, 2))
def test_whatever_the_order_the_fence_never_goes_back_and_what_head_reaches_is_whole(
    order: list[tuple[int, int]], keep: int
) -> None:
    """Two coordinators of terms 1 and 2, two saves each, a storage access at a time."""
    places = Places()
    actors = []
    for term, step in ((1, 5), (1, 6), (2, 3), (2, 4)):
        storage = StepStorage(places)
        work = save(CheckpointStore(storage), step, term=term, generation=4 - term, keep=keep)
        actors.append(Actor(f"{term}:{step}", work, storage))
    fence = (0, 0, 0)
    for number, steps in (*order, (0, 99), (1, 99), (2, 99), (3, 99)):
        for _ in range(steps):
            if not actors[number].done:
                actors[number].step()
                assert damages(places) == []
                head = finished(CheckpointStore(StepStorage(places)).head())
                assert head.fence >= fence
                fence = head.fence
    assert fence == (2, 2, 4)
    for actor in actors:
        assert actor.error is None or isinstance(actor.error, StaleGenerationError)
