"""Asks the coordinator to have its run stopped, in one short conversation. It knows no job and no page."""

from __future__ import annotations

import asyncio
from typing import Any

import zmq
import zmq.asyncio

from strata_zmq.errors import EnvironmentMismatchError, UnavailableError
from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.codec import decode_reply, encode
from strata_zmq.transport.curve import CurveKeys
from strata_zmq.transport.endpoints import parse_endpoint
from strata_zmq.transport.sockets import REPLIES, connect, open_socket

__all__ = ["stop_training"]

_TIMEOUT_S = 10.0
_REASON = "asked for on the dashboard"


async def stop_training(url: str, token: str, keys: CurveKeys | None = None) -> None:
    """Have the coordinator at `url` tell all workers to stop at their next commit point, on the supervisor's `token`.

    EnvironmentMismatchError where it refuses (the token is not its own), UnavailableError where it does not answer.
    """
    context = zmq.asyncio.Context()
    try:
        with open_socket(context, zmq.DEALER, REPLIES, keys=keys) as dealer:
            connect(dealer, parse_endpoint(url))
            welcome = await _ask(dealer, wire.Hello(role="supervisor", token=token, seq=1), 1)
            if not isinstance(welcome, wire.Welcome):
                raise UnavailableError(f"{url} is no coordinator: it has not said WELCOME")
            order = wire.SendCommand(
                job=welcome.job, term=welcome.term, session=welcome.session, seq=2, command="stop", reason=_REASON
            )
            await _ask(dealer, order, 2)
    except TimeoutError:
        raise UnavailableError(f"the coordinator at {url} has not answered within {_TIMEOUT_S:g} s") from None
    finally:
        context.destroy(linger=0)


async def _ask(dealer: Any, request: wire.Request, seq: int) -> wire.Reply:
    """Return the reply to a request; what else comes is not for us."""
    async with asyncio.timeout(_TIMEOUT_S):
        await dealer.send(encode(request))
        while True:
            reply = decode_reply((await dealer.recv_multipart())[0])
            if reply.seq != seq:
                continue
            if isinstance(reply, wire.ErrorReply):
                raise EnvironmentMismatchError(f"the coordinator does not take this order: {reply.message}")
            return reply
