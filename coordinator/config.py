"""What a coordinator process can be told, from its command line or the environment. It starts nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from pathlib import Path

from strata_zmq.domain.names import check_name
from strata_zmq.domain.retention import parse_best
from strata_zmq.errors import InvalidArgumentError
from strata_zmq.protocol.messages import RetentionRule
from strata_zmq.transport.endpoints import DEFAULT_BROADCAST_PORT, DEFAULT_CONTROL_PORT, parse_endpoint

__all__ = ["CoordinatorConfig"]

_JOB_NAME_MAX = 128
_STEPS_MAX = 10**12


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorConfig:
    """Everything that decides how a coordinator serves. Durations in seconds."""

    control: str = f"tcp://127.0.0.1:{DEFAULT_CONTROL_PORT}"
    broadcast: str = f"tcp://127.0.0.1:{DEFAULT_BROADCAST_PORT}"
    journal: str = "strata-coordinator.sqlite"
    job: str = "default"
    initial_workers: int = 1
    min_workers: int = 1
    max_workers: int = 10_000
    fixed: int = 0
    """The size of a job that is not elastic: initial, least and most workers at once; 0: the job is elastic."""
    join_window_s: float = 0.1
    """How long newcomers are gathered before the next generation forms."""
    hang_s: float = 60.0
    """A worker that others wait for and that does not move for so long hangs; 0: nobody looks."""
    evict_hung: bool = False
    lease_s: float = 30.0
    heartbeat_s: float = 5.0
    keep_count: int = 5
    keep_every: int = 0
    """One checkpoint of every so many steps stays; 0: none for that."""
    keep_best: str = ""
    """METRIC:min:N or METRIC:max:N; empty: none for that."""
    flight: str = ""
    """The folder that the flight recorder keeps its files in, and stacks of workers that hang; empty: none."""
    flight_minutes: float = 10.0
    """How much of the past it keeps; 0: nothing."""
    curve_keys: str = field(default_factory=lambda: os.environ.get("STRATA_CURVE_KEYS", ""))
    supervisor_token: str = field(default_factory=lambda: os.environ.get("STRATA_SUPERVISOR_TOKEN", ""), repr=False)
    sources: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    """By setting where it comes from, `option` or `environment`; those that are missing are at their defaults."""

    def __post_init__(self) -> None:
        self._fix_size()
        limits = dict.fromkeys(("initial_workers", "min_workers", "max_workers"), 1_000_000)
        # A storage writer registers with the list of what is kept, in one message.
        for name, least, limit in (
            *((name, 1, limit) for name, limit in limits.items()),
            ("keep_count", 1, 1000),
            ("keep_every", 0, _STEPS_MAX),
        ):
            value = getattr(self, name)
            if not least <= value <= limit:
                raise InvalidArgumentError(f"{name} is {value}: it takes {least} to {limit}")
        parse_best(self.keep_best)
        for name in ("initial_workers", "min_workers"):
            if (value := getattr(self, name)) > self.max_workers:
                raise InvalidArgumentError(f"{name} is {value} and max_workers {self.max_workers}: nobody could begin")
        check_name("job", self.job, _JOB_NAME_MAX)
        if not Path(self.journal).name:
            raise InvalidArgumentError(f"journal is {self.journal!r}: name a file")
        for name in ("lease_s", "heartbeat_s"):
            value = getattr(self, name)
            if not 0.05 <= value <= 86_400:
                raise InvalidArgumentError(f"{name} is {value}: it takes 0.05 to 86400 seconds")
        for name, most, unit in (
            ("join_window_s", 60.0, "seconds"),
            ("hang_s", 86_400.0, "seconds"),
            ("flight_minutes", 1440.0, "minutes"),
        ):
            if not 0 <= getattr(self, name) <= most:
                raise InvalidArgumentError(f"{name} is {getattr(self, name)}: it takes 0 to {most:g} {unit}")
        if self.heartbeat_s * 2 > self.lease_s:
            raise InvalidArgumentError(
                f"heartbeat_s is {self.heartbeat_s} and lease_s {self.lease_s}: a lease needs at least two heartbeats"
            )
        for name, port in (("control", DEFAULT_CONTROL_PORT), ("broadcast", DEFAULT_BROADCAST_PORT)):
            object.__setattr__(self, name, parse_endpoint(getattr(self, name), field=name, default_port=port))

    @property
    def retention(self) -> RetentionRule:
        """Which checkpoints HEAD keeps."""
        metric, mode, count = parse_best(self.keep_best)
        return RetentionRule(self.keep_count, self.keep_every, metric, mode, count)

    def _fix_size(self) -> None:
        if not self.fixed:
            return
        elastic = {one.name: one.default for one in fields(self) if one.name.endswith("_workers")}
        for name, default in elastic.items():
            if getattr(self, name) not in {default, self.fixed}:
                raise InvalidArgumentError(
                    f"{name} is {getattr(self, name)} and fixed {self.fixed}: a job of a fixed size takes no other; "
                    "leave one of them out"
                )
            object.__setattr__(self, name, self.fixed)
