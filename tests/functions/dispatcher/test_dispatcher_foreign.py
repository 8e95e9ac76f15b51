"""A client of another language: nothing but ZeroMQ and MessagePack, and PROTOCOL.md to read."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import msgpack
import zmq
from functionkit.processes import DispatcherProcess, WorkerProcess


def test_a_client_with_zeromq_and_messagepack_alone_runs_a_call(
    start: Callable[..., DispatcherProcess], folder: Path, ending: ExitStack
) -> None:
    dispatcher = start("--store", "none")
    worker = WorkerProcess(folder, dispatcher.endpoint, "--children", "1").start()
    ending.callback(worker.stop)
    context = zmq.Context()
    ending.callback(context.term)
    socket = context.socket(zmq.DEALER)
    ending.callback(socket.close, 0)
    socket.connect(dispatcher.endpoint)

    def say(*message: object) -> None:
        socket.send(msgpack.packb(message))

    def hear(tag: str) -> list[object]:
        while socket.poll(10_000):
            message: list[object] = msgpack.unpackb(socket.recv_multipart()[0])
            if message[0] == tag:
                return message
        raise AssertionError(f"no {tag}")

    say("attach", 1, "a client in another language")
    assert hear("attached")[1] == 1
    # (callable, arguments, keywords) in one pickle, which another language writes by hand: here divmod(47, 5).
    call = b"\x80\x04(cbuiltins\ndivmod\nK/K\x05\x86}t."
    task_id = uuid.uuid4().bytes
    say("submit", 2, [], [[task_id, bytes(16), call]])
    assert hear("submitted")[1:3] == [2, []]
    _, number, rows = hear("results")
    ((row_id, state, attempt, outcome, *_),) = rows  # type: ignore[attr-defined]
    assert (row_id, state, attempt) == (task_id, "COMPLETED", 1)
    assert outcome[2] == "ok"
    # The pickle of (9, 2): protocol, two small integers, a tuple of two, the end.
    assert b"K\x09K\x02\x86" in outcome[3]
    say("seen", number)
    say("fetch", 3, [task_id], False)
    assert hear("answers")[2][0][1] == "EXPIRED"  # type: ignore[index]
    say("beat", 4)
    assert hear("beat_ack") == ["beat_ack", 4]
    say("detach")
