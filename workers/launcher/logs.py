"""One stream of one child: from its pipe, line by line, to the terminal and to its log file.

Owns the prefix and the file; never waits, and never judges what a line says. A server's JSON is kept as it came, and
shown as people read it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from strata_zmq.logs import as_text

from .lines import LineSplitter

__all__ = ["LogFiles", "LogPump"]

_READ_BYTES = 64 * 1024


class LogFiles:
    """The log files of a run, one per member over all its lives; none without a folder.

    One that would exceed `bytes_max` begins anew: files that nobody keeps must not fill the disk.
    """

    def __init__(self, folder: Path | None, bytes_max: int | None = None) -> None:
        self._folder = folder
        self._bytes_max = bytes_max
        self._files: dict[str, BinaryIO] = {}
        if folder is not None:
            folder.mkdir(exist_ok=True)

    def write(self, name: str, data: bytes) -> None:
        """Append `data` to the member's file; raises OSError."""
        if self._folder is None:
            return
        if name not in self._files:
            self._files[name] = (self._folder / f"{name}.log").open("ab", buffering=0)
        file = self._files[name]
        if self._bytes_max is not None and os.fstat(file.fileno()).st_size + len(data) > self._bytes_max:
            file.truncate(0)
        file.write(data)

    def give_up(self) -> None:
        """Write no more: the folder is full or gone, and the job goes on without its log files."""
        self.close()
        self._folder = None

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()
        self._files.clear()


class LogPump:
    """Reads the non-blocking `fd` of member `name`; `post` gets whole lines with their prefix, `keep` the bytes.

    With `served` they are a server's log, and shown as text.
    """

    def __init__(
        self,
        fd: int,
        name: str,
        post: Callable[[bytes], None],
        keep: Callable[[str, bytes], None],
        *,
        served: bool = False,
    ) -> None:
        self.fd = fd
        self.close_by: float | None = None
        self._name = name
        self._prefix = b"[%s] " % name.encode()
        self._post = post
        self._keep = keep
        self._served = served
        self._splitter = LineSplitter()

    def pump(self) -> bool:
        """Pass on what is there, up to 64 KiB; returns False at the end of the stream."""
        try:
            data = os.read(self.fd, _READ_BYTES)
        except BlockingIOError:
            return True
        if not data:
            return False
        self._keep(self._name, data)
        self._show(self._splitter.feed(data))
        return True

    def close(self) -> None:
        """Pass on what has no line end, and close the descriptor."""
        self._show(self._splitter.finish())
        os.close(self.fd)

    def _show(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            for shown in (as_text(line) if self._served else None) or (line,):
                self._post(self._prefix + shown + b"\n")
