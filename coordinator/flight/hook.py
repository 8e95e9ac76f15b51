"""What the shell calls of the flight recorder at each step, recording or not. It knows no file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from strata_zmq.coordinator.core.core import Core
from strata_zmq.coordinator.core.world import CoreConfig, Effects

from .hang_files import write_hang
from .recorder import Recorder

if TYPE_CHECKING:
    from strata_zmq.coordinator.config import CoordinatorConfig
    from strata_zmq.coordinator.router import Router

__all__ = ["Flight"]


class Flight:
    """Hands on what the router reads to the recorder, and hangs to their files, if there is a folder for them."""

    def __init__(self, config: CoordinatorConfig, core: Core, core_config: CoreConfig, router: Router) -> None:
        self._router = router
        self._folder = Path(config.flight) if config.flight else None
        self._recorder: Recorder | None = None
        if self._folder is not None and config.flight_minutes:
            self._recorder = Recorder(self._folder, core, core_config, minutes=config.flight_minutes)
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
        if effects.hangs and self._folder is not None:
            for report in effects.hangs:
                write_hang(self._folder, report)
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
