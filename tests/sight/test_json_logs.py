"""A server's log is one JSON object a line where programs read it, and lines for people on a terminal."""

from __future__ import annotations

import json
import logging
import os
import pty
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.errors import InvalidArgumentError
from strata_zmq.logs import LINE_BYTES_MAX, as_text, formatter, log_to, read_line

SERVER = """
import logging
from strata_zmq.startup import log_to_stderr
log_to_stderr()
log = logging.getLogger("strata.test")
log.debug("quiet")
log.info("worker %s has joined", "a\\x1b[2J\\nb", extra={"worker_id": "w 1", "rank": 3})
try:
    {}["missing"]
except KeyError:
    log.exception("it failed")
"""
FORM = formatter(text=False)


def line_of(text: str, fields: dict[str, Any] | None = None, level: int = logging.INFO) -> bytes:
    record = logging.makeLogRecord({"name": "strata.test", "levelno": level, "levelname": logging.getLevelName(level)})
    record.msg, record.__dict__["fields"] = text, fields
    return FORM.format(record).encode("ascii")


def run(stderr: int, **env: str) -> None:
    subprocess.run([sys.executable, "-c", SERVER], env=os.environ | env, stderr=stderr, check=True)


def read_terminal(**env: str) -> str:
    ours, theirs = pty.openpty()
    try:
        run(theirs, **env)
        return os.read(ours, 65536).decode()
    finally:
        os.close(theirs)
        os.close(ours)


def test_off_a_terminal_each_event_is_one_line_of_json_with_time_level_logger_and_fields(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        run(file.fileno())
    joined, failed = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert joined.pop("timestamp").endswith("Z")
    assert joined == {
        "level": "info",
        "logger": "strata.test",
        "event": "worker a\x1b[2J\nb has joined",
        "worker_id": "w 1",
        "rank": 3,
    }
    assert failed["level"] == "error"
    assert failed["exception"].splitlines()[-1] == "KeyError: 'missing'"


def test_on_a_terminal_events_are_text_and_no_name_moves_the_cursor() -> None:
    told = read_terminal()
    first = told.splitlines()[0]
    assert first.endswith("INFO strata.test: worker a\\x1b[2J\\nb has joined worker_id=w 1 rank=3")
    assert told.splitlines()[-1] == "KeyError: 'missing'"
    assert "\x1b" not in told


def test_the_form_and_the_least_level_can_be_chosen(tmp_path: Path) -> None:
    assert [json.loads(line)["level"] for line in read_terminal(STRATA_LOG_FORMAT="json").splitlines()] == [
        "info",
        "error",
    ]
    with (tmp_path / "log").open("wb") as file:
        run(file.fileno(), STRATA_LOG="debug", STRATA_LOG_FORMAT="text")
    assert "DEBUG strata.test: quiet" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(("name", "value"), [("STRATA_LOG", "loud"), ("STRATA_LOG_FORMAT", "xml")])
def test_a_word_that_is_none_is_named_with_those_that_are(name: str, value: str) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"{name} is '{value}': it takes "):
        log_to(sys.stderr, {name: value})


@given(st.text(max_size=200), st.sampled_from([logging.DEBUG, logging.WARNING, logging.CRITICAL]))
def test_whatever_an_event_says_it_is_one_line_that_can_be_read_again(text: str, level: int) -> None:
    line = line_of(text, {"nested": [1, None]}, level)
    assert b"\n" not in line
    entry = read_line(line)
    assert entry is not None
    assert entry.text == text
    assert entry.level == {10: "debug", 30: "warning", 50: "error"}[level]
    assert entry.fields == {"fields": {"nested": [1, None]}}
    assert datetime.fromisoformat(json.loads(line)["timestamp"]).timestamp() == entry.at


@pytest.mark.parametrize("text", ["x" * 100_000, "é" * 50_000, "\U0001f600" * 50_000, "\udc80" * 50_000])
def test_a_line_is_cut_where_it_would_be_too_long_for_those_who_read_lines(text: str) -> None:
    line = line_of(text, {"other": text})
    assert len(line) <= LINE_BYTES_MAX
    entry = read_line(line)
    assert entry is not None
    assert entry.text[:500] == text[:500]
    assert entry.text.endswith("...")


@given(st.text(max_size=80), st.text(max_size=40))
def test_as_people_read_it_there_is_nothing_that_a_terminal_obeys(text: str, value: str) -> None:
    shown = as_text(line_of(text, {"value": value}))
    assert shown is not None
    assert all(line.decode().isprintable() for line in shown)


@given(st.binary(max_size=200) | st.sampled_from([b'{"event": 1, "level": "info"}', b'{"timestamp": "x"}', b'{"']))
def test_lines_of_others_are_left_as_they_are(line: bytes) -> None:
    assert read_line(line) is None
    assert as_text(line) is None
