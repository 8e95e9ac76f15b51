"""The file format of recordings: blocks with checksums, and a torn tail that is cut. It knows no core and no clock.

A segment is the magic bytes and then blocks, each of its kind (1 byte), its length (4) and a CRC-32 of both and the
content (4), little-endian, and the content. The first block is the Opening, the second the state of the core as
`core/state.py` writes it; so each segment can be played without those before it. All others are steps: of each its
length (4), whether it is known what came of it (1), how much of what did (4 times 4), and the step as MessagePack.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from strata_zmq.errors import InvalidArgumentError

__all__ = ["MAGIC", "Opening", "Segment", "Step", "Steps", "block", "find_segments", "read_opening", "read_segment"]

MAGIC = b"STRATA FLIGHT 1\n"
OPENING, STATE, STEPS = 1, 2, 3
SUFFIX = ".flight"
_HEAD = struct.Struct("<BII")
_LENGTH = struct.Struct("<I")
_STEP = struct.Struct("<I?4I")
_UNKNOWN = (0, 0, 0, 0)


class Opening(msgspec.Struct, array_like=True, frozen=True):
    """What was running: the release, the core's configuration without its secrets, and when it was, as Unix time."""

    release: str
    config: bytes
    began_at: float
    pid: int


class Step(msgspec.Struct, array_like=True, frozen=True):
    """What the core was given at `now` on its clock: frames, each with its connection.

    `decided` counts the records, the sendings, the broadcasts and the notes that came of it; empty if the process did
    not live to see them.
    """

    now: float
    backlog: bool
    frames: Sequence[tuple[bytes, bytes]]
    decided: tuple[int, ...] = ()


class Segment(msgspec.Struct, frozen=True):
    """One file as it was read. `cut_bytes` at its end were not whole; `damage` says what is wrong before its end."""

    path: Path
    opening: Opening
    state: bytes
    steps: list[Step]
    cut_bytes: int
    damage: str


def block(kind: int, content: bytes) -> bytes:
    """Return one block."""
    checksum = zlib.crc32(content, zlib.crc32(bytes([kind]) + _LENGTH.pack(len(content))))
    return _HEAD.pack(kind, len(content), checksum) + content


class Steps:
    """Steps on their way into a block."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def __len__(self) -> int:
        return len(self._buffer)

    def add(self, step: bytes, decided: tuple[int, int, int, int] | None) -> None:
        """Add one, and what came of it, if that is known."""
        self._buffer += _STEP.pack(len(step), decided is not None, *(decided or _UNKNOWN))
        self._buffer += step

    def take(self) -> bytes:
        """Return the block of all that were added, and begin anew; empty if none was."""
        if not self._buffer:
            return b""
        content, self._buffer = bytes(self._buffer), bytearray()
        return block(STEPS, content)


def find_segments(place: Path) -> list[Path]:
    """Return the file itself, or the segments of a folder, oldest first; InvalidArgumentError if there are none."""
    if not place.is_dir():
        return [place]
    found = sorted(place.glob(f"*{SUFFIX}"))
    if not found:
        raise InvalidArgumentError(f"{place} holds no recording (*{SUFFIX}): name another folder, or a file")
    return found


def read_opening(path: Path) -> Opening:
    """Return what a segment begins with; InvalidArgumentError if it is none."""
    with path.open("rb") as file:
        data = file.read(len(MAGIC) + _HEAD.size)
        if len(data) < len(MAGIC) + _HEAD.size:
            raise _no_recording(path, "it ends before it has begun")
        if not data.startswith(MAGIC):
            raise _no_recording(path, "it does not begin as one")
        data += file.read(_HEAD.unpack(data[len(MAGIC) :])[1])
    _, content, _ = next(_blocks(data), (0, b"", 0))
    return _decode_opening(path, content)


def read_segment(path: Path) -> Segment:
    """Return what a segment holds; InvalidArgumentError if that is not even its beginning."""
    data = path.read_bytes()
    if not data.startswith(MAGIC):
        raise _no_recording(path, "it does not begin as one")
    blocks = list(_blocks(data))
    if [kind for kind, _, _ in blocks[:2]] != [OPENING, STATE]:
        raise _no_recording(path, "the state that it begins with is not whole")
    opening = _decode_opening(path, blocks[0][1])
    end = blocks[-1][2]
    steps: list[Step] = []
    for _, content, _ in blocks[2:]:
        steps += _steps(path, content)
    return Segment(path, opening, blocks[1][1], steps, *_rest(data, end))


def _blocks(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield the kind, the content and the end of each whole block up to the first that is not."""
    place = len(MAGIC)
    while place + _HEAD.size <= len(data):
        kind, length, _ = _HEAD.unpack_from(data, place)
        end = place + _HEAD.size + length
        content = data[place + _HEAD.size : end]
        if len(content) < length or block(kind, content)[: _HEAD.size] != data[place : place + _HEAD.size]:
            return
        yield kind, content, end
        place = end


def _rest(data: bytes, end: int) -> tuple[int, str]:
    """Tell a tail that was being written from damage: behind that there is more."""
    rest = len(data) - end
    if rest >= _HEAD.size:
        length = _HEAD.unpack_from(data, end)[1]
        if end + _HEAD.size + length < len(data):
            return rest, f"damaged at byte {end}: the {rest} bytes from there on are not played"
    return rest, ""


def _steps(path: Path, content: bytes) -> Iterator[Step]:
    place = 0
    try:
        while place < len(content):
            length, known, *decided = _STEP.unpack_from(content, place)
            place += _STEP.size
            step = msgspec.msgpack.decode(content[place : place + length], type=Step)
            yield msgspec.structs.replace(step, decided=tuple(decided)) if known else step
            place += length
    except (struct.error, msgspec.MsgspecError) as error:
        raise _no_recording(path, f"a step is not understood: {error}") from None


def _decode_opening(path: Path, content: bytes) -> Opening:
    try:
        return msgspec.msgpack.decode(content, type=Opening)
    except msgspec.MsgspecError as error:
        raise _no_recording(path, f"its opening is not understood: {error}") from None


def _no_recording(path: Path, why: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{path} is no recording of this format: {why}")
