"""Keeps what a core was given in the last minutes, as files. It decides nothing, and a disk that is full ends it alone.

What the core is given goes into memory and at most once a second to the files, without fsync: when the process is
killed, what the last second brought is missing; when the machine loses its power, it may be more.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import msgspec

from strata_zmq.coordinator.core.core import Core
from strata_zmq.coordinator.core.state import dump
from strata_zmq.coordinator.core.world import CoreConfig, Effects
from strata_zmq.errors import InvalidArgumentError

from .masking import Masking
from .segments import MAGIC, OPENING, STATE, SUFFIX, Opening, Step, Steps, block

__all__ = ["BYTES_MAX", "Recorder"]

log = logging.getLogger("strata.flight")

BYTES_MAX = 256 * 1024 * 1024
_WRITE_EVERY_S = 1.0
_WRITE_BYTES = 1024 * 1024
_SEGMENTS = 2
"""In how many segments the minutes are kept: each begins with the whole state, which the core has to wait for."""
_SEGMENT_S_MIN = 10.0
_encode = msgspec.msgpack.Encoder().encode


class Recorder:
    """The recording of one life of a core in a folder, beside those of earlier lives.

    The last `minutes` can be played, and up to half as many more. All recordings in the folder take at most `bytes_max`
    bytes: the oldest go first.
    """

    def __init__(
        self, folder: Path, core: Core, config: CoreConfig, *, minutes: float = 10.0, bytes_max: int = BYTES_MAX
    ) -> None:
        if minutes <= 0 or bytes_max < 1:
            raise InvalidArgumentError(f"a recording of {minutes:g} minutes and {bytes_max} bytes keeps nothing")
        self.folder = folder
        self._core = core
        self._masking = Masking(config)
        self._wall_offset_s = config.wall_offset_s
        self._kept_s = minutes * 60.0
        self._segment_s = max(self._kept_s / _SEGMENTS, _SEGMENT_S_MIN)
        self._bytes_max = bytes_max
        self._segment_bytes_max = bytes_max // (_SEGMENTS + 1)
        self._steps = Steps()
        self._step: bytes | None = None
        self._fd = -1
        self._size = 0
        self._paused = False
        self._written_at = self._began_at = float("-inf")
        self._segments: list[tuple[float, Path]] = []
        """Those of this life: when each began, and where it is."""
        self.ended = False
        """Whether recording is over, because the files could not be written."""

    def begin(self, now: float) -> None:
        """Begin with the state of a core that has started."""
        self._guarded(self._begin_segment, now)

    def take(self, now: float, backlog: bool, frames: Sequence[tuple[bytes, bytes]]) -> None:
        """Take what the core's next step is given, before it is: it may be the last thing that this process does."""
        if self.ended or self._paused or self._fd < 0:
            return
        step = _encode(Step(now, backlog, frames))
        if not self._masking.is_safe(step):
            mask = self._masking.mask
            step = _encode(Step(now, backlog, [(connection, mask(frame)) for connection, frame in frames]))
        self._step = step

    def decided(self, effects: Effects, now: float) -> None:
        """Take what came of it; write what is due."""
        if self.ended:
            return
        if self._step is not None:
            counts = (len(effects.records), len(effects.outbox), len(effects.broadcasts), len(effects.notes))
            self._steps.add(self._step, counts)
            self._step = None
        if now >= self._began_at + self._segment_s or self._is_full(now):
            self._guarded(self._begin_segment, now)
        elif now >= self._written_at + _WRITE_EVERY_S or len(self._steps) >= _WRITE_BYTES:
            self._guarded(self._write, now)

    def close(self) -> None:
        """Write what is left."""
        if self._step is not None:
            self._steps.add(self._step, None)
            self._step = None
        self._guarded(self._write, self._written_at)
        self._close_file()

    def _guarded(self, write: Callable[[float], None], now: float) -> None:
        try:
            write(now)
        except (OSError, ValueError, TypeError) as error:
            # Whatever it is: nobody has asked the job to be recorded at any price.
            self.ended = True
            self._steps = Steps()
            self._close_file()
            log.warning("the flight recorder ends, the job goes on: %s", error)

    # ---- segments

    def _is_full(self, now: float) -> bool:
        """Whether a segment has no more room and the next one may begin; until it may, nothing is kept."""
        if self._size + len(self._steps) < self._segment_bytes_max:
            return False
        if now >= self._began_at + _SEGMENT_S_MIN:
            return True
        if not self._paused:
            self._paused = True
            log.warning(
                "the flight recorder pauses for %.0f s: its files may take %d bytes, and too much comes in",
                self._began_at + _SEGMENT_S_MIN - now,
                self._bytes_max,
            )
        return False

    def _begin_segment(self, now: float) -> None:
        self._write(now)
        self._close_file()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        began_at = now + self._wall_offset_s
        opening = Opening(version("strata-zmq"), msgspec.msgpack.encode(self._masking.config), began_at, os.getpid())
        head = MAGIC + block(OPENING, msgspec.msgpack.encode(opening)) + block(STATE, dump(self._core))
        self._make_room(now, len(head))
        number = round(began_at * 1000)
        while (path := self.folder / f"{number:014d}{SUFFIX}").exists():
            number += 1
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._segments.append((now, path))
        self._paused, self._began_at, self._written_at, self._size = False, now, now, 0
        self._append(head)

    def _make_room(self, now: float, head_bytes: int) -> None:
        """Remove what is too old of this life, then the oldest of all until there is room for another segment."""
        while len(self._segments) > 1 and self._segments[1][0] <= now - self._kept_s:
            self._segments.pop(0)[1].unlink(missing_ok=True)
        files = sorted(self.folder.glob(f"*{SUFFIX}"))
        sizes = {path: path.stat().st_size for path in files}
        left = self._bytes_max - max(self._segment_bytes_max, head_bytes) - sum(sizes.values())
        for path in files:
            if left >= 0:
                break
            path.unlink(missing_ok=True)
            left += sizes[path]
            self._segments = [one for one in self._segments if one[1] != path]

    def _write(self, now: float) -> None:
        self._written_at = now
        if self._fd >= 0:
            self._append(self._steps.take())

    def _append(self, data: bytes) -> None:
        while data:
            written = os.write(self._fd, data)
            self._size += written
            data = data[written:]

    def _close_file(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
