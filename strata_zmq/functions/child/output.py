"""What functions print: passed on, or caught up to a limit; its end always stands in the black box. Never knows calls.

`sys.stdout` and `sys.stderr` are replaced; descriptors 1 and 2 are not touched, so what C code prints goes where the
parent's goes, and so does what was written to `sys.__stdout__`.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterable
from typing import Any, TextIO

from strata_zmq.functions.pool.blackbox import TAIL_BYTES, BlackBox

__all__ = ["Output", "Stream"]

_PIECE = 1024 * 1024


class Stream(io.TextIOBase):
    """One of the two streams. `first` is the stream it stands for, None where there is none."""

    def __init__(self, first: TextIO | None, printed: Callable[[bytes], None], bytes_max: int) -> None:
        self._first = first
        self._printed = printed
        self._bytes_max = bytes_max
        self._caught: list[str] | None = None
        self._nbytes = 0
        self._cut = 0
        self.dirty = False

    def write(self, text: str, /) -> int:
        """Print `text`."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self._caught is not None:
            self._catch(text)
        elif self._first is not None:
            self._first.write(text)
            self.dirty = True
        self._printed(text[-TAIL_BYTES:].encode("utf-8", "backslashreplace"))
        return len(text)

    def writelines(self, lines: Iterable[str], /) -> None:  # type: ignore[override]
        """Print each of `lines`."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Pass on what is buffered."""
        if self.dirty and self._first is not None:
            self.dirty = False
            with contextlib.suppress(OSError, ValueError):  # closed, or nobody reads: not the function's fault
                self._first.flush()

    def catch(self) -> None:
        """Keep what is printed from now on instead of passing it on."""
        self._caught = []
        self._nbytes = self._cut = 0

    def caught(self) -> tuple[str, int]:
        """Return what was printed since `catch` and how many bytes of it were too many, and pass on again."""
        text, cut = "".join(self._caught or ()), self._cut
        self._caught = None
        return text, cut

    def write_bytes(self, data: bytes) -> None:
        """Print bytes: passed on as they are, caught as UTF-8."""
        below = getattr(self._first, "buffer", None)
        if self._caught is not None or below is None:
            self.write(data.decode("utf-8", "backslashreplace"))
            return
        if self._first is not None:
            self._first.flush()
        below.write(data)
        self.dirty = True
        self._printed(data[-TAIL_BYTES:])

    def close(self) -> None:
        """Flush: the stream serves the calls after this one, too."""
        self.flush()

    def __getattr__(self, name: str) -> Any:
        """Return what else the stream has that this one stands for."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._first, name)

    def _catch(self, text: str) -> None:
        """Keep the head. Long texts are counted piece by piece: printing costs no more memory than its text."""
        for start in range(0, len(text), _PIECE):
            piece = text[start : start + _PIECE] if len(text) > _PIECE else text
            data = piece.encode("utf-8", "backslashreplace")
            room = self._bytes_max - self._nbytes
            if room > 0 and self._caught is not None:
                self._caught.append(data[:room].decode("utf-8", "ignore"))
            self._nbytes += len(data)
            self._cut += max(0, len(data) - max(0, room))

    # what callers expect of a standard stream

    @property
    def buffer(self) -> io.BufferedIOBase:
        """The stream for bytes."""
        return _Bytes(self)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the stream that this one stands for."""
        return getattr(self._first, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """How what cannot be encoded is written."""
        return getattr(self._first, "errors", None)

    def fileno(self) -> int:
        """Return the descriptor of the stream that this one stands for."""
        if self._first is None:
            raise io.UnsupportedOperation("fileno")
        return self._first.fileno()

    def isatty(self) -> bool:
        """Say whether what is printed goes to a terminal now."""
        return self._caught is None and self._first is not None and self._first.isatty()

    def writable(self) -> bool:
        """Say that it can be written to."""
        return True


class _Bytes(io.BufferedIOBase):
    """Bytes written to a standard stream."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def write(self, data: object, /) -> int:
        """Print `data`."""
        raw = bytes(data)  # type: ignore[call-overload]
        self._stream.write_bytes(raw)
        return len(raw)

    def flush(self) -> None:
        """Pass on what is buffered."""
        self._stream.flush()

    def writable(self) -> bool:
        """Say that it can be written to."""
        return True


class Output:
    """Both standard streams of this process."""

    def __init__(self, box: BlackBox, bytes_max: int) -> None:
        self._out = Stream(sys.stdout, box.printed, bytes_max)
        self._err = Stream(sys.stderr, box.printed, bytes_max)

    def install(self) -> None:
        """Put both in place of the process's own."""
        sys.stdout, sys.stderr = self._out, self._err

    def catch(self) -> None:
        """Keep what both are given from now on; they are put in place again, should a function have replaced them."""
        self.install()
        self._out.catch()
        self._err.catch()

    def caught(self) -> tuple[str, str, int]:
        """Return what was printed since `catch`: on standard output, on standard error, and how many bytes were cut."""
        out, cut = self._out.caught()
        err, more = self._err.caught()
        return out, err, cut + more

    def flush(self) -> None:
        """Pass on what is buffered, where anything was printed."""
        if self._out.dirty:
            self._out.flush()
        if self._err.dirty:
            self._err.flush()
