"""boto3's upload_fileobj, as it comes: one object, its own threads and multipart upload."""

from __future__ import annotations

import io
import os
from time import perf_counter, process_time

import boto3

__all__ = ["Peer"]

_STRIDE = 65_536


class Peer:
    """`state_bytes` bytes, uploaded to `bucket`; endpoint, region and credentials come from the environment."""

    def __init__(self, bucket: str, key: str, state_bytes: int) -> None:
        self._bucket, self._key = bucket, key
        self._state = io.BytesIO(os.urandom(1 << 20) * (state_bytes >> 20))
        self._bytes = self._state.getbuffer().nbytes
        self._client = boto3.client("s3")

    def upload(self) -> dict[str, float]:
        """One upload of everything."""
        with self._state.getbuffer() as content:
            for place in range(0, self._bytes, _STRIDE):
                content[place] = (content[place] + 1) & 255
        self._state.seek(0)
        cpu, wall = process_time(), perf_counter()
        # It closes what it was given: a view of its own each time.
        self._client.upload_fileobj(_View(self._state), self._bucket, self._key)
        return {"wall_s": perf_counter() - wall, "cpu_s": process_time() - cpu, "bytes": self._bytes}

    def close(self) -> None:
        """Remove the object."""
        self._client.delete_object(Bucket=self._bucket, Key=self._key)


class _View(io.RawIOBase):
    """Reads of a buffer that stays open."""

    def __init__(self, buffer: io.BytesIO) -> None:
        self._buffer = buffer

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._buffer.read(size)

    def readinto(self, into: memoryview) -> int:  # type: ignore[override]
        return self._buffer.readinto(into)

    def seek(self, place: int, whence: int = 0) -> int:
        return self._buffer.seek(place, whence)

    def tell(self) -> int:
        return self._buffer.tell()
