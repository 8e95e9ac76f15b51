"""Whether a submitted task is accepted: once by its id, once by its key, within the limits; never when it runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf

from strata_zmq.domain.task import Task, TaskLimits
from strata_zmq.functions.dispatch.deadlines import Deadlines
from strata_zmq.functions.dispatch.effects import Refusal, Verdicts
from strata_zmq.functions.dispatch.events import Submitted
from strata_zmq.functions.dispatch.queue import LANES_MAX, Queue
from strata_zmq.functions.dispatch.records import Accepted
from strata_zmq.functions.dispatch.results import Client, Results
from strata_zmq.functions.dispatch.retries import Retries
from strata_zmq.functions.dispatch.workers import Workers
from strata_zmq.functions.dispatch.world import World

__all__ = ["Acceptance"]

_RETRY_S_MIN = 0.1
_RETRY_S_MAX = 30.0
_RATE_S = 1.0
"""Over how long the rate of ends is measured."""


class Acceptance:
    """Takes tasks in, or says why not."""

    def __init__(
        self,
        world: World,
        queue: Queue,
        workers: Workers,
        *,
        results: Results,
        deadlines: Deadlines,
        retries: Retries,
    ) -> None:
        self._world = world
        self._queue = queue
        self._workers = workers
        self._results = results
        self._deadlines = deadlines
        self._retries = retries
        self._keys: dict[str, tuple[bytes, bytes]] = {}
        """Key -> (its digest, the task that it stands for)."""
        self._kept_keys: deque[tuple[float, str]] = deque()
        self._measured_at = -inf
        self._ended_before = 0
        self._rate = 0.0

    def submit(self, event: Submitted) -> None:
        """Accept a submission's tasks, in their order; one verdict for all."""
        world = self._world
        tasks = world.tasks
        client = self._results.client(event.client)
        refused: list[Refusal] = []
        existing: list[tuple[int, bytes]] = []
        room = self._room(client)
        bytes_left = world.config.queue_bytes_max - world.queued_bytes
        now, mine = world.now, client.tasks
        limits: TaskLimits | None = None
        wait: Callable[[Task], None] = self._queue.back
        plain = True
        obstacle: tuple[str, str] | None = None
        accepted = payload_bytes = 0
        suspects = self._retries.any
        for index, task in enumerate(event.tasks):
            task_id = task.task_id
            if task_id in tasks:
                continue
            if task.limits is not limits:
                limits = task.limits
                plain = limits.durability == "none" and limits.total_s == 0 and limits.queue_s == 0
                obstacle = self._obstacle(limits)
                if obstacle is None:
                    wait = self._queue.lane(limits).tasks.append
            nbytes = task.nbytes
            if task.key and self._known_key(index, task, refused, existing):
                continue
            if accepted >= room or payload_bytes + nbytes > bytes_left:
                refused.append(self._full(index, task, client, accepted >= room))
                continue
            if obstacle is not None:
                refused.append(Refusal(index, *obstacle))
                continue
            if suspects and (left := self._retries.quarantined(task.function)):
                refused.append(self._suspect(index, task, left))
                continue
            accepted += 1
            payload_bytes += nbytes
            task.submitted_at = now
            tasks[task_id] = mine[task_id] = task
            wait(task)
            if task.key:
                self._keep_key(task)
            if not plain:
                self._promise(task, limits)
        if not accepted:
            self._results.leave(client)
        client.live += accepted
        world.live += accepted
        world.accepted_total += accepted
        world.queued_bytes += payload_bytes
        world.effects.verdicts.append(Verdicts(event.client, event.seq, tuple(refused), tuple(existing)))

    def expire(self) -> None:
        """Forget keys that have stood for long enough; measure how fast tasks end."""
        world = self._world
        kept = self._kept_keys
        while kept and (kept[0][0] <= world.now or len(kept) > world.config.keys_max):
            del self._keys[kept.popleft()[1]]
        past = world.now - self._measured_at
        if past >= _RATE_S:
            self._rate = (world.ended_total - self._ended_before) / past
            self._measured_at, self._ended_before = world.now, world.ended_total

    def restore_key(self, task: Task) -> None:
        """Let a recovered task's key stand for it again."""
        until = task.submitted_at + self._world.config.key_keep_s
        if task.key and task.key not in self._keys:
            self._keys[task.key] = (task.key_digest, task.task_id)
            self._kept_keys.append((until, task.key))

    def _room(self, client: Client) -> int:
        config = self._world.config
        most = config.queue_tasks_max - self._world.live
        return min(most, config.client_tasks_max - client.live) if config.client_tasks_max else most

    def _promise(self, task: Task, limits: TaskLimits) -> None:
        world = self._world
        if limits.durability == "commit":
            world.effects.records.append(Accepted(task, world.now + world.config.wall_offset_s))
        if limits.queue_s > 0:
            self._deadlines.add(world.now + limits.queue_s, "queue", task)
        if limits.total_s > 0:
            self._deadlines.add(world.now + limits.total_s, "total", task)

    def _keep_key(self, task: Task) -> None:
        world = self._world
        self._keys[task.key] = (task.key_digest, task.task_id)
        self._kept_keys.append((world.now + world.config.key_keep_s, task.key))

    def _known_key(self, index: int, task: Task, refused: list[Refusal], existing: list[tuple[int, bytes]]) -> bool:
        known = self._keys.get(task.key)
        if known is None:
            return False
        digest, task_id = known
        if digest == task.key_digest:
            existing.append((index, task_id))
        else:
            message = (
                f"key {task.key!r} stands for task {task_id.hex()}, whose function or payload is another one: give "
                f"another call another key"
            )
            refused.append(Refusal(index, "already_exists", message))
        return True

    def _full(self, index: int, task: Task, client: Client, by_count: bool) -> Refusal:
        world = self._world
        config = world.config
        if not by_count:
            if task.nbytes > config.queue_bytes_max:
                message = (
                    f"the payload of {task.nbytes} bytes is above queue_bytes_max, {config.queue_bytes_max}: make it "
                    f"smaller, or raise that limit"
                )
                return Refusal(index, "resource_exhausted", message)
            message = (
                f"unfinished payloads have reached queue_bytes_max, {config.queue_bytes_max} bytes: try again later"
            )
        elif world.live < config.queue_tasks_max and client.live > 0 and config.client_tasks_max:
            message = (
                f"client {client.name} has reached client_tasks_max, {config.client_tasks_max} unfinished tasks: wait "
                f"for some to end"
            )
        else:
            message = f"the queue has reached queue_tasks_max, {config.queue_tasks_max} tasks: try again later"
        after = world.live / self._rate if self._rate > 0 else _RETRY_S_MAX
        return Refusal(index, "resource_exhausted", message, min(max(after, _RETRY_S_MIN), _RETRY_S_MAX))

    def _suspect(self, index: int, task: Task, left_s: float) -> Refusal:
        message = (
            f"function {task.function.hex()} is in quarantine for {left_s:.1f} s more: "
            f"{self._world.config.quarantine_deaths} or more children died in it in a row"
        )
        return Refusal(index, "quarantined", message, left_s)

    def _obstacle(self, limits: TaskLimits) -> tuple[str, str] | None:
        """Return why no task with these limits is taken now: a code and a message."""
        if limits.python and not self._workers.has_python(limits.python):
            have = sorted({worker.python for worker in self._workers.by_session.values()})
            message = (
                f"the call was packed for Python {limits.python}, and workers have {', '.join(have)}: submit from one "
                f"of these, or start a worker with {limits.python}"
            )
            return "environment_mismatch", message
        if not self._queue.has_room(limits):
            message = (
                f"tasks of {LANES_MAX} different combinations of labels and Python wait already: use fewer kinds of "
                f"labels, or start workers that have them"
            )
            return "resource_exhausted", message
        return None
