"""A child's bytes become lines, whatever they are and however they arrive."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.workers.launcher.lines import MAX_LINE_BYTES, LineSplitter


def split(*chunks: bytes) -> list[bytes]:
    splitter = LineSplitter()
    return [line for chunk in chunks for line in splitter.feed(chunk)] + list(splitter.finish())


def test_a_line_that_arrives_in_parts_is_one_line() -> None:
    assert split(b"lo", b"ss 0.", b"25\nnext") == [b"loss 0.25", b"next"]


def test_progress_bars_and_both_kinds_of_line_end_show_as_lines() -> None:
    assert split(b"\r 10%\r 20%", b"\r", b"\n", b"done\r\n\nlast\r") == [b" 10%", b" 20%", b"done", b"", b"last"]


def test_a_cut_in_an_endless_line_does_not_fall_into_a_character() -> None:
    text = "é" * MAX_LINE_BYTES
    pieces = split(b"x" + text.encode())
    assert "".join(piece.decode() for piece in pieces) == "x" + text


@given(st.lists(st.binary(max_size=64) | st.just(b"\xff" * 40_000) | st.just(b"\n"), max_size=12))
def test_no_byte_is_lost_and_no_line_is_longer_than_the_limit(chunks: list[bytes]) -> None:
    lines = split(*chunks)
    assert all(len(line) <= MAX_LINE_BYTES for line in lines)
    ends = b"\r\n"
    assert b"".join(lines).translate(None, ends) == b"".join(chunks).translate(None, ends)


@given(st.binary(max_size=300), st.integers(1, 20))
def test_how_the_bytes_arrive_does_not_matter(data: bytes, size: int) -> None:
    assert split(*(data[at : at + size] for at in range(0, len(data), size))) == split(data)
