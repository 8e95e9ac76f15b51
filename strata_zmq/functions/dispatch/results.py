"""Clients and the ends of their tasks: whom they are delivered to, how long they are kept; never how a task ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import inf
from typing import cast

from strata_zmq.domain.task import FINAL, End, Task
from strata_zmq.functions.dispatch.deadlines import Deadlines
from strata_zmq.functions.dispatch.records import Ended
from strata_zmq.functions.dispatch.watching import Watches
from strata_zmq.functions.dispatch.world import World, bytes_of

__all__ = ["Client", "Results"]

_SHED_PART = 64
"""One in so many results goes beyond what has to."""


class Client:
    """Who submits and reads. `tasks` are those that have not ended, and ended ones that wait to be seen."""

    __slots__ = ("abandoned", "attached", "deliver", "live", "name", "tasks")

    def __init__(self, name: str) -> None:
        self.name = name
        self.attached = False
        self.deliver = False
        self.abandoned = False
        """Nobody will read what it submitted with durability "none"."""
        self.live = 0
        self.tasks: dict[bytes, Task] = {}


class Results:
    """Delivers the ends of tasks, keeps results as long as asked, and forgets them."""

    def __init__(self, world: World, deadlines: Deadlines) -> None:
        self._world = world
        self._deadlines = deadlines
        self.clients: dict[str, Client] = {}
        self._ended: dict[bytes, Task] = {}
        """Tasks whose result is kept, in the order of their ends."""
        self._unseen_at = inf
        """When a result of `_ended` may have waited too long, at the earliest."""
        self._tombstones: deque[tuple[float, Task]] = deque()
        self._watches = Watches()

    # ---- clients -----------------------------------------------------------------------------------------------------

    def client(self, name: str) -> Client:
        """Return a client's state, known or not."""
        client = self.clients.get(name)
        if client is None:
            client = self.clients[name] = Client(name)
        return client

    def attach(self, name: str, *, deliver: bool) -> None:
        """Deliver to a client from now on, and what has ended and was not seen."""
        client = self.client(name)
        client.attached, client.deliver, client.abandoned = True, deliver, False
        if not deliver:
            return
        unseen = [task for task in client.tasks.values() if task.state in FINAL]
        if unseen:
            # What has ended earlier in this step is in both; what others have submitted, and this one watches, is not.
            results = self._world.effects.results
            watched = [task for task in results.get(name, ()) if task.task_id not in client.tasks]
            results[name] = watched + unseen

    def detach(self, name: str, *, abandon: bool) -> list[Task]:
        """Deliver no more; return the client's tasks that nobody waits for any longer."""
        client = self.clients.get(name)
        if client is None:
            return []
        client.attached = False
        client.abandoned = abandon
        orphans: list[Task] = []
        if abandon:
            for task in list(client.tasks.values()):
                if task.limits.durability == "none":
                    if task.state not in FINAL:
                        orphans.append(task)
                    elif task.limits.keep_s == 0:
                        self.forget(task)
        self.leave(client)
        return orphans

    def watch(self, name: str, task_ids: Sequence[bytes], until: float) -> None:
        """Deliver the ends of tasks to a client, until then."""
        tasks = self._world.tasks
        if until > self._world.now:
            live = [task_id for task_id in task_ids if task_id in tasks and tasks[task_id].state not in FINAL]
            self._watches.add(name, live, until)

    def seen(self, name: str, task_ids: Sequence[bytes]) -> None:
        """Let go of results that their submitter has, where they are kept for it alone."""
        client = self.clients.get(name)
        if client is None:
            return
        mine = client.tasks
        for task_id in task_ids:
            task = mine.get(task_id)
            if task is None or task.state not in FINAL:
                continue
            if task.limits.keep_s == 0:
                self.forget(task)
            else:
                del mine[task_id]
        self.leave(client)

    # ---- ends --------------------------------------------------------------------------------------------------------

    def take(self, done: Sequence[Task]) -> None:
        """Deliver and keep tasks that have just ended: state, outcome and time are set, no worker holds them."""
        world = self._world
        effects = world.effects
        forget_delivered = world.config.forget_delivered
        watches = self._watches
        clients, ended, tasks = self.clients, self._ended, world.tasks
        name = ""
        client: Client | None = None
        out: list[Task] | None = None
        result_bytes = payload_bytes = 0
        for task in done:
            payload_bytes += task.nbytes
            if client is None or task.client != name:
                name = task.client
                client = clients.get(name) or self.client(name)
                out = effects.results.setdefault(name, []) if client.attached and client.deliver else None
            client.live -= 1
            limits = task.limits
            outcome = task.outcome
            if limits.durability == "commit" and outcome is not None:
                at = task.ended_at + world.config.wall_offset_s
                effects.records.append(Ended(task.task_id, task.state, outcome, at))
            watched = self._tell(task) if watches else False
            if out is not None:
                out.append(task)
                if forget_delivered and limits.keep_s == 0:
                    del tasks[task.task_id]
                    del client.tasks[task.task_id]
                    continue
            body = outcome.body if outcome is not None else None
            if body is not None:
                result_bytes += len(body) if type(body) is bytes else bytes_of(body)
            ended[task.task_id] = task
            if limits.keep_s > 0:
                self._deadlines.add(task.ended_at + limits.keep_s, "keep", task)
                if not client.deliver:
                    del client.tasks[task.task_id]
                    self.leave(client)
            elif client.abandoned and limits.durability == "none" and not watched:
                # Its bytes are taken off here and put on below.
                self.forget(task)
        count = len(done)
        world.live -= count
        world.ended_total += count
        if world.ended is not None:
            world.ended += done
        world.queued_bytes -= payload_bytes
        world.result_bytes += result_bytes
        world.spent.extend(done)
        if self._unseen_at == inf and ended:
            self._unseen_at = world.now + world.config.unseen_s

    def _tell(self, task: Task) -> bool:
        results = self._world.effects.results
        told = False
        for name in self._watches.pop(task.task_id):
            told = True
            client = self.clients.get(name)
            if name != task.client or client is None or not (client.attached and client.deliver):
                results.setdefault(name, []).append(task)
        return told

    # ---- forgetting --------------------------------------------------------------------------------------------------

    def forget(self, task: Task) -> None:
        """Let go of an ended task's result; for a while it is known that there was one."""
        world = self._world
        config = world.config
        task_id = task.task_id
        if self._ended.pop(task_id, None) is None:
            return
        task.ended_as, task.state = cast("End", task.state), "EXPIRED"
        if task.outcome is not None:
            world.result_bytes -= bytes_of(task.outcome.body)
        client = self.clients.get(task.client)
        if client is not None:
            client.tasks.pop(task_id, None)
            self.leave(client)
        world.effects.forgotten.append(task)
        world.spent.append(task)
        if config.tombstone_s > 0 and config.tombstones_max > 0:
            self._tombstones.append((world.now + config.tombstone_s, task))
        else:
            del world.tasks[task_id]

    def expire(self) -> None:
        """Forget what has been kept for long enough, or is too much; end the watches that are over."""
        world = self._world
        now, config = world.now, world.config
        if self._too_much():
            self._shed()
        if now >= self._unseen_at:
            self._drop_unseen()
        tombstones = self._tombstones
        while tombstones and (tombstones[0][0] <= now or len(tombstones) > config.tombstones_max):
            del world.tasks[tombstones.popleft()[1].task_id]
        self._watches.expire(now)

    def next_wakeup(self) -> float:
        """Return when something may be forgotten, at the earliest; inf: nothing will."""
        world = self._world
        if self._too_much():
            return world.now
        at = min(self._unseen_at, self._watches.next_wakeup())
        if self._tombstones:
            at = min(at, self._tombstones[0][0])
        return at

    def kept(self) -> int:
        """Return how many results are kept."""
        return len(self._ended)

    def restore(self, task: Task) -> None:
        """Take an ended task that a store has kept."""
        self._ended[task.task_id] = task
        if task.outcome is not None:
            self._world.result_bytes += bytes_of(task.outcome.body)
        if task.limits.keep_s > 0:
            self._deadlines.add(task.ended_at + task.limits.keep_s, "keep", task)
        else:
            self.client(task.client).tasks[task.task_id] = task
            self._unseen_at = min(self._unseen_at, task.ended_at + self._world.config.unseen_s)

    def _too_much(self) -> bool:
        config = self._world.config
        return self._world.result_bytes > config.results_bytes_max or len(self._ended) > config.results_max

    def _shed(self) -> None:
        """Forget what ended first, and a little more than is needed: each time it is looked for from the beginning."""
        config = self._world.config
        nbytes = self._world.result_bytes - config.results_bytes_max + config.results_bytes_max // _SHED_PART
        count = len(self._ended) - config.results_max + config.results_max // _SHED_PART
        many = len(self._ended) > config.results_max
        heavy = self._world.result_bytes > config.results_bytes_max
        first: list[Task] = []
        for task in self._ended.values():
            if (not heavy or nbytes <= 0) and (not many or count <= 0):
                break
            size = bytes_of(task.outcome.body) if task.outcome is not None else 0
            if size or many:
                first.append(task)
                nbytes -= size
                count -= 1
        for task in first:
            self.forget(task)
        self._world.note(
            f"{len(first)} results are no longer kept: there were more than results_max, {config.results_max}, or "
            f"results_bytes_max, {config.results_bytes_max}"
        )

    def _drop_unseen(self) -> None:
        old: list[Task] = []
        self._unseen_at = inf
        for task in self._ended.values():
            at = task.ended_at + self._world.config.unseen_s
            if at > self._world.now:
                self._unseen_at = at
                break
            if task.limits.keep_s == 0:
                old.append(task)
        for task in old:
            self.forget(task)

    def leave(self, client: Client) -> None:
        """Let go of a client that is not here and has nothing here."""
        if not client.attached and not client.tasks:
            self.clients.pop(client.name, None)
