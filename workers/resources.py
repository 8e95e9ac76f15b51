"""What this process uses, for heartbeats: cheap to read, never older than a second, absent where it is not known."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import psutil

from strata_zmq.errors import InvalidArgumentError
from strata_zmq.protocol.messages import Resources

__all__ = ["ResourceMeter", "count_gpus"]

_REFRESH_S = 5.0


def count_gpus() -> int:
    """Return GPU_COUNT, or how many NVIDIA devices this machine shows."""
    told = os.environ.get("GPU_COUNT", "")
    if told:
        if not told.isdigit() or int(told) > 1024:
            raise InvalidArgumentError(f"GPU_COUNT is {told!r}: it takes 0 to 1024")
        return int(told)
    return sum(1 for name in Path("/dev").iterdir() if re.fullmatch(r"nvidia\d+", name.name))


class ResourceMeter:
    """Reads this process's CPU, memory and I/O at most every few seconds; in between a heartbeat carries nothing.

    The kernel counts no network by process: those figures are the host's, since the meter was made.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._process.cpu_percent()
        self._network = psutil.net_io_counters()
        self._read_at = float("-inf")

    def read(self) -> Resources | None:
        """Return fresh figures, or None while the last ones are fresh enough."""
        now = time.monotonic()
        if now - self._read_at < _REFRESH_S:
            return None
        self._read_at = now
        try:
            with self._process.oneshot():
                cpu = self._process.cpu_percent()
                memory = self._process.memory_info().rss
                disk = self._process.io_counters()
            network = psutil.net_io_counters()
        except (psutil.Error, OSError):
            return None
        return Resources(
            cpu_percent=cpu,
            memory_bytes=memory,
            disk_read_bytes=disk.read_bytes,
            disk_write_bytes=disk.write_bytes,
            network_sent_bytes=max(0, network.bytes_sent - self._network.bytes_sent),
            network_received_bytes=max(0, network.bytes_recv - self._network.bytes_recv),
        )
