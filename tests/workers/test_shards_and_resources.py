"""A shard is its samples; a heartbeat's figures are measured."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.errors import InvalidArgumentError
from strata_zmq.workers.identity import WorkerIdentity
from strata_zmq.workers.operations import dataset_request
from strata_zmq.workers.resources import ResourceMeter, count_gpus
from strata_zmq.workers.shards import Shard, make_shard


def shard_of(total: int, size: int, number: int, *, epoch: int = 0, shuffle: bool = True) -> Shard:
    return make_shard(
        "d", number, epoch, total_samples=total, shard_size=size, shuffle=shuffle, seed=42, path="/data/train"
    )


@given(st.integers(1, 2000), st.integers(1, 500), st.data())
def test_pieces_of_a_shard_are_the_shard(total: int, size: int, data: st.DataObject) -> None:
    """Reading a shard in pieces, from any cursor, gives the ids that reading it whole gives, in the same order."""
    shard = shard_of(total, size, data.draw(st.integers(0, -(-total // size) - 1)))
    cut = data.draw(st.integers(0, shard.num_samples))
    pieces = [shard.samples(0, cut), shard.samples(cut, shard.num_samples)]
    assert np.array_equal(np.concatenate(pieces), shard.indices)
    assert len(shard) == shard.num_samples == shard.end_index - shard.start_index == shard.indices.size
    assert shard.indices.dtype == np.int64


def test_a_shard_carries_what_is_needed_to_read_it() -> None:
    """The published fields, and the last shard is short."""
    shard = shard_of(25, 10, 2, epoch=7)
    assert (shard.dataset_id, shard.shard_id, shard.total_shards, shard.epoch) == ("d", 2, 3, 7)
    assert (shard.start_index, shard.end_index, shard.num_samples) == (20, 25, 5)
    assert shard.file_paths == ("/data/train",)
    assert shard_of(25, 10, 2, shuffle=False).indices.tolist() == [20, 21, 22, 23, 24]
    with pytest.raises(InvalidArgumentError, match="shard is 3, the dataset has shards 0 to 2"):
        shard_of(25, 10, 3)


def test_a_heartbeat_carries_this_processes_figures_now_and_then() -> None:
    """The first reading is there and plausible; right after it nothing new is measured, so nothing is sent."""
    meter = ResourceMeter()
    reading = meter.read()
    assert reading is not None
    assert 1_000_000 < reading.memory_bytes < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert reading.cpu_percent >= 0
    assert reading.gpu_percent == []
    assert meter.read() is None


def test_the_hosts_network_is_counted_from_the_workers_beginning() -> None:
    """What the host has moved since it was booted is no worker's figure."""
    before = psutil.net_io_counters()
    reading = ResourceMeter().read()
    after = psutil.net_io_counters()
    assert reading is not None
    assert 0 <= reading.network_sent_bytes <= after.bytes_sent - before.bytes_sent
    assert 0 <= reading.network_received_bytes <= after.bytes_recv - before.bytes_recv


def test_gpu_count_is_told_or_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """GPU_COUNT wins over what the machine shows; nonsense is refused by name."""
    monkeypatch.setenv("GPU_COUNT", "8")
    assert count_gpus() == 8
    monkeypatch.delenv("GPU_COUNT")
    devices = [path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia*")]
    assert count_gpus() == sum(number.isdigit() for number in devices)
    for nonsense in ("many", "-1", "99999"):
        monkeypatch.setenv("GPU_COUNT", nonsense)
        with pytest.raises(InvalidArgumentError, match="GPU_COUNT is"):
            count_gpus()


def test_a_worker_describes_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Host, memory and a name of its own are found out; two lives of one worker are told apart; limits are named."""
    one, two = WorkerIdentity(worker_id="a"), WorkerIdentity(worker_id="a")
    assert one.hostname
    assert one.memory_bytes > 1_000_000
    assert one.incarnation != two.incarnation
    assert str(os.getpid()) in WorkerIdentity.default_id()
    monkeypatch.setenv("WORKER_ID", "named")
    assert WorkerIdentity.default_id() == "named"
    for mistake in ("a b", "x" * 129):
        with pytest.raises(InvalidArgumentError, match="worker_id"):
            WorkerIdentity(worker_id=mistake)
    with pytest.raises(InvalidArgumentError, match="metadata"):
        WorkerIdentity(worker_id="a", metadata={str(number): "v" for number in range(65)})


@pytest.mark.parametrize("field", ["total_samples", "shard_size", "seed"])
@pytest.mark.parametrize("value", [2**70, 1.5, "10", True])
def test_numbers_that_no_message_can_carry_are_refused_by_name(field: str, value: object) -> None:
    """A value of a wrong type or beyond 64 bits is the caller's mistake, named before anything is sent."""
    fields = {"total_samples": 10, "shard_size": 1, "seed": 42, field: value}
    with pytest.raises(InvalidArgumentError, match=field):
        dataset_request("d", fields["total_samples"], fields["shard_size"], True, fields["seed"], "", None)  # type: ignore[arg-type]
