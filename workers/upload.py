"""One save on its way to the storage writers: who gets which chunk, and what happens when a writer refuses or is lost.

It ends when every parcel is durable. It knows neither the state that was saved nor the coordinator's opinion of it.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import zmq

from strata_zmq.domain.manifest import ChunkRecord
from strata_zmq.errors import DeadlineExceededError, ResourceExhaustedError, UnavailableError, from_wire
from strata_zmq.protocol import stream
from strata_zmq.transport.curve import CurveKeys

from .writer_link import Parcel, WriterLink

if TYPE_CHECKING:
    from strata_zmq.checkpoint.snapshot import Arena
    from strata_zmq.protocol.messages import WriterInfo

__all__ = ["Upload", "WriterLinks"]

log = logging.getLogger("strata.checkpoint")

_POLL_MS = 100
_ATTEMPTS_MAX = 3
_ASK_AGAIN_S = 1.0
_DURABLE_WAIT_S = 60.0
"""A chunk that a writer holds for so long is sent to another one as well, if there is one."""


class WriterLinks:
    """The connections of one worker to all storage writers; they outlive a save, streams do not."""

    def __init__(self, worker_id: str, *, share_memory: bool = True) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._keys = CurveKeys.from_environment()
        self._client = uuid.uuid4().hex
        self._worker_id = worker_id
        self._share_memory = share_memory
        self._links: dict[str, WriterLink] = {}

    def refresh(self, writers: Sequence[WriterInfo]) -> None:
        """Connect to the writers that are new, and let those go that are lost or no longer named."""
        named = {info.incarnation: info for info in writers}
        for incarnation, link in list(self._links.items()):
            if link.lost or incarnation not in named:
                link.close()
                del self._links[incarnation]
        for incarnation, info in named.items():
            if incarnation not in self._links:
                self._links[incarnation] = WriterLink(
                    self._context, info, self._keys, self._client, self._worker_id, self._share_memory
                )

    def usable(self) -> list[WriterLink]:
        """Return the connections that are not known to be lost."""
        return [link for link in self._links.values() if not link.lost]

    def close(self) -> None:
        """Close everything."""
        for link in self._links.values():
            link.close()
        self._links.clear()
        self._context.term()


class Upload:
    """The streams of one save. `writers` asks the coordinator anew who the writers are."""

    def __init__(
        self,
        links: WriterLinks,
        arena: Arena,
        checkpoint_id: str,
        rank: int,
        *,
        writers: Callable[[], Sequence[WriterInfo]],
        cancelled: Callable[[], bool],
        deadline: float,
    ) -> None:
        self._links = links
        self._arena = arena
        self._checkpoint_id = checkpoint_id
        self._rank = rank
        self._writers = writers
        self._cancelled = cancelled
        self._deadline = deadline
        self._asked_at = time.monotonic()
        self._turn = 0
        self._why = ""
        self._wanted: set[int] = set()
        self._open_streams(self._asked_at)

    def deliver(self, parcels: Sequence[Parcel]) -> list[ChunkRecord]:
        """Send parcels until each is durable; returns their records in order.

        Raises what a writer refused a parcel with for the third time, ResourceExhaustedError for a parcel larger than
        any writer takes, DeadlineExceededError, or UnavailableError after a cancellation.
        """
        queue = deque(parcels)
        self._wanted = {id(parcel) for parcel in parcels}
        done: dict[int, ChunkRecord] = {}
        while len(done) < len(parcels):
            now = time.monotonic()
            self._check(now, len(parcels) - len(done))
            self._pump(queue, now)
            self._wait()
            for link in self._links.usable():
                self._collect(link, queue, done)
        return [done[id(parcel)] for parcel in parcels]

    def close(self) -> None:
        """End the streams."""
        for link in self._links.usable():
            link.close_stream()

    def _check(self, now: float, missing: int) -> None:
        if self._cancelled():
            raise UnavailableError(f"checkpoint {self._checkpoint_id} was given up: the worker is closing")
        if now >= self._deadline:
            names = tuple(link.info.writer_id for link in self._links.usable()) or ("writers",)
            raise DeadlineExceededError(
                f"checkpoint {self._checkpoint_id}: {missing} chunks are not durable in time{self._why}; "
                "is the storage slow, or no writer left?",
                missing=names,
            )
        if not self._links.usable() and now - self._asked_at >= _ASK_AGAIN_S:
            # All are lost: a supervisor may have started others.
            self._asked_at = now
            self._links.refresh(self._writers())
            self._open_streams(now)

    def _open_streams(self, now: float) -> None:
        for link in self._links.usable():
            link.share(self._arena, now)
            link.open_stream(now)

    def _pump(self, queue: deque[Parcel], now: float) -> None:
        """Give each writer in turn what it has credit for."""
        links = self._links.usable()
        idle = 0
        while queue and links and idle < len(links):
            parcel = queue[0]
            link = links[self._turn % len(links)]
            self._turn += 1
            if link.ready and parcel.payload.nbytes > link.window_bytes:
                raise ResourceExhaustedError(
                    f"{parcel.kind} {parcel.number} has {parcel.payload.nbytes} bytes, writer {link.info.writer_id} "
                    f"takes {link.window_bytes}: use smaller chunks, or start the writer with a larger --window-mib"
                )
            if link.can_take(parcel, self._arena, now) and link.send(
                parcel, self._arena, self._checkpoint_id, self._rank, now
            ):
                queue.popleft()
                idle = 0
            else:
                idle += 1

    def _wait(self) -> None:
        poller = zmq.Poller()
        for link in self._links.usable():
            for sock in link.sockets():
                poller.register(sock, zmq.POLLIN)
        poller.poll(_POLL_MS)

    def _collect(self, link: WriterLink, queue: deque[Parcel], done: dict[int, ChunkRecord]) -> None:
        now = time.monotonic()
        for answer in link.receive(now):
            parcel = link.in_flight.pop(answer.seq, None)
            # What was sent twice is answered twice, maybe long after it was delivered.
            if parcel is None or id(parcel) in done or id(parcel) not in self._wanted:
                continue
            if isinstance(answer, stream.Durable):
                if answer.digest != parcel.digest:
                    self._retry(parcel, queue, "checkpoint_corrupt", f"writer {link.info.writer_id} stored other bytes")
                else:
                    done[id(parcel)] = ChunkRecord(answer.key, answer.digest, parcel.payload.nbytes)
            else:
                self._retry(parcel, queue, answer.code, answer.message)
        if link.lost:
            self._why = f" (writer {link.info.writer_id} was lost: {link.lost})"
            back = link.reclaim()
            log.warning("writer %s is lost (%s); %d chunks go to others", link.info.writer_id, link.lost, len(back))
        elif len(self._links.usable()) > 1:
            back = link.reclaim(now - _DURABLE_WAIT_S)
        else:
            return
        queue.extendleft(parcel for parcel in back if id(parcel) in self._wanted - done.keys())

    def _retry(self, parcel: Parcel, queue: deque[Parcel], code: str, message: str) -> None:
        parcel.attempts += 1
        log.warning("%s %d of %s was refused: %s", parcel.kind, parcel.number, self._checkpoint_id, message)
        if parcel.attempts >= _ATTEMPTS_MAX:
            raise from_wire(code, message)
        queue.append(parcel)
