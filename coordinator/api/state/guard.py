"""What every answer of the state app has to bear, and who may change something: headers, origins, short bodies.

Any page on the web can make a browser on this machine send requests to loopback. So what changes something, and what a
page could read in spite of its origin (a WebSocket), has to come from a page of this server, or from no page at all.
What it could not read is refused as well where the browser says that it asks for another site's page and not to open
this one: it could hold the feed's places, and keep this process at work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fastapi import HTTPException

from strata_zmq.coordinator.api.bodies import answer
from strata_zmq.coordinator.api.models import Refused

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["BODY_BYTES_MAX", "CONTENT_POLICY", "Guard"]

BODY_BYTES_MAX = 64 * 1024
"""Of one request: a job's description is the longest."""
CONTENT_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", CONTENT_POLICY.encode()),
)
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """ASGI middleware of the state app; `source` tells how old what is answered is."""

    def __init__(self, app: ASGIApp, source: Callable[[], str]) -> None:
        self._app = app
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it; its answer bears the headers."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        live = scope["type"] == "websocket"
        taken = 0

        async def dressed(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                source = (b"x-strata-source", self._source().encode())
                message["headers"] = [*message.get("headers", ()), *_HEADERS, source]
            await send(message)

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > BODY_BYTES_MAX:
                raise HTTPException(*_too_long())
            return message

        changes = live or scope["method"] not in _SAFE
        if (changes and not _from_here(headers)) or _for_another_site(headers):
            origin = headers.get(b"origin", b"another site").decode("latin-1")
            refused = Refused(
                f"pages of {origin[:200]!r} may not speak to this server: open the page that it serves itself",
                "forbidden",
            )
            await answer(refused, 403)(scope, receive, dressed)
            return
        length = headers.get(b"content-length", b"")
        if not live and length.isdigit() and int(length) > BODY_BYTES_MAX:
            status, text = _too_long()
            await answer(Refused(text, "resource_exhausted"), status)(scope, receive, dressed)
            return
        await self._app(scope, receive if live else counted, dressed)


def _from_here(headers: dict[bytes, bytes]) -> bool:
    """Tell whether a request comes from a page of this server, or from no page: browsers name the Origin."""
    origin = headers.get(b"origin")
    if origin is None:
        return True
    try:
        parts = urlsplit(origin.decode("ascii"))
    except (UnicodeDecodeError, ValueError):
        return False
    host = headers.get(b"host", b"").decode("latin-1").lower()
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host and bool(host)


def _for_another_site(headers: dict[bytes, bytes]) -> bool:
    """Tell whether a browser asks on behalf of another site's page: to fetch something, not to open it."""
    return headers.get(b"sec-fetch-site") == b"cross-site" and headers.get(b"sec-fetch-mode") != b"navigate"


def _too_long() -> tuple[int, str]:
    return 413, f"a body may have {BODY_BYTES_MAX} bytes here: send less"
