"""Calls packed and results loaded, for tests that speak to a dispatcher without a client of the package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from strata_zmq.domain.task import CALL_IN_PAYLOAD
from strata_zmq.functions.codec import Codec, load_result
from strata_zmq.functions.wire import outcome_of, put_body
from strata_zmq.protocol import functions as wire

from .peers import BareClient, new_id

__all__ = ["call_in_payload", "load", "run", "submit_calls"]

_codec = Codec(by_value=True)


def submit_calls(
    client: BareClient, calls: Sequence[tuple[Callable[..., object], tuple[object, ...]]], **limits: Any
) -> list[bytes]:
    """Submit calls of functions that a worker can import, and return their ids once they are accepted."""
    tasks, frames = [], []
    for fn, args in calls:
        function, packed, body, _ = _codec.pack_call(fn, args, {})
        assert packed is not None
        if packed.digest not in client.kept:
            client.kept.add(packed.digest)
            client.ask(wire.PutBlobs, [wire.Blob(packed.digest, packed.payload)])
            client.hear(wire.Stored)
        tasks.append(wire.NewTask(new_id(), function, put_body(body, frames)))
    answer = client.submit(*tasks, frames=frames, **limits)
    assert not answer.refused, answer.refused
    return [task.task_id for task in tasks]


def call_in_payload(fn: Callable[..., object], *args: object) -> bytes:
    """Return a call with its function in its payload."""
    digest, _, body, _ = _codec.pack_call(partial(fn, *args), (), {})
    assert digest == CALL_IN_PAYLOAD
    assert isinstance(body, bytes)
    return body


def run(client: BareClient, fn: Callable[..., object], *args: object, **limits: Any) -> bytes:
    """Submit one call, and return its id once it is accepted."""
    return submit_calls(client, [(fn, args)], **limits)[0]


def load(row: wire.TaskRow, frames: Sequence[bytes] = ()) -> object:
    """Return the result that a row brings, or raise what it brings."""
    assert row.outcome is not None, row
    return load_result(outcome_of(row.outcome, frames))
