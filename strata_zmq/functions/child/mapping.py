"""Payloads that lie in memory of the parent: mapped, loaded where they are, and let go when nobody looks any more."""

from __future__ import annotations

import mmap

from strata_zmq.errors import ProtocolError
from strata_zmq.functions.pool.packets import Place

__all__ = ["Mapping"]


class Mapping:
    """Views of a packet's descriptors, each mapped once. What is written into them stays in this process.

    `writable` False maps for reading alone: the values are shared by calls that must not see each other's changes.
    """

    def __init__(self, descriptors: list[int], *, writable: bool = True) -> None:
        self._descriptors = descriptors
        self._protection = mmap.PROT_READ | mmap.PROT_WRITE if writable else mmap.PROT_READ
        self._maps: dict[int, tuple[mmap.mmap, memoryview]] = {}
        self._views: list[memoryview] = []

    def part(self, place: bytes | Place) -> bytes | memoryview:
        """Return the bytes at `place`; ProtocolError where there are none."""
        return place if isinstance(place, bytes) else self.view(place)

    def view(self, place: Place) -> memoryview:
        """Return a view of the bytes at `place`; ProtocolError where there are none."""
        found = self._maps.get(place.descriptor)
        if found is None:
            if not 0 <= place.descriptor < len(self._descriptors):
                raise ProtocolError(
                    f"a call names descriptor {place.descriptor} and came with {len(self._descriptors)}: either the"
                    " packet is wrong, or this process has no descriptors left"
                )
            descriptor = self._descriptors[place.descriptor]
            whole = mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE, prot=self._protection)
            found = self._maps[place.descriptor] = (whole, memoryview(whole))
        whole_view = found[1]
        if place.offset + place.nbytes > whole_view.nbytes:
            raise ProtocolError(f"a call names {place}, beyond the {whole_view.nbytes} bytes of its descriptor")
        view = whole_view[place.offset : place.offset + place.nbytes]
        self._views.append(view)
        return view

    def release(self) -> bool:
        """Unmap; False where something still looks at the memory: then it goes with whatever that is."""
        try:
            for view in self._views:
                view.release()
            for whole, view in self._maps.values():
                view.release()
                whole.close()
        except BufferError:
            return False
        finally:
            self._views.clear()
            self._maps.clear()
        return True
