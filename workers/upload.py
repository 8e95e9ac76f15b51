"""One save on its way to the storage writers: who gets which chunk, and what happens when a writer refuses or is lost.

It ends when every parcel is durable. It knows neither the state that was saved nor the coordinator's opinion of it.

A writer that stores nothing while others do is *slow*: it gets no more chunks, and those that it has go to others, too.
Whoever answers first counts; what is stored twice does no harm, since no name is given twice.
"""

from __future__ import annotations

import logging
import statistics
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import zmq

from strata_zmq.domain.manifest import ChunkRecord
from strata_zmq.errors import (
    DeadlineExceededError,
    ResourceExhaustedError,
    UnavailableError,
    from_wire,
)
from strata_zmq.failpoints import failpoint
from strata_zmq.protocol import stream
from strata_zmq.transport.curve import CurveKeys

from .last_will import codec_of
from .writer_link import Parcel, Will, WriterLink

if TYPE_CHECKING:
    from strata_zmq.checkpoint.arena import Arena
    from strata_zmq.protocol.messages import WriterInfo

__all__ = ["Delivered", "Upload", "WriterLinks"]

log = logging.getLogger("strata.checkpoint")

_POLL_MS = 100
_ATTEMPTS_MAX = 3
_ASK_AGAIN_S = 1.0
_DURABLE_WAIT_S = 60.0
"""A chunk that a writer holds for so long is sent to another one as well, if there is one."""
_SLOW_AFTER_S = 2.0
_SLOW_FACTOR = 8.0
"""A writer is slow when a chunk takes longer than this many times what the others take, and longer than the above."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """Where a parcel lies; `referred`: it was there before, in an earlier checkpoint."""

    record: ChunkRecord
    referred: bool = False


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

    def receive(self) -> None:
        """Take what the writers say while no save is being streamed."""
        now = time.monotonic()
        for link in self.usable():
            link.receive(now)

    def drop_wills(self) -> None:
        """Say that the save has ended, so that nobody needs to finish it."""
        for link in self.usable():
            link.drop_will()

    def close(self) -> None:
        """Close everything."""
        for link in self._links.values():
            link.close()
        self._links.clear()
        self._context.term()


class Upload:
    """The streams of one save. `writers` asks the coordinator anew who the writers are.

    A `will` is left with one writer as soon as one can read it; `on_willed` is told which one has taken it. `meanwhile`
    is called again and again while parcels are on their way.
    """

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
        will: Will | None = None,
        on_willed: Callable[[str], None] | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        self._links = links
        self._arena = arena
        self._checkpoint_id = checkpoint_id
        self._rank = rank
        self._writers = writers
        self._cancelled = cancelled
        self._deadline = deadline
        self._will = will
        self._on_willed = on_willed
        self._meanwhile = meanwhile
        self._executor: WriterLink | None = None
        self._executor_told = False
        self._asked_at = time.monotonic()
        self._turn = 0
        self._why = ""
        self._wanted: set[int] = set()
        failpoint("stream.open")
        self._open_streams(self._asked_at)

    def deliver(self, parcels: Sequence[Parcel]) -> list[Delivered]:
        """Send parcels until each is durable; returns where they lie, in order.

        Raises what a writer refused a parcel with for the third time, ResourceExhaustedError for a parcel larger than
        any writer takes, DeadlineExceededError, or UnavailableError after a cancellation.
        """
        queue = deque(parcels)
        self._wanted = {id(parcel) for parcel in parcels}
        done: dict[int, Delivered] = {}
        while len(done) < len(parcels):
            now = time.monotonic()
            self._check(now, len(parcels) - len(done))
            self._judge(now)
            self._leave_will()
            if self._meanwhile is not None:
                self._meanwhile()
            self._double(queue, done, now)
            self._pump(queue, done, now)
            if len(done) == len(parcels):
                break
            self._wait()
            for link in self._links.usable():
                self._collect(link, queue, done)
        return [done[id(parcel)] for parcel in parcels]

    def close(self) -> None:
        """End the streams. The writer that has the will keeps it: the save has not ended, whatever became of this."""
        for link in self._links.usable():
            link.close_stream()

    # ---- who is there ---------------------------------------------------------------------------------------------

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

    def _judge(self, now: float) -> None:
        """Tell the slow writers by the others: alone, or when all stand still, nobody is slow."""
        links = [link for link in self._links.usable() if link.ready]
        paces = {id(link): link.pace_s(now) for link in links}
        for link in links:
            others = [paces[id(other)] for other in links if other is not link]
            late = bool(others) and link.oldest_s(now) > max(_SLOW_AFTER_S, _SLOW_FACTOR * statistics.median(others))
            if late and not link.slow:
                link.suspect = True
                log.warning(
                    "writer %s has stored nothing for %.1f s: the others go on without it",
                    link.info.writer_id,
                    link.oldest_s(now),
                )
            link.slow = late

    def _leave_will(self) -> None:
        """See to it that one writer that lives has the will, and that the coordinator knows which."""
        if self._will is None:
            return
        holder = self._executor
        if holder is None or holder.lost:
            self._executor, self._executor_told = None, False
            for link in self._links.usable():
                if not link.slow and link.leave_will(self._will, self._arena):
                    self._executor = link
                    return
        elif holder.will_taken and not self._executor_told:
            self._executor_told = True
            failpoint("stream.willed")
            if self._on_willed is not None:
                self._on_willed(holder.info.writer_id)

    # ---- what goes where ------------------------------------------------------------------------------------------

    def _pump(self, queue: deque[Parcel], done: dict[int, Delivered], now: float) -> None:
        """Give each writer in turn what it has credit for."""
        links = self._links.usable()
        idle = 0
        while queue and links and idle < len(links):
            parcel = queue[0]
            if id(parcel) in done:
                queue.popleft()
                continue
            link = self._next(links, parcel)
            if link.ready and parcel.payload.nbytes > link.window_bytes:
                raise ResourceExhaustedError(
                    f"{parcel.kind} {parcel.number} has {parcel.payload.nbytes} bytes, writer {link.info.writer_id} "
                    f"takes {link.window_bytes}: use smaller chunks, or start the writer with a larger --window-mib"
                )
            if not link.can_take(parcel, self._arena, now):
                idle += 1
            elif not link.maps(parcel, self._arena) and _is_stored(parcel) and parcel.candidate is not None:
                queue.popleft()
                done[id(parcel)] = Delivered(parcel.candidate, referred=True)
            elif link.send(parcel, self._arena, self._checkpoint_id, self._rank, now):
                failpoint("stream.index.sent" if parcel.kind == "index" else "stream.chunk.sent")
                queue.popleft()
                idle = 0
            else:
                idle += 1

    def _next(self, links: Sequence[WriterLink], parcel: Parcel) -> WriterLink:
        holder = self._executor
        if parcel.kind == "index" and holder in links and holder is not None and holder.ready and not holder.slow:
            # Who has the will and the index needs nothing more to speak for this rank.
            return holder
        link = links[self._turn % len(links)]
        self._turn += 1
        return link

    def _double(self, queue: deque[Parcel], done: dict[int, Delivered], now: float) -> None:
        """Give others what slow writers have; and what suspects have, once there is nothing else to do."""
        links = [link for link in self._links.usable() if link.ready]
        if len(links) < 2:
            return
        back: list[Parcel] = []
        for link in links:
            if link.slow or (link.suspect and not queue) or link.oldest_s(now) > _DURABLE_WAIT_S:
                back += link.double()
        queue.extendleft(parcel for parcel in back if id(parcel) in self._wanted - done.keys())

    def _wait(self) -> None:
        poller = zmq.Poller()
        for link in self._links.usable():
            for sock in link.sockets():
                poller.register(sock, zmq.POLLIN)
        poller.poll(_POLL_MS)

    def _collect(self, link: WriterLink, queue: deque[Parcel], done: dict[int, Delivered]) -> None:
        now = time.monotonic()
        for answer in link.receive(now):
            parcel = link.answered(answer.seq, now)
            if not link.slow and parcel is not None:
                link.suspect = False
            # What was sent twice is answered twice, maybe long after it was delivered.
            if parcel is None or id(parcel) in done or id(parcel) not in self._wanted:
                continue
            if isinstance(answer, stream.Refused):
                self._retry(parcel, queue, answer.code, answer.message)
            elif (wrong := _wrong(answer, parcel)) is not None:
                self._retry(parcel, queue, "checkpoint_corrupt", f"writer {link.info.writer_id} {wrong}")
            else:
                done[id(parcel)] = Delivered(_record(answer, parcel), answer.referred)
        if link.lost:
            self._why = f" (writer {link.info.writer_id} was lost: {link.lost})"
            back = link.reclaim()
            log.warning("writer %s is lost (%s); %d chunks go to others", link.info.writer_id, link.lost, len(back))
            queue.extendleft(parcel for parcel in back if id(parcel) in self._wanted - done.keys())

    def _retry(self, parcel: Parcel, queue: deque[Parcel], code: str, message: str) -> None:
        parcel.attempts += 1
        log.warning("%s %d of %s was refused: %s", parcel.kind, parcel.number, self._checkpoint_id, message)
        if parcel.attempts >= _ATTEMPTS_MAX:
            raise from_wire(code, message)
        queue.append(parcel)


def _is_stored(parcel: Parcel) -> bool:
    """Say whether the parcel's bytes are its candidate's; they are hashed in any case when they go over a socket."""
    wanted = parcel.candidate
    return wanted is not None and (wanted.digest, wanted.nbytes) == (parcel.hashed(), parcel.payload.nbytes)


def _wrong(answer: stream.Durable, parcel: Parcel) -> str | None:
    """Say what is wrong with an answer; None when it can be believed."""
    if parcel.digest and answer.digest != parcel.digest:
        return "stored other bytes"
    if answer.nbytes not in {0, parcel.payload.nbytes}:
        return f"stored {answer.nbytes} bytes of {parcel.payload.nbytes}"
    wanted = parcel.candidate
    if answer.referred and (
        wanted is None or (answer.key, answer.offset, answer.digest) != (wanted.key, wanted.offset, wanted.digest)
    ):
        return "refers to what was no candidate"
    return None


def _record(answer: stream.Durable, parcel: Parcel) -> ChunkRecord:
    return ChunkRecord(
        answer.key, answer.digest, parcel.payload.nbytes, answer.offset, codec_of(answer.codec), answer.stored
    )
