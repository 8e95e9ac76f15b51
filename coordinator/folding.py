"""Opens agents' envelopes into ordinary events, and folds what their children are told into one frame per agent.

A child is a connection of its own to the core (see `core/connections.py`). It knows no socket, and nothing of what the
messages mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from strata_zmq.errors import ProtocolError, StrataError
from strata_zmq.protocol.codec import MAX_FOLDED_BYTES, decode_request, encode, seq_of
from strata_zmq.protocol.messages import Addressee, ErrorReply, Fold, Folded, Part, Shared

from .core.connections import child_connection, child_of, peer_of
from .core.world import Received

__all__ = ["Folding"]

_ADDRESSES = 16_384
_ENVELOPE_BYTES = 64
_PART_BYTES = 16
_ADDRESSEE_BYTES = 32


@lru_cache(_ADDRESSES)
def _address(connection: bytes) -> tuple[bytes, int]:
    return peer_of(connection), child_of(connection)


@dataclass(slots=True)
class _Envelope:
    """What one agent will be sent; `size` is at least the length of its frame in bytes."""

    parts: list[Part] = field(default_factory=list)
    shared: list[Shared] = field(default_factory=list)
    size: int = _ENVELOPE_BYTES


class Folding:
    """The envelopes of one step, on their way in and out.

    `admit` says why a fold is refused as a whole, if it is; `reject` makes the answer to a part that cannot be read.
    """

    def __init__(
        self,
        admit: Callable[[bytes, Fold], ErrorReply | None],
        reject: Callable[[bytes, StrataError, int], ErrorReply],
        frame_bytes_max: int = MAX_FOLDED_BYTES,
    ) -> None:
        self._admit = admit
        self._reject = reject
        self._frame_bytes_max = frame_bytes_max
        self._envelopes: dict[bytes, _Envelope] = {}
        self._full: list[tuple[bytes, bytes]] = []

    def open(self, agent: bytes, fold: Fold) -> Iterator[Received | tuple[bytes, ErrorReply]]:
        """Yield each part as an event of its child, or the refusal of what cannot come in and whom it goes to."""
        refusal = self._admit(agent, fold)
        if refusal is not None:
            yield agent, refusal
            return
        for part in fold.parts:
            connection = child_connection(agent, part.child)
            try:
                yield Received(connection, decode_request(part.body))
            except ProtocolError as error:
                yield connection, self._reject(connection, error, seq_of(part.body))

    def add(self, connection: bytes, body: bytes) -> None:
        """Put one reply to a child into its agent's envelope."""
        agent, child = _address(connection)
        self._envelope(agent, _PART_BYTES + len(body)).parts.append(Part(child, body))

    def share(self, head: bytes, tail: bytes, addressees: Iterable[tuple[bytes, int, int]]) -> None:
        """Put a reply that differs in its session and its seq only into the envelope of every agent that it goes to.

        `addressees` are (connection, session, seq), all of them children.
        """
        by_agent: dict[bytes, list[Addressee]] = {}
        for connection, session, seq in addressees:
            agent, child = _address(connection)
            by_agent.setdefault(agent, []).append(Addressee(child, session, seq))
        for agent, children in by_agent.items():
            size = _PART_BYTES + len(head) + len(tail) + _ADDRESSEE_BYTES * len(children)
            self._envelope(agent, size).shared.append(Shared(head, tail, children))

    def take(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the frames to send, each with the connection of its agent, and begin anew.

        One after the other: the memory of a frame that was sent is still at hand for the next one.
        """
        frames, self._full = self._full, []
        envelopes, self._envelopes = self._envelopes, {}
        yield from frames
        for agent, envelope in envelopes.items():
            yield agent, _frame(envelope)

    def _envelope(self, agent: bytes, size: int) -> _Envelope:
        """Return the agent's envelope with room for `size` bytes more; a full one is closed."""
        envelope = self._envelopes.get(agent)
        if envelope is not None and envelope.size + size > self._frame_bytes_max:
            self._full.append((agent, _frame(envelope)))
            envelope = None
        if envelope is None:
            envelope = self._envelopes[agent] = _Envelope()
        envelope.size += size
        return envelope


def _frame(envelope: _Envelope) -> bytes:
    return encode(Folded(parts=envelope.parts, shared=envelope.shared))
