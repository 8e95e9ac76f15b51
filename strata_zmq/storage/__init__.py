"""Bytes at rest: one port, its backends, and nothing about what the bytes mean."""

from __future__ import annotations

import os

from strata_zmq.errors import InvalidArgumentError
from strata_zmq.storage.base import Storage, VersionConflictError
from strata_zmq.storage.local import LocalStorage

__all__ = ["LocalStorage", "Storage", "VersionConflictError", "open_storage"]


def open_storage(place: str | os.PathLike[str]) -> Storage:
    """Return the storage at a folder's path or a `file://` URL; nothing is created or read yet.

    Raises InvalidArgumentError for other schemes: only the local file system is offered so far.
    """
    text = os.fspath(place)
    scheme, separator, rest = text.partition("://")
    if not separator:
        return LocalStorage(text)
    if scheme == "file":
        return LocalStorage(rest)
    if scheme == "s3":
        raise InvalidArgumentError(
            f"path {text[:80]!r}: S3 is not offered yet; give the path of a folder, which may be a mounted file system"
        )
    raise InvalidArgumentError(
        f"path {text[:80]!r}: scheme {scheme[:20]!r} is unknown; give the path of a folder, or file:///its/path"
    )
