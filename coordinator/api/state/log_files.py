"""A folder of log files as lines, as they grow: what is new since the last look, within a budget. It keeps no line.

The files are other processes' and may do anything meanwhile: begin anew, vanish, grow faster than they are read. No
descriptor stays open, and links are not followed.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strata_zmq.logs import LINE_BYTES_MAX, read_line

from .rows import Level, LogLine

__all__ = ["BEHIND_BYTES_MAX", "FILES_MAX", "START_BYTES", "TURN_BYTES", "LogFiles", "line_of"]

FILES_MAX = 2048
TURN_BYTES = 256 * 1024
"""What one look reads at the most, of all files together."""
START_BYTES = 64 * 1024
"""What is read of the end of a file that was there before, or that has run away."""
BEHIND_BYTES_MAX = 1024 * 1024
_SHARE_BYTES_MIN = 4096
_IDLE_LOOKS = 4
"""A line without its end is taken as one when nothing has followed it for so many looks."""
_EXACT_MAX = 2**53
_SUFFIX = ".log"


@dataclass(slots=True)
class _File:
    inode: int
    offset: int
    rest: bytes = b""
    cut: bool = False
    """The next bytes are the end of a line whose beginning was not read."""
    idle: int = 0


class LogFiles:
    """Reads `folder`/NAME.log of any NAME but those in `without`; a folder that is not there yet has no files."""

    def __init__(self, folder: Path, without: frozenset[str] = frozenset()) -> None:
        self._folder = folder
        self._without = without
        self._files: dict[str, _File] = {}
        self._first = True
        self._turn = 0

    def read(self) -> list[LogLine]:
        """Return the lines that are new, their numbers 0, up to TURN_BYTES in all; the rest comes with the next look.

        A line that has no time of its own gets the present one, or, at the first look, that of its file.
        """
        now = time.time()
        lines: list[LogLine] = []
        grown: list[tuple[str, _File, os.stat_result]] = []
        seen = self._scan()
        for name, status in seen.items():
            file, skipped = self._meet(name, status)
            if skipped:
                text = f"{skipped} bytes were left out here: this log grows faster than it is read"
                lines.append(_line(name, now, "warning", text, {}))
            if status.st_size > file.offset:
                grown.append((name, file, status))
            elif file.rest:
                file.idle += 1
                if file.idle >= _IDLE_LOOKS:
                    rest, file.rest = file.rest, b""
                    lines.append(line_of(name, rest, now))
        for name in self._files.keys() - seen.keys():
            del self._files[name]
        left = TURN_BYTES
        share = max(_SHARE_BYTES_MIN, TURN_BYTES // max(1, len(grown)))
        self._turn += 1
        start = self._turn % len(grown) if grown else 0
        for name, file, status in [*grown[start:], *grown[:start]]:
            data = self._read(name, file, min(share, left))
            left -= len(data)
            at = status.st_mtime if self._first else now
            lines += [line_of(name, line, at) for line in _split(file, data)]
            if left <= 0:
                break
        self._first = False
        return lines

    def _scan(self) -> dict[str, os.stat_result]:
        found: dict[str, os.stat_result] = {}
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    name = entry.name.removesuffix(_SUFFIX)
                    if name == entry.name or name in self._without or len(found) >= FILES_MAX:
                        continue
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except OSError:
                        continue  # it has gone meanwhile
                    if stat.S_ISREG(status.st_mode):
                        found[_readable(name)] = status
        except OSError:
            return {}
        return dict(sorted(found.items()))

    def _meet(self, name: str, status: os.stat_result) -> tuple[_File, int]:
        """Return what is known of a file, and how many bytes of it are passed over for being too many."""
        file = self._files.get(name)
        if file is None:
            offset = max(0, status.st_size - START_BYTES) if self._first else 0
            file = self._files[name] = _File(status.st_ino, offset, cut=offset > 0)
        elif file.inode != status.st_ino or status.st_size < file.offset:
            file = self._files[name] = _File(status.st_ino, 0)
        behind = status.st_size - file.offset
        if behind <= BEHIND_BYTES_MAX:
            return file, 0
        skipped = behind - START_BYTES
        file.offset, file.rest, file.cut = file.offset + skipped, b"", True
        return file, skipped

    def _read(self, name: str, file: _File, size: int) -> bytes:
        try:
            fd = os.open(self._folder / f"{name}{_SUFFIX}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            data = os.pread(fd, size, file.offset)
        except OSError:
            return b""
        finally:
            os.close(fd)
        file.offset += len(data)
        file.idle = 0
        return data


def line_of(source: str, line: bytes, at: float) -> LogLine:
    """Return one line of a process's log as a row; one that is no event of ours is of level info, and of time `at`."""
    entry = read_line(line)
    if entry is None:
        # Of a progress bar, its last state.
        text = line.rstrip(b"\r").rpartition(b"\r")[2].decode(errors="backslashreplace")
        return _line(source, at, "info", text, {})
    fields = {_readable(name): _plain(value) for name, value in entry.fields.items()}
    fields["logger"] = _readable(entry.logger)
    if entry.exception:
        fields["exception"] = _readable(entry.exception)
    return _line(source, entry.at, entry.level, _readable(entry.text), fields)


def _line(source: str, at: float, level: str, text: str, fields: dict[str, Any]) -> LogLine:
    words: dict[str, Level] = {"debug": "debug", "info": "info", "warning": "warning", "error": "error"}
    return LogLine(number=0, timestamp=int(at * 1000), level=words[level], source=source, message=text, fields=fields)


def _split(file: _File, data: bytes) -> Iterator[bytes]:
    """Yield the lines that `data` completes, in pieces of at most LINE_BYTES_MAX."""
    *whole, file.rest = (file.rest + data).split(b"\n")
    for line in whole:
        if file.cut:
            file.cut = False
            continue
        for at in range(0, len(line) or 1, LINE_BYTES_MAX):
            yield line[at : at + LINE_BYTES_MAX]
    while len(file.rest) > LINE_BYTES_MAX:
        piece, file.rest = file.rest[:LINE_BYTES_MAX], file.rest[LINE_BYTES_MAX:]
        if not file.cut:
            yield piece


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if abs(value) < _EXACT_MAX else str(value)
    return _readable(value if isinstance(value, str) else json.dumps(value))


def _readable(text: str) -> str:
    """Return `text` without halves of characters, which JSON can hold and UTF-8 cannot."""
    return text.encode(errors="backslashreplace").decode()
