"""What may be tried again, and which functions kill their processes: budgets, quarantine. It moves no task."""

from __future__ import annotations

from strata_zmq.domain.task import CALL_IN_PAYLOAD, Budget, Cause, Kind, Task
from strata_zmq.functions.dispatch.world import World

__all__ = ["Retries"]

_LOST: frozenset[Cause] = frozenset({"worker_lost", "killed", "exited"})
_FUNCTIONS_MAX = 10_000


class Retries:
    """Spends the budgets of tasks, and counts the deaths of functions.

    Calls that carry their function in the payload have no common function, and are never put in quarantine.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.deaths: dict[bytes, int] = {}
        """Function -> children that died in it since its last result or exception."""
        self._until: dict[bytes, float] = {}

    def spend(self, task: Task, kind: Kind, cause: Cause) -> bool:
        """Take a started attempt that ended so from its task's budget; False where nothing is left of it."""
        limits = task.limits
        if kind == "error":
            name, most = "error", limits.retries_error
        elif cause in _LOST:
            name, most = "lost", limits.retries_lost
        elif cause == "out_of_memory":
            name, most = "memory", limits.retries_memory
        else:
            return False
        if most == 0:
            return False
        budget = task.budget
        if budget is None:
            budget = task.budget = Budget(limits.retries_error, limits.retries_lost, limits.retries_memory)
        left: int = getattr(budget, name)
        if left <= 0:
            return False
        setattr(budget, name, left - 1)
        return True

    def death(self, task: Task) -> bool:
        """Count a child that died in a task; True if its function is in quarantine from now on."""
        task.deaths += 1
        return self.function_death(task.function)

    def function_death(self, function: bytes) -> bool:
        """Count a death of a function; True if this one brings it into quarantine."""
        if function == CALL_IN_PAYLOAD:
            return False
        deaths = self.deaths
        count = deaths.pop(function, 0) + 1
        if len(deaths) >= _FUNCTIONS_MAX:
            deaths.pop(next(iter(deaths)))
        deaths[function] = count
        config = self._world.config
        if count < config.quarantine_deaths or self.quarantined(function):
            return False
        if len(self._until) >= _FUNCTIONS_MAX:
            self._until.pop(next(iter(self._until)))
        self._until[function] = self._world.now + config.quarantine_s
        self._world.note(
            f"function {function.hex()} is in quarantine for {config.quarantine_s:g} s: {count} children died in it in "
            f"a row"
        )
        return True

    def quarantined(self, function: bytes) -> float:
        """Return for how many seconds more a function is refused; 0.0: it is not."""
        until = self._until.get(function)
        if until is None:
            return 0.0
        left = until - self._world.now
        if left > 0.0:
            return left
        del self._until[function]
        # On probation: one more death, and it is back.
        if function in self.deaths:
            self.deaths[function] = self._world.config.quarantine_deaths - 1
        return 0.0

    @property
    def any(self) -> bool:
        """Whether any function may be in quarantine."""
        return bool(self._until)
