"""A core followed over its sockets: one conversation that asks, one subscription that listens, begun again for ever.

It asks for a snapshot, takes the deltas that continue it, and asks again where one is missing. It decides nothing of
what is in them. The core makes deltas for as long as somebody asks for them to go on.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import zmq
import zmq.asyncio

from strata_zmq.errors import StrataError, UnavailableError, from_wire
from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.codec import decode_reply, encode
from strata_zmq.protocol.function_clients import Attach, AttachedReply, Complaint
from strata_zmq.protocol.functions import decode_at_client, encode_function
from strata_zmq.protocol.sight import SIGHT_TOPIC, GetFunctionsSight, GetSight, ShownFunctions, Sight, decode_delta
from strata_zmq.transport.curve import CurveKeys
from strata_zmq.transport.endpoints import parse_endpoint, seen_over
from strata_zmq.transport.sockets import FUNCTIONS, REPLIES, Limits, connect, open_socket

from .feed import SILENCE_S, Origin
from .picture import Gap, Picture, Touched

__all__ = ["CoordinatorFeed", "DispatcherFeed"]

_RENEW_S = 3.0
_ASK_AGAIN_S = 1.0
"""A snapshot is asked for at most so often, however many deltas are missing."""
_POLL_MS = 250
_AGAIN_FIRST_S = 0.2
_AGAIN_MAX_S = 3.0
_DISPATCHER_PORT = 5555
_log = logging.getLogger(__name__)

Tell = Callable[[Touched], None]


class _CoreFeed:
    """What following is the same for both cores. How a core is spoken to, its subclasses know."""

    origin: Origin
    _limits: Limits

    def __init__(self, address: str, keys: CurveKeys | None) -> None:
        self.address = address
        self.simulated = False
        self.picture = Picture()
        self.gaps = 0
        self.heard_at = 0.0
        self._keys = keys
        self._heard = float("-inf")
        self._tell: Tell = _nobody
        self._dealer: Any = None
        self._listener: Any = None
        self._listening_at = ""
        self._seq = 0
        self._wanted = False
        self._asked_at = self._renewed_at = float("-inf")

    @property
    def connected(self) -> bool:
        """Whether a message came within SILENCE_S, and a snapshot before it."""
        return bool(self.picture.life) and time.monotonic() - self._heard < SILENCE_S

    async def run(self, tell: Tell) -> None:
        """Follow the core for ever; what goes wrong is logged once, and begun again."""
        self._tell = tell
        context = zmq.asyncio.Context()
        wait_s, level = _AGAIN_FIRST_S, logging.WARNING
        try:
            while True:
                began = time.monotonic()
                try:
                    await self._follow(context)
                except (StrataError, zmq.ZMQError) as error:
                    _log.log(level, "the %s at %s is not followed: %s; trying again", self.origin, self.address, error)
                level = logging.DEBUG
                if self._heard > began:
                    wait_s, level = _AGAIN_FIRST_S, logging.WARNING
                await asyncio.sleep(wait_s)
                wait_s = min(_AGAIN_MAX_S, 2 * wait_s)
        finally:
            context.destroy(linger=0)

    async def _follow(self, context: zmq.asyncio.Context) -> None:
        """Hold one conversation, until it fails or nothing has been heard for SILENCE_S."""
        with self._socket(context, zmq.DEALER) as dealer, self._socket(context, zmq.SUB) as listener:
            self._dealer, self._listener, self._listening_at = dealer, listener, ""
            listener.setsockopt(zmq.SUBSCRIBE, SIGHT_TOPIC)
            connect(dealer, self.address)
            self._seq, self._wanted = 0, True
            self._asked_at = self._renewed_at = float("-inf")
            poller = zmq.asyncio.Poller()
            poller.register(dealer, zmq.POLLIN)
            poller.register(listener, zmq.POLLIN)
            last = time.monotonic()
            await self._say(self._greeting())
            while True:
                ready = dict(await poller.poll(_POLL_MS))
                if dealer in ready:
                    last = self._hear()
                    await self._take((await dealer.recv_multipart())[0])
                if listener in ready:
                    last = self._hear()
                    self._continue((await listener.recv_multipart())[-1])
                now = time.monotonic()
                if now - last > SILENCE_S:
                    raise UnavailableError(f"it has said nothing for {SILENCE_S:g} s")
                await self._ask(now)

    async def _ask(self, now: float) -> None:
        """Ask for what is due: a snapshot, or that the deltas go on."""
        if not self._is_open():
            return
        if self._wanted and now - self._asked_at >= _ASK_AGAIN_S:
            self._asked_at = self._renewed_at = now
            await self._say(self._question(renew=False))
        elif now - self._renewed_at >= _RENEW_S:
            self._renewed_at = now
            await self._say(self._question(renew=True))

    async def _say(self, data: bytes) -> None:
        try:
            # It waits for as long as there is no connection.
            await asyncio.wait_for(self._dealer.send(data), SILENCE_S)
        except TimeoutError:
            raise UnavailableError("nobody answers there") from None

    def _begin(self, life: str, number: int, at: float, state: Any) -> None:
        self._wanted = False
        self._tell(self.picture.begin(life, number, at, state))

    def _continue(self, data: bytes) -> None:
        try:
            touched = self.picture.follow(decode_delta(data))
        except Gap:
            if not self._wanted and self.picture.life:
                self.gaps += 1
            self._wanted = True
        else:
            if touched:
                self._tell(touched)

    def _listen_at(self, endpoint: str) -> None:
        if not endpoint or endpoint == self._listening_at:
            return
        if self._listening_at:
            with suppress(zmq.ZMQError):
                self._listener.disconnect(self._listening_at)
        connect(self._listener, endpoint, field="broadcast endpoint")
        self._listening_at = endpoint

    def _hear(self) -> float:
        self.heard_at, self._heard = time.time(), time.monotonic()
        return self._heard

    def _socket(self, context: zmq.asyncio.Context, kind: int) -> Any:
        return open_socket(context, kind, self._limits, keys=self._keys)

    def _next(self) -> int:
        self._seq += 1
        return self._seq

    # ---- what the subclasses know

    def _greeting(self) -> bytes:
        raise NotImplementedError

    def _question(self, *, renew: bool) -> bytes:
        raise NotImplementedError

    def _is_open(self) -> bool:
        """Whether the core has taken the greeting."""
        raise NotImplementedError

    async def _take(self, data: bytes) -> None:
        """Take what the core has answered."""
        raise NotImplementedError


class CoordinatorFeed(_CoreFeed):
    """The coordinator at `url`: host:port, tcp://host:port or ipc:///path; with `keys` over CURVE."""

    origin: Literal["coordinator"] = "coordinator"
    _limits = REPLIES

    def __init__(self, url: str, keys: CurveKeys | None = None) -> None:
        super().__init__(parse_endpoint(url), keys)
        self._welcome: wire.Welcome | None = None

    def _greeting(self) -> bytes:
        self._welcome = None
        return encode(wire.Hello(role="client", seq=self._next()))

    def _question(self, *, renew: bool) -> bytes:
        welcome = self._welcome
        assert welcome is not None  # noqa: S101 - _is_open was asked
        return encode(
            GetSight(job=welcome.job, term=welcome.term, session=welcome.session, seq=self._next(), renew=renew)
        )

    def _is_open(self) -> bool:
        return self._welcome is not None

    async def _take(self, data: bytes) -> None:
        message = decode_reply(data)
        if isinstance(message, wire.Welcome):
            self._welcome = message
            self._wanted = True
            # Subscribed first, then asked: what comes in between is continued from, or shows as a gap.
            self._listen_at(seen_over(message.broadcast_endpoint, self.address))
        elif isinstance(message, Sight):
            self._begin(message.life, message.number, message.at, message.state)
        elif isinstance(message, wire.ErrorReply):
            if message.code != "unknown_session":
                raise from_wire(message.code, message.message)
            await self._say(self._greeting())


class DispatcherFeed(_CoreFeed):
    """The dispatcher at `url`, by default at its own port; with `keys` over CURVE."""

    origin: Literal["dispatcher"] = "dispatcher"
    _limits = FUNCTIONS

    def __init__(self, url: str, keys: CurveKeys | None = None) -> None:
        super().__init__(parse_endpoint(url, field="--dispatcher", default_port=_DISPATCHER_PORT), keys)
        self._client_id = f"sight-{uuid.uuid4().hex}"
        self._incarnation = ""
        self._attached = False

    def _greeting(self) -> bytes:
        self._attached = False
        return encode_function(
            Attach(seq=self._next(), client_id=self._client_id, deliver=False, incarnation=self._incarnation)
        )

    def _question(self, *, renew: bool) -> bytes:
        return encode_function(GetFunctionsSight(seq=self._next(), renew=renew))

    def _is_open(self) -> bool:
        return self._attached

    async def _take(self, data: bytes) -> None:
        message = decode_at_client(data)
        if isinstance(message, AttachedReply):
            self._attached, self._wanted, self._incarnation = True, True, message.incarnation
        elif isinstance(message, ShownFunctions):
            self._listen_at(seen_over(message.endpoint, self.address))
            if message.state is not None:
                self._begin(message.life, message.number, message.at, message.state)
        elif isinstance(message, Complaint):
            if message.code != "unknown_session":
                raise from_wire(message.code, message.message)
            await self._say(self._greeting())


def _nobody(touched: Touched) -> None:
    """Take what is told before there is anybody to tell."""
    del touched
