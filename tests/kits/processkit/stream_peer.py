"""A hand-made client of a storage writer: bare sockets on which anything can be said."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq
from blake3 import blake3

from strata_zmq.protocol import stream

__all__ = ["CHECKPOINT", "PAYLOAD", "Peer"]

PAYLOAD = b"some bytes of a checkpoint" * 100
CHECKPOINT = "step-000000000001-g1-t1"


class Peer:
    """A hand-made client of one writer: it may say anything."""

    def __init__(self, told: dict[str, str], store: Path) -> None:
        self.told, self.store = told, store
        self.context: zmq.Context[Any] = zmq.Context()
        self.dealer = self._socket(zmq.DEALER, told["control"])
        self.push = self._socket(zmq.PUSH, told["data"])
        self.client, self.stream, self.seq = uuid.uuid4().hex, uuid.uuid4().hex, 0

    def _socket(self, kind: int, endpoint: str) -> Any:
        made = self.context.socket(kind)
        made.linger = 0
        made.connect(endpoint)
        return made

    def another(self) -> Peer:
        """Return a client of the same writer."""
        return Peer(self.told, self.store)

    def stored(self) -> list[Path]:
        """Return the chunks on disk."""
        return list(self.store.rglob("pack-*"))

    def say(self, *frames: bytes) -> None:
        self.dealer.send_multipart(frames)

    def hear(self, timeout_s: float = 30.0) -> Any:
        """Return the next reply."""
        assert self.dealer.poll(timeout_s * 1000), "no answer"
        return stream.decode_stream_reply(self.dealer.recv())

    def open(self) -> stream.StreamOpened:
        self.say(stream.encode_stream(stream.StreamOpen(self.stream, self.client, "w")))
        return self.hear()

    def header(self, **changes: Any) -> stream.ChunkHeader:
        self.seq += 1
        good = stream.ChunkHeader(
            stream=self.stream,
            seq=self.seq,
            checkpoint_id=CHECKPOINT,
            kind="chunk",
            rank=0,
            number=self.seq,
            digest=blake3(PAYLOAD).hexdigest(),
            nbytes=len(PAYLOAD),
        )
        return msgspec.structs.replace(good, **changes)

    def answer(self) -> Any:
        """Return the next DURABLE or REFUSED, passing over grants."""
        deadline = time.monotonic() + 10.0
        while time.monotonic() < deadline:
            found = self.hear()
            if isinstance(found, (stream.Durable, stream.Refused)):
                return found
        pytest.fail("no answer")

    def send(self, *payload: bytes, **changes: Any) -> Any:
        """Send a chunk and return its answer."""
        header = self.header(**changes)
        self.push.send_multipart([stream.encode_stream(header), *payload])
        found = self.answer()
        assert found.seq == header.seq
        return found

    def close(self) -> None:
        self.say(stream.encode_stream(stream.StreamClose(self.stream)))
        self.vanish()

    def vanish(self) -> None:
        """End without a word."""
        self.dealer.close(linger=2000)
        self.context.destroy(linger=0)
