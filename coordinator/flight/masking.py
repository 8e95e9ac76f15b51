"""What a frame looks like in a recording: without the token that it may show. It knows no file.

The token is replaced by a sign of whether it was the right one, so that the core decides the same when it is played.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from strata_zmq.coordinator.core.world import CoreConfig
from strata_zmq.errors import ProtocolError
from strata_zmq.protocol.codec import decode_request, decode_upward, encode
from strata_zmq.protocol.messages import Fold, Hello, Request

__all__ = ["Masking"]

_RIGHT, _WRONG = "+", "-"
"""One letter each, as the shortest token is: a frame gets no longer."""
_TAG = b"hello"


class Masking:
    """Hides the tokens in the frames for a core of one configuration."""

    def __init__(self, config: CoreConfig) -> None:
        self._token = config.supervisor_token
        self.config = replace(config, supervisor_token=_RIGHT if self._token else "")
        """The configuration of a core that decides about masked frames as that one does about the others."""

    @staticmethod
    def is_safe(data: bytes) -> bool:
        """Tell what holds no token for sure, however many frames it is made of."""
        return _TAG not in data

    def mask(self, frame: bytes) -> bytes:
        """Return the frame as it may be kept. One that cannot be read and may hold a token is kept as an empty one,
        which cannot be read, too.
        """
        if _TAG not in frame:
            return frame
        try:
            message = decode_upward(frame)
            if type(message) is Fold:
                parts = [msgspec.structs.replace(part, body=self._mask_part(part.body)) for part in message.parts]
                return encode(msgspec.structs.replace(message, parts=parts))
        except ProtocolError:
            return b""
        return self._masked(frame, message)

    def _mask_part(self, body: bytes) -> bytes:
        if _TAG not in body:
            return body
        try:
            return self._masked(body, decode_request(body))
        except ProtocolError:
            return b""

    def _masked(self, frame: bytes, message: Request | Fold) -> bytes:
        if type(message) is not Hello or not message.token:
            return frame
        right = self._token and message.token == self._token
        return encode(msgspec.structs.replace(message, token=_RIGHT if right else _WRONG))
