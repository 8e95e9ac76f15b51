"""What the shell calls of the flight recorder at each step, recording or not. It knows no file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from strata_zmq.coordinator.core.core import Core
from strata_zmq.coordinator.core.world import CoreConfig, Effects

from .recorder import Recorder

if TYPE_CHECKING:
    from strata_zmq.coordinator.config import CoordinatorConfig
    from strata_zmq.coordinator.router import Router

__all__ = ["Flight"]


class Flight:
    """Hands on what the router reads to the recorder, if the operator has named a folder for it."""

    def __init__(self, config: CoordinatorConfig, core: Core, core_config: CoreConfig, router: Router) -> None:
        self._router = router
        self._recorder: Recorder | None = None
        if config.flight and config.flight_minutes:
            self._recorder = Recorder(Path(config.flight), core, core_config, minutes=config.flight_minutes)
            router.frames = []

    def begin(self, now: float) -> None:
        """Begin with the state of a core that has started."""
        if self._recorder is not None:
            self._recorder.begin(now)

    def take(self, now: float, *, backlog: bool) -> None:
        """Take what the next step is given."""
        if self._recorder is not None and self._router.frames is not None:
            self._recorder.take(now, backlog, self._router.frames)

    def decided(self, effects: Effects, now: float) -> None:
        """Take what came of it."""
        recorder = self._recorder
        if recorder is None or self._router.frames is None:
            return
        self._router.frames.clear()
        recorder.decided(effects, now)
        if recorder.ended:
            self._recorder = self._router.frames = None

    def close(self) -> None:
        """End the recording."""
        if self._recorder is not None:
            self._recorder.close()
