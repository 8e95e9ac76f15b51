"""A coordinator through several lives: one set of endpoints, one journal, one log."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from strata_zmq.protocol import messages as wire
from strata_zmq.workers.client import CoordinatorClient

from .served import Served

__all__ = ["Coordinator"]


class Coordinator:
    """On ipc in `folder`, unless `control` and `broadcast` say where; nothing runs before `start`.

    `prefix` goes before the command (a host of its own, say); `dial` makes the client that asks for its status.
    """

    def __init__(
        self,
        folder: Path,
        *options: str,
        control: str = "",
        broadcast: str = "",
        prefix: tuple[str, ...] = (),
        dial: Callable[[str], CoordinatorClient] = lambda url: CoordinatorClient(url).connect(),
        env: dict[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.url = control or f"ipc://{folder}/control"
        self.broadcast_url = broadcast or f"ipc://{folder}/broadcast"
        self.journal = folder / "journal.sqlite"
        self.log = folder / "coordinator.log"
        self._options, self._prefix, self._dial = options, prefix, dial
        self._env = {**os.environ, **(env or {})}
        self._life: Served | None = None
        self._client: CoordinatorClient | None = None

    def start(self) -> Coordinator:
        """Start a life and wait until it serves."""
        self._life = Served(
            self.log,
            *("strata_zmq.coordinator", "--control", self.url, "--broadcast", self.broadcast_url),
            *("--journal", str(self.journal), *self._options),
            prefix=self._prefix,
            env=self._env,
        )
        # A port 0 becomes the one that every later life takes.
        self.url, self.broadcast_url = self._life.told["control"], self._life.told["broadcast"]
        return self

    @property
    def life(self) -> Served:
        """The present life, or the last."""
        assert self._life is not None, "it has not been started"
        return self._life

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process of this life."""
        return self.life.process

    @property
    def pid(self) -> int:
        """The process id of this life."""
        return self.life.pid

    def kill(self) -> None:
        """kill -9."""
        self.life.kill()

    def restart(self) -> None:
        """kill -9, and a new life on the same journal."""
        self.kill()
        self.start()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this life."""
        self.life.signal(number)

    def status(self) -> wire.Status:
        """What the coordinator says now, asked by a client that is no worker."""
        if self._client is None:
            self._client = self._dial(self.url)
        answer: wire.Status = self._client.request(wire.GetStatus())
        return answer

    def members(self) -> list[str]:
        """The workers of the current generation in rank order."""
        return [row.worker_id for row in sorted(self.status().workers, key=lambda row: row.rank) if row.rank >= 0]

    def stop(self) -> None:
        """End the client and the process."""
        if self._client is not None:
            self._client.close()
        if self._life is not None:
            self._life.stop()
