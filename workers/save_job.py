"""One save of a worker between staging and its end: what is staged, what was asked for it, and its last will."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .last_will import encode_will
from .writer_link import Will

if TYPE_CHECKING:
    from concurrent.futures import Future

    from strata_zmq.checkpoint.handle import SaveHandle
    from strata_zmq.checkpoint.snapshot import Snapshot
    from strata_zmq.protocol import messages as wire

__all__ = ["SaveJob"]

log = logging.getLogger("strata.checkpoint")


@dataclass(slots=True)
class SaveJob:
    """A staged save. `opened` brings the coordinator's answer to `begin`, once more for each attempt.

    `streaming`: its bytes are on their way. `released`: its staging memory is another save's by now.
    """

    handle: SaveHandle
    snapshot: Snapshot
    begin: wire.CheckpointBegin
    opened: Future[Any]
    streaming: bool = False
    released: bool = False
    _will: Will | None = None
    _willed: str = ""

    def leave_will(self) -> Will | None:
        """Write what another process needs to finish the save behind its data, once the save has a name.

        None before that, and where there is no room. The staging memory has to be this save's.
        """
        if not self.opened.done() or self.opened.cancelled() or self.opened.exception() is not None:
            return None
        opened: wire.CheckpointOpened = self.opened.result()
        if self._willed != opened.checkpoint_id:
            self._willed = opened.checkpoint_id
            self._will = self._write_will(opened)
        return self._will

    def _write_will(self, opened: wire.CheckpointOpened) -> Will | None:
        snapshot = self.snapshot
        data = encode_will(
            lambda chunks: snapshot.index(opened.rank, chunks),
            [(piece.offset, piece.nbytes) for piece in snapshot.layout.slices],
        )
        offset, room = snapshot.room
        if len(data) > room:
            log.warning("%s: %d bytes of will do not fit into %d", opened.checkpoint_id, len(data), room)
            return None
        header = snapshot.arena.leave_will(offset, data)
        return Will(
            opened.checkpoint_id, opened.rank, self.begin.generation, offset, len(data), header.will_digest.hex()
        )
