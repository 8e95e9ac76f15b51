"""A real child process without a pool: packets in, packets out, its black box and its end."""

from __future__ import annotations

import multiprocessing
import os
import pickle  # noqa: TID251 - a client loads what a child sends
import select
import signal
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from strata_zmq.domain.task import CALL_IN_PAYLOAD, OutcomeReport, Payload
from strata_zmq.functions.pool import blackbox, packets
from strata_zmq.functions.pool.entry import ChildSettings
from strata_zmq.functions.pool.starting import Descriptor, start_child

__all__ = ["Answered", "BareChild", "interrupt_a_childs_child"]

DEADLINE_S = 30.0
ROOM = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Answered:
    """What a child said of one call, with what came beside it."""

    result: packets.Result
    payload: Payload | None
    report: OutcomeReport | None

    @property
    def value(self) -> Any:
        """What the call returned or raised, loaded."""
        payload = self.payload
        assert payload is not None, (self.result, self.report)
        if isinstance(payload, bytes):
            return pickle.loads(payload)  # noqa: S301 - the test's own
        return pickle.loads(payload[0], buffers=payload[1:])  # noqa: S301 - the test's own


class BareChild:
    """One child of the test process; it ends with the block, at the latest."""

    def __init__(self, method: str = "forkserver", **settings: Any) -> None:
        box = Descriptor(blackbox.create())
        self.box = blackbox.BoxReader(box.fileno())
        self._box_memory = box
        self.started = start_child(multiprocessing.get_context(method), box, ChildSettings(**settings), "bare")
        self._n = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.started.process.kill()
        self.started.process.join()
        self.started.close()
        self.box.close()
        self._box_memory.close()

    # ---- to the child ------------------------------------------------------------------------------------------------

    def call(self, fn: Callable[..., object], *args: object, **fields: Any) -> packets.Call:
        """Return the next call of `fn`; `fields` are those of the packet, `kwargs` its keyword arguments."""
        return self.packed(CALL_IN_PAYLOAD, pickle.dumps((fn, args, fields.pop("kwargs", {})), 5), **fields)

    def packed(self, function: bytes, body: bytes | packets.Place, **fields: Any) -> packets.Call:
        """Return the next call with this function and body."""
        self._n += 1
        return packets.Call(self._n, function, body, fields.pop("result_bytes_max", ROOM), **fields)

    def send(self, *calls: packets.Call, descriptors: list[int] | None = None) -> None:
        """Send calls in one packet."""
        self.order(packets.encode_calls(list(calls)), descriptors)

    def order(self, packet: bytes, descriptors: list[int] | None = None) -> None:
        """Send a packet; the child reads while this waits for room."""
        while not packets.send(self.started.ours, packet, descriptors):
            assert select.select([], [self.started.ours], [], DEADLINE_S)[1], "the child does not read"

    # ---- from the child ----------------------------------------------------------------------------------------------

    def packet(self) -> tuple[bytes, list[int]]:
        """Return the next packet, b"" at the socket's end."""
        assert select.select([self.started.ours], [], [], DEADLINE_S)[0], "the child says nothing"
        received = packets.receive(self.started.ours)
        assert received is not None
        return received

    def ready(self) -> Self:
        """Return when the child can take calls."""
        packet, _ = self.packet()
        answer = packets.decode_answer(packet)
        assert isinstance(answer, packets.Ready), answer
        assert answer.pid == self.started.pid
        return self

    def answers(self, count: int) -> list[Answered]:
        """Return the next `count` results."""
        found: list[Answered] = []
        while len(found) < count:
            packet, descriptors = self.packet()
            assert packet, f"the child has ended after {len(found)} of {count} results"
            results = packets.decode_answer(packet)
            assert isinstance(results, list), results
            found += [
                Answered(
                    result, packets.result_payload(result, descriptors), packets.result_report(result, descriptors)
                )
                for result in results
            ]
            for descriptor in descriptors:
                os.close(descriptor)
        assert len(found) == count
        return found

    def run(self, fn: Callable[..., object], *args: object, **fields: Any) -> Answered:
        """Perform one call."""
        self.send(self.call(fn, *args, **fields))
        return self.answers(1)[0]

    def death(self) -> int:
        """Return multiprocessing's exit code when the process has ended."""
        self.started.process.join(DEADLINE_S)
        code = self.started.process.exitcode
        assert code is not None, "the child lives"
        return code

    def rescued(self) -> list[packets.Result]:
        """Return what the outbox of the dead child holds."""
        packet = self.box.unsent()
        answer = packets.decode_answer(packet) if packet else []
        assert isinstance(answer, list)
        return answer


def interrupt_a_childs_child(fn: Callable[..., object], *args: object) -> Any:
    """Fork a child of this one, interrupt it while it has nothing to do, and return what `fn` comes to there."""
    with BareChild("fork") as child:
        child.ready()
        os.kill(child.started.pid, signal.SIGINT)
        return child.run(fn, *args).value
