"""docs/training.md: its blocks run in order as they stand, and its workers train under a real coordinator."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processkit.coordinator import Coordinator

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


@pytest.fixture
def coordinator(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    started = Coordinator(run_dir).start()
    monkeypatch.setenv("COORDINATOR_URL", started.url)
    monkeypatch.setenv("WORKER_ID", "worker-01")
    yield started.url
    started.stop()


@pytest.fixture
def page(tmp_path: Path, coordinator: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.delenv("COORDINATOR_URL")
    names: dict[str, Any] = {"folder": str(tmp_path / "checkpoints")}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102 - the page is ours, and this is its test
    monkeypatch.setenv("COORDINATOR_URL", coordinator)
    return names


def test_the_registry_and_the_manager_work_without_a_coordinator(page: dict[str, Any]) -> None:
    registry = page["registry"]
    owned = [registry.get_shards("imagenet-1k", worker, 0) for worker in ("worker-01", "worker-02")]
    assert sorted(len(shards) for shards in owned) == [64, 65]
    assert sum(shard.num_samples for shards in owned for shard in shards) == 1281167
    assert page["shards"] == owned[0]
    with page["CheckpointManager"](page["folder"]) as manager:
        assert manager.load(5000)["weights"].tolist() == [0.0, 1.0, 2.0]


def test_the_loop_trains_and_outlives_a_save_that_no_writer_takes(page: dict[str, Any]) -> None:
    with page["Mean"]() as worker:
        assert 1.0 < worker.train(np.full(40, 3.0))[0] < 3.0
        assert worker.epoch == 2


def test_the_synchronised_worker_sees_every_number_once(page: dict[str, Any]) -> None:
    with page["Synchronised"]() as worker:
        assert worker.train(np.arange(95.0)) == sum(range(95))


def test_newcomers_take_the_model_from_rank_0(page: dict[str, Any], tmp_path: Path) -> None:
    with page["Shared"](tmp_path / "weights.npy") as worker:
        worker.track(model=worker.weights)
        worker.register_dataset("numbers", total_samples=20, shard_size=5)
        assert sum(len(batch) for batch in worker.batches("numbers", 4)) == 20
        assert (tmp_path / "weights.npy").exists()


def test_ranks_agree_on_the_loss_and_end_behind_the_same_step(page: dict[str, Any]) -> None:
    with page["Careful"]() as worker:
        losses = worker.train(np.full(400, 1.0))
        assert losses[-1] < 0.01 <= losses[-2]


def test_a_coroutine_takes_part_as_a_worker(page: dict[str, Any]) -> None:
    assert asyncio.run(page["count_shards"]("worker-07")) == (0, 4.0)
