"""A dispatcher through several lives, and function workers: started, signalled, killed and ended."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from processkit.served import Served

__all__ = ["DispatcherProcess", "WorkerProcess"]


_KITS = Path(__file__).parent.parent


class _Process:
    """One process of the package at a time; its log goes on over its lives."""

    module = ""

    def __init__(self, log: Path, env: dict[str, str] | None) -> None:
        self.log = log
        # Functions of the kits travel by their names.
        self._env = {**os.environ, "PYTHONPATH": str(_KITS), **(env or {})}
        self._life: Served | None = None

    def arguments(self) -> list[str]:
        """What this process is started with."""
        raise NotImplementedError

    def begin(self, env: dict[str, str] | None = None) -> Served:
        """Start a life, with `env` on top of what it has always, and wait until it serves."""
        self._life = Served(self.log, self.module, *self.arguments(), env={**self._env, **(env or {})})
        return self._life

    @property
    def life(self) -> Served:
        """The present life, or the last."""
        assert self._life is not None, "it has not been started"
        return self._life

    @property
    def pid(self) -> int:
        """The process id of this life."""
        return self.life.pid

    def alive(self) -> bool:
        """Whether it runs."""
        return self._life is not None and self._life.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this life."""
        self.life.signal(number)

    def kill(self) -> None:
        """kill -9."""
        self.life.kill()

    def wait(self, timeout_s: float = 40.0) -> int:
        """Wait until this life ends, and return its status (minus the number of the signal that ended it)."""
        return self.life.wait(timeout_s)

    def stop(self) -> None:
        """Ask it to end, unless it has: it must end well, and no life may have left a traceback in the log."""
        if self._life is not None:
            self._life.stop()


class DispatcherProcess(_Process):
    """A dispatcher on ipc in `folder`, or where `endpoint` says; every later life serves where the first one did.

    `options` are its command line's; without `--store` it keeps an SQLite file in `folder`.
    """

    module = "strata_zmq.coordinator.dispatcher"

    def __init__(self, folder: Path, *options: str, endpoint: str = "", env: dict[str, str] | None = None) -> None:
        super().__init__(folder / "dispatcher.log", env)
        self.folder = folder
        self.endpoint = endpoint or f"ipc://{folder}/dispatcher"
        self._options = options if "--store" in options else ("--store", f"sqlite:{folder}/tasks.sqlite", *options)

    def arguments(self) -> list[str]:
        return ["--endpoint", self.endpoint, *self._options]

    def start(self, env: dict[str, str] | None = None) -> DispatcherProcess:
        """Start a life and wait until it serves; a port 0 becomes the one that every later life takes."""
        self.endpoint = self.begin(env).told["endpoint"]
        return self

    def restart(self) -> None:
        """kill -9, and a new life on the same records."""
        self.kill()
        self.start()


class WorkerProcess(_Process):
    """A function worker of the dispatcher at `endpoint`; `options` are its command line's."""

    module = "strata_zmq.workers.function_worker"

    def __init__(
        self, folder: Path, endpoint: str, *options: str, name: str = "worker", env: dict[str, str] | None = None
    ) -> None:
        super().__init__(folder / f"{name}.log", env)
        self.endpoint = endpoint
        self._options = options

    def arguments(self) -> list[str]:
        return ["--dispatcher", self.endpoint, *self._options]

    def start(self, env: dict[str, str] | None = None) -> WorkerProcess:
        """Start a life and wait until it has enlisted."""
        self.begin(env)
        return self
