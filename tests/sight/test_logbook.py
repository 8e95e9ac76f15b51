"""The log book keeps the last lines of all processes' logs, whatever those processes do to their files."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.coordinator.api.state.log_files import (
    BEHIND_BYTES_MAX,
    FILES_MAX,
    START_BYTES,
    TURN_BYTES,
    LogFiles,
)
from strata_zmq.coordinator.api.state.logbook import BYTES_MAX, LINES_MAX, LogBook
from strata_zmq.coordinator.api.state.rows import LogLine
from strata_zmq.logs import LINE_BYTES_MAX


def told(text: str, level: str = "info", source: str = "worker-0") -> LogLine:
    return msgspec.convert(
        {"number": 0, "timestamp": 1, "level": level, "source": source, "message": text, "fields": {}}, LogLine
    )


def messages(files: LogFiles) -> list[str]:
    return [line.message for line in files.read()]


def follow(book: LogBook, done: Callable[[], bool]) -> None:
    async def until() -> None:
        async with book.running(), asyncio.timeout(20):
            while not done():  # noqa: ASYNC110 - it is asked, as every condition of a test
                await asyncio.sleep(0.01)

    asyncio.run(until())


def test_a_page_holds_the_newest_lines_that_match_and_says_where_earlier_ones_are() -> None:
    book = LogBook()
    for number in range(1, 11):
        level = "error" if number % 3 == 0 else "warning" if number % 2 == 0 else "info"
        book.append(told(f"Line {number}", level, f"job/worker-{number % 2}"))
    assert [line.number for line in book.page(limit=3).lines] == [8, 9, 10]
    assert book.page(limit=3).before == 8
    assert [line.number for line in book.page(limit=3, before=8).lines] == [5, 6, 7]
    first = book.page(limit=10)
    assert first.before is None
    assert [line.number for line in first.lines] == list(range(1, 11))
    assert [line.number for line in book.page(limit=9, level="error").lines] == [3, 6, 9]
    assert [line.number for line in book.page(limit=9, level="warning").lines] == [2, 3, 4, 6, 8, 9, 10]
    assert [line.number for line in book.page(limit=9, source="job/worker-1", search="LINE").lines] == [1, 3, 5, 7, 9]
    assert len(book.page(limit=99, source="job").lines) == 10
    assert book.page(limit=99, source="jo").lines == []
    assert book.page(limit=1).sources == ["job/worker-0", "job/worker-1"]
    assert book.page(limit=5, before=1).lines == []


def test_who_follows_gets_what_is_behind_a_number_and_of_too_much_the_newest() -> None:
    book = LogBook()
    for number in range(5):
        book.append(told(str(number)))
    assert [line.number for line in book.since(2)] == [3, 4, 5]
    assert [line.number for line in book.since(0, limit=2)] == [4, 5]
    assert book.since(5) == []
    assert book.since(99) == []


def test_the_oldest_lines_go_when_there_are_too_many_or_too_long_ones() -> None:
    book = LogBook()
    for number in range(LINES_MAX + 5):
        book.append(told(str(number)))
    assert len(book.page(limit=10**6).lines) == LINES_MAX
    assert book.page(limit=10**6).lines[0].number == 6
    long = "x" * LINE_BYTES_MAX
    for _ in range(BYTES_MAX // LINE_BYTES_MAX):
        book.append(told(long))
    assert sum(len(line.message) for line in book.page(limit=10**6).lines) <= BYTES_MAX


def test_lines_come_as_their_files_grow_with_the_name_of_the_process(tmp_path: Path) -> None:
    files = LogFiles(tmp_path)
    assert files.read() == []
    log = tmp_path / "worker-1.log"
    log.write_bytes(b"step 1\nst")
    (tmp_path / "notes.txt").write_text("no log\n")
    (tmp_path / "link.log").symlink_to(tmp_path / "notes.txt")
    (line,) = files.read()
    assert (line.source, line.message, line.level) == ("worker-1", "step 1", "info")
    with log.open("ab") as file:
        file.write(b"ep 2\r\n 10%\r 20%\r\n\xff\n")
    assert messages(files) == ["step 2", " 20%", "\\xff"]


def test_a_servers_event_keeps_its_time_its_level_and_its_fields(tmp_path: Path) -> None:
    event = {"timestamp": "2026-01-02T03:04:05.678Z", "level": "warning", "logger": "strata.x", "event": "a\nb\ud800"}
    (tmp_path / "coordinator.log").write_text(
        json.dumps({**event, "n": 3, "far": 2**60, "deep": [1], "exception": "Trace"}) + "\n"
    )
    (line,) = LogFiles(tmp_path).read()
    assert (line.timestamp, line.level, line.message) == (1767323045678, "warning", "a\nb\\ud800")
    assert line.fields == {
        "n": 3,
        "far": str(2**60),
        "deep": "[1]",
        "logger": "strata.x",
        "exception": "Trace",
    }
    assert msgspec.json.decode(msgspec.json.encode(line), type=LogLine) == line


def test_a_file_that_begins_anew_or_is_replaced_is_read_from_its_start(tmp_path: Path) -> None:
    log, files = tmp_path / "writer-0.log", LogFiles(tmp_path)
    log.write_bytes(b"the first life\n")
    assert messages(files) == ["the first life"]
    log.write_bytes(b"second\n")
    assert messages(files) == ["second"]
    (tmp_path / "new").write_bytes(b"a third life, longer\n")
    (tmp_path / "new").rename(log)
    assert messages(files) == ["a third life, longer"]
    log.unlink()
    assert messages(files) == []
    log.write_bytes(b"a fourth\n")
    assert messages(files) == ["a fourth"]


def test_a_line_without_an_end_is_told_when_nothing_follows_it(tmp_path: Path) -> None:
    (tmp_path / "worker-0.log").write_bytes(b"Segmentation fault")
    files = LogFiles(tmp_path)
    found = [messages(files) for _ in range(6)]
    assert [text for one in found for text in one] == ["Segmentation fault"]


def test_of_a_long_log_that_was_there_before_the_end_is_read_with_the_files_time(tmp_path: Path) -> None:
    log = tmp_path / "worker-0.log"
    log.write_bytes(b"".join(b"%07d\n" % number for number in range(20_000)))
    os.utime(log, (1_000, 1_000))
    lines = LogFiles(tmp_path).read()
    assert lines[-1].message == "0019999"
    assert len(lines) == START_BYTES // 8 - 1  # the first one may be half
    assert {line.timestamp for line in lines} == {1_000_000}


def test_a_log_that_runs_away_is_left_out_in_part_and_the_gap_is_a_line(tmp_path: Path) -> None:
    log, files = tmp_path / "worker-0.log", LogFiles(tmp_path)
    log.write_bytes(b"begin\n")
    assert messages(files) == ["begin"]
    with log.open("ab") as file:
        file.write(b"noise!\n" * (2 * BEHIND_BYTES_MAX // 7) + b"end\n")
    lines = files.read()
    assert lines[0].level == "warning"
    assert lines[0].message.endswith("bytes were left out here: this log grows faster than it is read")
    assert lines[-1].message == "end"
    assert sum(len(line.message) + 1 for line in lines[1:]) <= START_BYTES


def test_a_loud_process_does_not_keep_a_quiet_one_from_being_read(tmp_path: Path) -> None:
    files = LogFiles(tmp_path)
    assert files.read() == []
    (tmp_path / "loud.log").write_bytes(b"x" * 99 + b"\n" + (b"y" * 99 + b"\n") * 9_000)
    (tmp_path / "quiet.log").write_bytes(b"here I am\n")
    lines = files.read()
    assert "here I am" in [line.message for line in lines]
    assert sum(len(line.message) for line in lines) <= TURN_BYTES


def test_only_so_many_files_are_looked_at(tmp_path: Path) -> None:
    for number in range(FILES_MAX + 10):
        (tmp_path / f"w{number}.log").touch()
    (tmp_path / "w0.log").write_bytes(b"x\n")
    files = LogFiles(tmp_path)
    files.read()
    assert len(files._files) == FILES_MAX


@given(st.lists(st.binary(min_size=1, max_size=40) | st.just(b"z" * 9_000) | st.just(b"\n"), max_size=14))
def test_however_bytes_arrive_the_lines_are_the_same_and_none_is_too_long(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("logs")
    growing, whole = LogFiles(folder), LogFiles(folder)
    found: list[str] = []
    with (folder / "w.log").open("ab", buffering=0) as file:
        for chunk in chunks:
            file.write(chunk)
            found += messages(growing)
    found += [text for _ in range(6) for text in messages(growing)]
    assert found == [text for _ in range(6) for text in messages(whole)]
    assert all(len(text) <= 4 * LINE_BYTES_MAX for text in found)


def test_a_running_book_reads_its_folder_and_what_this_process_logs(tmp_path: Path) -> None:
    (tmp_path / "api.log").write_bytes(b"what the launcher keeps of this very process\n")
    book = LogBook(tmp_path, own=True)
    assert not book.wants_events
    assert LogBook().wants_events
    (tmp_path / "worker-0.log").write_bytes(b"hello\n")

    words = iter(["own words"])

    def both() -> bool:
        if book.sources == ["worker-0"]:
            for text in words:
                logging.getLogger("strata.test").warning(text)
        return book.sources == ["api", "worker-0"]

    follow(book, both)
    assert {(line.source, line.level, line.message) for line in book.page(limit=9).lines} == {
        ("worker-0", "info", "hello"),
        ("api", "warning", "own words"),
    }
    logging.getLogger("strata.test").warning("after the end")
    assert len(book.page(limit=9).lines) == 2
