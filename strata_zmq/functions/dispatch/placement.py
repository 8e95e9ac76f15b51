"""Which worker gets which task: one for each free slot first, then prefetch by credit; and back from who stalls."""

from __future__ import annotations

from math import inf

from strata_zmq.domain.task import Task
from strata_zmq.functions.dispatch.ends import Ends
from strata_zmq.functions.dispatch.queue import Lane, Queue
from strata_zmq.functions.dispatch.records import Begun
from strata_zmq.functions.dispatch.services import Services
from strata_zmq.functions.dispatch.workers import Worker, Workers
from strata_zmq.functions.dispatch.world import World

__all__ = ["Placement"]


class Placement:
    """Hands waiting tasks out, at the end of a step."""

    def __init__(self, world: World, queue: Queue, workers: Workers, services: Services, ends: Ends) -> None:
        self._world = world
        self._queue = queue
        self._workers = workers
        self._services = services
        self._ends = ends
        self._stall_at = inf
        self._rest_at = inf

    def place(self) -> None:
        """Hand out what can be handed out."""
        self._rest_at = inf
        lanes = self._queue.waiting()
        if not lanes:
            return
        takers: list[Worker] = []
        for worker in self._workers.by_session.values():
            if worker.rests_until > self._world.now:
                self._rest_at = min(self._rest_at, worker.rests_until)
            elif not worker.retiring:
                takers.append(worker)
        if not takers:
            return
        for lane in lanes:
            self._deal(lane, takers, ahead=False)
        for lane in lanes:
            # A task that needs a resource waits for it here: behind another one it would hold it for nothing.
            if lane.tasks and not lane.labels:
                self._deal(lane, takers, ahead=True)

    def take_back(self) -> None:
        """Take their unstarted tasks from workers that do not answer a recall."""
        now = self._world.now
        if now < self._stall_at:
            return
        for worker in self._workers.by_session.values():
            if worker.recall_until <= now:
                worker.recall_until = inf
                self._world.note(f"worker {worker.worker_id} does not answer a recall: what it has not begun is taken")
                self._ends.withdraw(worker)

    def watch_stalls(self) -> None:
        """Ask prefetched tasks back from workers at which nothing ends, while others have nothing to do."""
        world, workers = self._world, self._workers.by_session
        now = world.now
        at = inf
        alone = len(workers) < 2
        if alone and self._stall_at == inf:
            return
        idle = not alone and any(_idle(worker) for worker in workers.values())
        for worker in workers.values():
            at = min(at, worker.recall_until)
            excess = min(len(worker.held) - worker.started, len(worker.held) + len(worker.ghosts) - worker.slots)
            if not idle or excess <= 0 or worker.stalled:
                continue
            oldest = next(iter(worker.held.values()))
            stall_at = worker.moved_at + max(world.config.stall_s, 4 * self._services.expected_s(oldest.function))
            if now >= stall_at:
                worker.stalled = True
                worker.recall_until = now + world.config.lease_s
                world.effects.recalled[worker.session] = excess
                at = min(at, worker.recall_until)
            else:
                at = min(at, stall_at)
        self._stall_at = at

    def next_wakeup(self) -> float:
        """Return when a worker may have stalled, or have rested, at the earliest; inf: none will."""
        return min(self._stall_at, self._rest_at)

    def credit(self, worker: Worker, function: bytes) -> int:
        """Return how many tasks of a function a worker may hold in all."""
        held = len(worker.held) + len(worker.ghosts)
        if worker.mode == "pull":
            return held + worker.want
        return self._services.credit(worker.slots, function)

    def _deal(self, lane: Lane, takers: list[Worker], *, ahead: bool) -> None:
        """Deal a lane's tasks in equal parts, as far as there is room."""
        while True:
            head = lane.head()
            if head is None:
                return
            open_: list[tuple[int, Worker]] = []
            for worker in takers:
                room = self._room(worker, head, ahead=ahead)
                if room > 0 and (lane.need == _PLAIN or worker.fits(lane)):
                    open_.append((room, worker))
            if not open_:
                return
            # Who has least to do first; equal ones in the order in which they came.
            open_.sort(key=_most_room)
            given = 0
            for index, (room, worker) in enumerate(open_):
                rest = len(open_) - index
                # A resource that one task takes may be missing for the next: one at a time.
                share = 1 if lane.labels else min(room, -(-len(lane.tasks) // rest))
                given += self._hand(worker, lane, share, ahead=ahead)
            if not given:
                return

    def _room(self, worker: Worker, head: Task, *, ahead: bool) -> int:
        if worker.mode == "pull" and worker.want <= 0:
            return 0
        held = len(worker.held) + len(worker.ghosts)
        if ahead:
            return 0 if worker.stalled else self.credit(worker, head.function) - held
        free = worker.slots - held
        return min(free, worker.want) if worker.mode == "pull" else free

    def _hand(self, worker: Worker, lane: Lane, most: int, *, ahead: bool) -> int:
        """Hand up to `most` tasks of a lane to a worker; return how many."""
        world = self._world
        session, held = worker.session, worker.held
        bytes_max = world.config.worker_bytes_max
        records = world.effects.records
        tasks = lane.tasks
        count = len(held) + len(worker.ghosts)
        nbytes = worker.nbytes
        by_function = ahead and worker.mode == "push"
        function: bytes | None = None
        credit = 0
        batch: list[Task] = []
        hand = batch.append
        while len(batch) < most and tasks:
            task = tasks[0]
            if task.state != "QUEUED":
                # It has ended while it waited.
                tasks.popleft()
                lane.stale -= 1
                continue
            if by_function:
                if task.function != function:
                    function = task.function
                    credit = self.credit(worker, function)
                if count >= credit:
                    break
            if count and nbytes + task.nbytes > bytes_max:
                break
            tasks.popleft()
            task.attempt += 1
            task.worker = session
            held[task.task_id] = task
            hand(task)
            nbytes += task.nbytes
            count += 1
            if task.limits.durability == "commit":
                # What waits at a worker behind others asks before it begins: until then nothing has to be known of it.
                task.asks = ahead
                if not ahead:
                    records.append(Begun(task.task_id, task.attempt, worker.worker_id))
        if batch:
            if count == len(batch):
                worker.moved_at = world.now
            worker.nbytes = nbytes
            self._send(worker, lane, batch)
        return len(batch)

    def _send(self, worker: Worker, lane: Lane, batch: list[Task]) -> None:
        if lane.labels:
            for task in batch:
                worker.use(task)
        if worker.mode == "pull":
            worker.want -= len(batch)
        assigned = self._world.effects.assigned
        sent = assigned.get(worker.session)
        if sent is None:
            assigned[worker.session] = batch
        else:
            sent += batch


_PLAIN = ((), "")


def _most_room(pair: tuple[int, Worker]) -> int:
    return -pair[0]


def _idle(worker: Worker) -> bool:
    free = worker.slots - len(worker.held) - len(worker.ghosts)
    return free > 0 and not worker.retiring and (worker.mode == "push" or worker.want > 0)
