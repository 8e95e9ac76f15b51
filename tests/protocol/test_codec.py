"""Every message comes back as it was sent; any other bytes are a ProtocolError and nothing else."""

from __future__ import annotations

import string
from contextlib import suppress
from functools import cache
from typing import Any, get_args

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

from strata_zmq.errors import ProtocolError
from strata_zmq.protocol import codec, sight, stream
from strata_zmq.protocol import messages as wire

REQUESTS, REPLIES, BROADCASTS = (get_args(union) for union in (wire.Request, wire.Reply, wire.Broadcast))
DECODERS = [
    (REQUESTS, codec.decode_request),
    (REPLIES, codec.decode_reply),
    ((wire.Fold,), codec.decode_upward),
    ((wire.Folded,), codec.decode_downward),
    (BROADCASTS, codec.decode_broadcast),
    ((sight.SightDelta,), sight.decode_delta),
    (get_args(stream.StreamRequest), stream.decode_stream_request),
    (get_args(stream.StreamReply), stream.decode_stream_reply),
    ((stream.ChunkHeader,), stream.decode_header),
]
ALL = [(kind, decode) for kinds, decode in DECODERS for kind in kinds]
every_message = pytest.mark.parametrize(("kind", "decode"), ALL, ids=[kind.__name__ for kind, _ in ALL])
every_decoder = pytest.mark.parametrize("decode", [decode for _, decode in DECODERS], ids=lambda one: one.__name__)


def values_of(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Values within a type's limits, the limits themselves among them."""
    match kind:
        case inspect.IntType():
            low = -(2**63) if kind.ge is None else kind.ge
            high = 2**63 - 1 if kind.le is None else kind.le
            return st.integers(low, high) | st.sampled_from([low, high])
        case inspect.FloatType():
            return st.floats(kind.ge, kind.le, allow_nan=False)
        case inspect.StrType(pattern="^[0-9a-f]{64}$" | "^([0-9a-f]{64})?$"):
            return st.text("0123456789abcdef", min_size=64, max_size=64)
        case inspect.StrType():
            high = 40 if kind.max_length is None else min(kind.max_length, 300)
            return st.text(min_size=kind.min_length or 0, max_size=high)
        case inspect.BytesType():
            return st.binary(min_size=kind.min_length or 0, max_size=min(kind.max_length or 40, 100))
        case inspect.LiteralType():
            return st.sampled_from(kind.values)
    return collections_of(kind)


def collections_of(kind: inspect.Type) -> st.SearchStrategy[Any]:
    match kind:
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.ListType():
            return st.lists(values_of(kind.item_type), max_size=3)
        case inspect.TupleType():
            return st.tuples(*map(values_of, kind.item_types))
        case inspect.DictType():
            return st.dictionaries(values_of(kind.key_type), values_of(kind.value_type), max_size=3)
        case inspect.UnionType():
            return st.one_of([values_of(one) for one in kind.types])
        case inspect.StructType():
            return messages_of(kind.cls)
    pytest.fail(f"no values for {kind}")


@cache  # a snapshot has some thirty kinds of rows
def messages_of(kind: type) -> st.SearchStrategy[Any]:
    fields = {field.name: values_of(field.type) for field in inspect.type_info(kind).fields}
    return st.fixed_dictionaries(fields).map(lambda given: kind(**given))


@every_message
@settings(max_examples=25)
@given(data=st.data())
def test_a_message_comes_back_as_it_was_sent(kind, decode, data) -> None:
    message = data.draw(messages_of(kind))
    assert decode(codec.encode(message)) == message


@every_message
@settings(max_examples=10)
@given(data=st.data())
def test_fields_of_a_later_release_are_ignored(kind, decode, data) -> None:
    message = data.draw(messages_of(kind))
    body = msgpack.unpackb(codec.encode(message), strict_map_key=False)
    later = [*body, "later", {"nested": [1, None]}, b"\xff", -1, 1.5]
    assert decode(msgpack.packb(later)) == message


@every_message
@settings(max_examples=5)
@given(data=st.data())
def test_a_message_cut_off_at_any_byte_is_a_protocol_error(kind, decode, data) -> None:
    body = codec.encode(data.draw(messages_of(kind)))
    for length in range(len(body)):
        with pytest.raises(ProtocolError):
            decode(body[:length])


@every_message
def test_trailing_fields_that_have_a_default_may_be_left_out(kind, decode) -> None:
    required = [field for field in inspect.type_info(kind).fields if field.required]
    given_ = {field.name: simplest(field.type) for field in required}
    full = kind(**given_)
    body = msgpack.unpackb(codec.encode(full), strict_map_key=False)
    names = kind.__struct_fields__
    needed = max([names.index(field.name) + 2 for field in required], default=1)
    assert decode(msgpack.packb(body[:needed])) == full
    if required:
        with pytest.raises(ProtocolError, match="not understood"):
            decode(msgpack.packb(body[: needed - 1]))


def simplest(kind: inspect.Type) -> Any:
    match kind:
        case inspect.StrType(pattern="^[0-9a-f]{64}$" | "^([0-9a-f]{64})?$"):
            return "0" * 64
        case inspect.StrType():
            return "x"
        case inspect.IntType():
            return 1
        case inspect.FloatType():
            return 1.0
        case inspect.BoolType():
            return True
        case inspect.BytesType():
            return bytes(kind.min_length or 0)
        case inspect.LiteralType():
            return kind.values[0]
    return simplest_collection(kind)


def simplest_collection(kind: inspect.Type) -> Any:
    match kind:
        case inspect.ListType():
            return []
        case inspect.DictType():
            return {}
        case inspect.StructType():
            fields = inspect.type_info(kind.cls).fields
            return kind.cls(**{field.name: simplest(field.type) for field in fields if field.required})
    pytest.fail(f"no value for {kind}")


@every_decoder
@settings(max_examples=50)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_protocol_error(decode, data: bytes) -> None:
    raises_nothing_else(decode, data)


JSON_LIKE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)
TAGS = st.sampled_from([kind.__struct_config__.tag for kind, _ in ALL])


@every_decoder
@settings(max_examples=50)
@given(tag=TAGS, fields=st.lists(JSON_LIKE, max_size=14))
def test_known_tags_with_any_fields_are_a_message_or_a_protocol_error(decode, tag: str, fields: list[Any]) -> None:
    raises_nothing_else(decode, msgpack.packb([tag, *fields]))


@every_message
@settings(max_examples=20)
@given(data=st.data())
def test_any_changed_bytes_are_a_message_or_a_protocol_error(kind, decode, data) -> None:
    body = bytearray(codec.encode(data.draw(messages_of(kind))))
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(body) - 1), st.integers(0, 255)), max_size=5)):
        body[at] = value
    raises_nothing_else(decode, bytes(body))


def raises_nothing_else(decode: Any, data: bytes) -> None:
    with suppress(ProtocolError):
        decode(data)


@every_decoder
@pytest.mark.parametrize(
    "opening",
    [b"\x91", b"\x81\xa1k", b"\xdd\x00\x00\x00\x01", b"\x92\xa5hello"],
    ids=["array", "map", "wide", "tagged"],
)
def test_deep_nesting_is_a_protocol_error(decode, opening: bytes) -> None:
    with pytest.raises(ProtocolError, match="not understood"):
        decode((opening * 60_000)[:4000] + b"\xc0")
    if decode is codec.decode_reply:
        with pytest.raises(ProtocolError, match="not understood"):
            decode(opening * 1_000_000 + b"\xc0")


@every_decoder
@pytest.mark.parametrize("head", [b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\x92\xa5hello\xdd", b"\x92\xa5hello\xdb"])
def test_announced_sizes_that_never_come_cost_nothing(decode, head: bytes) -> None:
    with pytest.raises(ProtocolError, match="not understood"):
        decode(head + b"\xff\xff\xff\xff" + b"x" * 100)


@pytest.mark.parametrize(
    ("decode", "limit"),
    [
        (codec.decode_request, codec.MAX_REQUEST_BYTES),
        (codec.decode_reply, codec.MAX_REPLY_BYTES),
        (codec.decode_broadcast, codec.MAX_REPLY_BYTES),
        (stream.decode_stream_request, stream.CONTROL_BYTES_MAX),
        (stream.decode_stream_reply, stream.CONTROL_BYTES_MAX),
        (stream.decode_header, stream.HEADER_BYTES_MAX),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_frame_above_its_limit_is_refused_by_name_before_it_is_read(decode, limit: int) -> None:
    with pytest.raises(ProtocolError, match=f"of {limit + 1} bytes exceeds the limit of {limit}"):
        decode(bytes(limit + 1))
    with pytest.raises(ProtocolError, match="not understood"):
        decode(bytes(limit))


@pytest.mark.parametrize(
    "body",
    [
        ["hello", "j" * 129],
        ["hello", "", -1],
        ["hello", "", 2**62 + 1],
        ["hello", "", 0, 0, 0, 0, 1, 1, ["f"] * 65],
        ["hello", "", 0, 0, 0, 0, 1, 1, [""]],
        ["hello", "", 0, 0, 0, 0, 1, 1, [], "king"],
        ["hello", "", 0, 0, 0, 0, 1, 1, [], "client", "t" * 257],
        ["hello", 5],
        ["hello", "", "1"],
        ["hello", "", 1.5],
        ["hello", "", True],
        ["register_worker", "", 0, 0, 0, 0, "w", ""],
        ["register_worker", "", 0, 0, 0, 0, "w", "i", "h", 65_536],
        ["register_worker", "", 0, 0, 0, 0, "w", "i", "h", 1, 1, "b", 1025],
        ["register_worker", "", 0, 0, 0, 0, "w", "i", "h", 1, 1, "b", 1, 1, {str(key): "" for key in range(65)}],
        ["register_worker", "", 0, 0, 0, 0, "w", "i", "h", 1, 1, "b", 1, 1, {"k": 5}],
        ["heartbeat", "", 0, 0, 0, 0, "ASLEEP"],
        ["arrive", "", 0, 0, 0, 0, "", 1],
        ["arrive", "", 0, 0, 0, 0, "n", 1, -1],
        ["arrive", "", 0, 0, 0, 0, "n", 1, 0, float("nan")],
        ["arrive", "", 0, 0, 0, 0, "n", 1, 0, float("inf")],
        ["arrive", "", 0, 0, 0, 0, "n", 1, 0, -1.0],
        ["arrive", "", 0, 0, 0, 0, "n", 1, 0, 1.0, 1],
        ["arrive", "", 0, 0, 0, 0, "n", 1, 0, 1.0, True, [["d", 0, 0, 0, 1, bytes(7)]]],
        ["arrive", "", 0, 0, 0, 0, "n", 1, 0, 1.0, True, [["d", 0, 0, 0, 1, bytes(8)]] * 513],
        ["get_shards", "", 0, 0, 0, 0, "d", "", -2],
        ["latest_checkpoint", "", 0, 0, 0, 0, 0],
        ["restore", "", 0, 0, 0, 0, "c", bytes(60_001)],
    ],
    ids=range(28),
)
def test_a_value_outside_its_limits_is_a_protocol_error(body: list[Any]) -> None:
    with pytest.raises(ProtocolError, match="not understood"):
        codec.decode_request(msgpack.packb(body))


def test_a_heartbeat_is_small() -> None:
    beat = wire.Heartbeat(
        job="default", term=3, generation=12, session=(3 << 32) | 900, seq=70_000, step=120_000, epoch=9
    )
    assert len(codec.encode(beat)) <= 64
    assert len(codec.encode(wire.HeartbeatAck(job="default", term=3, generation=12, session=beat.session, seq=1))) <= 64


@settings(max_examples=50)
@given(data=st.data(), kind=st.sampled_from(REQUESTS))
def test_the_number_of_a_request_is_found_whatever_is_wrong_with_its_fields(data, kind) -> None:
    message = data.draw(messages_of(kind))
    body = msgpack.unpackb(codec.encode(message), strict_map_key=False)
    broken = msgpack.packb(
        [data.draw(st.text(string.ascii_letters, max_size=9)), *body[1:6], object.__name__, {"x": []}]
    )
    assert codec.seq_of(broken) == codec.seq_of(codec.encode(message)) == message.seq


@given(data=st.binary(max_size=100))
def test_the_number_of_what_cannot_be_read_is_0(data: bytes) -> None:
    try:
        codec.decode_request(data)
    except ProtocolError:
        assert isinstance(codec.seq_of(data), int)
    assert codec.seq_of(b"\xc1" + data) == 0
    assert codec.seq_of(bytes(codec.MAX_REQUEST_BYTES + 1)) == 0


@pytest.mark.parametrize("kind", REPLIES, ids=lambda kind: kind.__name__)
@settings(max_examples=20)
@given(data=st.data())
def test_one_answer_to_many_requests_is_the_same_bytes_as_many_answers(kind, data) -> None:
    """The shell encodes what a barrier's ranks have in common once for all; nobody may see a difference."""
    template = msgspec.structs.replace(data.draw(messages_of(kind)), session=0, seq=0)
    count = st.integers(0, 2**62) | st.sampled_from([0, 127, 128, 2**32, 2**62])
    recipients = data.draw(st.lists(st.tuples(st.binary(max_size=5), count, count), max_size=5))
    alone = [
        (connection, codec.encode(msgspec.structs.replace(template, session=session, seq=seq)))
        for connection, session, seq in recipients
    ]
    assert list(codec.encode_each(template, recipients)) == alone
