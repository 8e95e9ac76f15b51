"""A reply that shares its names with others is the same bytes as one that was encoded alone."""

from __future__ import annotations

from strata_zmq.protocol.codec import ReplyEncoder, decode_reply, encode
from strata_zmq.protocol.messages import Done, Released, Reply


def test_shared_names_change_no_byte() -> None:
    encoder = ReplyEncoder()
    first, second = [f"worker-{rank}" for rank in range(40)], ["other"]
    replies: list[Reply] = [
        Released(name="commit", step=step, seq=step, participants=names, commit_index=step, remaining={"data": 7})
        for step, names in enumerate((first, first, second, first))
    ]
    replies.append(Done(seq=9))
    for reply in replies:
        assert encoder.encode(reply) == encode(reply)
        assert decode_reply(encoder.encode(reply)) == reply
