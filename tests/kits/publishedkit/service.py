"""`strata functions up` as a person starts it: one command, and the published service answers."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from processkit.served import Served

from . import Published

__all__ = ["Service"]


class Service:
    """A whole service in `folder`, on free ports; `client` speaks to it."""

    def __init__(self, folder: Path, mode: str, workers: int, *options: str, env: dict[str, str] | None = None) -> None:
        self.mode, self.workers = mode, workers
        self.process = Served(
            folder / f"up-{mode}-{workers}.log",
            *("strata_zmq", "functions", "up", "-m", mode, "-w", str(workers), "-p", "0", "--api-port", "0"),
            *("--store", f"sqlite:{folder}/{mode}-{workers}.sqlite", "--grace", "2", *options),
            env=env,
        )
        self.url: str = self.process.told["url"]
        self.endpoint: str = self.process.told["endpoint"]
        self.client = Published(self.url)

    def pid_of(self, part: str) -> int:
        """Return the process of this service whose command line has `part`, one of those that `up` has started."""
        return next(pid for pid, command in self.members().items() if part in command)

    def members(self) -> dict[int, str]:
        """Return the processes that `up` has started, by their command lines."""
        found = {}
        with suppress(OSError):  # any of them may end while it is looked at
            for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
                found[int(pid)] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def health(self) -> dict[str, Any]:
        """Return what the service says of itself."""
        told: dict[str, Any] = self.client.http.get("/health").json()
        return told

    def stop(self) -> None:
        """End it; it has to end well, with everything that it started."""
        self.client.close()
        self.process.stop()
