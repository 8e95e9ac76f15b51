"""How a core goes on from what a store has kept of an earlier life; nothing of how it is kept."""

from __future__ import annotations

from strata_zmq.domain.task import FINAL
from strata_zmq.functions.dispatch.acceptance import Acceptance
from strata_zmq.functions.dispatch.deadlines import Deadlines
from strata_zmq.functions.dispatch.enlistment import Enlistment
from strata_zmq.functions.dispatch.queue import Queue
from strata_zmq.functions.dispatch.records import Recovered
from strata_zmq.functions.dispatch.results import Results
from strata_zmq.functions.dispatch.world import World

__all__ = ["recover"]


def recover(
    recovered: Recovered,
    world: World,
    queue: Queue,
    *,
    results: Results,
    deadlines: Deadlines,
    enlistment: Enlistment,
    acceptance: Acceptance,
) -> None:
    """Take the tasks of an earlier life: ended ones are kept, those that may have begun somewhere await their worker.

    All others wait. What a worker of that life holds of them has not begun, and will not: it asks first.
    """
    offset = world.config.wall_offset_s
    for row in recovered.tasks:
        task = row.task
        world.tasks[task.task_id] = task
        task.attempt = row.attempt
        task.worker, task.started_at, task.asks = 0, 0.0, False
        task.submitted_at = row.submitted_at - offset
        acceptance.restore_key(task)
        if task.state in FINAL:
            task.ended_at = row.ended_at - offset
            results.restore(task)
            continue
        task.state = "QUEUED"
        client = results.client(task.client)
        client.tasks[task.task_id] = task
        client.live += 1
        world.live += 1
        world.queued_bytes += task.nbytes
        if task.limits.total_s > 0:
            deadlines.add(task.submitted_at + task.limits.total_s, "total", task)
        if row.worker_id:
            enlistment.await_worker(row)
            continue
        if task.limits.queue_s > 0:
            deadlines.add(task.submitted_at + task.limits.queue_s, "queue", task)
        queue.back(task)
