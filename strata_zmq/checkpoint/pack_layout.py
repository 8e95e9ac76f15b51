"""Where chunks lie in the object that holds them: side by side, so that memory is written as it lies.

It knows addresses and sizes, never keys or digests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from strata_zmq.storage.base import Data

__all__ = ["lay_out"]


def lay_out(pieces: Sequence[Data], aligned: int) -> tuple[list[Data], list[int]]:
    """Return the parts of an object that holds `pieces`, and where each piece begins in it.

    Pieces of one buffer that follow each other with a gap of less than `aligned` bytes are one part with the gaps. A
    piece whose address is a multiple of `aligned` begins at one in the object, too: direct writes need both.
    """
    parts: list[Data] = []
    offsets: list[int] = []
    end = 0
    owner: object = None
    begin = stop = 0
    for piece in pieces:
        view = memoryview(piece).cast("B")
        address = _address(view)
        if owner is not None and view.obj is owner and 0 <= address - stop < aligned:
            whole = memoryview(view.obj).cast("B")
            parts[-1] = whole[begin - _address(whole) : address + view.nbytes - _address(whole)]
            end += address - stop
        else:
            padding = -end % aligned if address % aligned == 0 else 0
            if padding:
                parts.append(bytes(padding))
            end += padding
            parts.append(view)
            owner, begin = view.obj, address
        offsets.append(end)
        end += view.nbytes
        stop = address + view.nbytes
    return parts, offsets


def _address(view: memoryview) -> int:
    """Return where `view` begins in memory."""
    return int(np.frombuffer(view, np.uint8).__array_interface__["data"][0])
