"""Records in a SQLite file: who may have it, what damage shows, how it keeps its size, and what fits in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from recordkit.places import Place
from recordkit.tasks import COMMIT, accepted, begun, ended, named

from strata_zmq.coordinator.dispatcher.stores import open_store
from strata_zmq.coordinator.dispatcher.stores.sqlite import SqliteStore
from strata_zmq.errors import AlreadyExistsError, StorageError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "store.sqlite"


@pytest.fixture
def place(path: Path):
    place = Place(f"sqlite:{path}")
    yield place
    place.end()


def query(path: Path, statement: str, *values: object) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        return db.execute(statement, values).fetchall()


def test_a_second_dispatcher_is_kept_out(place: Place, path: Path) -> None:
    place.open()
    with pytest.raises(AlreadyExistsError, match=f"store '{path}' is in use by another dispatcher: stop it, or choose"):
        open_store(place.url)


def test_a_database_of_something_else_is_left_alone(place: Place, path: Path) -> None:
    path.parent.mkdir()
    query(path, "CREATE TABLE theirs (it)")
    with pytest.raises(StorageError, match="is a database of something else: choose another --store"):
        place.open()
    assert query(path, "SELECT name FROM sqlite_master") == [("theirs",)]


def test_a_file_of_another_format_is_left_alone(place: Place, path: Path) -> None:
    place.open()
    place.end()
    query(path, "PRAGMA user_version = 9")
    with pytest.raises(StorageError, match="has format 9, this release reads 2: start the release that wrote it"):
        place.open()


def test_what_is_no_database_is_told(place: Place, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(content := b"no database, " * 400)
    with pytest.raises(StorageError, match="damaged or no store"):
        place.open()
    assert path.read_bytes() == content


def test_a_log_without_its_file_is_not_thrown_away(place: Place, path: Path) -> None:
    path.parent.mkdir()
    log = path.with_name("store.sqlite-wal")
    log.write_bytes(b"frames")
    with pytest.raises(StorageError, match=r"is empty, but its log .* is not: restore the file that belongs to it"):
        place.open()
    assert log.read_bytes() == b"frames"


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot be written: .*; choose another --store"):
        open_store(f"sqlite:{tmp_path}/file/store.sqlite")


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE accepted SET head = x'c0' || substr(head, 2) WHERE number = 1",
        "UPDATE accepted SET body = x'00' || substr(body, 2) WHERE number = 1",
        "UPDATE accepted SET body = NULL WHERE number = 1",
        "UPDATE accepted SET body = substr(body, 2) WHERE number = 1",
        "UPDATE ended SET head = substr(head, 2)",
        "UPDATE ended SET body = x'00' || substr(body, 2)",
        "UPDATE ended SET body = CAST(x'00' || substr(body, 2) AS BLOB)",
        "UPDATE ended SET number = 1",
        "UPDATE accepted SET head = (SELECT head FROM ended) WHERE number = 1",
    ],
)
def test_damage_is_told_and_not_run(place: Place, path: Path, damage: str) -> None:
    store, _ = place.open()
    store.append([accepted(1), accepted(2), ended(2)])
    place.end()
    query(path, damage)
    with pytest.raises(StorageError, match=r"is damaged: .*; restore a copy, or move it away to start empty"):
        place.open()


def test_damage_in_a_long_result_is_told_when_it_is_read(place: Place, path: Path) -> None:
    store, _ = place.open()
    store.append([accepted(1), ended(1, bytes(100_000))])
    place.end()
    query(path, "UPDATE ended SET body = CAST(x'01' || substr(body, 2) AS BLOB)")
    store, _ = place.open()
    with pytest.raises(StorageError, match="cannot be read: a body of 100000 bytes does not match its checksum"):
        store.result(named(1))


def test_a_disk_that_is_full_is_told_and_costs_nothing_that_was_confirmed(place: Place) -> None:
    store, _ = place.open()
    assert isinstance(store, SqliteStore)
    store.append([accepted(1)])
    store._db.execute("PRAGMA max_page_count = 20")
    with pytest.raises(StorageError, match=r"cannot be written: .*full; make room or repair the disk"):
        store.append([accepted(2), accepted(3, bytes(200_000))])
    with pytest.raises(StorageError, match="full"):
        store.append([accepted(4)])
    store, found = place.open()
    assert [each.task.task_id for each in found.tasks] == [named(1)]
    store.append([accepted(4)])


def test_a_long_payload_is_let_go_when_its_task_has_ended(place: Place, path: Path) -> None:
    store, _ = place.open()
    store.append([accepted(1, bytes(200_000)), accepted(2, b"short"), accepted(3, bytes(200_000))])
    store.append([ended(1), ended(2)])
    store, found = place.open()
    store.append([ended(3)])
    assert [each.task.nbytes for each in found.tasks] == [200_000, 5, 200_000]
    place.end()
    assert query(path, "SELECT number, length(body) FROM accepted") == [(1, None), (2, 5), (3, None)]


def test_what_is_forgotten_makes_room_for_what_comes(place: Place, path: Path) -> None:
    store, _ = place.open()
    for start in range(0, 20_000, 1000):
        some = range(start, start + 1000)
        store.append([accepted(number) for number in some])
        store.append([begun(number) for number in some])
        store.append([ended(number) for number in some])
        store.forget([named(number) for number in some])
    store.close()
    assert path.stat().st_size <= 512 * 1024  # all of them would take ten times that
    assert query(path, "SELECT (SELECT COUNT(*) FROM accepted) + (SELECT COUNT(*) FROM begun)") == [(0,)]


def test_a_hundred_thousand_queued_tasks_are_there_again_and_share_their_limits(fresh_place: Callable) -> None:
    place: Place = fresh_place()
    store, _ = place.open()
    for start in range(0, 100_000, 5000):
        store.append([accepted(number, b"%d" % number) for number in range(start, start + 5000)])
    _, found = place.open()
    assert [each.task.body for each in found.tasks] == [b"%d" % number for number in range(100_000)]
    assert found.tasks[0].task.limits == COMMIT
    assert len({id(each.task.limits) for each in found.tasks}) == 1
