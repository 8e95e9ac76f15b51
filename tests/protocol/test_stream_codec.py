"""Whatever bytes come where a storage stream's message is expected, they are a message or a named error."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.errors import ProtocolError
from strata_zmq.protocol import stream


@given(st.binary(max_size=300))
def test_noise_is_a_protocol_error_and_nothing_else(noise: bytes) -> None:
    for decode in (stream.decode_header, stream.decode_stream_request, stream.decode_stream_reply):
        try:
            decode(noise)
        except ProtocolError:
            continue


@given(st.data())
def test_a_damaged_message_decodes_to_a_message_or_a_protocol_error(data: st.DataObject) -> None:
    whole = stream.encode_stream(stream.ChunkHeader("s", 1, "c", "chunk", 0, 0, "ab" * 32, 10, 1, 64))
    position = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:position] + data.draw(st.binary(max_size=4)) + whole[position + 1 :]
    try:
        found = stream.decode_header(damaged)
    except ProtocolError:
        return
    assert len(found.digest) == 64
    assert found.nbytes >= 1


def test_messages_of_a_newer_sender_may_have_more_fields() -> None:
    newer = [*msgspec.msgpack.decode(stream.encode_stream(stream.StreamPing("s"))), "of tomorrow"]
    assert stream.decode_stream_request(msgspec.msgpack.encode(newer)) == stream.StreamPing("s")
