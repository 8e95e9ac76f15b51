"""A ring of slots between one producer and one consumer: batches change hands without a copy and without pickling.

Knows nothing about where batches come from or go to. Two queues in the segment, of free and of ready slot numbers,
are each written by one end and read by the other; an eventfd counts the entries of each, and its system calls order
the memory accesses. Either end notices the other's death while it waits, and every wait has a time-out.
"""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING, Any, Self

import msgspec
import numpy as np

from strata_zmq.errors import InvalidArgumentError, ProtocolError, StrataError
from strata_zmq.feed.descriptors import recv_descriptors, send_descriptors
from strata_zmq.feed.segment import MemfdSegment
from strata_zmq.feed.slots import ArraySpec, Geometry, SlotDescription, read_header, spec_for, view, write_header

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from numpy.typing import DTypeLike, NDArray

    from strata_zmq.feed.peer import Peer

__all__ = ["Ring", "RingConsumer", "RingProducer", "Slot", "WritableSlot"]


class Ring:
    """The shared part of a ring: one segment, and the eventfds `free_fd` and `ready_fd`.

    Its creator sends it to the process at the other end; the object owns the three descriptors.
    """

    def __init__(self, segment: MemfdSegment, geometry: Geometry, free_fd: int, ready_fd: int) -> None:
        if segment.size < geometry.total_bytes:
            raise InvalidArgumentError(
                f"ring: {geometry.slots} slots need {geometry.total_bytes} bytes, the segment has {segment.size}"
            )
        self.segment = segment
        self.geometry = geometry
        self.places = geometry.places(segment)
        self.free_fd = free_fd
        self.ready_fd = ready_fd

    @classmethod
    def create(cls, name: str, slots: int, slot_bytes: int) -> Self:
        """Allocate and populate a ring of `slots` slots that hold `slot_bytes` of arrays each."""
        geometry = Geometry(slots, slot_bytes)
        segment = MemfdSegment.create(name, geometry.total_bytes)
        free, _ = geometry.queues(segment)
        free[:] = np.arange(slots)
        flags = os.EFD_SEMAPHORE | os.EFD_NONBLOCK | os.EFD_CLOEXEC
        return cls(segment, geometry, os.eventfd(slots, flags), os.eventfd(0, flags))

    def send(self, sock: socket.socket, *, timeout_s: float = 10.0) -> None:
        """Share this ring with the process behind a connected AF_UNIX stream socket, which calls `recv`."""
        label = msgspec.msgpack.encode((self.geometry.slots, self.geometry.slot_bytes))
        send_descriptors(sock, [self.segment.fd, self.free_fd, self.ready_fd], label, timeout_s=timeout_s)

    @classmethod
    def recv(cls, sock: socket.socket, *, timeout_s: float = 10.0) -> Self:
        """Return the ring that the other end of `sock` sends; errors are those of `recv_descriptors`."""
        (fd, free_fd, ready_fd), label = recv_descriptors(sock, 3, timeout_s=timeout_s)
        segment = None
        try:
            segment = MemfdSegment.attach(fd)
            geometry = Geometry(*msgspec.msgpack.decode(label, type=tuple[int, int]))
            return cls(segment, geometry, free_fd, ready_fd)
        except (StrataError, msgspec.MsgspecError) as error:
            if segment is not None:
                segment.close()
            os.close(free_fd)
            os.close(ready_fd)
            raise ProtocolError(f"ring: what was received is no ring ({error})") from error

    def producer(self, peer: Peer) -> RingProducer:
        """Return the writing end; `peer` is the consumer's process."""
        return RingProducer(self, peer)

    def consumer(self, peer: Peer) -> RingConsumer:
        """Return the reading end; `peer` is the producer's process."""
        return RingConsumer(self, peer)

    def require_open(self) -> None:
        """Raise InvalidArgumentError after `close`: the descriptors' numbers may belong to something else by now."""
        if self.free_fd < 0:
            raise InvalidArgumentError("ring: closed; use it inside its `with` block")

    def close(self) -> None:
        """Give the descriptors back; slots that are still held stay readable. Calling again is harmless."""
        self.segment.close()
        self.places = []
        for fd in {self.free_fd, self.ready_fd} - {-1}:
            os.close(fd)
        self.free_fd = self.ready_fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RingProducer:
    """The writing end, for one thread: `reserve` a slot, fill it, `commit` it."""

    def __init__(self, ring: Ring, peer: Peer) -> None:
        free, ready = ring.geometry.queues(ring.segment)
        self._free = _Queue(free, ring.free_fd)
        self._ready = _Queue(ready, ring.ready_fd)
        self._ring = ring
        self._peer = peer
        self._sequence = 0
        self._open: WritableSlot | None = None

    def poll(self) -> WritableSlot | None:
        """Return the next slot if one is free now."""
        if self._open is not None:
            raise InvalidArgumentError("ring: commit the reserved slot before reserving another")
        self._ring.require_open()
        index = self._free.pop()
        if index is None:
            return None
        self._open = WritableSlot(self._ring, index, self._sequence, self._hand_over)
        return self._open

    def reserve(self, timeout_s: float = 60.0) -> WritableSlot:
        """Wait for a free slot; PeerLostError if the consumer died, DeadlineExceededError if it frees none."""
        deadline = time.monotonic() + timeout_s
        while (slot := self.poll()) is None:
            awaited = [(self._ring.free_fd, select.POLLIN)]
            self._peer.wait(awaited, "a free slot", deadline=deadline, timeout_s=timeout_s)
        return slot

    def _hand_over(self, slot: WritableSlot) -> None:
        if slot is not self._open:
            raise InvalidArgumentError("ring: this slot was committed already")
        self._ring.require_open()
        self._open = None
        self._sequence += 1
        self._ready.push(slot.index)


class WritableSlot:
    """A reserved slot: its arrays are made in place, then `commit` hands all of them over."""

    def __init__(self, ring: Ring, index: int, sequence: int, hand_over: Callable[[WritableSlot], None]) -> None:
        self.index = index
        self._header, self._payload = ring.places[index]
        self._sequence = sequence
        self._hand_over = hand_over
        self._specs: dict[str, ArraySpec] = {}

    def allocate(self, name: str, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return a writable array (C order, native byte order) inside the slot; its former contents are arbitrary.

        Raises InvalidArgumentError for a dtype that cannot travel or a name given twice, ResourceExhaustedError if
        the slot is too small.
        """
        if name in self._specs:
            raise InvalidArgumentError(f"slot: array {name!r} is there already")
        used = max((spec.offset + spec.nbytes for spec in self._specs.values()), default=0)
        spec = spec_for(name, dtype, shape, used, self._payload.size)
        self._specs[name] = spec
        return view(self._payload, spec)

    def put(self, name: str, values: NDArray[Any]) -> None:
        """Copy `values` into the slot, whatever their memory order and byte order."""
        np.copyto(self.allocate(name, values.dtype, values.shape), values, casting="equiv")

    def clear(self) -> None:
        """Forget the arrays that were made so far, to fill the slot anew."""
        self._specs.clear()

    def commit(self, note: bytes = b"") -> None:
        """Hand the slot to the consumer; `note` travels with it. The slot must not be written to afterwards."""
        write_header(self._header, self._sequence, SlotDescription(tuple(self._specs.values()), note))
        self._hand_over(self)


class RingConsumer:
    """The reading end, for one thread: `receive` a slot, read its arrays, `release` it."""

    def __init__(self, ring: Ring, peer: Peer) -> None:
        free, ready = ring.geometry.queues(ring.segment)
        # The creator filled the queue of free slots once round, so the next entry goes to its start again.
        self._free = _Queue(free, ring.free_fd)
        self._ready = _Queue(ready, ring.ready_fd)
        self._ring = ring
        self._peer = peer
        self._sequence = 0
        self._held: set[int] = set()

    @property
    def held(self) -> int:
        """How many slots were received and not released."""
        return len(self._held)

    def poll(self) -> Slot | None:
        """Return the next slot if one is ready now."""
        self._ring.require_open()
        index = self._ready.pop()
        if index is None:
            return None
        if index in self._held:
            raise ProtocolError(f"ring: {self._peer} delivered slot {index}, which is still held here")
        sequence, self._sequence = self._sequence, self._sequence + 1
        self._held.add(index)
        header, _ = self._ring.places[index]
        try:
            description = read_header(header, sequence, self._ring.geometry.slot_bytes)
        except ProtocolError:
            self._release(index)
            raise
        return Slot(self._ring, index, description, self._release)

    def receive(self, timeout_s: float = 60.0) -> Slot:
        """Wait for the next slot; whatever was committed before the producer's death is still delivered.

        Raises PeerLostError if the producer died, DeadlineExceededError if it is alive and delivers nothing, and
        ProtocolError for a slot whose description is wrong (that slot is skipped).
        """
        deadline = time.monotonic() + timeout_s
        while (slot := self.poll()) is None:
            awaited = [(self._ring.ready_fd, select.POLLIN)]
            self._peer.wait(awaited, "a batch", deadline=deadline, timeout_s=timeout_s)
        return slot

    def _release(self, index: int) -> None:
        self._held.discard(index)
        if self._ring.free_fd >= 0:
            self._free.push(index)


class Slot:
    """A received slot. Its arrays are views of shared memory: valid until `release`, copy what has to last.

    `arrays` maps names to read-only NumPy views, `note` is the producer's, `specs` says where each array lies in
    `payload` (read-only bytes, as far as they are used), and `ring` is where it all came from. Slots may be released
    in any order. Leaving a `with` block releases, and releasing again is harmless.
    """

    def __init__(self, ring: Ring, index: int, description: SlotDescription, give_back: Callable[[int], None]) -> None:
        used = max((spec.offset + spec.nbytes for spec in description.arrays), default=0)
        self.payload = ring.places[index][1][:used]
        self.payload.flags.writeable = False
        self.specs = description.arrays
        self.note = description.note
        self.arrays = {spec.name: view(self.payload, spec) for spec in description.arrays}
        self.ring = ring
        self.index = index
        self._give_back: Callable[[int], None] | None = give_back

    def release(self) -> None:
        """Give the slot back to the producer, which will write over its arrays."""
        if self._give_back is not None:
            give_back, self._give_back = self._give_back, None
            give_back(self.index)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class _Queue:
    """Slot numbers in shared memory, pushed by one end and popped by the other; an eventfd counts them."""

    def __init__(self, entries: NDArray[np.uint32], semaphore: int) -> None:
        self._entries = entries
        self._semaphore = semaphore
        self._position = 0  # of this end: where it pushes, or where it pops

    def push(self, index: int) -> None:
        self._entries[self._position] = index
        self._position = (self._position + 1) % len(self._entries)
        os.eventfd_write(self._semaphore, 1)

    def pop(self) -> int | None:
        try:
            os.eventfd_read(self._semaphore)
        except BlockingIOError:
            return None
        index = int(self._entries[self._position])
        self._position = (self._position + 1) % len(self._entries)
        if index >= len(self._entries):
            raise ProtocolError(f"ring: slot number {index} in a ring of {len(self._entries)} slots")
        return index
