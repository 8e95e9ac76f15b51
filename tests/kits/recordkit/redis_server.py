"""A real Redis server of a test's own, through several lives on one port."""

from __future__ import annotations

import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from processkit.patience import until

__all__ = ["NO_REDIS", "RedisServer", "redis_program"]

NO_REDIS = "no redis-server is installed (Debian's package, or scripts/install_peers)"
_PEERS = Path(__file__).parents[3] / ".venv-peers" / "bin" / "redis-server"


def redis_program() -> str:
    """The installed redis-server: the system's, else the peers'; empty where there is none."""
    return shutil.which("redis-server") or (str(_PEERS) if _PEERS.exists() else "")


class RedisServer:
    """On loopback, with every write flushed before it is confirmed unless `options` say otherwise; starts at once.

    Skips the test where no redis-server is installed.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self._program = redis_program()
        if not self._program:
            pytest.skip(NO_REDIS)
        self._folder = folder
        self._options = options
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._databases = 0
        self.start()

    def start(self) -> None:
        """Begin a life on the port and the files of the one before."""
        with (self._folder / "redis.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)),
                    *("--databases", "1000", "--save", "", "--appendonly", "yes", "--appendfsync", "always"),
                    *self._options,
                ],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        until(self._answers, message="the Redis server answers")

    def database(self) -> str:
        """The address of a database that nobody has used."""
        self._databases += 1
        return f"redis://127.0.0.1:{self.port}/{self._databases - 1}"

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        """kill -9, and a new life with what the disk holds."""
        self.kill()
        self.start()

    def _answers(self) -> bool:
        assert self.process.poll() is None, (self._folder / "redis.log").read_text()
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5.0) as asked:
            asked.sendall(b"PING\r\n")
            return asked.recv(64).startswith(b"+PONG")
        return False
