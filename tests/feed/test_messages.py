"""The loader's frames survive any cutting of the stream, and nothing malformed gets through unnamed."""

from __future__ import annotations

from contextlib import suppress

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from strata_zmq.errors import NotFoundError, ProtocolError, StrataError
from strata_zmq.feed.messages import (
    FRAME_BYTES_MAX,
    Answer,
    Failure,
    Flush,
    ReaderError,
    Request,
    Setup,
    decode_answer,
    encode_frame,
    loader_frames,
)

MESSAGES = st.one_of(
    st.builds(Setup, st.binary(max_size=50), st.integers(1, 1 << 20)),
    st.builds(Request, st.integers(0, 1 << 62), st.integers(0, 1 << 62), st.binary(max_size=200)),
    st.builds(Flush, st.integers(0, 1 << 62)),
)


@given(messages=st.lists(MESSAGES, max_size=10), cut=st.integers(1, 64))
def test_frames_come_out_whole_and_in_order_however_the_stream_is_cut(messages, cut):
    stream = b"".join(encode_frame(message) for message in messages)
    frames = loader_frames()
    got = []
    for start in range(0, len(stream), cut):
        frames.feed(stream[start : start + cut])
        while (message := frames.pop()) is not None:
            got.append(message)
    assert got == messages


@given(noise=st.binary(max_size=300))
def test_noise_is_nothing_a_message_or_a_protocol_error(noise):
    frames = loader_frames()
    frames.feed(noise)
    with suppress(ProtocolError):
        while (message := frames.pop()) is not None:
            assert isinstance(message, Setup | Request | Flush)
    with suppress(ProtocolError):
        assert isinstance(decode_answer(noise), Answer)


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\xa1\xff", b"\x80", b"\x92\xa5flush\xa1x", b"\x93\xa5flush\x01\x02"])
def test_a_frame_that_is_not_understood_is_named(body):
    frames = loader_frames()
    frames.feed(len(body).to_bytes(4, "little") + body)
    with pytest.raises(ProtocolError, match="loader frame: cannot be decoded"):
        frames.pop()
    with pytest.raises(ProtocolError, match="loader answer: cannot be decoded"):
        decode_answer(body)


def test_an_announced_giant_is_refused_before_it_is_received():
    frames = loader_frames()
    frames.feed((FRAME_BYTES_MAX + 1).to_bytes(4, "little"))
    with pytest.raises(ProtocolError, match=f"at most {FRAME_BYTES_MAX} bytes"):
        frames.pop()


@example(text="\U0001f4a5" * 2000)
@given(text=st.text(st.characters(exclude_categories=()), max_size=2000))
def test_any_exception_fits_into_a_slots_note_with_the_end_of_its_traceback(text):
    failure = Failure.of(ValueError(text * 10))
    note = msgspec.msgpack.encode(failure)
    assert len(note) < 16 * 1024 - 64
    assert msgspec.msgpack.decode(note, type=Failure) == failure
    raised = failure.error(3, "loader")
    assert isinstance(raised, ReaderError)
    assert raised.remote_type == "builtins.ValueError"


def test_a_stratas_own_error_keeps_its_kind_while_starting():
    failure = Failure.of(NotFoundError("x.npy does not exist"))
    starting = failure.error(None, "loader")
    assert type(starting) is NotFoundError
    assert str(starting) == "loader: x.npy does not exist"
    assert "in the loader process" in starting.__notes__[0]
    assert isinstance(failure.error(1, "loader"), ReaderError)
    assert issubclass(ReaderError, StrataError)
