"""CURVE keys in a folder: one option secures every socket of a job. It knows nothing of messages.

A key folder holds `job.key`, the secret key (Z85) that the servers of a job and their clients share. Whoever can read
the folder may take part; whoever cannot is refused in the handshake: the servers' ZAP handler accepts the job's public
key only. A CURVE server without a ZAP handler would accept any key.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq
from zmq.auth.thread import ThreadAuthenticator

from strata_zmq.errors import InvalidArgumentError, StorageError

__all__ = ["CurveKeys", "accept_job_key_only"]

_FILE = "job.key"
_ZAP_DOMAIN = b"strata"


@dataclass(frozen=True, slots=True, repr=False)
class CurveKeys:
    """A job's key pair, Z85 text of 40 bytes each. The secret never shows in a repr."""

    public: bytes
    secret: bytes

    @classmethod
    def create(cls, folder: str | os.PathLike[str]) -> CurveKeys:
        """Make the key folder (0700) with a new key (0600); an existing key is kept and returned."""
        home = Path(folder)
        if (home / _FILE).exists():
            return cls.load(home)
        _, secret = zmq.curve_keypair()
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(home / _FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(secret)
        except OSError as error:
            raise StorageError(f"curve keys: {str(home)!r} cannot be written: {error.strerror}") from None
        return cls.load(home)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> CurveKeys:
        """Read the key folder; a key that others can read is refused."""
        path = Path(folder) / _FILE
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            secret = path.read_bytes().strip()
        except OSError as error:
            raise InvalidArgumentError(
                f"curve keys: {str(path)!r} cannot be read ({error.strerror}); make it with CurveKeys.create(folder)"
            ) from None
        if mode & 0o077:
            raise InvalidArgumentError(f"curve keys: others can read {str(path)!r}: chmod 600 {path}")
        try:
            return cls(public=zmq.curve_public(secret), secret=secret)
        except (ValueError, zmq.ZMQError):
            raise InvalidArgumentError(f"curve keys: {str(path)!r} is no Z85 key of 40 characters") from None

    @classmethod
    def from_environment(cls) -> CurveKeys | None:
        """Return the keys of the folder that STRATA_CURVE_KEYS names, or None where it is not set."""
        folder = os.environ.get("STRATA_CURVE_KEYS", "")
        return cls.load(folder) if folder else None

    def apply(self, socket: zmq.Socket[Any], *, server: bool) -> None:
        """Make a socket speak CURVE only: as a server, or as a client of this job's servers."""
        if server:
            socket.setsockopt(zmq.CURVE_SERVER, 1)
            socket.setsockopt(zmq.ZAP_DOMAIN, _ZAP_DOMAIN)
        else:
            socket.setsockopt(zmq.CURVE_SERVERKEY, self.public)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.secret)


def accept_job_key_only(context: zmq.Context[Any], keys: CurveKeys) -> ThreadAuthenticator:
    """Start the ZAP handler that lets in holders of the job's key and nobody else. Stop it before the context ends."""
    handler = ThreadAuthenticator(context)
    handler.start()
    handler.configure_curve_callback(_ZAP_DOMAIN.decode(), credentials_provider=_OnlyThisKey(keys.public))
    return handler


class _OnlyThisKey:
    """Credentials provider in pyzmq's form: one public key passes."""

    def __init__(self, public: bytes) -> None:
        self._public = public

    def callback(self, domain: str, key: bytes) -> bool:
        """Tell whether `key` (Z85) may connect."""
        return bool(key == self._public)
