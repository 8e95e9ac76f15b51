"""A prefix of an S3 bucket as a Storage: whole objects, ranged reads, compare-and-swap; knows nothing of checkpoints.

Small objects are one PUT. Larger ones go up in parts, of which nobody sees anything before the last request; what a
killed process leaves of them, `sweep` aborts. A version is the object's ETag, which S3 derives from the content: hence
the port's rule that no two calls of `replace` bring equal bytes.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

import obstore

from strata_zmq.errors import DurabilityError, InvalidArgumentError, StorageError
from strata_zmq.storage.base import (
    Arrived,
    Data,
    Parts,
    Traits,
    VersionConflictError,
    check_key,
    check_prefix,
    parts_of,
)
from strata_zmq.storage.s3_errors import FAILURES, code_of, is_conflict, is_missing, meaning_of
from strata_zmq.storage.s3_session import S3Session

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from obstore.store import S3Store

    from strata_zmq.storage.options import S3Options
    from strata_zmq.storage.s3_session import Connections

__all__ = ["KEY_BYTES_MAX", "S3Storage"]

KEY_BYTES_MAX = 1024
"""Bytes in an object's key, the prefix included: S3's own limit."""

_MIB = 1024 * 1024
_TRAITS = Traits(object_bytes_best=64 * _MIB, puts_at_once=4)
_ONE_PUT_BYTES = 8 * _MIB
_PART_BYTES = 16 * _MIB
_PARTS_AT_ONCE = 4
_READ_BYTES = 8 * _MIB
_READS_AT_ONCE = 4
_STREAM_BYTES = 1 * _MIB
_DELETE_AT_ONCE = 1000
_ATTEMPTS = 4
_BACKOFF_S, _BACKOFF_MAX_S = 0.1, 2.0

T = TypeVar("T")


class S3Storage:
    """A prefix of a bucket as a Storage. Several processes may use the same one at once."""

    def __init__(self, options: S3Options) -> None:
        self._options = options
        self._session = S3Session(options)
        self._prefix = f"{options.prefix}/" if options.prefix else ""

    @property
    def url(self) -> str:
        """`s3://bucket/prefix`."""
        return self._options.url

    @property
    def traits(self) -> Traits:
        """How it likes to be used."""
        return _TRAITS

    async def prepare(self) -> None:
        """Make sure that the bucket is there, takes objects, and refuses a conditional write that must be refused.

        A server that lets two writers create one object would let two commits of equal rank exist: it is turned away.
        """
        connections = await self._connected()

        def look() -> None:
            connections.control.head_bucket(Bucket=self._options.bucket)

        await self._again(lambda: asyncio.to_thread(look), self.url, writing=True)
        key = f".probe-{secrets.token_hex(8)}"
        where = f"{self.url}/{key}"
        await self._again(lambda: obstore.put_async(connections.bulk, key, b"strata"), where, writing=True)
        twice = await self._again(lambda: self._conditional(connections, key, b"twice", None), where, writing=True)
        await self._again(lambda: obstore.delete_async(connections.bulk, key), where, writing=True)
        if twice is not None:
            raise StorageError(
                f"{self.url} cannot be used: the server ignores If-None-Match, and two writers could both commit; "
                "choose a server with conditional writes"
            )

    async def put(self, key: str, data: Parts) -> None:
        """Store `data` whole: one PUT up to 8 MiB, a multipart upload of 16 MiB parts above."""
        where = self._where(key)
        parts = parts_of(data)
        nbytes = sum(map(len, parts))
        body = parts[0] if len(parts) == 1 else b"".join(parts) if nbytes <= _ONE_PUT_BYTES else parts
        connections = await self._connected()

        async def store() -> None:
            await obstore.put_async(
                connections.bulk,
                key,
                body,
                use_multipart=nbytes > _ONE_PUT_BYTES,
                chunk_size=_PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            )

        await self._again(store, where, writing=True)
        if nbytes > _ONE_PUT_BYTES:
            found = await self._again(lambda: obstore.head_async(connections.bulk, key), where)
            if found["size"] != nbytes:
                raise DurabilityError(
                    f"{where}: the server put together {found['size']} bytes of {nbytes} and said that it is well: "
                    "choose another server"
                )

    async def get(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return bytes [start, stop) of the object."""
        if start < 0 or (stop is not None and stop < start):
            raise InvalidArgumentError(f"range [{start}, {stop}) of {key}: need 0 <= start <= stop")
        where = self._where(key)
        connections = await self._connected()

        async def read() -> bytes:
            result = await self._ranged(connections.bulk, key, start, stop)
            return b"" if result is None else bytes(await result.bytes_async())

        return await self._again(read, where)

    async def get_into(self, key: str, start: int, into: memoryview, arrived: Arrived | None = None) -> int:
        """Read from `start` on into `into`, by several requests at once where it is large."""
        if start < 0:
            raise InvalidArgumentError(f"start is {start} for {key}: give a place in the object")
        where = self._where(key)
        connections = await self._connected()
        slots = asyncio.Semaphore(_READS_AT_ONCE)

        async def read(offset: int) -> int:
            piece = into[offset : offset + _READ_BYTES]
            async with slots:
                return await self._again(lambda: self._read_piece(connections.bulk, key, start + offset, piece), where)

        try:
            async with asyncio.TaskGroup() as group:
                reads = [group.create_task(read(offset)) for offset in range(0, len(into), _READ_BYTES) or [0]]
        except ExceptionGroup as failed:
            # One failure ends the others, and is the one to be told.
            raise failed.exceptions[0] from failed
        return sum(task.result() for task in reads)

    async def exists(self, key: str) -> bool:
        """Say whether the object is there."""
        where = self._where(key)
        connections = await self._connected()

        async def look() -> bool:
            try:
                await obstore.head_async(connections.bulk, key)
            except FAILURES as failure:
                if is_missing(failure):
                    return False
                raise
            return True

        return await self._again(look, where)

    async def list(self, prefix: str = "") -> list[str]:
        """Return all keys that begin with `prefix`, in ascending order."""
        check_prefix(prefix)
        connections = await self._connected()
        # obstore lists whole folders only.
        folder = prefix.rpartition("/")[0]

        async def collect() -> list[str]:
            found = await obstore.list(connections.bulk, folder or None).collect_async()
            keys = (entry["path"] for entry in found)
            return sorted(key for key in keys if key.startswith(prefix) and "/." not in f"/{key}")

        return await self._again(collect, f"{self.url}/{prefix}")

    async def delete(self, key: str) -> None:
        """Remove the object."""
        await self.delete_many([key])

    async def delete_many(self, keys: Sequence[str]) -> None:
        """Remove objects, a thousand with one request."""
        for key in keys:
            self._where(key)
        connections = await self._connected()
        for first in range(0, len(keys), _DELETE_AT_ONCE):
            await self._remove(connections.bulk, list(keys[first : first + _DELETE_AT_ONCE]))

    async def read_versioned(self, key: str) -> tuple[bytes | None, str | None]:
        """Return the object and its ETag."""
        where = self._where(key)
        return await self._read_versioned(await self._connected(), key, where)

    async def replace(self, key: str, data: Data, expected_version: str | None) -> str:
        """Compare and swap by If-Match or If-None-Match.

        After a refusal or a lost answer the object is read back: this call's own bytes mean that it has won. Where
        they stood for a moment only, because somebody read and replaced them before that, it is a conflict, too: the
        caller reads again, and finds what has become of them.
        """
        where = self._where(key)
        body = bytes(data)
        connections = await self._connected()
        failure: BaseException | None = None
        for attempt in range(_ATTEMPTS):
            if attempt:
                await _pause(attempt)
            try:
                version = await self._conditional(connections, key, body, expected_version)
            except FAILURES as error:
                meaning = meaning_of(error, where, writing=True)
                if not meaning.passing:
                    raise meaning.error from error
                failure, version = error, None
            if version is not None:
                return version
            try:
                found, version = await self._read_versioned(connections, key, where)
            except StorageError as error:
                raise StorageError(
                    f"{where}: the answer to replacing it was lost and it cannot be read back, so that nobody knows "
                    f"whose bytes it holds: read it again later; {error}"
                ) from error
            if found == body and version is not None:
                return version
            if version != expected_version:
                raise VersionConflictError(
                    f"{where} was replaced by somebody else since it was read: read it again and decide anew"
                )
        raise StorageError(
            f"{where} could not be replaced in {_ATTEMPTS} attempts, and one may still come through: read it again; "
            f"{meaning_of(failure, where, writing=True).error if failure else 'the server refused without a reason'}"
        ) from failure

    async def sweep(self, prefix: str = "", older_than_s: float = 3600.0) -> int:
        """Abort uploads under `prefix` that were begun that long ago, by the server's clock, and never finished."""
        check_prefix(prefix)
        connections = await self._connected()

        def abort() -> int:
            count = 0
            client, bucket = connections.control, self._options.bucket
            for page in client.get_paginator("list_multipart_uploads").paginate(
                Bucket=bucket, Prefix=self._prefix + prefix
            ):
                before = _server_time(page) - timedelta(seconds=older_than_s)
                for upload in page.get("Uploads", ()):
                    if upload["Initiated"] <= before and _abort(client, bucket, upload["Key"], upload["UploadId"]):
                        count += 1
            return count

        return await self._again(lambda: asyncio.to_thread(abort), f"{self.url}/{prefix}", writing=True)

    async def close(self) -> None:
        """Let the connections go."""
        await asyncio.to_thread(self._session.close)

    # ---- how ------------------------------------------------------------------------------------------------------

    async def _connected(self) -> Connections:
        opened = self._session.opened
        return opened if opened is not None else await asyncio.to_thread(self._session.connections)

    def _where(self, key: str) -> str:
        """Check a key and return the object's place, as a person would write it."""
        if len(self._prefix) + len(check_key(key)) > KEY_BYTES_MAX:
            raise InvalidArgumentError(
                f"key {key[:48]!r}... has {len(key)} characters, with the prefix S3 takes {KEY_BYTES_MAX}: shorten it"
            )
        return f"{self.url}/{key}"

    async def _again(self, call: Callable[[], Awaitable[T]], where: str, *, writing: bool = False) -> T:
        """Return what `call` gives; repeat it when it fails in a passing way. It must be harmless to repeat."""
        attempt = 1
        while True:
            try:
                return await call()
            except FAILURES as failure:
                if isinstance(failure, StorageError):
                    raise
                meaning = meaning_of(failure, where, writing=writing)
                if attempt >= _ATTEMPTS or not meaning.passing:
                    raise meaning.error from failure
            await _pause(attempt)
            attempt += 1

    async def _conditional(
        self, connections: Connections, key: str, data: bytes, expected_version: str | None
    ) -> str | None:
        """Send one conditional PUT, once; return the new version, or None where the condition did not hold."""
        try:
            result = await obstore.put_async(
                connections.once,
                key,
                data,
                mode="create" if expected_version is None else {"e_tag": expected_version},
            )
        except FAILURES as failure:
            if is_conflict(failure):
                return None
            raise
        return _version(result["e_tag"], self.url)

    async def _read_versioned(self, connections: Connections, key: str, where: str) -> tuple[bytes | None, str | None]:
        async def read() -> tuple[bytes | None, str | None]:
            try:
                result = await obstore.get_async(connections.bulk, key)
                return bytes(await result.bytes_async()), _version(result.meta["e_tag"], self.url)
            except FAILURES as failure:
                if is_missing(failure):
                    return None, None
                raise

        return await self._again(read, where)

    async def _ranged(self, store: S3Store, key: str, start: int, stop: int | None) -> obstore.GetResult | None:
        """Begin to read [start, stop); None where nothing of it is inside the object."""
        if stop is not None and stop <= start:
            await obstore.head_async(store, key)
            return None
        if not start and stop is None:
            return await obstore.get_async(store, key)
        try:
            return await obstore.get_async(
                store, key, options={"range": (start, stop) if stop is not None else {"offset": start}}
            )
        except FAILURES as failure:
            # A range behind the end is an error to S3, and not told apart from others by obstore.
            if is_missing(failure) or (await obstore.head_async(store, key))["size"] > start:
                raise
            return None

    async def _read_piece(self, store: S3Store, key: str, start: int, into: memoryview) -> int:
        result = await self._ranged(store, key, start, start + len(into))
        if result is None:
            return 0
        done = 0
        async for part in result.stream(min_chunk_size=_STREAM_BYTES):
            into[done : done + len(part)] = memoryview(part)
            done += len(part)
        return done

    async def _remove(self, store: S3Store, keys: Sequence[str]) -> None:
        async def remove() -> None:
            try:
                await obstore.delete_async(store, keys)
            except FAILURES as failure:
                if not is_missing(failure):
                    raise

        await self._again(remove, f"{self.url}/{keys[0]}", writing=True)


def _version(e_tag: str | None, url: str) -> str:
    if not e_tag:
        raise StorageError(f"{url} cannot be used: the server sends no ETag; choose a server with conditional writes")
    return e_tag


def _server_time(page: dict[str, Any]) -> datetime:
    told = page["ResponseMetadata"]["HTTPHeaders"].get("date", "")
    try:
        return parsedate_to_datetime(told)
    except ValueError:
        return datetime.now(UTC)


def _abort(client: Any, bucket: str, key: str, upload: str) -> bool:
    try:
        client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
    except FAILURES as failure:
        # Somebody else aborted it, or it was finished after all.
        if code_of(failure) != "NoSuchUpload":
            raise
        return False
    return True


async def _pause(attempt: int) -> None:
    most = min(_BACKOFF_MAX_S, _BACKOFF_S * 2**attempt)
    await asyncio.sleep(most * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries, no secret
