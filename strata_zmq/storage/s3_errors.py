"""What a failed request to S3 means: our error with the way out, and whether the same request may succeed next time.

It reads exceptions of obstore and botocore, and knows nothing of what was asked or why.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from botocore.exceptions import BotoCoreError, ClientError
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.exceptions import NotFoundError as MissingError

from strata_zmq.errors import NotFoundError, StorageError, StrataError

__all__ = ["FAILURES", "Meaning", "code_of", "is_conflict", "is_missing", "meaning_of"]

FAILURES = (BaseError, BotoCoreError, ClientError, OSError)
"""What either library raises when a request fails. obstore says FileNotFoundError for what is not there."""

_CODE = re.compile(r"<Code>\s*(\w+)\s*</Code>")
# An answer to HEAD has no body to name its reason; boto3 asks so for buckets only.
_BARE = {"301": "PermanentRedirect", "403": "AccessDenied", "404": "NoSuchBucket"}
_SHOWN_MAX = 300

_CREDENTIALS = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and what they are allowed to do"
_WAYS_OUT = {
    "AccessDenied": _CREDENTIALS,
    "AuthorizationHeaderMalformed": "set AWS_REGION to the bucket's region",
    "EntityTooLarge": "the server takes no object of this size: lower chunk_bytes",
    "ExpiredToken": "the credentials have run out: renew them",
    "InvalidAccessKeyId": _CREDENTIALS,
    "NoSuchBucket": "create the bucket, or correct CHECKPOINT_BUCKET",
    "PermanentRedirect": "set AWS_REGION to the bucket's region",
    "QuotaExceeded": "free space in the bucket, lower keep_count or choose another bucket",
    "RequestTimeTooSkewed": "set this machine's clock",
    "SignatureDoesNotMatch": _CREDENTIALS,
}
_AGAIN = "the server or the way to it has trouble: try again later, and check AWS_ENDPOINT_URL"


@dataclass(frozen=True, slots=True)
class Meaning:
    """Our error for a failure. `passing`: the same request may succeed a moment later."""

    error: StrataError
    passing: bool


def is_missing(failure: BaseException) -> bool:
    """Say whether the object is not there; a bucket that is not there is another matter."""
    return isinstance(failure, (FileNotFoundError, MissingError)) and code_of(failure) != "NoSuchBucket"


def is_conflict(failure: BaseException) -> bool:
    """Say whether the server refused because the object is not as the request demands."""
    return isinstance(failure, (AlreadyExistsError, PreconditionError))


def code_of(failure: BaseException) -> str:
    """Return S3's name of the failure, or "" where none was given."""
    if isinstance(failure, ClientError):
        code = str(failure.response.get("Error", {}).get("Code", ""))
        return _BARE.get(code, code)
    found = _CODE.search(str(failure))
    return found[1] if found else ""


def meaning_of(failure: BaseException, where: str, *, writing: bool = False) -> Meaning:
    """Return what `failure` of a request for `where` means; an object that is missing is an error for readers only."""
    code = code_of(failure)
    if not writing and is_missing(failure):
        return Meaning(NotFoundError(f"{where} does not exist"), passing=False)
    if isinstance(failure, (FileNotFoundError, MissingError)):
        # An upload that the server has forgotten is begun anew; nothing else can be missing when one writes.
        code = code or "NoSuchBucket"
    if isinstance(failure, (PermissionDeniedError, UnauthenticatedError)):
        code = code or "AccessDenied"
    way_out = _WAYS_OUT.get(code)
    reason = f"{code}: {_short(failure)}" if code else _short(failure)
    return Meaning(
        StorageError(f"{where} cannot be {'written' if writing else 'read'}: {reason}; {way_out or _AGAIN}"),
        passing=way_out is None,
    )


def _short(failure: BaseException) -> str:
    text = " ".join(str(failure).split("\n\nDebug source:")[0].split())
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}..."
