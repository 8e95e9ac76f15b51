"""A damaged journal is named and never another history; recovery keeps the whole commits and the damaged file."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strata_zmq.coordinator.core import records
from strata_zmq.coordinator.core.history import History
from strata_zmq.coordinator.journal import Journal
from strata_zmq.coordinator.journal_file import BEGINNING, seal
from strata_zmq.coordinator.recover import LEAP, recover
from strata_zmq.errors import AlreadyExistsError, NotFoundError, StorageError

MEMBER = records.MemberRecord("w0", "life", "host", 1, 0, 0, {})
QUIET = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Written(NamedTuple):
    """A journal's bytes, and the state behind each of its batches as a snapshot."""

    file: bytes
    log: bytes
    states: dict[bytes, int]
    last: int

    def __repr__(self) -> str:
        return f"a journal of {self.last} batches"


def write(folder: Path, *, batches: int, snapshot_every: int, killed: bool = False) -> Written:
    """Write batches of 1 to 3 records; with `killed` the file is as kill -9 leaves it, and the log always."""
    folder.mkdir()
    path = folder / "journal.sqlite"
    journal = Journal(path, snapshot_every=snapshot_every)
    history = journal.replay()
    states = {history.to_snapshot(): 0}
    formed = records.GenerationFormed(generation=1, members=[MEMBER], joined=["w0"], left=[])
    for number in range(batches):
        step = {"generation": 1, "name": "step", "commit": True, "ranges": {}}
        some: list[records.Record] = [
            records.BarrierReleased(step=3 * number + at, participants=["w0", "x" * (7 * number % 300)], **step)
            for at in range(number % 3 + 1)
        ]
        if number == 0:
            some = [records.TermStarted(term=1), formed]
        for record in some:
            history.apply(record)
        journal.append(some, history)
        states[history.to_snapshot()] = journal.position
    log = path.with_name("journal.sqlite-wal").read_bytes()
    before = path.read_bytes()
    journal.close()
    return Written(before if killed else path.read_bytes(), log, states, batches)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Written:
    """A journal with two snapshots and batches behind both."""
    return write(tmp_path_factory.mktemp("whole") / "folder", batches=60, snapshot_every=45)


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Written:
    """A journal whose batches are all in its log: nothing was written back yet."""
    return write(tmp_path_factory.mktemp("killed") / "folder", batches=30, snapshot_every=1000, killed=True)


@pytest.fixture
def place(tmp_path: Path) -> Callable[..., Path]:
    """`place(bytes, log)` gives a journal's path with nothing else beside it."""

    def at(file: bytes, log: bytes = b"") -> Path:
        shutil.rmtree(tmp_path / "journal", ignore_errors=True)
        path = tmp_path / "journal" / "journal.sqlite"
        path.parent.mkdir()
        path.write_bytes(file)
        if log:
            path.with_name("journal.sqlite-wal").write_bytes(log)
        return path

    return at


def replayed(path: Path) -> bytes:
    journal = Journal(path)
    try:
        return journal.replay().to_snapshot()
    finally:
        journal.close()


def change(path: Path, sql: str, *values: object) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(sql, values)


def snapshots(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as db:
        return [row[0] for row in db.execute("SELECT position FROM snapshot ORDER BY position")]


@QUIET
@given(at=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255))
def test_a_changed_byte_is_named_or_harmless_and_recovery_keeps_whole_commits(whole, place, at, mask) -> None:
    body = bytearray(whole.file)
    body[int(at * len(body))] ^= mask
    path = place(body)
    try:
        found = replayed(path)
    except StorageError:
        found = b""
    if found:
        assert whole.states[found] == whole.last, "another history, without a word"
        return
    if int(at * len(body)) < 4096:  # the first page says where the tables are; without it nothing is found
        with suppress(StorageError):
            recover(path)
        return
    done = recover(path)
    kept = whole.states[done.kept.to_snapshot()]
    assert kept == done.position
    assert kept == whole.last or done.lost
    assert replayed(path) == done.history.to_snapshot()
    assert done.damaged is not None
    assert done.damaged.exists()


@QUIET
@given(cut=st.floats(0, 1))
def test_a_log_cut_at_any_byte_gives_a_state_behind_some_whole_batch(killed, tmp_path, cut: float) -> None:
    shutil.rmtree(tmp_path / "cut", ignore_errors=True)
    (tmp_path / "cut").mkdir()
    path = tmp_path / "cut" / "journal.sqlite"
    path.write_bytes(killed.file)
    path.with_name("journal.sqlite-wal").write_bytes(killed.log[: int(cut * len(killed.log))])
    kept = killed.states[replayed(path)]
    assert kept <= killed.last
    assert cut < 1 or kept == killed.last


@QUIET
@given(at=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255))
def test_a_log_with_a_changed_byte_gives_a_state_behind_some_whole_batch(killed, tmp_path, at, mask) -> None:
    """SQLite ends the log at the first frame whose checksum is wrong: what is before it is whole."""
    log = bytearray(killed.log)
    log[int(at * len(log))] ^= mask
    shutil.rmtree(tmp_path / "changed", ignore_errors=True)
    (tmp_path / "changed").mkdir()
    path = tmp_path / "changed" / "journal.sqlite"
    path.write_bytes(killed.file)
    path.with_name("journal.sqlite-wal").write_bytes(log)
    try:
        found = replayed(path)
    except StorageError:
        return  # the log's own header: SQLite refuses it by name
    assert found in killed.states


def test_an_empty_file_beside_a_log_is_named(killed, place) -> None:
    """SQLite would throw the log away and begin anew."""
    path = place(b"", killed.log)
    with pytest.raises(StorageError, match=r"is empty, but its log .*-wal' is not: restore"):
        Journal(path)
    assert path.with_name("journal.sqlite-wal").read_bytes() == killed.log


@pytest.mark.parametrize(
    ("sql", "what", "kept"),
    [
        ("UPDATE batch SET body = x'c1' WHERE position = 55", "batch 55 does not match its checksum", 54),
        ("UPDATE batch SET body = 'text' WHERE position = 55", "batch 55 does not match its checksum", 54),
        ("UPDATE batch SET records = 9 WHERE position = 57", "batch 57 does not match its checksum", 56),
        ("UPDATE batch SET checksum = x'00' WHERE position = 57", "batch 57 does not match its checksum", 56),
        ("DELETE FROM batch WHERE position = 50", "batch 50 is missing, batch 51 comes next", 49),
        ("UPDATE batch SET position = 70 WHERE position = 60", "batch 60 is missing, batch 70 comes next", 59),
    ],
)
def test_a_damaged_batch_is_named_with_the_last_whole_one_and_the_way_out(
    whole, place, sql: str, what: str, kept: int
) -> None:
    path = place(whole.file)
    change(path, sql)
    with pytest.raises(StorageError) as caught:
        replayed(path)
    message = str(caught.value)
    assert f"is damaged, behind batch {kept}: {what}; restore a copy" in message
    assert f"strata coordinator --recover --journal {path}" in message
    done = recover(path)
    assert (done.position, done.reason) == (kept, what)
    assert done.lost == f"batches {kept + 1} to {70 if '= 70' in sql else 60}"
    assert whole.states[done.kept.to_snapshot()] == kept


@pytest.mark.parametrize("body", [b"", b"\xc1", msgspec.msgpack.encode({}), b"\x05"])
def test_a_damaged_snapshot_is_made_again_from_the_one_before_and_nothing_is_lost(whole, place, body: bytes) -> None:
    path = place(whole.file)
    older, newer = snapshots(path)
    change(path, "UPDATE snapshot SET body = ? WHERE position = ?", body, newer)
    with pytest.raises(StorageError, match=rf"the snapshot behind batch {newer} does not match its checksum"):
        replayed(path)
    done = recover(path)
    assert (done.position, done.lost) == (whole.last, "")
    assert done.history.to_snapshot() == done.kept.to_snapshot() == replayed(path)
    assert whole.states[replayed(path)] == whole.last
    assert snapshots(path) == [older]


@pytest.mark.parametrize(
    "body",
    [
        msgspec.msgpack.encode([["a tag of a later release", 1]]),
        msgspec.msgpack.encode([["term"]]),
        msgspec.msgpack.encode([["rank_arrived", "never begun", [0, "w", "k", "d", 1]]]),
        msgspec.msgpack.encode([["restored", "c", 1, 0, 0, {"data": 5}]]),
        b"\x90",
    ],
)
def test_a_batch_that_is_whole_and_says_what_cannot_be_is_another_releases(whole, place, body: bytes) -> None:
    path = place(whole.file)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        (link,) = db.execute("SELECT checksum FROM batch WHERE position = 60").fetchone()
        db.execute("INSERT INTO batch VALUES (61, 1, ?, ?)", (seal(link, 61, 1, body), body))
    with pytest.raises(StorageError, match=r"behind batch 60: batch 61 .*start the release that wrote it"):
        replayed(path)
    assert recover(path).position == 60


def test_pages_that_cannot_be_read_cost_what_lies_behind_them(whole, place) -> None:
    with closing(sqlite3.connect(place(whole.file))) as db:
        roots = {root for (root,) in db.execute("SELECT rootpage FROM sqlite_master")}
    found = set()
    for page in range(1, len(whole.file) // 4096):
        if page + 1 in roots:  # without the way to its rows a table has none
            continue
        body = bytearray(whole.file)
        body[page * 4096 : page * 4096 + 4096] = b"\xee" * 4096
        path = place(body)
        with pytest.raises(StorageError, match="is damaged"):
            replayed(path)
        done = recover(path)
        found.add(done.position)
        assert whole.states[done.kept.to_snapshot()] == done.position
        assert done.lost
    assert len(found) > 2


def test_a_loss_is_noticed_by_everybody_who_relied_on_it(whole, place) -> None:
    """Term and generation go on above any that was lost, nobody is a member, and what was open is given up."""
    path = place(whole.file)
    change(path, "DELETE FROM batch WHERE position = 50")
    done = recover(path)
    assert (done.kept.term, done.kept.generation, done.kept.member_ids) == (1, 1, ("w0",))
    history = done.history
    assert (history.term, history.first_term, history.generation) == (1 + LEAP, 1 + LEAP, 1 + LEAP)
    assert (history.members, history.left, history.formed, history.open_checkpoints) == ((), (), False, {})
    assert history.commit_index == done.kept.commit_index
    assert recover(path).damaged is None, "the recovered journal is whole"


def test_a_second_recovery_keeps_the_first_damaged_file(whole, place) -> None:
    path = place(whole.file)
    for number in (1, 2):
        change(path, "DELETE FROM batch WHERE position = (SELECT MAX(position) - 1 FROM batch)")
        done = recover(path)
        assert done.damaged == path.with_name(f"journal.sqlite.damaged-{number}")
        with closing(sqlite3.connect(done.damaged)) as db:
            assert db.execute("SELECT COUNT(*) FROM batch").fetchone()[0] > 1
    assert {file.name for file in path.parent.iterdir()} == {
        "journal.sqlite",
        "journal.sqlite.damaged-1",
        "journal.sqlite.damaged-2",
    }


def test_a_link_to_a_journal_stays_one(whole, place, tmp_path) -> None:
    """The journal is replaced where it lies."""
    path = place(whole.file)
    change(path, "DELETE FROM batch WHERE position = (SELECT MAX(position) - 1 FROM batch)")
    link = tmp_path / "link.sqlite"
    link.symlink_to(path)
    done = recover(link)
    assert done.damaged == path.with_name("journal.sqlite.damaged-1")
    assert link.readlink() == path
    assert replayed(link) == replayed(path) == done.history.to_snapshot()


def test_a_full_disk_is_no_damage(whole, place, monkeypatch) -> None:
    """Neither the coordinator nor a recovery takes the journal for damaged because it cannot write to it."""
    path = place(whole.file)

    def full(*_: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("strata_zmq.coordinator.journal.migrate", full)
        for begin in (Journal, recover):
            with pytest.raises(StorageError, match=r"cannot be written: database or disk is full; make room"):
                begin(path)
    assert [file.name for file in path.parent.iterdir()] == ["journal.sqlite"]
    assert whole.states[replayed(path)] == whole.last


def test_a_whole_journal_and_one_in_use_are_left_alone(whole, place) -> None:
    path = place(whole.file)
    assert recover(path).damaged is None
    assert [file.name for file in path.parent.iterdir()] == ["journal.sqlite"]
    assert whole.states[replayed(path)] == whole.last
    journal = Journal(path)
    with pytest.raises(AlreadyExistsError, match="in use by another coordinator"):
        recover(path)
    journal.close()
    with pytest.raises(NotFoundError, match="does not exist"):
        recover(path.with_name("other.sqlite"))


def test_what_has_nothing_whole_is_refused_and_left_alone(whole, place) -> None:
    path = place(whole.file)
    change(path, "DELETE FROM batch")
    change(path, "UPDATE snapshot SET body = x'00'")
    with pytest.raises(StorageError, match=r"neither a snapshot nor the first batch can be read.*start empty"):
        recover(path)
    assert [file.name for file in path.parent.iterdir()] == ["journal.sqlite"]


def test_the_command_says_what_was_kept_and_what_was_lost(whole, place) -> None:
    path = place(whole.file)
    change(path, "DELETE FROM batch WHERE position = 50")
    command = [sys.executable, "-m", "strata_zmq.coordinator", "--recover", "--journal", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "damage  batch 50 is missing, batch 51 comes next" in done.stdout
    assert "kept    everything up to batch 49: term 1, generation 1, epoch 0, commit point 96" in done.stdout
    assert "lost    batches 50 to 60" in done.stdout
    assert f"kept as {path}.damaged-1" in done.stdout
    again = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert again.stdout == f"journal {path} is whole up to batch 50: nothing to recover\n"


# ---- older schemas


def old_schema(path: Path, some: list[records.Record], *, snapshot: int) -> History:
    """Write a journal as schema 1 did: a row a record, and one snapshot that replaced those before it."""
    history = History()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE record (position INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL)")
        db.execute("CREATE TABLE snapshot (position INTEGER PRIMARY KEY, body BLOB NOT NULL)")
        db.execute("PRAGMA user_version = 1")
        for position, record in enumerate(some, 1):
            history.apply(record)
            db.execute("INSERT INTO record (body) VALUES (?)", (msgspec.msgpack.encode(record),))
            if position == snapshot:
                db.execute("INSERT INTO snapshot VALUES (?, ?)", (position, history.to_snapshot()))
                db.execute("DELETE FROM record WHERE position <= ?", (position,))
    return history


OLD = [records.TermStarted(term=1), *(records.EpochBegan(epoch=epoch) for epoch in range(1, 20))]


@pytest.mark.parametrize("snapshot", [0, 1, 7, 20])
def test_a_journal_of_schema_1_is_migrated_and_goes_on(tmp_path, snapshot: int) -> None:
    path = tmp_path / "journal.sqlite"
    history = old_schema(path, OLD, snapshot=snapshot)
    journal = Journal(path)
    found = journal.replay()
    assert found.to_snapshot() == history.to_snapshot()
    assert journal.position == len(OLD)
    found.apply(more := records.EpochBegan(epoch=20))
    journal.append([more], found)
    journal.close()
    assert replayed(path) == found.to_snapshot()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
        names = {name for (name,) in db.execute("SELECT name FROM sqlite_master") if not name.startswith("sqlite_")}
    assert names == {"batch", "snapshot"}


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("UPDATE record SET body = x'c1' WHERE position = 15", "record 15 of schema 1 cannot be read"),
        ("UPDATE record SET body = 5 WHERE position = 15", "record 15 of schema 1 cannot be read"),
        ("DELETE FROM record WHERE position = 15", "record 15 of schema 1 is missing, record 16 comes next"),
    ],
)
def test_a_damaged_journal_of_schema_1_is_left_as_it_was_and_can_be_recovered(tmp_path, sql: str, what: str) -> None:
    path = tmp_path / "journal.sqlite"
    old_schema(path, OLD, snapshot=7)
    change(path, sql)
    with pytest.raises(StorageError, match=what):
        Journal(path)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        assert db.execute("SELECT COUNT(*) FROM record").fetchone()[0] >= 12
    done = recover(path)
    assert (done.position, done.kept.epoch, done.lost) == (14, 13, "batches 15 to 20")
    assert replayed(path) == done.history.to_snapshot()


def test_a_newer_schema_is_refused_with_both_numbers_also_by_recovery(tmp_path) -> None:
    path = tmp_path / "journal.sqlite"
    Journal(path).close()
    change(path, "PRAGMA user_version = 3")
    for opening in (Journal, recover):
        with pytest.raises(StorageError, match="has schema 3, this release reads 1 to 2: use the release that wrote"):
            opening(path)


def test_the_chain_begins_with_zeros() -> None:
    """Another language can verify a journal: blake3(16 bytes before | position, space, records, space | body)[:16]."""
    from blake3 import blake3

    assert seal(BEGINNING, 1, 2, b"\x90") == blake3(bytes(16) + b"1 2 \x90").digest(16)
