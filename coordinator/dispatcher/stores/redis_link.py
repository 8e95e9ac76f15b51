"""One connection to a Redis server: commands in one go, fenced commits, and a server that is away for a moment.

A commit is a MULTI that moves a mark. The mark names its owner and a position that rises with each commit, and is
watched: a commit of somebody whose mark was replaced changes nothing (https://redis.io/docs/latest/develop/using-commands/transactions/).
After a broken connection the mark tells whether the commit in doubt was done, whether the server lost commits that it
had confirmed, and whether somebody else has the database. What is committed is not known here.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any

from strata_zmq.errors import InvalidArgumentError, StorageError

__all__ = ["Command", "RedisLink"]

Command = tuple[bytes, ...]

MARK = b"dispatcher"
_FORMAT = b"1"
_ANSWER_S = 30.0
_CONNECT_S = 2.0
_PAUSE_S = 0.05
_SLICE_BYTES = 64 * 1024


class RedisLink:
    """The owner's connection to the database that `url` names. `away_s`: how long a server may be gone."""

    def __init__(self, url: str, *, away_s: float = 10.0) -> None:
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError:
            raise InvalidArgumentError(
                f"store {url!r} needs the package redis: pip install 'strata-zmq[redis]', or take --store sqlite:PATH"
            ) from None
        self._lost = (redis.ConnectionError, redis.TimeoutError)
        self._error = redis.RedisError
        try:
            pool = redis.ConnectionPool.from_url(
                url,
                protocol=2,
                socket_timeout=_ANSWER_S,
                socket_connect_timeout=_CONNECT_S,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError as error:
            raise InvalidArgumentError(f"store {url!r}: {error}; give redis://HOST:PORT/DB") from None
        self._connection: Any = pool.connection_class(**pool.connection_kwargs)
        self.name = _without_password(url)
        self._away_s = away_s
        self._owner = b""
        self._position = 0
        # Whether the mark is watched over this connection, and was the expected one when that began.
        self._watching = False

    def take_over(self) -> None:
        """Become the owner; whoever was it can commit nothing more.

        Raises StorageError where there is no server, or where the database holds something else.
        """
        mark, keys = self.ask([(b"GET", MARK), (b"DBSIZE",)])
        if mark is None and keys:
            raise StorageError(
                f"store {self.name!r} has {keys} keys that are no dispatcher's: choose another database (redis://HOST:PORT/DB)"
            )
        if mark is not None and mark.split(b":")[0] != _FORMAT:
            raise StorageError(
                f"store {self.name!r} has format {mark.split(b':')[0].decode(errors='replace')!r}, this release reads "
                f"{_FORMAT.decode()!r}: start the release that wrote it, or choose another database"
            )
        self._owner, self._position = secrets.token_hex(8).encode(), 0
        self.ask([(b"SET", MARK, self._mark())])
        self._watching = False

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one go and return their answers; those that can be said twice only.

        Raises StorageError for an answer that is an error, and where the server stays away.
        """
        deadline = 0.0
        while True:
            try:
                return self._exchange(commands)
            except self._lost as error:
                deadline = self._again(error, deadline)
            except self._error as error:
                raise self._refused(error) from error

    def commit(self, commands: Sequence[Command]) -> None:
        """Do all commands or none, as the owner.

        Raises StorageError where another dispatcher has taken the database, and where the server refused the commands,
        stays away, or has lost what it had confirmed.
        """
        before = self._mark()
        self._position += 1
        after = self._mark()
        block = [(b"MULTI",), *commands, (b"SET", MARK, after), (b"EXEC",), (b"WATCH", MARK), (b"GET", MARK)]
        deadline, done = 0.0, False
        while not done:
            try:
                done = self._committed(block, before, after)
            except self._lost as error:
                deadline = self._again(error, deadline)
            except self._error as error:
                raise self._refused(error) from error

    def close(self) -> None:
        """Let the connection go."""
        self._connection.disconnect()

    def _mark(self) -> bytes:
        return b"%b:%b:%d" % (_FORMAT, self._owner, self._position)

    def _committed(self, block: Sequence[Command], before: bytes, after: bytes) -> bool:
        if not self._watching:
            _, mark = self._exchange([(b"WATCH", MARK), (b"GET", MARK)])
            self._watching = mark in {before, after}
            if mark == after:
                # It was done, and only its answer was lost.
                return True
            if mark != before:
                raise self._other(mark)
        *_, done, _, mark = self._exchange(block)
        # Where somebody took over behind this commit, the next one has to look before it writes.
        self._watching = mark == after
        if done is None and mark != after:
            raise self._other(mark)
        return True

    def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        connection = self._connection
        connection.send_packed_command(_packed(commands))
        # All answers are read, also behind an error: the connection goes on.
        answers, error = [], None
        for _ in commands:
            try:
                answers.append(connection.read_response(disconnect_on_error=False))
            except self._lost:
                connection.disconnect()
                raise
            except self._error as said:
                answers.append(None)
                error = error or said
        if error is not None:
            raise error
        for answer in answers:
            if isinstance(answer, list):
                for each in answer:
                    if isinstance(each, self._error):
                        raise each
        return answers

    def _again(self, error: Exception, deadline: float) -> float:
        """Wait a moment before another try; returns until when there will be any."""
        self._connection.disconnect()
        self._watching = False
        now = time.monotonic()
        deadline = deadline or now + self._away_s
        if now >= deadline:
            raise StorageError(
                f"store {self.name!r} does not answer ({error}), not within {self._away_s:g} s: start the Redis "
                "server, then the dispatcher again"
            ) from error
        time.sleep(_PAUSE_S)
        return deadline

    def _refused(self, error: Exception) -> StorageError:
        return StorageError(
            f"store {self.name!r} refused: {error}; repair the Redis server, then start the dispatcher again"
        )

    def _other(self, mark: bytes | None) -> StorageError:
        owner = None if mark is None else mark.split(b":")[1:2]
        if owner == [self._owner] or mark is None:
            return StorageError(
                f"store {self.name!r} has lost what it had confirmed (it stands at {mark!r}, {self._mark()!r} was to "
                "come): run the Redis server with appendonly yes and appendfsync always, and start the dispatcher again"
            )
        return StorageError(
            f"store {self.name!r} was taken over by another dispatcher: stop one, or give each a database of its own"
        )


def _packed(commands: Sequence[Command]) -> list[bytes]:
    """What goes out, in pieces: small ones together, large ones as they are."""
    pieces: list[bytes] = []
    small: list[bytes] = []
    for command in commands:
        small.append(b"*%d\r\n" % len(command))
        for word in command:
            if len(word) > _SLICE_BYTES:
                pieces += (b"".join((*small, b"$%d\r\n" % len(word))), word)
                small = [b"\r\n"]
            else:
                small.append(b"$%d\r\n%b\r\n" % (len(word), word))
    pieces.append(b"".join(small))
    return pieces


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
