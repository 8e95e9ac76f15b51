"""However large a job is, and whatever its workers say of themselves, its status fits one frame."""

from __future__ import annotations

import pytest

from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.codec import MAX_REPLY_BYTES, encode


def large_job(make_job, count: int, metadata: dict[str, str], resources: wire.Resources):
    job = make_job(initial_workers=count)
    clients = []
    for number in range(count):
        client = job.client("worker")
        client.name = client.incarnation = f"{number:06d}-{'w' * 100}"
        clients.append(client)
    for first in range(0, count, 1000):
        job.step(
            *(
                one.event(wire.RegisterWorker(worker_id=one.name, incarnation=one.name, pid=1, metadata=metadata))
                for one in clients[first : first + 1000]
            )
        )
        job.step(*(one.event(wire.Heartbeat(resources=resources)) for one in clients[first : first + 1000]))
    return job, clients


@pytest.mark.timeout(300)
def test_ten_thousand_workers_fit_with_what_they_report(make_job) -> None:
    resources = wire.Resources(cpu_percent=100.0, memory_bytes=2**40, gpu_percent=[50.0] * 8)
    job, _ = large_job(make_job, 10_000, {"host": "node"}, resources)
    status = job.status()
    assert len(encode(status)) < MAX_REPLY_BYTES
    assert status.have == 10_000
    assert len(status.workers) > 9_000


def test_workers_that_say_a_lot_are_fewer_rows_and_are_counted_all_the_same(make_job) -> None:
    job, _ = large_job(make_job, 100, {f"{key}": "ü" * 1000 for key in range(30)}, wire.Resources())
    status = job.status()
    assert len(encode(status)) < MAX_REPLY_BYTES
    assert status.have == 100
    assert 50 < len(status.workers) < 100


def test_everything_that_is_listed_is_bounded(make_job) -> None:
    """Open barriers, open checkpoints and changes of a large membership name a few of those they are about."""
    job, clients = large_job(make_job, 300, {}, wire.Resources())
    job.writer()
    first = clients[0]
    first.join().got(wire.Membership)
    job.step(*(first.event(wire.Arrive(name=f"{number:0256d}", step=1, timeout_s=600.0)) for number in range(1024)))
    job.step(*(first.event(wire.CheckpointBegin(step=number)) for number in range(40)))
    status = job.status()
    assert len(encode(status)) < MAX_REPLY_BYTES
    assert len(status.barriers) == 1024
    assert {len(row["missing"]) for row in status.barriers} == {20}
    assert len(status.open_checkpoints) == len(status.checkpoint_waits) == 32
    assert {len(names) for names in status.checkpoint_waits.values()} == {20}
    assert [len(row["joined"]) for row in status.rebalances] == [20]
