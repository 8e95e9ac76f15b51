"""Keeps one job's agent, apart from whoever started it, and leaves its end in the job's folder.

Run by path as `python -I -S job_keeper.py FOLDER GRACE_S OUTPUT_BYTES_MAX PROGRAM [ARGS...]`; that process ends as soon
as the keeper, its child, has written who it is (FOLDER/keeper.json). The keeper is nobody's child that could wait for
it: it takes what the agent says into FOLDER/output.txt up to a limit, passes SIGTERM on, ends an agent that is still
there after the grace, and writes FOLDER/exit.json last. It knows the standard library only, and never what a job is.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from typing import Any

__all__ = ["BOOT_ID", "main", "started_of"]

BOOT_ID = "/proc/sys/kernel/random/boot_id"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PIECE_BYTES = 64 * 1024
_NOT_STARTED = 127


def started_of(pid: int) -> int | None:
    """Return when a process began, in clock ticks since the machine did; None where it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - no more than it needs
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])  # proc(5): state is the third, starttime the 22nd


def main(argv: list[str]) -> int:
    """Keep PROGRAM; returns in the process that was started as soon as the keeper is known, and in the keeper never."""
    folder, grace_s, output_max, program = argv[0], float(argv[1]), int(argv[2]), argv[3:]
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        return 0 if os.read(reading, 1) else 1
    os.close(reading)
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)
    with open(BOOT_ID) as file:  # noqa: PTH123
        boot_id = file.read().strip()
    own = {"pid": os.getpid(), "started": started_of(os.getpid()), "boot_id": boot_id, "at": time.time()}
    _write(folder, "keeper.json", own)
    os.write(writing, b"1")
    os.close(writing)
    code = _Keeper(folder, grace_s, output_max).keep(program)
    _write(folder, "exit.json", {"code": code, "at": time.time()})
    os._exit(0)


class _Keeper:
    """The agent's life, from its start to its end."""

    def __init__(self, folder: str, grace_s: float, output_max: int) -> None:
        self._output = os.open(f"{folder}/output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._grace_s, self._left = grace_s, output_max
        self._stop_by: float | None = None
        self._asked = False

    def keep(self, program: list[str]) -> int:
        """Start the program and return its exit status, negative for a signal."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        waking, woken = os.pipe()
        os.set_blocking(woken, False)
        signal.set_wakeup_fd(woken)
        try:
            agent = subprocess.Popen(
                program,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                preexec_fn=_die_with_keeper,  # noqa: PLW1509 - there are no threads here
            )
        except OSError as error:
            self._keep_output(f"cannot run {program[0]}: {error.strerror}\n".encode())
            return _NOT_STARTED
        stdout = agent.stdout.fileno() if agent.stdout is not None else -1
        os.set_blocking(stdout, False)
        ending = os.pidfd_open(agent.pid)
        with selectors.DefaultSelector() as selector:
            for fd in (stdout, ending, waking):
                selector.register(fd, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select(self._wait_s())}
                if waking in ready:
                    os.read(waking, _PIECE_BYTES)
                if stdout in ready and not self._take(stdout):
                    selector.unregister(stdout)
                if ending in ready:
                    break
                self._end(agent)
        while self._take(stdout):
            pass
        return agent.wait()

    def _ask(self, *_: Any) -> None:
        self._asked = True

    def _wait_s(self) -> float | None:
        return None if self._stop_by is None else max(0.0, self._stop_by - time.monotonic())

    def _end(self, agent: subprocess.Popen[bytes]) -> None:
        """Pass the word to stop on, once; and end what has not heard it in time."""
        if self._asked and self._stop_by is None:
            self._stop_by = time.monotonic() + self._grace_s
            agent.send_signal(signal.SIGTERM)
            agent.send_signal(signal.SIGCONT)
        elif self._stop_by is not None and time.monotonic() >= self._stop_by:
            agent.kill()

    def _take(self, stdout: int) -> bool:
        """Take what there is; returns whether more may come."""
        try:
            data = os.read(stdout, _PIECE_BYTES)
        except BlockingIOError:
            return False
        self._keep_output(data)
        return bool(data)

    def _keep_output(self, data: bytes) -> None:
        if self._left <= 0 or not data:
            return
        kept = data[: self._left]
        self._left -= len(kept)
        with contextlib.suppress(OSError):  # a full disk ends the output, not the job
            os.write(self._output, kept)
            if self._left == 0:
                os.write(self._output, b"\n(what was said after this is in the job's logs only)\n")


def _die_with_keeper() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _write(folder: str, name: str, value: dict[str, Any]) -> None:
    """Write a file as a whole or not at all."""
    path = f"{folder}/{name}"
    with open(f"{path}.new", "w") as file:  # noqa: PTH123
        json.dump(value, file)
    os.replace(f"{path}.new", path)  # noqa: PTH105


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
