"""What S3 would do with a request: objects and unfinished uploads in memory, with conditional writes and checksums."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cache, lru_cache
from xml.sax.saxutils import escape

from .http import Answer, Request
from .place import BUCKET

__all__ = ["Objects", "crc64nvme"]

_CRC_CHECKED_MAX = 1 << 20  # a checksum in Python takes a second for 10 MB


@dataclass(slots=True)
class _Upload:
    key: str
    begun: datetime
    parts: dict[int, bytes] = field(default_factory=dict)


class Objects:
    """The truth of a server: `objects` by key, `uploads` that nobody has finished. One request at a time."""

    def __init__(self, page: int = 1000) -> None:
        self.objects: dict[str, bytes] = {}
        self.tags: dict[str, str] = {}
        self.uploads: dict[str, _Upload] = {}
        self.page = page
        self.conditional = True
        """Whether If-Match and If-None-Match are heeded."""
        self.forgets_parts = False
        """Whether an upload is put together from its first part alone, and called a success."""
        self.bucket = BUCKET
        self.skew_s = 0.0
        """How far this server's clock is ahead."""
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def apply(self, request: Request) -> Answer:
        """Carry out one request."""
        with self._lock:
            _, bucket, key = (*request.path.split("/", 2), "")[:3]
            answer = self._in_bucket(request, key) if bucket == self.bucket else _error(404, "NoSuchBucket")
        answer.headers["Date"] = format_datetime(self.now(), usegmt=True)
        return answer

    def now(self) -> datetime:
        """The time by this server's clock."""
        return datetime.now(UTC) + timedelta(seconds=self.skew_s)

    def _in_bucket(self, request: Request, key: str) -> Answer:
        if damaged := _damage(request):
            return _error(400, damaged)
        query = request.query
        if not key:
            if request.method == "HEAD":
                return Answer(200, headers={"x-amz-bucket-region": "us-east-1"})
            if "delete" in query:
                return self._delete_many(request)
            return self._list_uploads(query) if "uploads" in query else self._list(query)
        if "uploads" in query or "uploadId" in query:
            return self._multipart(request, key)
        if request.method == "PUT":
            return self._put(request, key)
        if request.method == "DELETE":
            self.objects.pop(key, None)
            return Answer(204)
        return self._get(request, key)

    def _put(self, request: Request, key: str) -> Answer:
        if self.conditional:
            if request.headers.get("if-none-match") == "*" and key in self.objects:
                return _error(412, "PreconditionFailed")
            if "if-match" in request.headers:
                if key not in self.objects:
                    return _error(404, "NoSuchKey")
                if request.headers["if-match"] != self.tags[key]:
                    return _error(412, "PreconditionFailed")
        self.store(key, request.body)
        return Answer(200, headers={"ETag": self.tags[key]})

    def store(self, key: str, data: bytes) -> None:
        """Put an object in place, as somebody else's request would."""
        self.objects[key] = data
        self.tags[key] = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'

    def _get(self, request: Request, key: str) -> Answer:
        if key not in self.objects:
            return _error(404, "NoSuchKey")
        data = self.objects[key]
        headers = {"ETag": self.tags[key], "Last-Modified": format_datetime(self.now(), usegmt=True)}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        if asked is None:
            return Answer(200, data, headers)
        start, stop = int(asked[1]), min(int(asked[2] or len(data)) + 1, len(data))
        if start >= len(data):
            return _error(416, "InvalidRange")
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        return Answer(206, data[start:stop], headers)

    def _multipart(self, request: Request, key: str) -> Answer:
        if "uploads" in request.query:
            name = f"upload-{next(self._numbers)}"
            self.uploads[name] = _Upload(key, self.now())
            return _xml(
                f"<InitiateMultipartUploadResult><Bucket>{BUCKET}</Bucket><Key>{escape(key)}</Key>"
                f"<UploadId>{name}</UploadId></InitiateMultipartUploadResult>"
            )
        name = request.query["uploadId"]
        if name not in self.uploads:
            return _error(404, "NoSuchUpload")
        if request.method == "DELETE":
            del self.uploads[name]
            return Answer(204)
        upload = self.uploads[name]
        if request.method == "PUT":
            upload.parts[int(request.query["partNumber"])] = request.body
            return Answer(200, headers={"ETag": f'"{hashlib.md5(request.body, usedforsecurity=False).hexdigest()}"'})
        wanted = [int(number) for number in re.findall(rb"<PartNumber>(\d+)</PartNumber>", request.body)]
        wanted = wanted[:1] if self.forgets_parts else wanted
        if not wanted or any(number not in upload.parts for number in wanted):
            return _error(400, "InvalidPart")
        self.store(key, b"".join(upload.parts[number] for number in wanted))
        del self.uploads[name]
        return _xml(
            f"<CompleteMultipartUploadResult><Key>{escape(key)}</Key><ETag>{escape(self.tags[key])}</ETag>"
            "</CompleteMultipartUploadResult>"
        )

    def _list(self, query: dict[str, str]) -> Answer:
        after = max(query.get("continuation-token", ""), query.get("start-after", ""))
        keys = [key for key in sorted(self.objects) if key.startswith(query.get("prefix", "")) and key > after]
        shown, more = keys[: self.page], keys[self.page :]
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{_iso(self.now())}</LastModified>"
            f"<ETag>{escape(self.tags[key])}</ETag><Size>{len(self.objects[key])}</Size></Contents>"
            for key in shown
        )
        token = f"<NextContinuationToken>{escape(shown[-1])}</NextContinuationToken>" if more else ""
        return _xml(
            f"<ListBucketResult><Name>{BUCKET}</Name><KeyCount>{len(shown)}</KeyCount>"
            f"<IsTruncated>{str(bool(more)).lower()}</IsTruncated>{token}{rows}</ListBucketResult>"
        )

    def _list_uploads(self, query: dict[str, str]) -> Answer:
        rows = "".join(
            f"<Upload><Key>{escape(upload.key)}</Key><UploadId>{name}</UploadId>"
            f"<Initiated>{_iso(upload.begun)}</Initiated></Upload>"
            for name, upload in self.uploads.items()
            if upload.key.startswith(query.get("prefix", ""))
        )
        return _xml(
            f"<ListMultipartUploadsResult><Bucket>{BUCKET}</Bucket><IsTruncated>false</IsTruncated>{rows}"
            "</ListMultipartUploadsResult>"
        )

    def _delete_many(self, request: Request) -> Answer:
        keys = re.findall(r"<Key>(.*?)</Key>", request.body.decode())
        for key in keys:
            self.objects.pop(key, None)
        rows = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        return _xml(f"<DeleteResult>{rows}</DeleteResult>")


@lru_cache(maxsize=64)  # the tests send the same bytes again and again
def crc64nvme(data: bytes) -> bytes:
    """Return the checksum that S3 calls CRC64NVME: reflected polynomial 0x9a6c9329ac4bc9b5, 8 bytes, big-endian."""
    table, value = _table(), 2**64 - 1
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ (value >> 8)
    return (value ^ (2**64 - 1)).to_bytes(8, "big")


@cache
def _table() -> tuple[int, ...]:
    rows = []
    for row in range(256):
        for _ in range(8):
            row = (row >> 1) ^ (0x9A6C9329AC4BC9B5 if row & 1 else 0)  # noqa: PLW2901
        rows.append(row)
    return tuple(rows)


def _damage(request: Request) -> str:
    """Return S3's name for a body that is not what its headers promise, or ""."""
    told = request.headers.get("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
    if re.fullmatch(r"[0-9a-f]{64}", told) and told != hashlib.sha256(request.body).hexdigest():
        return "XAmzContentSHA256Mismatch"
    told = request.headers.get("x-amz-checksum-crc64nvme", "")
    if told and len(request.body) <= _CRC_CHECKED_MAX and base64.b64decode(told) != crc64nvme(request.body):
        return "BadDigest"
    return ""


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _xml(text: str) -> Answer:
    return Answer(200, f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode(), {"Content-Type": "application/xml"})


def _error(status: int, code: str) -> Answer:
    answer = _xml(f"<Error><Code>{code}</Code><Message>{code} of the tests' own server</Message></Error>")
    answer.status = status
    return answer
