"""Bytes at rest: one port, its backends, and nothing about what the bytes mean."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec

from strata_zmq.errors import InvalidArgumentError
from strata_zmq.storage.base import Storage, VersionConflictError
from strata_zmq.storage.local import LocalStorage
from strata_zmq.storage.options import (
    S3Options,
    absolute_place,
    default_place,
    join_url,
    local_folders,
    places_of,
    s3_options,
)

__all__ = [
    "LocalStorage",
    "Storage",
    "VersionConflictError",
    "absolute_place",
    "check_place",
    "default_place",
    "join_url",
    "local_folders",
    "open_storage",
    "places_of",
]

_S3_PACKAGES = ("boto3", "obstore")


def open_storage(place: str | os.PathLike[str], environ: Mapping[str, str] = os.environ) -> Storage:
    """Return the storage at a folder's path, a `file://` URL or `s3://bucket/prefix`; nothing is created or read yet.

    `environ` has the settings of S3: region, endpoint, credentials. Raises InvalidArgumentError for other schemes, for
    a bucket or a setting outside its limits, and where the packages for S3 are not installed.
    """
    text = os.fspath(place)
    if len(places_of(place)) > 1:
        raise InvalidArgumentError(
            f"path {text[:80]!r} names several places: one storage is one place, give one of them"
        )
    scheme, separator, rest = text.partition("://")
    if not separator:
        return LocalStorage(text)
    if scheme == "file":
        return LocalStorage(rest)
    if scheme == "s3":
        options = _checked_s3(text, environ)
        # Only who asks for S3 pays for its libraries.
        from strata_zmq.storage.s3 import S3Storage

        return S3Storage(options)
    raise InvalidArgumentError(
        f"path {text[:80]!r}: scheme {scheme[:20]!r} is unknown; give the path of a folder, file:///its/path, "
        "or s3://bucket/prefix"
    )


def check_place(place: str | os.PathLike[str], environ: Mapping[str, str] = os.environ) -> None:
    """Raise InvalidArgumentError where one of the places (several are divided by commas) cannot be opened."""
    for one in places_of(place):
        if one.startswith("s3://"):
            _checked_s3(one, environ)
        else:
            open_storage(one, environ)


def _checked_s3(url: str, environ: Mapping[str, str]) -> S3Options:
    options = s3_options(url, environ)
    missing = [name for name in _S3_PACKAGES if find_spec(name) is None]
    if missing:
        raise InvalidArgumentError(
            f"path {url[:80]!r} needs {' and '.join(missing)}, not installed here: pip install strata-zmq[s3]"
        )
    return options
