"""What is said of a checkpoint's place, tier and wholeness is what its store says, read again by whoever asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strata_zmq import CheckpointManager
from strata_zmq.coordinator.api.state.vault import Vault
from strata_zmq.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError, StorageError

NOW = 1_700_000_000.0


def save(place: str, *steps: int) -> list[str]:
    """Save some steps and return their ids; what is copied to a second place is there, too."""
    with CheckpointManager(place) as manager:
        for step in steps:
            manager.save({"weights": np.random.default_rng(step).standard_normal(5000)}, step, 0)
        manager.wait_pending()
        return [info.checkpoint_id for info in manager.all_checkpoints()]


def look(place: str, work: Callable[[Vault], Coroutine[Any, Any, None]]) -> None:
    """Have a vault over the place that looks often, and do `work` with it."""

    async def main() -> None:
        vault = Vault(place, clock=lambda: NOW, look_s=0.02)
        async with vault.running():
            await work(vault)

    asyncio.run(main())


async def until(predicate: Callable[[], object], timeout_s: float = 30.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not predicate():  # noqa: ASYNC110 - what is waited for is another thread
            await asyncio.sleep(0.01)


def test_checkpoints_are_told_with_their_place_as_they_become_durable(tmp_path: Path) -> None:
    async def work(vault: Vault) -> None:
        assert dict(vault.rows()) == {}
        (first,) = await asyncio.to_thread(save, str(tmp_path), 1)
        await until(vault.rows)
        before = vault.version
        row = vault.rows()[first]
        assert row.path.endswith(f"{tmp_path}/ckpt/{first}/")
        assert (row.kind, row.tier, row.verified, row.verified_at, row.pinned) == ("FULL", None, None, None, False)
        await asyncio.to_thread(save, str(tmp_path), 2)
        await until(lambda: len(vault.rows()) == 2)
        assert vault.version > before

    look(str(tmp_path), work)


def test_one_that_is_read_again_and_whole_is_verified_and_head_knows_it(tmp_path: Path) -> None:
    first, second = save(str(tmp_path), 1, 2)

    async def work(vault: Vault) -> None:
        await vault.verify(second)
        row = vault.rows()[second]
        assert (row.verified, row.verified_at) == (True, NOW)
        assert vault.rows()[first].verified is None

    async def later(vault: Vault) -> None:
        await until(vault.rows)
        row = vault.rows()[second]
        # When that was is known to whoever found it so, and not to HEAD.
        assert (row.verified, row.verified_at) == (True, None)

    look(str(tmp_path), work)
    look(str(tmp_path), later)


def test_one_that_is_damaged_is_shown_as_damaged_and_said_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (only,) = save(str(tmp_path), 1)
    pack = next(tmp_path.glob(f"ckpt/{only}/rank-*/pack-*"))
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)

    async def work(vault: Vault) -> None:
        await vault.verify(only)
        row = vault.rows()[only]
        assert (row.verified, row.verified_at) == (False, NOW)

    look(str(tmp_path), work)
    assert f"{only} is damaged" in caplog.text


def test_of_two_tiers_it_is_told_which_one_has_it(tmp_path: Path) -> None:
    near, far = tmp_path / "near", tmp_path / "far"
    (both,) = save(f"{near},file://{far}", 1)
    _, alone = save(str(near), 2)

    async def work(vault: Vault) -> None:
        await until(lambda: len(vault.rows()) == 2)
        assert {name: row.tier for name, row in vault.rows().items()} == {both: "far", alone: "near"}
        assert all(str(near) in row.path for row in vault.rows().values())

    async def after_a_loss(vault: Vault) -> None:
        await until(vault.rows)
        assert str(far) in vault.rows()[both].path
        await vault.verify(both)
        assert vault.rows()[both].verified is True

    look(f"{near},file://{far}", work)
    near.rename(tmp_path / "gone")
    look(f"{near},file://{far}", after_a_loss)
    assert not (near / "HEAD").exists(), "whoever only looks takes nothing over"


def test_one_is_read_at_a_time_and_only_what_is_there(tmp_path: Path) -> None:
    (only,) = save(str(tmp_path), 1)

    async def work(vault: Vault) -> None:
        with pytest.raises(NotFoundError, match="not in the store's HEAD"):
            await vault.verify("step-9")
        first = asyncio.create_task(vault.verify(only))
        await asyncio.sleep(0)
        with pytest.raises(AlreadyExistsError, match="one checkpoint at a time"):
            await vault.verify(only)
        await first
        await vault.verify(only)

    look(str(tmp_path), work)


def test_a_store_that_cannot_be_read_is_said_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    head = tmp_path / "HEAD"
    head.write_bytes(b"nonsense")

    async def work(vault: Vault) -> None:
        await until(lambda: "cannot be looked at" in caplog.text)
        with pytest.raises(Exception, match="HEAD"):
            await vault.verify("step-1")
        head.unlink()
        await asyncio.to_thread(save, str(tmp_path), 1)
        await until(vault.rows)

    look(str(tmp_path), work)
    said = [one for one in caplog.records if "cannot be looked at" in one.message and one.levelname == "WARNING"]
    assert len(said) == 1


def test_a_place_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(InvalidArgumentError, match="--store"):
        Vault("/a,file:///b,file:///c")
    with pytest.raises((InvalidArgumentError, StorageError)):
        Vault("s3://")
