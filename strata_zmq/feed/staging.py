"""Moving batches out of their slots while the caller computes: the order of steps, for any kind of buffer.

Knows nothing about CUDA or rings. A `Stage` moves one slot into one of its buffers; `staged` keeps one batch ahead
where there are two buffers, and gives each slot back as soon as its bytes have been read.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from strata_zmq.feed.slots import view

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from strata_zmq.feed.loader import Batch
    from strata_zmq.feed.ring import Slot

__all__ = ["CopyStage", "DeviceBatch", "Stage", "ViewStage", "staged"]


@dataclass(frozen=True, slots=True)
class DeviceBatch:
    """A batch where the computation is: `arrays` are NumPy's or CuPy's, valid until the next batch is asked for."""

    tag: int
    arrays: Mapping[str, Any]


class Stage(Protocol):
    """What moves slots into `buffers` buffers; one buffer means that there is nothing to gain from moving ahead."""

    buffers: ClassVar[int]

    def load(self, slot: Slot, buffer: int) -> None:
        """Begin to move the slot's arrays into a buffer, once the caller's work on its former contents is done."""

    def loaded(self, buffer: int, *, wait: bool) -> bool:
        """Say whether the slot is no longer needed for what was last loaded into the buffer."""

    def arrays(self, buffer: int) -> Mapping[str, Any]:
        """Return what was last loaded, ready for work that the caller issues from now on."""

    def free(self, buffer: int) -> None:
        """Take note that the caller issues no further work on the buffer's arrays."""

    def close(self) -> None:
        """Give everything back."""


def staged(batches: Iterable[Batch], stage: Stage) -> Iterator[DeviceBatch]:
    """Yield `batches` through the stage's buffers, in order, releasing each slot when its bytes have been read.

    With two buffers, batch n+1 is taken from `batches` and begins to move before batch n is yielded; at most one
    slot is then in motion when the next batch is asked for, so a ring needs two.
    """
    moving: deque[tuple[Batch, int]] = deque()
    ahead: deque[tuple[int, int]] = deque()  # tag and buffer
    try:
        for count, batch in enumerate(batches):
            buffer = count % stage.buffers
            moving.append((batch, buffer))
            stage.load(batch.slot, buffer)
            ahead.append((batch.tag, buffer))
            _give_back(moving, stage, in_motion=stage.buffers)
            if len(ahead) == stage.buffers:
                yield from _used(ahead, stage)
            _give_back(moving, stage, in_motion=stage.buffers - 1)
        while ahead:
            yield from _used(ahead, stage)
    finally:
        for tag_and_buffer in ahead:
            stage.free(tag_and_buffer[1])
        _give_back(moving, stage, in_motion=0)


def _used(ahead: deque[tuple[int, int]], stage: Stage) -> Iterator[DeviceBatch]:
    tag, buffer = ahead[0]
    yield DeviceBatch(tag, stage.arrays(buffer))
    ahead.popleft()
    stage.free(buffer)


def _give_back(moving: deque[tuple[Batch, int]], stage: Stage, *, in_motion: int) -> None:
    """Release the slots that have been read, waiting where more than `in_motion` have not."""
    while moving and stage.loaded(moving[0][1], wait=len(moving) > in_motion):
        moving.popleft()[0].release()


class ViewStage:
    """No move at all: the caller works on the slot itself, which goes back when it has done so."""

    buffers: ClassVar[int] = 1

    def __init__(self) -> None:
        self._arrays: Mapping[str, NDArray[Any]] = {}
        self._in_use = False

    def load(self, slot: Slot, buffer: int) -> None:
        """Point at the slot."""
        self._arrays = slot.arrays
        self._in_use = True

    def loaded(self, buffer: int, *, wait: bool) -> bool:
        """Return whether the caller is done."""
        return not self._in_use

    def arrays(self, buffer: int) -> Mapping[str, NDArray[Any]]:
        """Return the slot's own read-only arrays."""
        return self._arrays

    def free(self, buffer: int) -> None:
        """Let go of the slot."""
        self._arrays = {}
        self._in_use = False

    def close(self) -> None:
        """Nothing is held between batches."""


class CopyStage:
    """A copy into one of two host buffers: slots go back at once, and the arrays are the caller's to write to."""

    buffers: ClassVar[int] = 2

    def __init__(self) -> None:
        self._bytes = [np.empty(0, np.uint8) for _ in range(self.buffers)]
        self._arrays: list[dict[str, NDArray[Any]]] = [{} for _ in range(self.buffers)]

    def load(self, slot: Slot, buffer: int) -> None:
        """Copy the payload."""
        if self._bytes[buffer].size < slot.ring.geometry.slot_bytes:
            self._bytes[buffer] = np.empty(slot.ring.geometry.slot_bytes, np.uint8)
        self._bytes[buffer][: slot.payload.size] = slot.payload
        self._arrays[buffer] = {spec.name: view(self._bytes[buffer], spec) for spec in slot.specs}

    def loaded(self, buffer: int, *, wait: bool) -> bool:
        """Return True: the copy was made while loading."""
        return True

    def arrays(self, buffer: int) -> Mapping[str, NDArray[Any]]:
        """Return the copies."""
        return self._arrays[buffer]

    def free(self, buffer: int) -> None:
        """Nothing to note: host work is done when it returns."""

    def close(self) -> None:
        """Let the buffers go with the last array that refers to them."""
        self._bytes = [np.empty(0, np.uint8) for _ in range(self.buffers)]
        self._arrays = [{} for _ in range(self.buffers)]
