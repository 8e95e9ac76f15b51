"""Who may speak to the app, and how much at once: hosts, a token, and bytes of bodies under way.

Whoever may execute functions may do anything that the workers' user may. So the app is bound to loopback unless there
is a token. And because any web page can make a browser on this machine send requests to loopback, a request has to name
a host that is this one's (against rebinding of names), and bodies have to be JSON (which `bodies` looks after).

A browser cannot be told to bear a token. Where there are pages, whoever opens one with ?token=TOKEN once gets a cookie
that says the same; it is not sent along from pages of other sites, and scripts do not see it.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote

from fastapi import HTTPException
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse

from .bodies import answer
from .models import Refused

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["BODIES_BYTES_MAX", "BODY_BYTES_MAX", "LOCAL_HOSTS", "Door"]

BODY_BYTES_MAX = 400 * 1024 * 1024
"""Of one request: base64 of the longest payload, with escaped newlines, and the rest."""

BODIES_BYTES_MAX = 1024 * 1024 * 1024
"""Of all request bodies that are being read or carried out."""
_COOKIE = "strata_token"
_COOKIE_S = 30 * 86_400
LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")


class Door:
    """ASGI middleware. With a `token`, requests bear it (Authorization: Bearer TOKEN) and any host is good; with
    `pages` a cookie does, too.
    """

    def __init__(
        self, app: ASGIApp, hosts: Collection[str] = LOCAL_HOSTS, token: str = "", *, pages: bool = False
    ) -> None:
        self._app = app
        self._hosts = frozenset(host.encode().lower() for host in hosts)
        self._token = token
        self._pages = pages
        self._bearer = f"Bearer {token}".encode() if token else b""
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if self._token and self._pages and (welcome := self._welcome(scope)) is not None:
            await welcome(scope, receive, send)
            return
        refused = self._look(dict(scope["headers"]))
        if refused is not None:
            await answer(Refused(*refused[1:]), refused[0])(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            size = len(message.get("body", b""))
            taken += size
            self._bytes += size
            if taken > BODY_BYTES_MAX:
                raise HTTPException(*_too_long())
            if self._bytes > BODIES_BYTES_MAX:
                raise HTTPException(
                    429,
                    f"bodies of more than {BODIES_BYTES_MAX} bytes are under way: try again, or send less at once",
                    {"retry-after": "1"},
                )
            return message

        try:
            await self._app(scope, counted, send)
        finally:
            self._bytes -= taken

    def _look(self, headers: dict[bytes, bytes]) -> tuple[int, str, str] | None:
        """Return status, message and code for what stays outside."""
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > BODY_BYTES_MAX:
            return (*_too_long(), "resource_exhausted")
        if self._bearer:
            if hmac.compare_digest(headers.get(b"authorization", b""), self._bearer) or self._has_cookie(headers):
                return None
            pages = ", or open it in a browser with ?token= and its token" if self._pages else ""
            return 401, f"this server wants Authorization: Bearer and its token{pages}", "unauthorized"
        host = headers.get(b"host", b"").lower()
        name = host.rpartition(b":")[0] if not host.endswith(b"]") and b":" in host else host
        if name in self._hosts:
            return None
        return (
            421,
            f"this server is not {host.decode('latin-1')!r}: call it by the address it listens at",
            "misdirected",
        )

    def _welcome(self, scope: Scope) -> Response | None:
        """Return what gives a browser the cookie and sends it on without the token; None for any other request."""
        if scope["type"] != "http" or scope["method"] != "GET" or b"token=" not in scope["query_string"]:
            return None
        told = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if not hmac.compare_digest(told.encode(), self._token.encode()):
            return None
        # A path only: //host would send the browser to another server.
        response = RedirectResponse("/" + quote(scope["path"].lstrip("/")), 303)
        response.set_cookie(_COOKIE, self._sealed, max_age=_COOKIE_S, httponly=True, samesite="strict")
        return response

    def _has_cookie(self, headers: dict[bytes, bytes]) -> bool:
        if not self._pages:
            return False
        kept = cookie_parser(headers.get(b"cookie", b"").decode("latin-1")).get(_COOKIE, "")
        return hmac.compare_digest(kept.encode(), self._sealed.encode())

    @property
    def _sealed(self) -> str:
        """What the cookie says: of the token, but not the token, which may have any characters."""
        return hmac.digest(self._token.encode(), b"strata dashboard", "sha256").hex()


def _too_long() -> tuple[int, str]:
    return 413, f"a body may have {BODY_BYTES_MAX} bytes: send less at once, or a path or an address of the data"
