"""Which children there are: starting them with their devices, letting them go, and finding one by its descriptor.

Knows nothing about calls beyond whether a child has any.
"""

from __future__ import annotations

import multiprocessing
import select
from multiprocessing.context import BaseContext

from strata_zmq.functions.pool import blackbox
from strata_zmq.functions.pool.child_handle import UNBOUNDED, Child
from strata_zmq.functions.pool.entry import ChildSettings
from strata_zmq.functions.pool.options import PoolOptions
from strata_zmq.functions.pool.starting import Descriptor, of_this_process, start_child

__all__ = ["Roster", "context_of"]

_TRY_AGAIN_S = 1.0


def context_of(options: PoolOptions) -> BaseContext:
    """Return the context to start children with; wrong options raise what they raise in ProcessPoolExecutor."""
    if options.children <= 0:
        raise ValueError("max_workers must be greater than 0")
    if options.initializer is not None and not callable(options.initializer):
        raise TypeError("initializer must be a callable")
    per_child = options.max_tasks_per_child
    if per_child is not None:
        if not isinstance(per_child, int):
            raise TypeError("max_tasks_per_child must be an integer")
        if per_child <= 0:
            raise ValueError("max_tasks_per_child must be >= 1")
    if options.context is not None:
        context = options.context
    else:
        context = multiprocessing.get_context("spawn" if per_child is not None else None)
    if per_child is not None and context.get_start_method(allow_none=False) == "fork":
        raise ValueError(
            "max_tasks_per_child is incompatible with the 'fork' multiprocessing start method; "
            "supply a different mp_context."
        )
    return context


class Roster:
    """The children of a pool. `children` may be handed calls, `leaving` have been told to end."""

    def __init__(self, options: PoolOptions, context: BaseContext, epoll: select.epoll) -> None:
        self._options = options
        self._context = context
        self._epoll = epoll
        self.method = context.get_start_method()
        self.children: list[Child] = []
        self.leaving: list[Child] = []
        self.by_descriptor: dict[int, Child] = {}
        self.free_devices = list(options.gpus)
        self.try_again_at = 0.0
        """When another start may be tried, after one that failed."""
        self._started = 0

    @property
    def full(self) -> bool:
        """Whether there are as many children as there may be."""
        return len(self.children) >= self._options.children

    def start(self, devices: int, now: float) -> Child:
        """Start a child that holds that many of the free devices; raises what starting a process raises."""
        options = self._options
        names = tuple(self.free_devices[:devices])
        environment = {"CUDA_VISIBLE_DEVICES": ",".join(names)} if options.gpus else {}
        settings = ChildSettings(
            options.initializer, options.initargs, options.memory_bytes, options.output_bytes_max, environment
        )
        self._started += 1
        box = Descriptor(blackbox.create())
        of_this_process(box)
        try:
            start = start_child(
                self._context, box, settings, f"strata-{options.worker_name or 'child'}-{self._started}"
            )
        except BaseException:
            of_this_process(box, closed=True)
            box.close()
            raise
        per_child = options.max_tasks_per_child
        child = Child(start, box, names, UNBOUNDED if per_child is None else per_child, options.memory_bytes, now)
        del self.free_devices[:devices]
        self.children.append(child)
        for descriptor in (child.fileno(), child.pidfd):
            self.by_descriptor[descriptor] = child
            self._epoll.register(descriptor, select.EPOLLIN)
        return child

    def try_start(self, devices: int, now: float) -> Child | None:
        """Start a child; None where the machine has no room for one now and there are others to go on with.

        Raises what starting a process raises.
        """
        if now < self.try_again_at and self.children:
            return None
        try:
            return self.start(devices, now)
        except OSError:
            if not self.children:
                raise
            self.try_again_at = now + _TRY_AGAIN_S
            return None

    def idle(self, devices: int | None = None) -> list[Child]:
        """Return the children without a call: those with that many devices, or all; ready ones first."""
        found = [
            child
            for child in self.children
            if not child.calls and child.usable and (devices is None or len(child.devices) == devices)
        ]
        if len(found) > 1:
            found.sort(key=lambda child: not child.ready)
        return found

    def retire(self, child: Child, now: float) -> None:
        """Let an idle child end; another may be started in its place, on its devices only once it is gone."""
        self.children.remove(child)
        self.leaving.append(child)
        child.retire(now)

    def ended(self, child: Child) -> None:
        """Stop listening to the process of a child that has ended; what it said can still be received."""
        self._forget(child.pidfd)
        if self.method == "forkserver":
            # The fork server tells how it ended, a moment later.
            self.by_descriptor[child.process.sentinel] = child
            self._epoll.register(child.process.sentinel, select.EPOLLIN)

    def remove(self, child: Child) -> None:
        """Close what connected a child that has ended, and free its devices."""
        for descriptor in (child.fileno(), child.pidfd, child.process.sentinel):
            if self.by_descriptor.get(descriptor) is child:
                self._forget(descriptor)
        (self.children if child in self.children else self.leaving).remove(child)
        self.free_devices += child.devices
        child.close()
        child.process.join(0)

    def listen(self, child: Child) -> None:
        """Be told when there is room in the child's socket, if packets wait for it."""
        self._epoll.modify(child.fileno(), select.EPOLLIN | (select.EPOLLOUT if child.blocked else 0))

    def _forget(self, descriptor: int) -> None:
        if self.by_descriptor.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)
