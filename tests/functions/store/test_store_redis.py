"""Records in Redis: a server that is restarted, taken over, emptied or not a store at all."""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import redis
from recordkit.places import Place
from recordkit.redis_server import NO_REDIS, RedisServer
from recordkit.tasks import accepted, begun, ended, named

from strata_zmq.coordinator.dispatcher.stores import open_store
from strata_zmq.coordinator.dispatcher.stores.redis import RedisStore
from strata_zmq.domain.task import State
from strata_zmq.errors import InvalidArgumentError, StorageError
from strata_zmq.functions.dispatch.records import FunctionRow


@pytest.fixture
def database(shared_redis: RedisServer | None) -> str:
    if shared_redis is None:
        pytest.skip(NO_REDIS)
    return shared_redis.database()


def states(url: str) -> list[tuple[int, State]]:
    place = Place(url)
    _, found = place.open()
    place.end()
    return [(int.from_bytes(each.task.task_id, "big"), each.task.state) for each in found.tasks]


def asked(url: str) -> redis.Redis:
    return redis.Redis.from_url(url)


def test_the_hashes_are_the_published_ones(database: str) -> None:
    """`function:{uuid}`, `task:{uuid}` and `tasks` can be read with any Redis client."""
    place = Place(database)
    store, _ = place.open()
    store.keep([(b"d" * 16, b"packed")])
    store.put_function(FunctionRow(b"i" * 16, "double", b"d" * 16))
    store.append([accepted(2, b"call"), accepted(1), begun(2), ended(2, b"done")])
    place.end()
    with asked(database) as client:
        function = client.hgetall(f"function:{uuid.UUID(bytes=b'i' * 16)}")
        task = client.hgetall(f"task:{uuid.UUID(bytes=named(2))}")
        assert (function[b"name"], function[b"digest"]) == (b"double", b"d" * 16)
        assert (task[b"status"], task[b"result"], task[b"worker"]) == (b"COMPLETED", b"done", b"w1")
        assert client.zrange("tasks", 0, -1) == [str(uuid.UUID(bytes=named(n))).encode() for n in (2, 1)]


def test_the_page_names_every_key_there_is_and_its_type(database: str) -> None:
    """docs/functions_durability.md, "Redis"."""
    place = Place(database)
    store, _ = place.open()
    store.keep([(b"d" * 16, b"packed")])
    store.put_function(FunctionRow(b"i" * 16, "double", b"d" * 16))
    store.append([accepted(1), begun(1), ended(1)])
    place.end()
    page = (Path(__file__).parents[3] / "docs" / "functions_durability.md").read_text()
    told = re.findall(r"^\| `([a-z]+)(?::\{\w+\})?` \| ([a-z ]+) \|", page, re.MULTILINE)
    types = {"hash": "hash", "zset": "sorted set", "set": "set", "string": "string"}
    with asked(database) as client:
        there = {(key.split(b":")[0].decode(), types[client.type(key).decode()]) for key in client.scan_iter()}
        fields = {field.decode() for field in client.hgetall(f"task:{uuid.UUID(bytes=named(1))}")}
    assert set(told) == there
    assert fields <= set(re.findall(r"`(\w+)`", next(line for line in page.splitlines() if "`task:{uuid}`" in line)))


def test_a_server_that_is_killed_and_started_again_costs_nothing(redis_server: RedisServer) -> None:
    """The dispatcher's store waits for the server, and goes on where it was."""
    url = redis_server.database()
    place = Place(url)
    store, _ = place.open()
    for number in range(5):
        store.append([accepted(number), begun(number)])
        redis_server.restart()
        store.append([ended(number, b"done")])
        assert store.result(named(number)) == b"done"
    place.end()
    assert states(url) == [(number, "COMPLETED") for number in range(5)]


def test_a_server_that_is_away_for_a_moment_is_waited_for(redis_server: RedisServer) -> None:
    url = redis_server.database()
    place = Place(url)
    store, _ = place.open()
    redis_server.kill()
    starting = threading.Timer(0.3, redis_server.start)
    starting.start()
    try:
        store.append([accepted(1)])
    finally:
        starting.join()
    place.end()
    assert states(url) == [(1, "QUEUED")]


def test_a_server_that_stays_away_is_told_and_nothing_is_taken_any_more(redis_server: RedisServer) -> None:
    url = redis_server.database()
    store = RedisStore(url, away_s=0.2)
    store.load()
    store.append([accepted(1)])
    redis_server.kill()
    with pytest.raises(StorageError, match=r"does not answer.*not within 0\.2 s: start the Redis server"):
        store.append([accepted(2)])
    redis_server.start()
    with pytest.raises(StorageError, match="does not answer"):
        store.append([accepted(3)])
    assert [each.task.task_id for each in store.load().tasks] == [named(1)]
    store.append([accepted(3)])
    store.close()
    assert states(url) == [(1, "QUEUED"), (3, "QUEUED")]


def test_a_server_that_lost_what_it_had_confirmed_is_found_out(tmp_path: Path) -> None:
    """A dispatcher that would go on would never see those tasks again after its own next restart."""
    server = RedisServer(tmp_path, "--appendonly", "no")
    try:
        store = open_store(server.database())
        store.load()
        store.append([accepted(1)])
        server.restart()
        with pytest.raises(StorageError, match=r"has lost what it had confirmed.*appendfsync always"):
            store.append([accepted(2)])
        store.close()
    finally:
        server.kill()


def test_less_than_flushing_each_commit_is_told_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = RedisServer(tmp_path, "--appendfsync", "everysec")
    try:
        place = Place(server.database())
        with caplog.at_level(logging.WARNING, "strata.dispatcher"):
            place.open()
        assert "appendfsync everysec: a crash of the Redis server may lose confirmed tasks" in caplog.text
        place.end()
    finally:
        server.kill()


def test_a_server_that_flushes_each_commit_is_not_complained_of(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place(database)
    place.open()
    place.end()
    assert caplog.text == ""


def test_the_newest_dispatcher_has_the_database_and_the_older_one_changes_nothing(database: str) -> None:
    older, newer = open_store(database), open_store(database)
    older.load()
    older.append([accepted(1)])
    newer.load()
    with pytest.raises(StorageError, match="was taken over by another dispatcher"):
        older.append([accepted(2), ended(1)])
    newer.append([accepted(3)])
    older.close()
    newer.close()
    assert states(database) == [(1, "QUEUED"), (3, "QUEUED")]


def test_an_owner_that_lost_its_connection_sees_that_it_was_taken_over(database: str) -> None:
    older, newer = RedisStore(database), RedisStore(database)
    older.load()
    newer.load()
    newer.append([accepted(3)])
    older._link._connection.disconnect()
    with pytest.raises(StorageError, match="was taken over by another dispatcher"):
        older.append([accepted(2)])
    older.close()
    newer.close()
    assert states(database) == [(3, "QUEUED")]


class _Pipe:
    """Passes bytes between a client and `port`. The connections break behind the `cut`-th EXEC that was carried."""

    def __init__(self, port: int, cut: int, *, before: bool) -> None:
        self._port, self._cut, self._before, self._seen = port, cut, before, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                with self._listener.accept()[0] as client:
                    with socket.create_connection(("127.0.0.1", self._port)) as server:
                        self._carry(client, server)

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        # A client of the store asks and waits in turns, so that one thread is enough.
        client.setblocking(True)
        while asked := client.recv(1 << 20):
            self._seen += b"EXEC" in asked
            cut = b"EXEC" in asked and self._seen == self._cut
            if cut and self._before:
                return
            server.sendall(asked)
            answered = server.recv(1 << 20)
            if cut:
                return
            client.sendall(answered)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@contextmanager
def cut_at(url: str, commit: int, *, before: bool) -> Iterator[str]:
    address, _, number = url.removeprefix("redis://").partition("/")
    pipe = _Pipe(int(address.partition(":")[2]), commit, before=before)
    try:
        yield f"redis://127.0.0.1:{pipe.port}/{number}"
    finally:
        pipe.close()


@pytest.mark.parametrize("before", [True, False], ids=["before the server had it", "before its answer came"])
def test_a_commit_whose_connection_breaks_is_done_once(database: str, before: bool) -> None:
    """Told or not, it is there, with all that it has and in its place."""
    with cut_at(database, 2, before=before) as url:
        place = Place(url)
        store, _ = place.open()
        store.append([accepted(1)])
        store.append([accepted(2), ended(1)])
        store.append([accepted(3)])
        place.end()
    assert states(database) == [(1, "COMPLETED"), (2, "QUEUED"), (3, "QUEUED")]


def test_a_database_of_something_else_is_left_alone(database: str) -> None:
    with asked(database) as client:
        client.set("session", "theirs")
        with pytest.raises(StorageError, match=r"1 keys that are no dispatcher's: choose another database"):
            open_store(database).load()
        assert client.keys() == [b"session"]


def test_a_database_of_another_format_is_left_alone(database: str) -> None:
    with asked(database) as client:
        client.set("dispatcher", "9:someone:5")
        with pytest.raises(StorageError, match="has format '9', this release reads '1'"):
            open_store(database).load()
        assert client.get("dispatcher") == b"9:someone:5"


@pytest.mark.parametrize("field", ["head", "call", "end", "result"])
def test_damage_is_told_and_not_run(database: str, field: str) -> None:
    place = Place(database)
    store, _ = place.open()
    store.append([accepted(1), accepted(2), ended(2)])
    place.end()
    number = 1 if field in {"head", "call"} else 2
    with asked(database) as client:
        key = f"task:{uuid.UUID(bytes=named(number))}"
        value = client.hget(key, field)
        assert value
        client.hset(key, field, bytes([value[0] ^ 1]) + value[1:])
    with pytest.raises(StorageError, match=r"is damaged: a (head|body of \d+ bytes) does not match its checksum"):
        place.open()


def test_a_password_is_in_no_message(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as told:
        RedisStore("redis://user:secret@127.0.0.1:1/0", away_s=0.0).load()
    assert "secret" not in str(told.value)


def test_without_the_package_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(InvalidArgumentError, match=r"pip install 'strata-zmq\[redis\]'"):
        open_store("redis://127.0.0.1:6379/0")


def test_a_store_of_no_known_kind_is_refused() -> None:
    for url in ("", "sqlite:", "redis:6379", "mysql://h/d", os.devnull):
        with pytest.raises(InvalidArgumentError, match="give sqlite:PATH, redis://HOST:PORT/DB, or none"):
            open_store(url)
