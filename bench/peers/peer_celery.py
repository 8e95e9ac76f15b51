"""Celery: tasks over a Redis server of its own, broker and result store alike, run by prefork workers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter, sleep

import redis
from celery import Celery

__all__ = ["Peer", "app"]

_WARM = 200
_START_TIMEOUT_S = 30.0
_URL = "STRATA_BENCH_CELERY_URL"
"""Where the worker process finds the Redis server that its parent has started."""

app = Celery("peer_celery", broker=os.environ.get(_URL), backend=os.environ.get(_URL))
app.conf.update(broker_connection_retry_on_startup=True)


def nothing() -> None:
    """What is called."""


_call = app.task(nothing, name="nothing")


class Peer:
    """A Redis server without persistence and a worker with `workers` child processes."""

    def __init__(self, workers: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="strata-celery-")
        port = _free_port()
        url = f"redis://127.0.0.1:{port}/0"
        self._processes = [
            subprocess.Popen(
                [
                    *(Path(sys.prefix) / "bin" / "redis-server", "--port", str(port), "--bind", "127.0.0.1"),
                    *("--save", "", "--appendonly", "no", "--dir", self._folder.name),
                ],
                stdout=subprocess.DEVNULL,
            )
        ]
        try:
            _await_server(port)
            self._start_worker(url, workers)
            app.conf.update(broker_url=url, result_backend=url)
            _call.delay().get(timeout=_START_TIMEOUT_S)
            self.throughput(_WARM)
        except BaseException:
            self.close()
            raise

    def throughput(self, tasks: int) -> dict[str, float]:
        """Submit `tasks` calls as fast as it goes, and wait for all."""
        start = perf_counter()
        for result in [_call.delay() for _ in range(tasks)]:
            result.get()
        return {"wall_s": perf_counter() - start}

    def latencies(self, tasks: int) -> dict[str, list[float]]:
        """Call and wait, one after the other; seconds."""
        return {"latencies": [self._once() for _ in range(tasks)]}

    def _once(self) -> float:
        start = perf_counter()
        _call.delay().get()
        return perf_counter() - start

    def close(self) -> None:
        """Stop the worker, then the server."""
        for process in reversed(self._processes):
            process.terminate()
            process.wait()
        self._folder.cleanup()

    def _start_worker(self, url: str, workers: int) -> None:
        arguments = ["--concurrency", str(workers), "--loglevel", "WARNING"]
        self._processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "peer_celery", "worker", *arguments],
                cwd=self._folder.name,
                env={**os.environ, _URL: url, "PYTHONPATH": str(Path(__file__).parent)},
                stdout=subprocess.DEVNULL,
            )
        )


def _await_server(port: int) -> None:
    deadline = perf_counter() + _START_TIMEOUT_S
    with redis.Redis(port=port) as client:
        while True:
            try:
                client.ping()
            except redis.ConnectionError:
                if perf_counter() > deadline:
                    raise
                sleep(0.02)
            else:
                return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
