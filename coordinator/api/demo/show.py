"""The demo put together: simulated cores, jobs and store under a real hub, with a past that was lived in one go."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from strata_zmq.coordinator.api.link import TaskClient
from strata_zmq.coordinator.api.state.hub import Hub
from strata_zmq.coordinator.api.state.logbook import LogBook
from strata_zmq.coordinator.api.state.rows import LogLine
from strata_zmq.errors import InvalidArgumentError

from .feed import SimulatedFeed
from .incidents import HOLDS, Hold
from .jobs import SimulatedJobs
from .plane import Plane, SimulatedTasks
from .saves import SimulatedVault
from .world import World

__all__ = ["PAST_S", "WORKERS_MAX", "Demo", "make_demo"]

PAST_S = 600
WORKERS_MAX = 2000
_LARGE = 64
_PAST_LARGE_S = 120
"""The past of a large fleet is shorter: it is lived before the first request is answered."""
_HELD_FOR_S = {"abort": 65}


@dataclass(frozen=True, slots=True)
class Demo:
    """What the app is made of, and `live`, which lets another second or more of the past pass."""

    hub: Hub
    client: TaskClient
    feeds: tuple[SimulatedFeed, ...]
    clock: DemoClock


class DemoClock:
    """The time that a demo goes by: some moment of its past, and in the end the clock's own."""

    def __init__(self, real: Callable[[], float]) -> None:
        self._real = real
        self.at: float | None = None

    def __call__(self) -> float:
        """Return Unix seconds."""
        return self._real() if self.at is None else self.at


def make_demo(
    *,
    workers: int = 3,
    seed: int = 1,
    hold: Hold | None = None,
    past_s: int | None = None,
    real: Callable[[], float] = time.time,
) -> Demo:
    """Return a demo whose last `past_s` seconds have been lived already, so that the first look is not empty.

    The same seed makes the same of the same time. With `hold` it stays in one state: in the midst of one trouble, or
    in none.
    """
    if not 1 <= workers <= WORKERS_MAX:
        raise InvalidArgumentError(f"--workers {workers}: it takes 1 to {WORKERS_MAX}")
    if hold is not None and hold not in HOLDS:
        raise InvalidArgumentError(f"--hold {hold}: it takes one of {', '.join(HOLDS)}")
    past = past_s if past_s is not None else PAST_S if workers <= _LARGE else _PAST_LARGE_S
    clock = DemoClock(real)
    now = float(int(real()))
    clock.at = start = now - past
    logs = LogBook()

    def say(at: float, level: str, source: str, text: str) -> None:
        line = LogLine(number=0, timestamp=int(at * 1000), level=level, source=source, message=text, fields={})  # type: ignore[arg-type]
        logs.append(line)

    world = World(
        workers=workers,
        seed=seed,
        start=start,
        hold=hold,
        hold_from_s=past - _HELD_FOR_S.get(hold or "", 15),
        say=say,
    )
    plane = Plane(seed=seed + 1, start=start)
    feeds = (SimulatedFeed("coordinator", world, clock), SimulatedFeed("dispatcher", plane, clock))
    vault = SimulatedVault(world.saves, clock)
    hub = Hub(feeds, logs=logs, jobs=SimulatedJobs(clock), vault=vault, clock=clock)
    for feed in feeds:  # what a snapshot tells is told as if it had changed
        hub.tell({**{table: set(rows) for table, rows in feed.picture.tables.items()}, "events": set(), "job": set()})
    hub.tick()
    while clock.at < now:
        clock.at += 1.0
        for feed in feeds:
            hub.tell(feed.catch_up())
        hub.tick()
    clock.at = None
    return Demo(hub, SimulatedTasks(plane), feeds, clock)
