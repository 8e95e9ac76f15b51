"""What a person asks of `strata run` or `strata agent`, checked before anything is started.

Owns the limits and their messages; never starts or makes anything.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Literal

from strata_zmq.domain.policy import parse_policy
from strata_zmq.domain.retention import parse_best
from strata_zmq.errors import InvalidArgumentError
from strata_zmq.startup import NO_API, check_api_port
from strata_zmq.storage import absolute_place, check_place, default_place
from strata_zmq.transport.endpoints import parse_endpoint

from .job import Limits

__all__ = ["MAX_WORKERS", "Progress", "RunOptions"]

MAX_WORKERS = 1024
MAX_WRITERS = 64
_WHEN_BUSY = ("block", "skip", "supersede")
_JOB = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")

Progress = Literal["auto", "live", "plain", "off"]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """One run: `workers` copies of a script (or, with `module`, of an importable module) with `args`.

    `port` 0 takes free ports; it counts only with `tcp`. With `coordinator_url` it is one host's part of a job whose
    coordinator runs elsewhere: its members are named after `host`, its workers' RANK begins at `first_rank`, and its
    writers tell others to reach them at `advertise`. `api_port` is as `check_api_port` has it. Raises
    InvalidArgumentError for what is outside its limits.
    """

    script: str
    args: tuple[str, ...] = ()
    module: bool = False
    workers: int = 1
    writers: int = 1
    min_workers: int = 1
    tcp: bool = False
    port: int = 0
    run_dir: Path | None = None
    checkpoint_path: str = ""
    job: str = ""
    lease_s: float = 3.0
    keep_count: int = 5
    keep_every: int = 0
    keep_best: str = ""
    policy: str = ""
    when_busy: str = ""
    progress: Progress = "auto"
    progress_interval_s: float = 10.0
    limits: Limits = Limits()  # noqa: RUF009 - frozen
    relay: bool = True
    coordinator_url: str = ""
    host: str = ""
    first_rank: int = 0
    world_size: int = 0
    advertise: str = ""
    api_port: str = NO_API

    def __post_init__(self) -> None:
        _within("-n", self.workers, 1, MAX_WORKERS)
        _within("--writers", self.writers, 0, MAX_WRITERS)
        _within("--min-workers", self.min_workers, 1, self.workers)
        _within("--max-restarts", self.limits.worker_restarts, 0, 1_000_000)
        _within("--port", self.port, 0, 65_534)
        _within("--grace", self.limits.grace_s, 0, 86_400)
        _within("--keep", self.keep_count, 1, 1000)
        _within("--keep-every", self.keep_every, 0, 10**12)
        _checked("--keep-best", parse_best, self.keep_best)
        if self.policy:
            _checked("--policy", parse_policy, self.policy)
        if self.when_busy not in {"", *_WHEN_BUSY}:
            raise InvalidArgumentError(f"--when-busy {self.when_busy!r}: give one of {', '.join(_WHEN_BUSY)}")
        _within("--lease", self.lease_s, 0.1, 86_400)
        _within("--progress-interval", self.progress_interval_s, 0.1, 86_400)
        _within("--first-rank", self.first_rank, 0, 1_000_000)
        if self.world_size:
            _within("--world-size", self.world_size, self.first_rank + self.workers, 2_000_000)
        check_api_port(self.api_port)
        if self.coordinator_url:
            parse_endpoint(self.coordinator_url, field="--coordinator")
            if not _HOST.fullmatch(self.host):
                raise InvalidArgumentError(
                    f"--host-name {self.host!r}: use 1 to 100 of the characters A-Z a-z 0-9 _ . -"
                )
        if self.job and not _JOB.fullmatch(self.job):
            raise InvalidArgumentError(f"--job {self.job!r}: use 1 to 128 of the characters A-Z a-z 0-9 _ . -")
        if self.module:
            self._check_module()
        elif not Path(self.script).is_file():
            raise InvalidArgumentError(f"{self.script}: no such script; name a Python file, or a module with -m")

    def _check_module(self) -> None:
        # Only the first part is looked for: finding a submodule would run its package's code in this process.
        # `python -m` puts the current folder on the path, the `strata` command does not.
        package = self.script.partition(".")[0]
        if PathFinder.find_spec(package, [str(Path.cwd()), *sys.path]) is None:
            raise InvalidArgumentError(f"-m {self.script}: no module {package!r} here or installed")

    @property
    def job_name(self) -> str:
        """The job's name: as given, or made of the script's."""
        if self.job:
            return self.job
        stem = self.script if self.module else Path(self.script).stem
        return re.sub(r"[^A-Za-z0-9_.-]", "-", stem)[:128] or "job"

    def store(self) -> str:
        """Where checkpoints go, an absolute path or a URL.

        As given, else the bucket of STORAGE_BACKEND=s3, else in the run folder that is kept, else ./checkpoints.
        InvalidArgumentError where that is no place.
        """
        # STRATA_CHECKPOINT_PATH is what a run tells its own processes: around this one, it is another's.
        settings = {name: value for name, value in os.environ.items() if name != "STRATA_CHECKPOINT_PATH"}
        place = self.checkpoint_path or default_place(settings) or (self.run_dir or Path()) / "checkpoints"
        check_place(place)
        return absolute_place(place)


def _checked(option: str, parse: Callable[[str], object], text: str) -> None:
    try:
        parse(text)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{option}: {error}") from None


def _within(option: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InvalidArgumentError(f"{option} {value:g} is outside {low:g} to {high:g}")
