"""Which place a path, a URL or the environment names, and with which settings; opens nothing and knows no backend.

`STRATA_CHECKPOINT_PATH` names a place outright. Otherwise `STORAGE_BACKEND=s3` and `CHECKPOINT_BUCKET` do. Region,
endpoint and credentials of S3 go by the names that every AWS tool reads.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast
from urllib.parse import urlsplit

from strata_zmq.domain.names import check_path, check_seconds
from strata_zmq.errors import InvalidArgumentError
from strata_zmq.storage.base import check_prefix

__all__ = ["S3Options", "absolute_place", "default_place", "join_url", "local_folders", "places_of", "s3_options"]

SignPayload = Literal["auto", "always", "never"]

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9]")
_SIGNING = ("auto", "always", "never")
_TIMEOUT_MIN_S, _TIMEOUT_MAX_S = 0.1, 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Options:
    """One prefix of one bucket, and how to reach it. What is empty, boto3 finds (profile, container, instance).

    `timeout_s` bounds one HTTP request, of at most 16 MiB. `sign_payload`: whether the bytes of objects are hashed once
    more for the signature; "auto" does so only where neither TLS nor the loopback protects them.
    """

    bucket: str
    prefix: str = ""
    region: str = ""
    endpoint: str = ""
    access_key_id: str = ""
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    ca_bundle: str = ""
    sign_payload: SignPayload = "auto"
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        if _BUCKET.fullmatch(self.bucket) is None:
            raise InvalidArgumentError(
                f"bucket {self.bucket[:64]!a} is no bucket's name: 3 to 63 characters of a-z 0-9 . -, a letter or a "
                "digit first and last; write s3://bucket/prefix"
            )
        check_prefix(self.prefix)
        if self.sign_payload not in _SIGNING:
            raise InvalidArgumentError(f"STRATA_S3_SIGN_PAYLOAD is {self.sign_payload!r}: write auto, always or never")
        if not check_seconds("STRATA_S3_TIMEOUT_S", self.timeout_s, _TIMEOUT_MAX_S) >= _TIMEOUT_MIN_S:
            raise InvalidArgumentError(f"STRATA_S3_TIMEOUT_S is {self.timeout_s:g}, the least is {_TIMEOUT_MIN_S}")
        if self.endpoint:
            parts = urlsplit(self.endpoint)
            if parts.scheme not in {"http", "https"} or not parts.hostname:
                raise InvalidArgumentError(
                    f"endpoint {self.endpoint[:80]!r} is no URL of a server: write http://host:port or https://host"
                )

    @property
    def url(self) -> str:
        """The place, as a person would write it."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


def s3_options(url: str, environ: Mapping[str, str] = os.environ) -> S3Options:
    """Return the settings for `s3://bucket/prefix` in this environment; InvalidArgumentError names what is wrong."""
    bucket, _, prefix = check_path("path", url).removeprefix("s3://").partition("/")
    timeout = environ.get("STRATA_S3_TIMEOUT_S", "") or "60"
    try:
        timeout_s = float(timeout)
    except ValueError:
        raise InvalidArgumentError(f"STRATA_S3_TIMEOUT_S is {timeout[:20]!r}: give seconds") from None
    return S3Options(
        bucket=bucket,
        prefix=prefix.rstrip("/"),
        region=environ.get("AWS_REGION", "") or environ.get("AWS_DEFAULT_REGION", ""),
        endpoint=environ.get("AWS_ENDPOINT_URL_S3", "") or environ.get("AWS_ENDPOINT_URL", ""),
        access_key_id=environ.get("AWS_ACCESS_KEY_ID", ""),
        secret_access_key=environ.get("AWS_SECRET_ACCESS_KEY", ""),
        session_token=environ.get("AWS_SESSION_TOKEN", ""),
        ca_bundle=environ.get("AWS_CA_BUNDLE", ""),
        sign_payload=cast(SignPayload, environ.get("STRATA_S3_SIGN_PAYLOAD", "") or "auto"),
        timeout_s=timeout_s,
    )


def default_place(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the place for checkpoints that the environment names, or None where it names none.

    `STRATA_CHECKPOINT_PATH` (a folder, or s3://bucket/prefix) comes first. `STORAGE_BACKEND=s3` takes the bucket, or
    bucket/prefix, from `CHECKPOINT_BUCKET`; `STORAGE_BACKEND=local` leaves the folder to the caller.
    """
    place = environ.get("STRATA_CHECKPOINT_PATH", "")
    if place:
        return place
    backend = environ.get("STORAGE_BACKEND", "") or "local"
    if backend == "local":
        return None
    if backend != "s3":
        raise InvalidArgumentError(f"STORAGE_BACKEND is {backend[:20]!r}: write local or s3")
    bucket = environ.get("CHECKPOINT_BUCKET", "").removeprefix("s3://")
    if not bucket:
        raise InvalidArgumentError(
            "STORAGE_BACKEND is s3 and CHECKPOINT_BUCKET is not set: name a bucket or bucket/prefix"
        )
    return f"s3://{bucket}"


def join_url(place: str | os.PathLike[str], key: str) -> str:
    """Return the place of `key` inside `place`; inside each of them where it names several, divided by commas."""
    check_prefix(key)
    return ",".join(f"{one.rstrip('/')}/{key}" if key else one for one in places_of(place))


def absolute_place(place: str | os.PathLike[str]) -> str:
    """Return the same place for a process with another working folder; URLs are absolute as they are."""
    return ",".join(one if "://" in one else str(Path(one).absolute()) for one in places_of(place))


def local_folders(place: str | os.PathLike[str]) -> list[Path]:
    """Return those of the places that are folders of this machine."""
    found = (one.removeprefix("file://") for one in places_of(place))
    return [Path(one) for one in found if "://" not in one]


def places_of(place: str | os.PathLike[str]) -> list[str]:
    """Return each of the places that `place` names, divided by commas."""
    text = os.fspath(place)
    # A folder's name may have a comma.
    return text.split(",") if "://" in text.partition(",")[2] else [text]
