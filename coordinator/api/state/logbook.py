"""The last lines of all logs in one order, in memory of a bounded size. It never knows what a line means.

Lines come from a folder of log files, four looks a second, from this process's own log, and from whoever appends.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import islice
from pathlib import Path

from strata_zmq.logs import formatter

from .log_files import LogFiles, line_of
from .models import LogPage
from .rows import LogLine

__all__ = ["BYTES_MAX", "LINES_MAX", "OWN_SOURCE", "LogBook"]

LINES_MAX = 20_000
BYTES_MAX = 16 * 1024 * 1024
OWN_SOURCE = "api"
_LOOK_S = 0.25
_OWN_WAITING_MAX = 1_000
_SOURCES_MAX = 4_096
_LEVELS = {"debug": 0, "info": 1, "warning": 2, "error": 3}


class LogBook:
    """A ring of at most LINES_MAX lines and BYTES_MAX bytes of text, numbered from 1.

    `folder` has NAME.log of each process; None: there are no files. With `own`, what this process logs is among the
    lines, with OWN_SOURCE as its source, and a file of that name is not read.
    """

    def __init__(self, folder: Path | None = None, *, own: bool = False) -> None:
        self._files = LogFiles(folder, frozenset({OWN_SOURCE} if own else ())) if folder is not None else None
        self._own = _OwnLines() if own else None
        self._lines: deque[LogLine] = deque()
        self._bytes = 0
        self._number = 0
        self._sources: set[str] = set()

    @property
    def wants_events(self) -> bool:
        """Whether the events of cores are to be appended: their processes' logs are not read here."""
        return self._files is None

    @property
    def sources(self) -> Sequence[str]:
        """The processes that lines came from, in order."""
        return sorted(self._sources)

    def append(self, line: LogLine) -> None:
        """Add a line; its number is replaced."""
        self._number += 1
        line.number = self._number
        self._lines.append(line)
        self._bytes += _size(line)
        if len(self._sources) < _SOURCES_MAX:
            self._sources.add(line.source)
        while len(self._lines) > LINES_MAX or self._bytes > BYTES_MAX:
            self._bytes -= _size(self._lines.popleft())

    def page(
        self, *, limit: int, level: str = "", source: str = "", search: str = "", before: int | None = None
    ) -> LogPage:
        """Return the last `limit` lines below number `before` that are at least of `level`, of `source` (or of a
        process whose name begins with it and a slash), and hold `search` in any case of letters, newest last.
        """
        found: list[LogLine] = []
        for line in self._matching(level, source, search, before):
            if len(found) == limit:
                return LogPage(lines=found[::-1], before=found[-1].number, sources=list(self.sources))
            found.append(line)
        return LogPage(lines=found[::-1], before=None, sources=list(self.sources))

    def since(self, number: int, limit: int = 200) -> list[LogLine]:
        """Return the newest `limit` of the lines behind `number`, oldest first."""
        new = min(limit, self._number - number, len(self._lines))
        return list(islice(reversed(self._lines), max(0, new)))[::-1]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Read while the block runs."""
        looking = asyncio.create_task(self._look())
        if self._own is not None:
            logging.getLogger().addHandler(self._own)
        try:
            yield
        finally:
            if self._own is not None:
                logging.getLogger().removeHandler(self._own)
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking

    def look(self) -> int:
        """Read what is new in the folder's files, at most LogFiles' turn of it; returns how many lines that was."""
        lines = self._files.read() if self._files is not None else []
        for line in lines:
            self.append(line)
        return len(lines)

    async def _look(self) -> None:
        while True:
            for line in await asyncio.to_thread(self._read):
                self.append(line)
            for line in self._own.take() if self._own is not None else ():
                self.append(line)
            await asyncio.sleep(_LOOK_S)

    def _read(self) -> list[LogLine]:
        """Return what is new, in the order of time: files come one by one."""
        return sorted(self._files.read(), key=lambda line: line.timestamp) if self._files is not None else []

    def _matching(self, level: str, source: str, search: str, before: int | None) -> Iterator[LogLine]:
        """Yield newest first."""
        skipped = 0 if before is None else max(0, self._number - before + 1)
        least, text, inside = _LEVELS.get(level, 0), search.lower(), f"{source}/"
        for line in islice(reversed(self._lines), skipped, None):
            if _LEVELS[line.level] < least:
                continue
            if source and line.source != source and not line.source.startswith(inside):
                continue
            if text and text not in line.message.lower():
                continue
            yield line


class _OwnLines(logging.Handler):
    """Takes what any thread of this process logs; if more waits than may, the oldest goes."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(formatter(text=False))
        self._waiting: deque[LogLine] = deque(maxlen=_OWN_WAITING_MAX)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._waiting.append(line_of(OWN_SOURCE, self.format(record).encode(), record.created))
        except Exception:  # noqa: BLE001 - as the standard library's own handlers do
            self.handleError(record)

    def take(self) -> Iterator[LogLine]:
        """Yield what has come since the last call."""
        while self._waiting:
            yield self._waiting.popleft()


def _size(line: LogLine) -> int:
    fields = sum(len(name) + len(value) for name, value in line.fields.items() if isinstance(value, str))
    return 256 + 2 * len(line.message) + fields
