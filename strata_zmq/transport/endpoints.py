"""Addresses: what people write for a coordinator, and what may be bound without keys. It opens nothing."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from strata_zmq.errors import InvalidArgumentError

__all__ = [
    "DEFAULT_BROADCAST_PORT",
    "DEFAULT_CONTROL_PORT",
    "check_bindable",
    "ipc_path",
    "is_local",
    "parse_endpoint",
    "seen_over",
]

DEFAULT_CONTROL_PORT = 50_051
DEFAULT_BROADCAST_PORT = 50_052
_UNIX_PATH_MAX = 107


def parse_endpoint(text: object, *, field: str = "COORDINATOR_URL", default_port: int = DEFAULT_CONTROL_PORT) -> str:
    """Return a ZeroMQ endpoint for `host`, `host:port`, `tcp://host:port` or `ipc:///path`."""
    way_out = f"write host:port, tcp://host:port or ipc:///path, for example localhost:{default_port}"
    if not isinstance(text, str) or not text or "\0" in text:
        raise InvalidArgumentError(f"{field} is {text!r}: {way_out}")
    if text.startswith("ipc://"):
        path = text.removeprefix("ipc://")
        if not path.startswith("/"):
            raise InvalidArgumentError(f"{field} {text!r} has no absolute path: {way_out}")
        if len(path.encode()) > _UNIX_PATH_MAX:
            raise InvalidArgumentError(
                f"{field} {text!r}: a Unix socket's path holds at most {_UNIX_PATH_MAX} bytes; use a shorter folder"
            )
        return text
    try:
        parts = urlsplit(text if "://" in text else f"tcp://{text}")
        port = default_port if parts.port is None else parts.port
    except ValueError as error:
        raise InvalidArgumentError(f"{field} {text!r}: {error}; {way_out}") from None
    unused = parts.path or parts.query or parts.fragment or parts.username is not None
    if parts.scheme != "tcp" or not parts.hostname or unused or any(map(str.isspace, parts.hostname)):
        raise InvalidArgumentError(f"{field} {text!r} is no endpoint: {way_out}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"tcp://{'127.0.0.1' if host == 'localhost' else host}:{port}"


def ipc_path(endpoint: str) -> str | None:
    """Return the file behind an ipc endpoint, or None."""
    return endpoint.removeprefix("ipc://") if endpoint.startswith("ipc://") else None


def seen_over(endpoint: str, other: str) -> str:
    """Return `endpoint` for a client that reached the same server at `other`.

    A server that is bound to every address names none; its host is the one that the client has used.
    """
    for wildcard in ("tcp://0.0.0.0:", "tcp://[::]:", "tcp://*:"):
        if endpoint.startswith(wildcard) and other.startswith("tcp://"):
            return f"{other.rpartition(':')[0]}:{endpoint.removeprefix(wildcard)}"
    return endpoint


def is_local(endpoint: str) -> bool:
    """Tell whether an endpoint can be reached from this machine only."""
    if endpoint.startswith("ipc://"):
        return True
    host = (urlsplit(endpoint).hostname or "").strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_bindable(endpoint: str, *, secured: bool, field: str) -> None:
    """Refuse to listen beyond this machine without CURVE keys."""
    if not secured and not is_local(endpoint):
        raise InvalidArgumentError(
            f"{field} {endpoint!r} would listen beyond this machine without keys: "
            "bind 127.0.0.1 or ipc, or give a CURVE key folder (--curve-keys, STRATA_CURVE_KEYS)"
        )
